#include "collector/outbox.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/database.h"
#include "schema/log.h"

#define TICK_MS 1000 /* between two looks at what no notice told of, and for a free lock */
#define SPACING_MS 10 /* between two numberings: commits in quick succession share one */
#define CHUNK 5000 /* as number_events has it */
#define TRIM_MS 10000 /* between two trims, when nothing is left to trim */
#define TRIM_PAUSE_MS 100 /* and when something is */
#define TRIM_MOST "2000"

/* Looks rows up by key, whatever the tables' sizes were when it was planned; and a leader whose machine is gone loses its lock within seconds. */
static const char session[] =
	"SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET "
	"statement_timeout = "
	"'60s';"
	" SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3";

/* clang-format off */
enum { LEAD, NUMBER, LAG, TRIM };
static const struct statement statements[] = {
	[LEAD] = {"lead", "SELECT pg_try_advisory_lock(8259, 9)::int::int8", 0},
	[NUMBER] = {"number", "SELECT number_events()", 0},
	[LAG] = {"lag", "SELECT coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - time) * 1e6, 1)::int8 FROM event"
		" WHERE position IS NULL ORDER BY event_id LIMIT 1), 0)", 0},
	[TRIM] = {"trim", "SELECT trim_events(make_interval(secs => $1::int8), " TRIM_MOST ")", 1},
};
/* clang-format on */

struct outbox {
	const struct settings *settings;
	struct database *db;
	pthread_t thread;
	int stop; /* an eventfd */
	unsigned set_up; /* the connection that was set up */
	bool leader, told; /* of an event that has no position yet, perhaps */
	int64_t next_tick_ms, next_trim_ms, numbered_ms;
};

/* The one number that it says. -1 when the database fails: what was begun on the connection is begun anew. */
static int64_t
ask(struct outbox *o, int statement, const struct param *params, int n)
{
	PGresult *res = database_run(o->db, statements[statement].name, params, n, NULL);
	int64_t value;

	if (res == NULL) {
		database_drop(o->db);
		return -1;
	}
	value = result_int(res, 0, 0);
	PQclear(res);
	return value;
}

static void
set_leader(struct outbox *o, bool leader)
{
	if (o->leader != leader)
		log_info("outbox: %s", leader ? "this collector numbers events" : "no longer ours");
	o->leader = leader;
	counter_set(COUNTER_OUTBOX_LEADER, leader);
}

/* The lock went with the connection, if it is another one. */
static PGconn *
connect_anew(struct outbox *o)
{
	PGconn *conn = database_connect(o->db);

	if (conn != NULL && o->set_up == database_connection(o->db))
		return conn;
	set_leader(o, false);
	o->set_up = 0;
	if (conn == NULL || database_exec(o->db, session) < 0)
		return NULL;
	o->set_up = database_connection(o->db);
	return conn;
}

static void
try_to_lead(struct outbox *o)
{
	if (ask(o, LEAD, NULL, 0) <= 0)
		return;
	if (database_exec(o->db, "LISTEN fleetstate_event") < 0)
		database_drop(o->db);
	else
		set_leader(o, true);
}

static void
number(struct outbox *o)
{
	int64_t n;

	do {
		n = ask(o, NUMBER, NULL, 0);
		if (n > 0)
			counter_add(COUNTER_EVENTS, n);
	} while (n >= CHUNK);
	o->numbered_ms = clock_ms();
}

static void
trim(struct outbox *o)
{
	char keep[PARAM_NUMBER];
	const struct param param = param_number(keep, o->settings->event_retention);
	int64_t n = ask(o, TRIM, &param, 1);

	if (n > 0)
		counter_add(COUNTER_EVENTS_TRIMMED, n);
	o->next_trim_ms = clock_ms() + (n > 0 ? TRIM_PAUSE_MS : TRIM_MS);
}

/* Some come in with the answer to a statement. */
static void
take_notices(struct outbox *o, PGconn *conn)
{
	PGnotify *notice;

	(void)PQconsumeInput(conn);
	while ((notice = PQnotifies(conn)) != NULL) {
		o->told = true;
		PQfreemem(notice);
	}
}

static void
work(struct outbox *o)
{
	if (clock_ms() >= o->next_tick_ms) {
		int64_t lag = ask(o, LAG, NULL, 0);

		o->next_tick_ms = clock_ms() + TICK_MS;
		o->told = o->told || lag > 0;
		counter_set(COUNTER_OUTBOX_LAG_US, lag > 0 ? lag : 0);
		if (lag >= 0 && !o->leader)
			try_to_lead(o);
	}
	if (o->leader && o->told)
		number(o);
	o->told = false;
	if (o->leader && clock_ms() >= o->next_trim_ms)
		trim(o);
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* For a notice, or until something is due. False: we are to end. */
static bool
wait_for_work(struct outbox *o, PGconn *conn)
{
	int64_t now = clock_ms(), spare = o->numbered_ms + SPACING_MS - now;
	int64_t due = o->leader ? earlier(o->next_tick_ms, o->next_trim_ms) : o->next_tick_ms;
	struct pollfd p[] = {{.fd = o->stop, .events = POLLIN},
			     {.fd = conn == NULL ? -1 : PQsocket(conn), .events = POLLIN}};

	if (spare > 0 && poll(p, 1, (int)earlier(spare, SPACING_MS)) > 0)
		return false;
	if (conn != NULL)
		take_notices(o, conn);
	due = conn == NULL ? TICK_MS : o->told ? 0 : due - now;
	(void)poll(p, 2, due > 0 ? (int)earlier(due, TICK_MS) : 0);
	return (p[0].revents & POLLIN) == 0;
}

static void *
run(void *argument)
{
	struct outbox *o = argument;
	PGconn *conn;

	do {
		conn = connect_anew(o);
		if (conn != NULL) {
			take_notices(o, conn);
			work(o);
		}
		/* What it did may have ended the connection. */
		if (conn != NULL && database_connect(o->db) != conn)
			conn = NULL;
	} while (wait_for_work(o, conn));
	return NULL;
}

struct outbox *
outbox_start(const struct settings *settings)
{
	struct outbox *o = calloc(1, sizeof *o);

	if (o == NULL)
		return NULL;
	o->settings = settings;
	o->stop = eventfd(0, EFD_CLOEXEC);
	o->db = database_new(settings->database, statements, sizeof statements / sizeof statements[0]);
	if (o->stop >= 0 && o->db != NULL && pthread_create(&o->thread, NULL, run, o) == 0)
		return o;
	log_error("outbox: can't start");
	if (o->stop >= 0)
		close(o->stop);
	database_free(o->db);
	free(o);
	return NULL;
}

void
outbox_stop(struct outbox *o)
{
	if (o == NULL)
		return;
	(void)eventfd_write(o->stop, 1);
	pthread_join(o->thread, NULL);
	close(o->stop);
	database_free(o->db); /* and with it the lock */
	free(o);
}
