#include "collector/challenge.h"

#include <endian.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "collector/counters.h"
#include "collector/database.h"
#include "schema/log.h"

#define CHANNEL "fleetstate_challenge"
#define LOOK_MS 1000 /* between two looks at what is open, beside those that a notice brings */
#define SOME "500" /* challenges in one transaction */
#define RANGE_SIZE 16 /* of a gap: both ends */

/* clang-format off */
enum { SEND, DUE };
enum { SENT_UEID, SENT_NONCE, SENT_EPOCH, SENT_HI, SENT_HEAD, SENT_GAPS };
static const struct statement statements[] = {
	/* $1: our shards. At once, and some times more at growing distances, since brokers lose; whoever still does not answer may be away, so it is asked
	   again whenever it was heard. Two seconds: an answer may be on its way. */
	[SEND] = {"challenge_send",
		"WITH due AS (SELECT c.device_id, c.challenge_id FROM challenge c JOIN device d ON d.device_id = c.device_id"
		"  JOIN device_hot h ON h.device_id = c.device_id WHERE c.outcome IS NULL AND c.expires_at > now() AND h.hi > 0 AND d.lifecycle = 'active'"
		"  AND get_byte(sha256(d.ueid), 0) >> 4 = ANY ($1::int[]) AND (c.sent_at IS NULL OR h.last_seen > c.sent_at AND now() > c.sent_at + interval '2 s'"
		"  OR c.sends < 5 AND now() > c.sent_at + interval '2.5 s' * 2 ^ c.sends)"
		"  ORDER BY c.device_id LIMIT " SOME " FOR UPDATE OF c SKIP LOCKED),"
		" sent AS (UPDATE challenge c SET sent_at = clock_timestamp(), sends = c.sends + 1 FROM due WHERE c.device_id = due.device_id"
		"  AND c.challenge_id = due.challenge_id RETURNING c.device_id, c.nonce)"
		" SELECT d.ueid, s.nonce, h.epoch, h.hi, h.head, (SELECT string_agg(int8send(lower(g.missing)) || int8send(upper(g.missing) - 1), '' ORDER BY g.missing)"
		"  FROM report_gap g WHERE g.device_id = s.device_id AND g.epoch = h.epoch)"
		" FROM sent s JOIN device d ON d.device_id = s.device_id JOIN device_hot h ON h.device_id = s.device_id", 1},
	[DUE] = {"challenge_due", "SELECT unanswered, expired FROM challenges_due($1::int, " SOME ")", 1},
};
/* clang-format on */

struct challenger {
	const struct settings *settings;
	struct challenge_events events;
	struct database *db;
	pthread_t thread;
	int stop;
	unsigned set_up; /* the connection that listens */
};

/* -1 when memory ran out. */
static int
read_gaps(struct slice bytes, struct ledger *l)
{
	size_t n = bytes.len / RANGE_SIZE;

	if (n == 0)
		return 0;
	l->missing = calloc(n, sizeof *l->missing);
	if (l->missing == NULL)
		return -1;
	for (size_t i = 0; i < n; i++) {
		uint64_t ends[2];

		memcpy(ends, bytes.at + i * RANGE_SIZE, sizeof ends);
		l->missing[i] = (struct seq_range){be64toh(ends[0]), be64toh(ends[1])};
	}
	l->missing_len = l->missing_size = n;
	return 0;
}

static void
send_one(struct challenger *c, const PGresult *res, int row)
{
	struct slice ueid = result_bytes(res, row, SENT_UEID), head = result_bytes(res, row, SENT_HEAD);
	struct ledger ledger = {.epoch = (uint64_t)result_int(res, row, SENT_EPOCH),
				.hi = (uint64_t)result_int(res, row, SENT_HI)};
	struct ueid name;

	ledger.has_head = head.len == DIGEST_SIZE;
	if (ledger.has_head)
		memcpy(ledger.head, head.at, DIGEST_SIZE);
	memcpy(name.bytes, ueid.at, UEID_SIZE);
	if (read_gaps(result_bytes(res, row, SENT_GAPS), &ledger) == 0) {
		c->events.send(c->events.context, &name, &ledger, result_bytes(res, row, SENT_NONCE));
		counter_add(COUNTER_CHALLENGES_SENT, 1);
	}
	ledger_free(&ledger);
}

static void
send_due(struct challenger *c)
{
	struct pg_array shards = {0};
	struct param param;
	PGresult *res = NULL;

	pg_array_begin(&shards, ARRAY_INT4);
	for (unsigned i = 0; i < SHARDS; i++)
		if (c->events.is_up(c->events.context, i))
			pg_array_int(&shards, i);
	param = pg_array_param(&shards);
	if (shards.items > 0)
		res = database_run(c->db, statements[SEND].name, &param, 1, NULL);
	for (int i = 0; res != NULL && i < PQntuples(res); i++)
		send_one(c, res, i);
	PQclear(res);
	pg_array_free(&shards);
}

static void
look_for_due(struct challenger *c)
{
	char seconds[PARAM_NUMBER];
	const struct param param = param_number(seconds, c->settings->challenge_timeout);
	PGresult *res = database_run(c->db, statements[DUE].name, &param, 1, NULL);

	if (res != NULL && PQntuples(res) == 1 && !result_null(res, 0, 0))
		counter_add(COUNTER_CHALLENGES_UNANSWERED, result_int(res, 0, 0));
	PQclear(res);
}

/* A connection that listens. What was asked while nobody listened stands in the table. */
static PGconn *
connect_anew(struct challenger *c)
{
	PGconn *conn = database_connect(c->db);

	if (conn == NULL || c->set_up == database_connection(c->db))
		return conn;
	if (database_exec(c->db, "LISTEN " CHANNEL) < 0)
		return NULL;
	c->set_up = database_connection(c->db);
	return conn;
}

/* Some come in with the answer to a statement: then there is no waiting. */
static bool
take_notices(PGconn *conn)
{
	PGnotify *notice;
	bool any = false;

	(void)PQconsumeInput(conn);
	while ((notice = PQnotifies(conn)) != NULL) {
		any = true;
		PQfreemem(notice);
	}
	return any;
}

/* False: we are to end. */
static bool
wait_for_work(struct challenger *c, PGconn *conn)
{
	struct pollfd p[] = {{.fd = c->stop, .events = POLLIN},
			     {.fd = conn == NULL ? -1 : PQsocket(conn), .events = POLLIN}};
	bool told = conn != NULL && take_notices(conn);

	(void)poll(p, 2, told ? 0 : LOOK_MS);
	return (p[0].revents & POLLIN) == 0;
}

static void *
run(void *argument)
{
	struct challenger *c = argument;
	PGconn *conn;

	do {
		conn = connect_anew(c);
		if (conn != NULL) {
			(void)take_notices(conn);
			send_due(c);
			look_for_due(c);
		}
		/* What it did may have ended the connection. */
		if (conn != NULL && database_connect(c->db) != conn)
			conn = NULL;
	} while (wait_for_work(c, conn));
	return NULL;
}

static void
challenger_free(struct challenger *c)
{
	database_free(c->db);
	if (c->stop >= 0)
		close(c->stop);
	free(c);
}

struct challenger *
challenger_start(const struct settings *settings, const struct challenge_events *events)
{
	struct challenger *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->settings = settings;
	c->events = *events;
	c->stop = eventfd(0, EFD_CLOEXEC);
	c->db = database_new(settings->database, statements, sizeof statements / sizeof statements[0]);
	if (c->stop >= 0 && c->db != NULL && pthread_create(&c->thread, NULL, run, c) == 0)
		return c;
	log_error("challenge: can't start");
	challenger_free(c);
	return NULL;
}

void
challenger_stop(struct challenger *c)
{
	if (c == NULL)
		return;
	eventfd_write(c->stop, 1);
	pthread_join(c->thread, NULL);
	challenger_free(c);
}
