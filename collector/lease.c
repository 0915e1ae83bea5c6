#include "collector/lease.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/database.h"
#include "schema/log.h"
#include "schema/topics.h"

#define BEAT_MS 5000
#define SHORT_MS 1000 /* likewise, while we lead less than our share: what others give back has nobody until we look */
#define TICK_MS 500
#define CUT_OFF_MS 10000 /* from the broker, before others are let try */
#define ASIDE_MIN_MS 30000 /* the second time in a row, for so long at least; doubled from then on */
#define ASIDE_MAX_MS 480000

/* clang-format off */
enum { CLOCK, BEAT, LIVE, TRY, UNLOCK, LEAVE };
static const struct statement statements[] = {
	[CLOCK] = {"clock", "SELECT clock_timestamp()", 0},
	[BEAT] = {"beat", "INSERT INTO collector (name, seen_at) VALUES ($1, now()) ON CONFLICT (name) DO UPDATE SET seen_at = now()", 1},
	[LIVE] = {"live", "SELECT count(*) FROM collector WHERE seen_at > now() - interval '15 s'", 0},
	[TRY] = {"try", "SELECT pg_try_advisory_lock(8260, $1::int)", 1},
	[UNLOCK] = {"unlock", "SELECT pg_advisory_unlock(8260, $1::int)", 1},
	[LEAVE] = {"leave", "DELETE FROM collector WHERE name = $1", 1},
};
/* clang-format on */

struct lease {
	const struct settings *settings;
	struct lease_events events;
	struct database *db;
	bool held[SHARDS];
	bool aside, fall_short;
	int64_t aside_until, aside_next; /* milliseconds */
	atomic_bool connected, settled, stop;
	pthread_t thread;
};

static unsigned
count_held(const struct lease *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SHARDS; i++)
		n += l->held[i];
	return n;
}

/* One value, or -1 when the database fails. */
static int64_t
ask(struct lease *l, int statement, const struct param *params, int n)
{
	PGresult *res = database_run(l->db, statements[statement].name, params, n, NULL);
	int64_t value = 0;

	if (res == NULL)
		return -1;
	if (PQntuples(res) == 1)
		value = result_int(res, 0, 0);
	PQclear(res);
	return value;
}

static int64_t
ask_shard(struct lease *l, int statement, unsigned shard)
{
	char text[PARAM_NUMBER];
	const struct param param = param_number(text, shard);

	return ask(l, statement, &param, 1);
}

static int64_t
ask_name(struct lease *l, int statement)
{
	const struct param param = param_text(l->settings->name);

	return ask(l, statement, &param, 1);
}

/* The lock went with the connection: somebody else may hold the shard already. */
static void
lose_all(struct lease *l)
{
	if (atomic_exchange(&l->connected, false))
		log_warning("lease: database connection lost, and with it %u shards", count_held(l));
	atomic_store(&l->settled, false);
	for (unsigned i = 0; i < SHARDS; i++)
		if (l->held[i]) {
			counter_add(COUNTER_LEASES_LOST, 1);
			l->events.release(l->events.context, i);
		}
	for (unsigned i = 0; i < SHARDS; i++)
		if (l->held[i]) {
			l->events.drain(l->events.context, i);
			l->held[i] = false;
		}
	counter_set(COUNTER_SHARDS_HELD, 0);
}

/* Failing means that the connection is gone, and all the other locks with it: the next statement would be on another one. */
static int
give_back(struct lease *l, unsigned shard)
{
	l->events.release(l->events.context, shard);
	l->events.drain(l->events.context, shard);
	l->held[shard] = false;
	if (ask_shard(l, UNLOCK, shard) < 0)
		return -1;
	log_info("lease: shard %x given back", shard);
	return 0;
}

static int
take(struct lease *l, unsigned shard)
{
	int64_t got = ask_shard(l, TRY, shard);

	if (got <= 0)
		return (int)got;
	if (l->events.hold(l->events.context, shard) < 0)
		return ask_shard(l, UNLOCK, shard) < 0 ? -1 : 0;
	l->held[shard] = true;
	return 0;
}

/* A fair share of the sixteen for each that lives; who has more gives back, who has less takes what is free. */
static int
balance(struct lease *l)
{
	int64_t live = ask(l, LIVE, NULL, 0);
	unsigned share;

	if (live < 0)
		return -1;
	share = live <= 1 ? SHARDS : (unsigned)((SHARDS + live - 1) / live);
	for (unsigned i = 0; i < SHARDS && count_held(l) > share; i++)
		if (l->held[i] && give_back(l, i) < 0)
			return -1;
	for (unsigned i = 0; i < SHARDS && count_held(l) < share; i++)
		if (!l->held[i] && take(l, i) < 0)
			return -1;
	counter_set(COUNTER_SHARDS_HELD, count_held(l));
	l->fall_short = count_held(l) < share;
	return 0;
}

static int
compare_clocks(struct lease *l)
{
	int64_t before = clock_steady_us();
	PGresult *res = database_run(l->db, statements[CLOCK].name, NULL, 0, NULL);

	if (res == NULL)
		return -1;
	clock_compare(result_time_us(res, 0, 0), before);
	PQclear(res);
	return 0;
}

/* With a wrong clock we do harm, and without the broker no good: the shards are for others meanwhile. */
static int
step_aside(struct lease *l)
{
	atomic_store(&l->settled, false);
	for (unsigned i = 0; i < SHARDS; i++)
		if (l->held[i] && give_back(l, i) < 0)
			return -1;
	counter_set(COUNTER_SHARDS_HELD, 0);
	return ask_name(l, LEAVE) < 0 ? -1 : 0;
}

/* Whoever lives may hear the broker when we can't, so they get our shards until it answers us again: at once, unless that was no good the last time.
   Alone we keep them: nothing would be won. 1: we are aside. */
static int
look_for_broker(struct lease *l)
{
	int64_t cut_off, live;

	if (l->aside) {
		if (!l->events.answered_aside(l->events.context) || clock_ms() < l->aside_until)
			return 1;
		l->aside = false;
		l->events.end_aside(l->events.context);
		return 0;
	}
	cut_off = l->events.cut_off(l->events.context);
	if (cut_off == 0)
		l->aside_next = 0;
	if (cut_off <= CUT_OFF_MS)
		return 0;
	live = ask(l, LIVE, NULL, 0);
	if (live <= 1)
		return (int)(live < 0 ? -1 : 0);
	l->aside = true;
	l->aside_until = clock_ms() + l->aside_next;
	l->aside_next = l->aside_next == 0 ? ASIDE_MIN_MS : l->aside_next * 2;
	if (l->aside_next > ASIDE_MAX_MS)
		l->aside_next = ASIDE_MAX_MS;
	log_warning("lease: the broker can't be heard, so others get our shards until it is");
	return 1;
}

static int
beat(struct lease *l)
{
	int aside;

	if (compare_clocks(l) < 0)
		return -1;
	aside = clock_is_right() ? look_for_broker(l) : 1;
	l->fall_short = aside != 0;
	if (aside != 0)
		return aside < 0 ? -1 : step_aside(l);
	if (ask_name(l, BEAT) < 0 || balance(l) < 0)
		return -1;
	atomic_store(&l->settled, true);
	return 0;
}

static void *
run(void *argument)
{
	struct lease *l = argument;
	int64_t next = 0;

	while (!atomic_load(&l->stop)) {
		if (database_connect(l->db) == NULL) {
			nanosleep(&(struct timespec){0, TICK_MS * 1000000}, NULL);
			next = 0;
			continue;
		}
		atomic_store(&l->connected, true);
		if (clock_ms() >= next) {
			if (beat(l) < 0) {
				database_drop(l->db);
				lose_all(l);
				next = clock_ms() + TICK_MS;
				continue;
			}
			next = clock_ms() + (l->fall_short ? SHORT_MS : BEAT_MS);
		}
		if (database_ended(l->db, TICK_MS)) {
			database_drop(l->db);
			lose_all(l);
			next = 0;
		}
	}
	return NULL;
}

bool
lease_ready(struct lease *l, char *why)
{
	if (atomic_load(&l->connected) && atomic_load(&l->settled))
		return true;
	snprintf(why, 128, "no leases: %s",
		 atomic_load(&l->connected) ? "not settled yet" : "the database does not answer");
	return false;
}

struct lease *
lease_start(const struct settings *settings, const struct lease_events *events)
{
	struct lease *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->settings = settings;
	l->events = *events;
	l->db = database_new(settings->database, statements, sizeof statements / sizeof statements[0]);
	if (l->db == NULL || pthread_create(&l->thread, NULL, run, l) != 0) {
		database_free(l->db);
		free(l);
		return NULL;
	}
	return l;
}

void
lease_stop(struct lease *l)
{
	if (l == NULL)
		return;
	atomic_store(&l->stop, true);
	pthread_join(l->thread, NULL);
	for (unsigned i = 0; i < SHARDS; i++)
		if (l->held[i])
			l->events.release(l->events.context, i);
	for (unsigned i = 0; i < SHARDS; i++)
		if (l->held[i])
			l->events.drain(l->events.context, i);
	(void)ask_name(l, LEAVE);
	database_free(l->db); /* and with it the locks */
	free(l);
}
