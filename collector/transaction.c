#include "collector/transaction.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "schema/log.h"

/* Statements here are planned once, for arrays of any length and tables that grow: all of them look rows up by key. The server ends what takes longer,
   and what its client forgot; a server that does not even do that is left. */
#define SETTINGS                                                                                                       \
	"SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET statement_timeout = '60s';"           \
	" SET idle_in_transaction_session_timeout = '60s'"
#define ANSWER_MS 90000
#define LAST_ANSWER_MS 5000 /* after transaction_give_up */
#define LOOK_MS 500 /* how often a wait looks whether to give up */

struct transaction {
	struct database *db;
	struct statement statements[WRITES + READS];
	struct rows writes[WRITES], reads[READS];
	long affected[WRITES];
	unsigned set_up; /* the connection that was set up */
	bool lost; /* no answer came in time: the connection is of no use */
	int64_t id; /* of the last one begun */
	atomic_bool give_up;
};

struct transaction *
transaction_new(const char *uri)
{
	struct transaction *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	for (int i = 0; i < WRITES + READS; i++) {
		const struct store_statement *s = i < WRITES ? &store_writes[i] : &store_reads[i - WRITES];

		t->statements[i] = (struct statement){s->name, s->sql, (int)strlen(s->columns)};
	}
	t->db = database_new(uri, t->statements, WRITES + READS);
	if (t->db == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void
transaction_free(struct transaction *t)
{
	if (t == NULL)
		return;
	database_free(t->db);
	for (int i = 0; i < WRITES; i++)
		rows_free(&t->writes[i]);
	for (int i = 0; i < READS; i++)
		rows_free(&t->reads[i]);
	free(t);
}

void
transaction_give_up(struct transaction *t)
{
	atomic_store(&t->give_up, true);
}

struct database *
transaction_database(struct transaction *t)
{
	return t->db;
}

/* A connection that is new gets its settings. */
int
transaction_connect(struct transaction *t)
{
	database_recheck(t->db);
	if (database_connect(t->db) == NULL)
		return -1;
	if (t->set_up == database_connection(t->db))
		return 0;
	if (database_exec(t->db, SETTINGS) < 0)
		return -1;
	t->set_up = database_connection(t->db);
	return 0;
}

void
transaction_empty(struct transaction *t)
{
	for (int i = 0; i < WRITES; i++)
		rows_empty(&t->writes[i], store_writes[i].columns);
	for (int i = 0; i < READS; i++)
		rows_empty(&t->reads[i], store_reads[i].columns);
}

struct rows *
transaction_row(struct transaction *t, enum write w)
{
	return row_begin(&t->writes[w]);
}

struct rows *
transaction_question(struct transaction *t, enum read r)
{
	return row_begin(&t->reads[r]);
}

bool
transaction_asks(const struct transaction *t, enum read r)
{
	return t->reads[r].n > 0;
}

bool
transaction_writes(const struct transaction *t, enum write first, enum write end)
{
	for (enum write w = first; w < end; w++)
		if (t->writes[w].n > 0)
			return true;
	return false;
}

long
transaction_affected(const struct transaction *t, enum write w)
{
	return t->affected[w];
}

PGresult *
transaction_ask(struct transaction *t, enum read r)
{
	struct param params[COLUMNS_MAX];

	for (int i = 0; i < t->reads[r].columns; i++)
		params[i] = pg_array_param(&t->reads[r].column[i]);
	return database_run(t->db, store_reads[r].name, params, t->reads[r].columns, NULL);
}

/* What a failure means: by SQLSTATE, or how it begins. */
static const struct {
	const char *state;
	enum outcome outcome;
} meanings[] = {
	{"08", AGAIN}, /* connection */
	{"57P", AGAIN}, /* shutdown, start */
	{"25P", AGAIN}, /* ended for its age */
	{"25006", AGAIN}, /* a server that only reads */
	{"53100", AGAIN}, /* disk full */
	{"21", DATA}, /* two rows where one can be */
	{"22", DATA}, /* a value out of range */
	{"23", DATA}, /* a constraint */
	{"54", DATA}, /* a limit of the database */
};

static enum outcome
outcome_of(const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (state == NULL)
		return AGAIN;
	/* A missing partition comes as a check violation without a constraint. */
	if (strcmp(state, "23514") == 0 && PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME) == NULL)
		return AGAIN;
	for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
		if (strncmp(state, meanings[i].state, strlen(meanings[i].state)) == 0)
			return meanings[i].outcome;
	return STUCK;
}

static int
send(PGconn *conn, enum write w, struct rows *r)
{
	const char *values[COLUMNS_MAX];
	int lengths[COLUMNS_MAX], formats[COLUMNS_MAX];

	for (int i = 0; i < r->columns; i++) {
		struct param p = pg_array_param(&r->column[i]);

		values[i] = p.at;
		lengths[i] = p.len;
		formats[i] = 1;
	}
	return PQsendQueryPrepared(conn, store_writes[w].name, r->columns, values, lengths, formats, 1) == 1 ? 0 : -1;
}

static int
send_command(PGconn *conn, const char *sql)
{
	return PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 1) == 1 ? 0 : -1;
}

/* As PQgetResult, but not for ever. */
static PGresult *
next_result(struct transaction *t, PGconn *conn)
{
	int64_t begun = clock_ms();

	while (!t->lost && PQisBusy(conn)) {
		struct pollfd ready = {.fd = PQsocket(conn), .events = POLLIN};

		if (clock_ms() - begun > (atomic_load(&t->give_up) ? LAST_ANSWER_MS : ANSWER_MS)) {
			log_warning("store: the database does not answer");
			t->lost = true;
		} else if (poll(&ready, 1, LOOK_MS) > 0 && PQconsumeInput(conn) == 0) {
			t->lost = true;
		}
	}
	return t->lost ? NULL : PQgetResult(conn);
}

/* Takes in one statement's result: how many rows it affected, and the first field of its first row if that is an integer. */
static enum outcome
receive(struct transaction *t, PGconn *conn, const char *what, long *affected, int64_t *field)
{
	PGresult *res = next_result(t, conn);
	ExecStatusType status = PQresultStatus(res);
	enum outcome outcome = DONE;

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
		if (affected != NULL)
			*affected = atol(PQcmdTuples(res));
		if (field != NULL && PQntuples(res) > 0)
			*field = result_int(res, 0, 0);
	} else if (status == PGRES_PIPELINE_ABORTED) {
		outcome = AGAIN;
	} else {
		outcome = res == NULL ? AGAIN : outcome_of(res);
		if (!t->lost)
			log_warning("store: %s: %s", what,
				    res == NULL ? PQerrorMessage(conn) : PQresultErrorMessage(res));
	}
	PQclear(res);
	while (res != NULL && (res = next_result(t, conn)) != NULL)
		PQclear(res);
	return outcome;
}

static enum outcome
receive_sync(struct transaction *t, PGconn *conn)
{
	PGresult *res = next_result(t, conn);
	enum outcome outcome = PQresultStatus(res) == PGRES_PIPELINE_SYNC ? DONE : AGAIN;

	PQclear(res);
	return outcome;
}

static enum outcome
send_writes(struct transaction *t, PGconn *conn, enum write first, enum write end)
{
	for (enum write w = first; w < end; w++)
		if (t->writes[w].n > 0 && rows_failed(&t->writes[w]))
			return LARGE;
	if (send_command(conn, "BEGIN") < 0 || send_command(conn, "SELECT pg_current_xact_id()") < 0)
		return AGAIN;
	for (enum write w = first; w < end; w++)
		if (t->writes[w].n > 0 && send(conn, w, &t->writes[w]) < 0)
			return AGAIN;
	return PQpipelineSync(conn) == 1 ? DONE : AGAIN;
}

/* The first failure stays; what follows it in the pipeline only says that it was skipped. */
static enum outcome
receive_writes(struct transaction *t, PGconn *conn, enum write first, enum write end)
{
	enum outcome outcome = receive(t, conn, "begin", NULL, NULL);
	enum outcome one = receive(t, conn, "id", NULL, &t->id);

	if (outcome == DONE)
		outcome = one;
	for (enum write w = first; w < end; w++) {
		if (t->writes[w].n == 0)
			continue;
		t->affected[w] = 0;
		one = receive(t, conn, store_writes[w].name, &t->affected[w], NULL);
		if (outcome == DONE)
			outcome = one;
		if (outcome == DONE && w == MOVE_HOT && t->affected[w] != (long)t->writes[w].n)
			outcome = MOVED;
	}
	if (receive_sync(t, conn) != DONE && outcome == DONE)
		outcome = AGAIN;
	return outcome;
}

/* An error that ends the connection may come after the commit as well as before it. */
static enum outcome
finish(struct transaction *t, PGconn *conn, enum outcome outcome)
{
	bool commit = outcome == DONE;
	enum outcome end, sync;

	if (send_command(conn, commit ? "COMMIT" : "ROLLBACK") < 0 || PQpipelineSync(conn) != 1)
		return commit ? DOUBT : outcome;
	end = receive(t, conn, "end of transaction", NULL, NULL);
	sync = receive_sync(t, conn);
	if (!commit || end == DONE)
		return outcome;
	return sync == DONE ? end : DOUBT;
}

enum outcome
transaction_run(struct transaction *t, enum write first, enum write end)
{
	PGconn *conn = database_connect(t->db);
	enum outcome outcome;

	if (conn == NULL)
		return AGAIN;
	t->lost = false;
	if (PQenterPipelineMode(conn) != 1) {
		database_drop(t->db);
		return AGAIN;
	}
	outcome = send_writes(t, conn, first, end);
	if (outcome == DONE) {
		outcome = receive_writes(t, conn, first, end);
		outcome = finish(t, conn, outcome);
	} else if (outcome == AGAIN) {
		t->lost = true;
	}
	if (t->lost || PQstatus(conn) != CONNECTION_OK || PQexitPipelineMode(conn) != 1 ||
	    PQtransactionStatus(conn) != PQTRANS_IDLE) {
		database_drop(t->db);
		return outcome == DONE || outcome == DOUBT ? outcome : AGAIN;
	}
	return outcome;
}

enum fate
transaction_fate(struct transaction *t)
{
	struct rows *r = &t->reads[READ_FATE], *hot = &t->writes[MOVE_HOT];
	char id[24], state[6];
	struct param params[3];
	PGresult *res;
	enum fate fate = FATE_ABORTED;

	snprintf(id, sizeof id, "%lld", (long long)t->id);
	rows_empty(r, store_reads[READ_FATE].columns);
	row_text(row_begin(r), id);
	params[0] = pg_array_param(&r->column[0]);
	params[1] = pg_array_param(&hot->column[0]);
	params[2] = pg_array_param(&hot->column[1]);
	res = database_run(t->db, store_reads[READ_FATE].name, params, 3, state);
	if (res == NULL)
		/* A server that knows no such transaction says so with an error: it was lost. */
		return state[0] == '\0' ? FATE_UNKNOWN : FATE_ABORTED;
	if (result_bool(res, 0, 0))
		fate = FATE_UNKNOWN;
	else if (result_bool(res, 0, 1))
		fate = FATE_COMMITTED;
	PQclear(res);
	log_info("store: a commit in doubt: %s", fate == FATE_UNKNOWN     ? "not yet known"
						 : fate == FATE_COMMITTED ? "it is in"
									  : "it is not in");
	return fate;
}
