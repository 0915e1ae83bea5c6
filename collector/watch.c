#include "collector/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/counters.h"
#include "collector/database.h"
#include "collector/store_sql.h"
#include "schema/log.h"
#include "schema/topics.h"

#define CHANNEL "fleetstate_device" /* NOTIFY with a ueid in hex */

/* clang-format off */
enum { PARTITIONS, SILENCE, RETURN, REFUSALS, TRIM, ANCHORS };
static const struct statement statements[] = {
	[PARTITIONS] = {"partitions", "SELECT make_partitions(3)", 0},
	/* $1: nobody is silent sooner; $2 to $4: our shards, from when and till when we heard each without a break. A device is not silent for what we
	   could not hear, and later is as if it had not been yet. */
	[SILENCE] = {"silence",
		"WITH s AS (SELECT shard, to_timestamp(since / 1e6) AS since, to_timestamp(until / 1e6) AS until"
		"  FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS s (shard, since, until)),"
		" d AS (UPDATE device d SET posture = 'silent', reasons = '{silent}', posture_since = now() FROM device_hot h"
		" JOIN device o ON o.device_id = h.device_id"
		" JOIN s ON s.shard = get_byte(sha256(o.ueid), 0) >> 4"
		" WHERE d.device_id = h.device_id AND h.interval_s > 0 AND d.lifecycle = 'active' AND d.posture NOT IN ('silent', 'untrusted')"
		" AND h.last_seen < (SELECT max(until) FROM s) - make_interval(secs => greatest(3 * h.interval_s, $1::int))"
		" AND greatest(h.last_seen, s.since) < s.until - make_interval(secs => greatest(3 * h.interval_s, $1::int))"
		" RETURNING d.tenant_id, d.ueid, o.posture AS previous, h.last_seen, h.interval_s)"
		" INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, 'device.posture', ueid, jsonb_build_object('posture', 'silent',"
		" 'reasons', ARRAY['silent'], 'previous', previous, 'last_seen', rfc3339(last_seen), 'interval_s', interval_s) FROM d", 4},
	/* Ingest does this with the report; here are those that were called silent while it was being stored. */
	[RETURN] = {"return",
		"WITH d AS (UPDATE device d SET posture = 'unknown', posture_since = now(),"
		"  reasons = CASE WHEN EXISTS (SELECT FROM device_state s WHERE s.device_id = d.device_id) THEN ARRAY['no-policies'] ELSE ARRAY['no-state'] END"
		"  FROM device_hot h WHERE d.device_id = h.device_id AND d.posture = 'silent' AND"
		"  h.last_seen >= now() - make_interval(secs => greatest(3 * h.interval_s, $1::int))"
		"  RETURNING d.tenant_id, d.ueid, d.posture, d.reasons)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT tenant_id, 'device.posture', ueid, jsonb_build_object('posture', posture, 'reasons', reasons, 'previous', 'silent') FROM d", 1},
	/* What was refused since the last event about it, once the window is over. */
	[REFUSALS] = {"refusals",
		"WITH r AS (UPDATE refusal_count r SET told_at = now(), told = r.untold, untold = 0 FROM"
		"  (SELECT device_id, reason FROM refusal_count WHERE untold > 0 AND told_at <= now() - " REFUSAL_WINDOW
		"   ORDER BY told_at LIMIT 1000 FOR UPDATE SKIP LOCKED) o"
		"  WHERE r.device_id = o.device_id AND r.reason = o.reason RETURNING r.*)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT r.tenant_id, 'device.refused', d.ueid, jsonb_build_object('reason', r.reason, 'n', r.told, 'total', r.n)"
		" FROM r JOIN device d ON d.device_id = r.device_id WHERE d.lifecycle <> 'pending'", 0},
	[TRIM] = {"trim", "DELETE FROM refusal WHERE refusal_id <= (SELECT max(refusal_id) FROM refusal) - 10000", 0},
	[ANCHORS] = {"anchors_mark", "SELECT coalesce(sum(hashtextextended(a::text, 0)), 0)::text FROM trust_anchor a", 0},
};
/* clang-format on */

struct watch {
	const struct settings *settings;
	struct watch_events events;
	struct database *db;
	pthread_t thread;
	atomic_bool stop;
	int backend; /* the connection that listens */
	char anchors_mark[64];
};

static int64_t
clock_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* How many rows it changed, or the number it says. -1 when the database fails. */
static int64_t
run_statement(struct watch *w, int statement, const struct param *params, int n)
{
	PGresult *res = database_run(w->db, statements[statement].name, params, n, NULL);
	int64_t value;

	if (res == NULL)
		return -1;
	value = PQntuples(res) == 1 ? result_int(res, 0, 0) : atoll(PQcmdTuples(res));
	PQclear(res);
	return value;
}

/* The chores, each with its period in seconds. */

static void
make_partitions(struct watch *w)
{
	if (run_statement(w, PARTITIONS, NULL, 0) > 0)
		log_info("watch: partitions made");
}

/* An array as PostgreSQL writes it, of up to SHARDS numbers. */
struct list {
	char text[SHARDS * 21 + 3];
	int len;
};

static void
list_add(struct list *l, int64_t v)
{
	l->len += snprintf(l->text + l->len, sizeof l->text - (size_t)l->len, "%c%lld", l->len == 0 ? '{' : ',',
			   (long long)v);
}

static struct param
list_param(struct list *l)
{
	l->len += snprintf(l->text + l->len, sizeof l->text - (size_t)l->len, "%s", l->len == 0 ? "{}" : "}");
	return (struct param){l->text, l->len, false};
}

static void
look_for_silence(struct watch *w)
{
	struct list shards = {"", 0}, since = {"", 0}, until = {"", 0};
	char least[24];
	struct param params[4];
	int64_t from, to, n;

	params[0] = (struct param){least, snprintf(least, sizeof least, "%lld", (long long)w->settings->silence_min),
				   false};
	(void)run_statement(w, RETURN, params, 1);
	for (unsigned i = 0; i < SHARDS; i++)
		if (w->events.heard(w->events.context, i, &from, &to)) {
			list_add(&shards, i);
			list_add(&since, from);
			list_add(&until, to);
		}
	if (shards.len == 0)
		return;
	params[1] = list_param(&shards);
	params[2] = list_param(&since);
	params[3] = list_param(&until);
	n = run_statement(w, SILENCE, params, 4);
	if (n > 0)
		counter_add(COUNTER_SILENT, n);
}

static void
tell_refusals(struct watch *w)
{
	(void)run_statement(w, REFUSALS, NULL, 0);
}

static void
trim_samples(struct watch *w)
{
	(void)run_statement(w, TRIM, NULL, 0);
}

static void
look_for_anchors(struct watch *w)
{
	PGresult *res = database_run(w->db, statements[ANCHORS].name, NULL, 0, NULL);
	char mark[sizeof w->anchors_mark];
	struct anchors *anchors;

	if (res == NULL)
		return;
	snprintf(mark, sizeof mark, "%.*s", PQgetlength(res, 0, 0), PQgetvalue(res, 0, 0));
	PQclear(res);
	if (strcmp(mark, w->anchors_mark) == 0)
		return;
	anchors = anchors_load(w->db);
	if (anchors == NULL)
		return;
	memcpy(w->anchors_mark, mark, sizeof mark);
	log_info("watch: trust anchors read");
	w->events.anchors(w->events.context, anchors);
}

static void
listen_to_changes(struct watch *w)
{
	PGconn *conn = database_connect(w->db);
	PGnotify *notice;

	if (conn == NULL)
		return;
	if (w->backend != PQbackendPID(conn)) {
		if (database_exec(w->db, "LISTEN " CHANNEL) < 0)
			return;
		w->backend = PQbackendPID(conn);
		/* What was told while nobody listened is told no more. */
		w->events.devices(w->events.context);
	}
	(void)PQconsumeInput(conn);
	while ((notice = PQnotifies(conn)) != NULL) {
		struct ueid ueid;

		if (ueid_parse((struct slice){(uint8_t *)notice->extra, strlen(notice->extra)}, &ueid))
			w->events.device(w->events.context, &ueid);
		PQfreemem(notice);
	}
}

static const struct chore {
	void (*run)(struct watch *);
	int64_t period;
} chores[] = {
	{listen_to_changes, 1}, {look_for_anchors, 2}, {look_for_silence, 10},
	{tell_refusals, 10},    {trim_samples, 60},    {make_partitions, 3600},
};
#define CHORES (sizeof chores / sizeof chores[0])

static void *
run(void *argument)
{
	struct watch *w = argument;
	int64_t due[CHORES] = {0};

	while (!atomic_load(&w->stop)) {
		for (size_t i = 0; i < CHORES && !atomic_load(&w->stop); i++)
			if (clock_s() >= due[i]) {
				due[i] = clock_s() + chores[i].period;
				chores[i].run(w);
			}
		nanosleep(&(struct timespec){0, 200000000}, NULL);
	}
	return NULL;
}

struct watch *
watch_start(const struct settings *settings, const struct watch_events *events)
{
	struct watch *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->settings = settings;
	w->events = *events;
	w->db = database_new(settings->database, statements, sizeof statements / sizeof statements[0]);
	if (w->db != NULL && run_statement(w, PARTITIONS, NULL, 0) >= 0 &&
	    pthread_create(&w->thread, NULL, run, w) == 0)
		return w;
	log_error("watch: can't start");
	database_free(w->db);
	free(w);
	return NULL;
}

void
watch_stop(struct watch *w)
{
	if (w == NULL)
		return;
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	database_free(w->db);
	free(w);
}
