#include "collector/database.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "schema/log.h"

#define RETRY_MS 1000
#define ERROR_SIZE 512
#define OWN_MAX 32
#define READS_MAX 8 /* of what the server said last */
#define EPOCH_2000_US (INT64_C(946684800) * 1000000) /* PostgreSQL counts from 2000-01-01 */
#define ARRAY_MAX (1u << 30) /* a field of the protocol */

struct database {
	char *uri;
	const struct statement *statements;
	size_t n;
	PGconn *conn;
	int64_t next_try_ms;
	unsigned made; /* connections, so far */
	const struct statement *own[OWN_MAX]; /* prepared on this connection by database_query */
	size_t own_len;
	char error[ERROR_SIZE]; /* the last one logged; empty while it works */
};

struct database *
database_new(const char *uri, const struct statement *statements, size_t n)
{
	struct database *db = calloc(1, sizeof *db);

	if (db == NULL)
		return NULL;
	db->uri = strdup(uri);
	if (db->uri == NULL) {
		free(db);
		return NULL;
	}
	db->statements = statements;
	db->n = n;
	return db;
}

void
database_free(struct database *db)
{
	if (db == NULL)
		return;
	database_drop(db);
	free(db->uri);
	free(db);
}

/* libpq's messages end in newlines and may have several lines; the first says it. */
static void
first_line(char out[ERROR_SIZE], const char *message)
{
	size_t len = strcspn(message, "\n");

	if (len >= ERROR_SIZE)
		len = ERROR_SIZE - 1;
	memcpy(out, message, len);
	out[len] = '\0';
}

static void
log_trouble(struct database *db, const char *what, const char *message)
{
	char error[ERROR_SIZE];

	first_line(error, message);
	if (strcmp(error, db->error) == 0)
		return;
	memcpy(db->error, error, sizeof error);
	log_error("database: %s: %s", what, error);
}

static void
on_notice(void *unused, const char *message)
{
	char line[ERROR_SIZE];

	(void)unused;
	first_line(line, message);
	log_debug("database: %s", line);
}

static int
prepare(struct database *db, const struct statement *s)
{
	PGresult *res = PQprepare(db->conn, s->name, s->sql, 0, NULL);
	bool good = PQresultStatus(res) == PGRES_COMMAND_OK;

	if (!good)
		log_trouble(db, s->name, PQresultErrorMessage(res));
	PQclear(res);
	return good ? 0 : -1;
}

/* No statement here is worth compiling, though the planner may hold it for dear because it was told to avoid something. And the server looks whether
   we are still there: of a machine or a network that is gone it would else learn nothing for hours, and keep our locks, the leases among them.
   To prepare takes locks too: who waits for them comes again. */
#define SESSION                                                                                                        \
	"SET jit = off; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;"   \
	" SET tcp_user_timeout = 15000; SET statement_timeout = 10000"

static int
prepare_all(struct database *db)
{
	if (database_exec(db, SESSION) < 0)
		return -1;
	for (size_t i = 0; i < db->n; i++)
		if (prepare(db, &db->statements[i]) < 0)
			return -1;
	return database_exec(db, "RESET statement_timeout");
}

PGconn *
database_connect(struct database *db)
{
	/* What comes later wins: the URI may say otherwise but for the last two. */
	static const char *const keys[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
					   "keepalives_count", "tcp_user_timeout", "fallback_application_name",
					   "dbname",           "client_encoding",  NULL};
	const char *const values[] = {"5", "10", "5", "3", "15000", "fleetstate", db->uri, "UTF8", NULL};

	if (db->conn != NULL && PQstatus(db->conn) == CONNECTION_OK)
		return db->conn;
	database_drop(db);
	if (clock_ms() < db->next_try_ms)
		return NULL;
	db->conn = PQconnectdbParams(keys, values, 1);
	db->next_try_ms = clock_ms() + RETRY_MS;
	if (PQstatus(db->conn) != CONNECTION_OK) {
		log_trouble(db, "connect", PQerrorMessage(db->conn));
		database_drop(db);
		return NULL;
	}
	PQsetNoticeProcessor(db->conn, on_notice, NULL);
	if (prepare_all(db) < 0) {
		database_drop(db);
		return NULL;
	}
	if (db->error[0] != '\0')
		log_info("database: connected again");
	db->error[0] = '\0';
	db->made++;
	return db->conn;
}

unsigned
database_connection(const struct database *db)
{
	return db->made;
}

void
database_drop(struct database *db)
{
	PQfinish(db->conn);
	db->conn = NULL;
	db->own_len = 0;
}

/* What the server said last comes before the end. */
bool
database_ended(struct database *db, int wait_ms)
{
	struct pollfd p = {.fd = PQsocket(db->conn), .events = POLLIN};

	for (int reads = 0; reads < READS_MAX && poll(&p, 1, reads == 0 ? wait_ms : 0) > 0; reads++)
		if (PQconsumeInput(db->conn) == 0)
			return true;
	return false;
}

void
database_recheck(struct database *db)
{
	if (db->conn == NULL || PQtransactionStatus(db->conn) != PQTRANS_IDLE || !database_ended(db, 0))
		return;
	database_drop(db);
	db->next_try_ms = 0; /* nobody has tried yet */
}

static bool
is_good(const PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* Passes a good result on; logs, clears and drops otherwise. */
static PGresult *
settle(struct database *db, const char *what, PGresult *res, char *state)
{
	const char *code = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	char error[ERROR_SIZE];

	if (is_good(res))
		return res;
	if (state != NULL && code != NULL)
		memcpy(state, code, strnlen(code, 5));
	first_line(error, PQerrorMessage(db->conn));
	log_error("database: %s: %s", what, error);
	PQclear(res);
	if (PQstatus(db->conn) != CONNECTION_OK)
		database_drop(db);
	return NULL;
}

struct param
param_number(char text[PARAM_NUMBER], int64_t n)
{
	return (struct param){text, snprintf(text, PARAM_NUMBER, "%lld", (long long)n), false};
}

struct param
param_text(const char *text)
{
	return (struct param){text, text == NULL ? 0 : (int)strlen(text), false};
}

struct param
param_bytes(const void *at, size_t len)
{
	return (struct param){at, (int)len, true};
}

PGresult *
database_run(struct database *db, const char *statement, const struct param *params, int n, char *state)
{
	enum { PARAMS_MAX = 64 };
	const char *values[PARAMS_MAX];
	int lengths[PARAMS_MAX], formats[PARAMS_MAX];
	PGconn *conn;

	assert(n >= 0 && n <= PARAMS_MAX);
	if (state != NULL)
		memset(state, 0, 6);
	conn = database_connect(db);
	if (conn == NULL)
		return NULL;
	for (int i = 0; i < n; i++) {
		values[i] = params[i].at;
		lengths[i] = params[i].len;
		formats[i] = params[i].binary ? 1 : 0;
	}
	return settle(db, statement, PQexecPrepared(conn, statement, n, values, lengths, formats, 1), state);
}

static bool
is_prepared(const struct database *db, const struct statement *s)
{
	for (size_t i = 0; i < db->own_len; i++)
		if (db->own[i] == s)
			return true;
	return false;
}

PGresult *
database_query(struct database *db, const struct statement *s, const struct param *params, int n, char *state)
{
	assert(n == s->params);
	if (state != NULL)
		memset(state, 0, 6);
	if (database_connect(db) == NULL)
		return NULL;
	if (!is_prepared(db, s)) {
		assert(db->own_len < OWN_MAX);
		if (prepare(db, s) < 0) {
			if (PQstatus(db->conn) != CONNECTION_OK)
				database_drop(db);
			return NULL;
		}
		db->own[db->own_len++] = s;
	}
	return database_run(db, s->name, params, n, state);
}

int
database_exec(struct database *db, const char *sql)
{
	PGconn *conn = database_connect(db);
	PGresult *res;

	if (conn == NULL)
		return -1;
	res = settle(db, sql, PQexec(conn, sql), NULL);
	if (res == NULL)
		return -1;
	PQclear(res);
	return 0;
}

/* Results. */

static uint64_t
read_be(const char *at, size_t len)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++)
		v = v << 8 | (uint8_t)at[i];
	return v;
}

bool
result_null(const PGresult *res, int row, int column)
{
	return PQgetisnull(res, row, column) != 0;
}

int64_t
result_int(const PGresult *res, int row, int column)
{
	const char *at = PQgetvalue(res, row, column);

	if (result_null(res, row, column))
		return 0;
	switch (PQgetlength(res, row, column)) {
	case 1:
		return at[0] != 0;
	case 2:
		return (int16_t)read_be(at, 2);
	case 4:
		return (int32_t)read_be(at, 4);
	default:
		assert(PQgetlength(res, row, column) == 8);
		return (int64_t)read_be(at, 8);
	}
}

bool
result_bool(const PGresult *res, int row, int column)
{
	assert(result_null(res, row, column) || PQgetlength(res, row, column) == 1);
	return !result_null(res, row, column) && *PQgetvalue(res, row, column) != 0;
}

int64_t
result_time_us(const PGresult *res, int row, int column)
{
	int64_t us = result_int(res, row, column);

	assert(result_null(res, row, column) || PQgetlength(res, row, column) == 8);
	if (result_null(res, row, column))
		return 0;
	return us == INT64_MIN || us == INT64_MAX ? us : us + EPOCH_2000_US;
}

struct slice
result_bytes(const PGresult *res, int row, int column)
{
	if (result_null(res, row, column))
		return (struct slice){NULL, 0};
	return (struct slice){(const uint8_t *)PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column)};
}

/* Arrays: int32 dimensions, has-nulls, element type, length, lower bound; then each element as int32 length (-1: NULL) and bytes. */

static const struct {
	uint32_t oid;
	size_t width; /* 0: any */
} array_types[] = {
	[ARRAY_INT4] = {23, 4},          [ARRAY_INT8] = {20, 8}, [ARRAY_BYTEA] = {17, 0},   [ARRAY_TEXT] = {25, 0},
	[ARRAY_TIMESTAMPTZ] = {1184, 8}, [ARRAY_BOOL] = {16, 1}, [ARRAY_JSONB] = {3802, 0},
};

enum { ARRAY_HAS_NULLS_AT = 4, ARRAY_ITEMS_AT = 12, ARRAY_HEADER = 20 };
#define JSONB_VERSION 1

static void
write_be(uint8_t *at, uint64_t v, size_t len)
{
	for (size_t i = 0; i < len; i++)
		at[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
}

/* Room for len more bytes; NULL when there is none. */
static uint8_t *
array_grow(struct pg_array *a, size_t len)
{
	uint8_t *at;

	if (a->failed || len > ARRAY_MAX - a->len) {
		a->failed = true;
		return NULL;
	}
	if (len > a->size - a->len) {
		size_t size = a->size == 0 ? 4096 : a->size;

		while (len > size - a->len)
			size *= 2;
		at = realloc(a->at, size);
		if (at == NULL) {
			a->failed = true;
			return NULL;
		}
		a->at = at;
		a->size = size;
	}
	at = a->at + a->len;
	a->len += len;
	return at;
}

/* The head of an element, and room for its bytes. */
static uint8_t *
array_item(struct pg_array *a, size_t len)
{
	uint8_t *at = len > ARRAY_MAX ? NULL : array_grow(a, 4 + len);

	if (at == NULL) {
		a->failed = true;
		return NULL;
	}
	write_be(at, len, 4);
	a->items++;
	return at + 4;
}

void
pg_array_begin(struct pg_array *a, enum array_type type)
{
	uint8_t *at;

	a->type = type;
	a->len = 0;
	a->items = 0;
	a->failed = false;
	at = array_grow(a, ARRAY_HEADER);
	if (at == NULL)
		return;
	write_be(at, 1, 4);
	write_be(at + ARRAY_HAS_NULLS_AT, 0, 4);
	write_be(at + 8, array_types[type].oid, 4);
	write_be(at + 16, 1, 4);
}

void
pg_array_int(struct pg_array *a, int64_t v)
{
	size_t width = array_types[a->type].width;
	uint8_t *at;

	assert(a->type == ARRAY_INT4 || a->type == ARRAY_INT8 || a->type == ARRAY_BOOL);
	assert(a->type != ARRAY_INT4 || (v >= INT32_MIN && v <= INT32_MAX));
	assert(a->type != ARRAY_BOOL || v == 0 || v == 1);
	at = array_item(a, width);
	if (at != NULL)
		write_be(at, (uint64_t)v, width);
}

void
pg_array_bytes(struct pg_array *a, struct slice s)
{
	size_t version = a->type == ARRAY_JSONB ? 1 : 0;
	uint8_t *at;

	assert(array_types[a->type].width == 0);
	if (s.at == NULL) {
		pg_array_null(a);
		return;
	}
	if (s.len > ARRAY_MAX) {
		a->failed = true;
		return;
	}
	at = array_item(a, version + s.len);
	if (at == NULL)
		return;
	if (version != 0)
		at[0] = JSONB_VERSION;
	memcpy(at + version, s.at, s.len);
}

void
pg_array_time_us(struct pg_array *a, int64_t us_since_1970)
{
	uint8_t *at;

	assert(a->type == ARRAY_TIMESTAMPTZ);
	at = array_item(a, 8);
	if (at != NULL)
		write_be(at, (uint64_t)(us_since_1970 - EPOCH_2000_US), 8);
}

void
pg_array_null(struct pg_array *a)
{
	uint8_t *at = array_grow(a, 4);

	if (at == NULL)
		return;
	write_be(at, UINT32_MAX, 4);
	write_be(a->at + ARRAY_HAS_NULLS_AT, 1, 4);
	a->items++;
}

struct param
pg_array_param(struct pg_array *a)
{
	/* Not an array in any reading: the server refuses the statement. */
	static const uint8_t broken[1];

	if (a->failed || a->at == NULL)
		return (struct param){broken, 0, true};
	write_be(a->at + ARRAY_ITEMS_AT, (uint32_t)a->items, 4);
	return (struct param){a->at, (int)a->len, true};
}

void
pg_array_free(struct pg_array *a)
{
	free(a->at);
	*a = (struct pg_array){0};
}
