#include "collector/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/database.h"
#include "collector/store_sql.h"
#include "collector/upkeep.h"
#include "schema/log.h"
#include "schema/topics.h"

#define CHANNEL "fleetstate_device" /* NOTIFY with a ueid in hex */
#define MARKS_MAX 5000 /* devices marked in one transaction */
#define TROUBLES 6
#define LISTS_AGAIN_SECONDS 60
#define TELL_SECONDS 15 /* a word of ours that is a minute old is no longer believed */
#define WHY_SIZE UPKEEP_WHY
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* clang-format off */
enum { PARTITIONS, SILENCE, RETURN, ENDING, TROUBLE, GONE, RUN_OUT, LAG, SIZE, REFUSALS, TRIM, ORDER, ANCHORS, FRESH, REVOKE };
static const struct statement statements[] = {
	[PARTITIONS] = {"partitions", "SELECT make_partitions(3)", 0},
	/* $1: nobody is silent sooner; $2 to $4: our shards, from when and till when we heard each without a break. A device is not silent for what we
	   could not hear, and later is as if it had not been yet. */
	[SILENCE] = {"silence",
		"WITH s AS (SELECT shard, to_timestamp(since / 1e6) AS since, to_timestamp(until / 1e6) AS until"
		"  FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS s (shard, since, until)),"
		/* Where devices stand in their reports is looked through first, which is small, and leaves few. */
		" h AS MATERIALIZED (SELECT device_id, last_seen, interval_s FROM device_hot WHERE interval_s > 0"
		"  AND last_seen < (SELECT max(until) FROM s) - make_interval(secs => greatest(3 * interval_s, $1::int))),"
		" late AS (SELECT d.device_id FROM h JOIN device d ON d.device_id = h.device_id"
		"  JOIN s ON s.shard = get_byte(sha256(d.ueid), 0) >> 4 JOIN device_verdict v ON v.device_id = h.device_id"
		"  JOIN policy p ON p.builtin AND p.enabled AND p.id = 'silent'"
		"  WHERE d.lifecycle = 'active' AND outcome_at(v.outcomes, p.slot) NOT IN ('1', 'h', 'p')"
		"  AND greatest(h.last_seen, s.since) < s.until - make_interval(secs => greatest(3 * h.interval_s, $1::int))"
		"  ORDER BY d.device_id LIMIT " TEXT(MARKS_MAX) ")"
		" SELECT count(*), mark_devices(array_agg(device_id), array_agg('silent'::text), array_agg('1'::text)) FROM late", 4},
	/* Ingest does this with the report; here are those that were called silent while it was being stored. */
	[RETURN] = {"return",
		"SELECT count(*), mark_devices(array_agg(device_id), array_agg('silent'::text), array_agg('0'::text)) FROM ("
		" SELECT d.device_id FROM tenant t, LATERAL (SELECT d.device_id FROM device d WHERE d.tenant_id = t.tenant_id"
		"  AND posture_rank(d.posture) IN (posture_rank('silent'), posture_rank('untrusted')) OFFSET 0) d"
		" JOIN device_hot h ON h.device_id = d.device_id JOIN device_verdict v ON v.device_id = d.device_id"
		" JOIN policy p ON p.builtin AND p.enabled AND p.id = 'silent'"
		" WHERE outcome_at(v.outcomes, p.slot) IN ('1', 'h', 'p')"
		" AND h.last_seen >= now() - make_interval(secs => greatest(3 * h.interval_s, $1::int)) ORDER BY d.device_id LIMIT " TEXT(MARKS_MAX) ") x", 1},
	/* $1, $2: seconds before a certificate's end, for the one and the other; or the last quarter, and sixteenth, of one that lives less than as many
	   of these. */
	[ENDING] = {"ending",
		"SELECT count(*), mark_devices(array_agg(device_id), array_agg(id), array_agg(ends)) FROM ("
		" SELECT k.device_id, p.id, CASE WHEN k.ends THEN '1' ELSE '0' END AS ends"
		" FROM (SELECT k.device_id, m.id, max(k.not_after - least(make_interval(secs => m.before), (k.not_after - k.not_before) / m.share)) < now() AS ends"
		"  FROM device_key k, (VALUES ('certificate-ending', $1::int, 4), ('certificate-urgent', $2::int, 16)) m (id, before, share)"
		"  WHERE k.status = 'active' GROUP BY k.device_id, m.id) k"
		" JOIN policy p ON p.builtin AND p.enabled AND p.id = k.id JOIN device d ON d.device_id = k.device_id AND d.lifecycle = 'active'"
		" JOIN device_verdict v ON v.device_id = k.device_id WHERE k.ends <> (outcome_at(v.outcomes, p.slot) IN ('1', 'h', 'p'))"
		" ORDER BY k.device_id LIMIT " TEXT(MARKS_MAX) ") x", 2},
	/* The system's own troubles: what there is to say of each, no row or NULL when there is none. $1: this collector. */
	[TROUBLE] = {"trouble", "SELECT count(*) FROM report_trouble($1, $2, $3)", 3},
	[GONE] = {"gone",
		"WITH forgotten AS (DELETE FROM collector WHERE seen_at < now() - interval '1 day')"
		" SELECT 'not heard since a minute: ' || string_agg(name, ', ' ORDER BY name) FROM collector"
		" WHERE seen_at BETWEEN now() - interval '1 day' AND now() - interval '1 minute'", 0},
	[RUN_OUT] = {"run_out",
		"SELECT 'no partition for tomorrow: ' || string_agg(t, ', ') FROM unnest('{report_quiet,report_full}'::text[]) t"
		" WHERE to_regclass('fleetstate.' || t || to_char((now() AT TIME ZONE 'UTC')::date + 1, '_YYYYMMDD')) IS NULL", 0},
	[LAG] = {"lag",
		"SELECT 'the oldest has waited since ' || rfc3339(time) FROM event WHERE position IS NULL AND time < now() - interval '1 minute'"
		" ORDER BY event_id LIMIT 1", 0},
	[SIZE] = {"size", "SELECT pg_database_size(current_database())", 0},
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
	[ORDER] = {"order_heard", "SELECT order_heard()", 0},
	[ANCHORS] = {"anchors_mark", "SELECT concat((SELECT sum(hashtextextended(a::text, 0)) FROM trust_anchor a),"
		" (SELECT sum(hashtextextended(trust_anchor_id || encode(issuer, 'hex') || loaded_at, 0)) FROM crl))", 0},
	[FRESH] = {"fresh_keys",
		"SELECT d.ueid, k.kid, k.chain[1], k.chain[2], k.chain[3] FROM device_key k JOIN device d ON d.device_id = k.device_id"
		" WHERE k.status <> 'revoked' AND EXISTS (SELECT FROM crl c WHERE k.enrolled_at BETWEEN c.loaded_at - interval '1 minute'"
		" AND c.loaded_at + interval '10 minutes')", 0},
	[REVOKE] = {"revoke_key", "SELECT revoke_key($1::bytea, $2::bytea, 'named by its authority''s list')", 2},
};
/* clang-format on */

enum told { TOLD_NOTHING, TOLD_SO, TOLD_OVER };

struct watch {
	const struct settings *settings;
	struct watch_events events;
	struct database *db;
	struct upkeep *upkeep;
	char disk_why[WHY_SIZE]; /* empty: nothing */
	pthread_t thread;
	atomic_bool stop;
	unsigned set_up; /* the connection that listens */
	char anchors_mark[64];
	int64_t lists_again; /* when keys are held against the lists once more; 0: they were */
	enum told told[TROUBLES];
	int64_t tell_again[TROUBLES];
};

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

/* Some at a time, until none is left. Returns how many. */
static int64_t
mark_all(struct watch *w, int statement, const struct param *params, int n)
{
	int64_t sum = 0, marked;

	do {
		marked = run_statement(w, statement, params, n);
		sum += marked > 0 ? marked : 0;
	} while (marked == MARKS_MAX && !atomic_load(&w->stop));
	return sum;
}

static void
look_for_silence(struct watch *w)
{
	struct list shards = {"", 0}, since = {"", 0}, until = {"", 0};
	char least[PARAM_NUMBER];
	struct param params[4];
	int64_t from, to;

	params[0] = param_number(least, w->settings->silence_min);
	(void)mark_all(w, RETURN, params, 1);
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
	counter_add(COUNTER_SILENT, mark_all(w, SILENCE, params, 4));
}

static void
look_for_endings(struct watch *w)
{
	char warning[PARAM_NUMBER], urgent[PARAM_NUMBER];
	const struct param params[2] = {param_number(warning, w->settings->certificate_warning),
					param_number(urgent, w->settings->certificate_urgent)};

	(void)mark_all(w, ENDING, params, 2);
}

/* The database's size is not asked for as often as the troubles are told. */
static void
look_at_disks(struct watch *w)
{
	int64_t size = w->settings->database_size > 0 ? run_statement(w, SIZE, NULL, 0) : -1;

	(void)!upkeep_disks(w->upkeep, size, w->disk_why);
}

/* The system's own troubles. Each is told again while it lasts, and once that it is over; at first too, for what an earlier run of ours may have said. */

static bool
broker_trouble(struct watch *w, char *why)
{
	return w->events.deaf(w->events.context, why);
}

/* The statement says it, if there is something to say. */
static bool
ask_trouble(struct watch *w, int statement, char *why)
{
	PGresult *res = database_run(w->db, statements[statement].name, NULL, 0, NULL);
	bool there = res != NULL && PQntuples(res) == 1 && !result_null(res, 0, 0);

	if (there) {
		struct slice text = result_bytes(res, 0, 0);

		snprintf(why, WHY_SIZE, "%.*s", (int)text.len, (const char *)text.at);
	}
	PQclear(res);
	return there;
}

static bool
collector_trouble(struct watch *w, char *why)
{
	return ask_trouble(w, GONE, why);
}

static bool
partition_trouble(struct watch *w, char *why)
{
	return ask_trouble(w, RUN_OUT, why);
}

static bool
outbox_trouble(struct watch *w, char *why)
{
	return ask_trouble(w, LAG, why);
}

static bool
certificate_trouble(struct watch *w, char *why)
{
	return upkeep_certificates(w->upkeep, time(NULL), why);
}

static bool
disk_trouble(struct watch *w, char *why)
{
	memcpy(why, w->disk_why, WHY_SIZE);
	return why[0] != '\0';
}

static const struct trouble {
	const char *policy;
	bool (*is)(struct watch *, char *why);
} troubles[TROUBLES] = {
	{"broker", broker_trouble},     {"collector", collector_trouble},     {"partitions", partition_trouble},
	{"outbox-lag", outbox_trouble}, {"certificate", certificate_trouble}, {"disk", disk_trouble},
};

static void
look_for_troubles(struct watch *w)
{
	for (size_t i = 0; i < TROUBLES; i++) {
		char why[WHY_SIZE];
		bool is = troubles[i].is(w, why);
		struct param params[3] = {{troubles[i].policy, (int)strlen(troubles[i].policy), false},
					  {w->settings->name, (int)strlen(w->settings->name), false},
					  {is ? why : NULL, is ? (int)strlen(why) : 0, false}};

		if (w->told[i] == (is ? TOLD_SO : TOLD_OVER) && (!is || clock_s() < w->tell_again[i]))
			continue;
		if (is && w->told[i] != TOLD_SO)
			log_warning("watch: %s: %s", troubles[i].policy, why);
		if (run_statement(w, TROUBLE, params, 3) < 0)
			continue;
		w->told[i] = is ? TOLD_SO : TOLD_OVER;
		w->tell_again[i] = clock_s() + TELL_SECONDS;
	}
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

/* What is more than a list could put in the order in which devices were heard. */
static void
put_in_order(struct watch *w)
{
	(void)run_statement(w, ORDER, NULL, 0);
}

static bool
is_named(const struct anchors *anchors, const PGresult *res, int row)
{
	struct slice name = result_bytes(res, row, 0), chain[LIMIT_CHAIN_CERTS];
	struct enrolment *e = NULL;
	struct ueid ueid;
	size_t n = 0;
	enum reason reason;

	if (name.len != sizeof ueid.bytes)
		return false;
	memcpy(ueid.bytes, name.at, sizeof ueid.bytes);
	while (n < LIMIT_CHAIN_CERTS && !result_null(res, row, 2 + (int)n)) {
		chain[n] = result_bytes(res, row, 2 + (int)n);
		n++;
	}
	reason = enrol_chain(anchors, chain, n, &ueid, result_bytes(res, row, 1), (int64_t)time(NULL), 0, &e);
	enrolment_free(e);
	return reason == REASON_CERTIFICATE_REVOKED;
}

/* Keys that were enrolled here after a list was taken in that names them, and before it was read. */
static void
hold_against_lists(struct watch *w)
{
	struct anchors *anchors = anchors_load(w->db);
	PGresult *res = anchors == NULL ? NULL : database_run(w->db, statements[FRESH].name, NULL, 0, NULL);

	for (int i = 0; res != NULL && i < PQntuples(res); i++) {
		struct slice ueid = result_bytes(res, i, 0), kid = result_bytes(res, i, 1);
		const struct param params[2] = {{ueid.at, (int)ueid.len, true}, {kid.at, (int)kid.len, true}};

		if (is_named(anchors, res, i))
			PQclear(database_run(w->db, statements[REVOKE].name, params, 2, NULL));
	}
	PQclear(res);
	anchors_free(anchors);
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
	if (w->lists_again != 0 && clock_s() >= w->lists_again) {
		w->lists_again = 0;
		hold_against_lists(w);
	}
	if (strcmp(mark, w->anchors_mark) == 0)
		return;
	anchors = anchors_load(w->db);
	if (anchors == NULL)
		return;
	memcpy(w->anchors_mark, mark, sizeof mark);
	upkeep_set_anchors(w->upkeep, anchors);
	log_info("watch: trust anchors read");
	w->events.anchors(w->events.context, anchors);
	/* Now, and when what was on its way to the commit is there. */
	hold_against_lists(w);
	w->lists_again = clock_s() + LISTS_AGAIN_SECONDS;
}

static void
listen_to_changes(struct watch *w)
{
	PGconn *conn = database_connect(w->db);
	PGnotify *notice;

	if (conn == NULL)
		return;
	if (w->set_up != database_connection(w->db)) {
		if (database_exec(w->db, "LISTEN " CHANNEL) < 0)
			return;
		w->set_up = database_connection(w->db);
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
	{listen_to_changes, 1},  {look_for_anchors, 2},   {look_at_disks, 4}, {look_for_troubles, 2},
	{look_for_silence, 10},  {tell_refusals, 10},     {put_in_order, 5},  {trim_samples, 60},
	{look_for_endings, 600}, {make_partitions, 3600},
};
#define CHORES (sizeof chores / sizeof chores[0])

/* Who wants to be told of silence sooner than it is looked for has it looked for sooner. */
static int64_t
period(const struct watch *w, const struct chore *chore)
{
	if (chore->run == look_for_silence && w->settings->silence_min < chore->period)
		return w->settings->silence_min;
	return chore->period;
}

static void *
run(void *argument)
{
	struct watch *w = argument;
	int64_t due[CHORES] = {0};

	while (!atomic_load(&w->stop)) {
		for (size_t i = 0; i < CHORES && !atomic_load(&w->stop); i++)
			if (clock_s() >= due[i]) {
				due[i] = clock_s() + period(w, &chores[i]);
				chores[i].run(w);
			}
		nanosleep(&(struct timespec){0, 200000000}, NULL);
	}
	return NULL;
}

struct watch *
watch_start(const struct settings *settings, struct tls *tls, const struct watch_events *events)
{
	struct watch *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->settings = settings;
	w->events = *events;
	w->upkeep = upkeep_new(settings, tls);
	w->db = database_new(settings->database, statements, sizeof statements / sizeof statements[0]);
	if (w->upkeep != NULL && w->db != NULL && run_statement(w, PARTITIONS, NULL, 0) >= 0 &&
	    pthread_create(&w->thread, NULL, run, w) == 0)
		return w;
	log_error("watch: can't start");
	database_free(w->db);
	upkeep_free(w->upkeep);
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
	upkeep_free(w->upkeep);
	free(w);
}
