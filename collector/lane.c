#include "collector/lane.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/counters.h"
#include "collector/format_cloudevents.h"
#include "schema/log.h"

#define FETCH 500
#define MESSAGE_BYTES (1 << 20) /* of events' data in one message */
#define TRIES 5 /* of an event that the receiver says it will never take */
#define BACKOFF_MS 500 /* before the second try; doubled from then on */
#define BACKOFF_MAX_MS 60000
#define REJECTED_MAX_MS 8000
#define RETRY_AFTER_MAX_S 3600
#define CONFIGURATION_MS 60000 /* before a sink that can't even be opened is tried again */
#define STORE_MS 5000 /* a cursor that only moved past what is for others */
#define DEAD_KEPT "1000" /* dead letters of a sink */

/* clang-format off */
enum { SINKS, TAKE, FETCH_ALL, FETCH_TENANT, STORE, BURY, TESTED };
#define FETCH_SQL(mine) \
	"SELECT h.top, h.oldest, e.position, e.event_id, e.time, coalesce(t.id, 'operator'), e.type, e.ueid, e.data::text FROM event_head h" \
	" LEFT JOIN LATERAL (SELECT * FROM event WHERE position > $1::int8 AND position <= h.top" mine " ORDER BY position LIMIT $2::int8) e ON true" \
	" LEFT JOIN tenant t ON t.tenant_id = e.tenant_id ORDER BY e.position"
const struct statement lane_statements[] = {
	[SINKS] = {LANE_SINKS,
		"SELECT s.sink_id::int8, t.id, s.name, s.kind, s.target, s.ca, s.certificate, s.secret, array_to_string(s.types, ','), s.severity,"
		" s.batch::int8, s.tenant_id::int8, coalesce(c.test_wanted_at > coalesce(c.tested_at, '-infinity'), false), s.format"
		" FROM sink s JOIN sink_cursor c ON c.sink_id = s.sink_id LEFT JOIN tenant t ON t.tenant_id = s.tenant_id ORDER BY 1", 0},
	[TAKE] = {"lane_take", "UPDATE sink_cursor SET leader = $2 WHERE sink_id = $1::int8 RETURNING position", 2},
	[FETCH_ALL] = {"lane_fetch_all", FETCH_SQL(""), 2},
	[FETCH_TENANT] = {"lane_fetch_tenant", FETCH_SQL(" AND tenant_id = $3::int8"), 3},
	/* $2: where the cursor stood. If it stands elsewhere, somebody else leads the sink. */
	[STORE] = {"lane_store",
		"UPDATE sink_cursor SET position = $3::int8, delivered = delivered + $4::int8, retried = retried + $5::int8, missed = missed + $6::int8,"
		" delivered_at = CASE WHEN $4::int8 > 0 THEN now() ELSE delivered_at END,"
		" failed_at = CASE WHEN $7::text IS NOT NULL THEN coalesce(failed_at, now()) END, failure = $7::text"
		" WHERE sink_id = $1::int8 AND position = $2::int8", 7},
	[BURY] = {"lane_bury",
		"WITH d AS (INSERT INTO sink_dead (sink_id, position, tenant_id, event, tries, answer)"
		"  SELECT sink_id, $3::int8, tenant_id, $4, $5::int8, $6 FROM sink WHERE sink_id = $1::int8 ON CONFLICT DO NOTHING),"
		" t AS (DELETE FROM sink_dead WHERE sink_id = $1::int8 AND position <="
		"  (SELECT position FROM sink_dead WHERE sink_id = $1::int8 ORDER BY position DESC OFFSET " DEAD_KEPT " - 1 LIMIT 1))"
		" UPDATE sink_cursor SET position = $3::int8, dead = dead + 1 WHERE sink_id = $1::int8 AND position = $2::int8", 6},
	[TESTED] = {"lane_tested",
		"UPDATE sink_cursor SET tested_at = greatest(now(), test_wanted_at), test_answer = $2 WHERE sink_id = $1::int8", 2},
};
const size_t lane_statements_n = sizeof lane_statements / sizeof *lane_statements;
/* clang-format on */

struct lane {
	struct sink sink;
	char tenant_id[24]; /* empty: all */
	const struct sink_kind *kind;
	const struct sink_ground *ground;
	uint8_t *sealed; /* as it lies in the database; freed once it is open */
	size_t sealed_len;
	const struct vault_key *key;
	struct sink_link *link; /* NULL: not open yet */

	int64_t cursor; /* stored */
	int64_t moved; /* to be stored */
	int64_t sent; /* what the link was given, delivered or not */
	int64_t upto; /* where `sent` gets with the message under way */
	int64_t delivered, retried, missed; /* to be stored */
	bool stale; /* something is to be stored */
	int64_t store_ms; /* and by when */

	PGresult *rows; /* the events' bytes */
	struct event events[FETCH];
	size_t n, at; /* of them; those before `at` were sent */
	int64_t window; /* where the cursor gets with the last of them */
	size_t part; /* how many are in the message under way */
	size_t most; /* and may be in the next */

	bool busy, idle, test_wanted, testing;
	struct event test;
	unsigned failures, rejections;
	int64_t next_ms;
	char failure[SINK_ANSWER_SIZE]; /* empty: none */
};

/* Parameters as text. */
struct args {
	char numbers[8][PARAM_NUMBER];
	struct param at[8];
	int n;
};

static void
add_number(struct args *a, int64_t v)
{
	a->at[a->n] = param_number(a->numbers[a->n], v);
	a->n++;
}

static void
add_text(struct args *a, const char *text)
{
	a->at[a->n++] = param_text(text);
}

static PGresult *
run(struct database *db, int statement, const struct args *a)
{
	return database_run(db, lane_statements[statement].name, a->at, a->n, NULL);
}

/* How many rows it changed; -1: the database fails. */
static int
change(struct database *db, int statement, const struct args *a)
{
	PGresult *res = run(db, statement, a);
	int n;

	if (res == NULL)
		return -1;
	n = atoi(PQcmdTuples(res));
	PQclear(res);
	return n;
}

/* From half of it to all of it. */
static int64_t
backoff(unsigned failures, int64_t most)
{
	int64_t ms = BACKOFF_MS;
	uint32_t chance = 0;

	for (unsigned i = 1; i < failures && ms < most; i++)
		ms *= 2;
	if (ms > most)
		ms = most;
	(void)RAND_bytes((unsigned char *)&chance, sizeof chance);
	return ms / 2 + (int64_t)(chance % (uint64_t)(ms / 2 + 1));
}

/* The sink. */

static char *
copy_text(const PGresult *res, int row, int column)
{
	struct slice s = result_bytes(res, row, column);

	return s.at == NULL ? NULL : strndup((const char *)s.at, s.len);
}

static int
read_sink(struct lane *l, const PGresult *res, int row)
{
	struct slice severity = result_bytes(res, row, LANE_SEVERITY), sealed = result_bytes(res, row, LANE_SECRET);
	char *format = copy_text(res, row, LANE_FORMAT);
	struct sink *s = &l->sink;

	s->id = result_int(res, row, LANE_SINK_ID);
	s->tenant = copy_text(res, row, LANE_TENANT);
	s->name = copy_text(res, row, LANE_NAME);
	s->kind = copy_text(res, row, LANE_KIND);
	s->target = copy_text(res, row, LANE_TARGET);
	s->ca = copy_text(res, row, LANE_CA);
	s->certificate = copy_text(res, row, LANE_CERTIFICATE);
	s->types = copy_text(res, row, LANE_TYPES);
	s->batch = (size_t)result_int(res, row, LANE_BATCH);
	s->format = format == NULL ? NULL : event_format(format);
	free(format);
	if (s->name == NULL || s->kind == NULL || s->target == NULL || s->types == NULL || s->format == NULL ||
	    !severity_parse(severity, &s->least))
		return -1;
	if (!result_null(res, row, LANE_TENANT_ID))
		snprintf(l->tenant_id, sizeof l->tenant_id, "%lld", (long long)result_int(res, row, LANE_TENANT_ID));
	if (sealed.at != NULL) {
		l->sealed = malloc(sealed.len + 1);
		if (l->sealed == NULL)
			return -1;
		memcpy(l->sealed, sealed.at, sealed.len);
		l->sealed_len = sealed.len;
	}
	return 0;
}

/* Under its lock: the cursor is where the last leader left it. */
static int
take(struct lane *l, struct database *db)
{
	struct args a = {.n = 0};
	PGresult *res;

	add_number(&a, l->sink.id);
	add_text(&a, l->ground->host);
	res = run(db, TAKE, &a);
	if (res == NULL || PQntuples(res) != 1) {
		PQclear(res);
		return -1;
	}
	l->cursor = l->moved = l->sent = result_int(res, 0, 0);
	PQclear(res);
	return 0;
}

struct lane *
lane_new(struct database *db, const struct sink_ground *ground, const struct vault_key *key, const PGresult *sinks,
	 int row)
{
	struct lane *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->ground = ground;
	l->key = key;
	if (read_sink(l, sinks, row) == 0 && take(l, db) == 0) {
		l->kind = sink_kind(l->sink.kind);
		l->most = l->sink.batch;
		log_info("sink %lld (%s): ours, from position %lld", (long long)l->sink.id, l->sink.name,
			 (long long)l->cursor + 1);
		return l;
	}
	lane_free(l);
	return NULL;
}

static void
forget_events(struct lane *l)
{
	for (size_t i = 0; i < l->n; i++)
		event_clear(&l->events[i]);
	l->n = l->at = 0;
	PQclear(l->rows);
	l->rows = NULL;
}

static void
cleanse(struct slice *secret)
{
	OPENSSL_clear_free((void *)(uintptr_t)secret->at, secret->len);
	*secret = (struct slice){NULL, 0};
}

void
lane_free(struct lane *l)
{
	if (l == NULL)
		return;
	if (l->link != NULL)
		l->kind->close(l->link);
	forget_events(l);
	event_clear(&l->test);
	cleanse(&l->sink.secret);
	free(l->sealed);
	free(l->sink.tenant);
	free(l->sink.name);
	free(l->sink.kind);
	free(l->sink.target);
	free(l->sink.ca);
	free(l->sink.certificate);
	free(l->sink.types);
	free(l);
}

int64_t
lane_id(const struct lane *l)
{
	return l->sink.id;
}

void
lane_wake(struct lane *l)
{
	l->idle = false;
}

void
lane_test(struct lane *l)
{
	l->test_wanted = true;
}

/* False: `why` says what stands against it. */
static bool
open_secret(struct lane *l, char *why)
{
	char binding[4096];
	const struct sink *s = &l->sink;
	size_t len = vault_binding(binding, sizeof binding, s->tenant, s->name, s->kind, s->target);
	uint8_t *secret;
	int n;

	if (l->sealed == NULL || s->secret.at != NULL)
		return true;
	if (l->key == NULL) {
		snprintf(why, GUARD_WHY_SIZE, "its secret can't be opened: this collector has no secret_key");
		return false;
	}
	secret = OPENSSL_malloc(l->sealed_len);
	n = secret == NULL ? -1
			   : vault_open(l->key, (struct slice){(uint8_t *)binding, len},
					(struct slice){l->sealed, l->sealed_len}, secret);
	if (n < 0) {
		OPENSSL_free(secret);
		snprintf(why, GUARD_WHY_SIZE, "its secret does not open: another secret_key, or the row was changed");
		return false;
	}
	l->sink.secret = (struct slice){secret, (size_t)n};
	return true;
}

static bool
open_link(struct lane *l, char *why)
{
	if (l->kind == NULL) {
		snprintf(why, GUARD_WHY_SIZE, "there is no such kind of sink");
		return false;
	}
	if (!l->kind->target_ok(l->sink.target, why) || !open_secret(l, why))
		return false;
	l->link = l->kind->open(&l->sink, l->ground, why);
	return l->link != NULL;
}

/* What comes back. */

static void
note_failure(struct lane *l, const char *why, int64_t delay_ms, int64_t now_ms)
{
	if (strcmp(l->failure, why) != 0)
		log_warning("sink %lld (%s): %s", (long long)l->sink.id, l->sink.name, why);
	snprintf(l->failure, sizeof l->failure, "%s", why);
	l->next_ms = now_ms + delay_ms;
	l->stale = true;
	l->store_ms = now_ms;
}

/* Back to what is known to be there. */
static void
failed(struct lane *l, const struct sink_answer *answer, int64_t now_ms)
{
	int64_t delay = backoff(++l->failures, BACKOFF_MAX_MS), asked = answer->retry_after_s;

	if (asked > RETRY_AFTER_MAX_S)
		asked = RETRY_AFTER_MAX_S;
	if (asked * 1000 > delay)
		delay = asked * 1000;
	forget_events(l);
	l->sent = l->moved;
	l->idle = false;
	l->retried++;
	counter_add(COUNTER_SINK_RETRIES, 1);
	note_failure(l, answer->text, delay, now_ms);
}

/* -1: the database fails. 1: not ours. */
static int
bury(struct lane *l, struct database *db, const struct sink_answer *answer)
{
	const struct event *e = &l->events[l->at];
	struct draft text = {0};
	struct args a = {.n = 0};
	int n;

	format_cloudevent(&text, e);
	draft_add(&text, "", 1);
	if (text.failed)
		return 0;
	add_number(&a, l->sink.id);
	add_number(&a, l->cursor);
	add_number(&a, e->position);
	add_text(&a, text.at);
	add_number(&a, l->rejections);
	add_text(&a, answer->text);
	n = change(db, BURY, &a);
	draft_free(&text);
	if (n != 1)
		return n < 0 ? -1 : 1;
	log_warning("sink %lld (%s): event at position %lld given up: %s", (long long)l->sink.id, l->sink.name,
		    (long long)e->position, answer->text);
	counter_add(COUNTER_SINK_DEAD, 1);
	l->cursor = l->moved = l->sent = e->position;
	l->at++;
	l->rejections = 0;
	return 0;
}

/* One of the message's events, perhaps: fewer at once, until it is alone. */
static int
rejected(struct lane *l, struct database *db, const struct sink_answer *answer, int64_t now_ms)
{
	l->retried++;
	counter_add(COUNTER_SINK_RETRIES, 1);
	if (l->part > 1) {
		l->most = l->part / 2;
		note_failure(l, answer->text, 0, now_ms);
		return 0;
	}
	if (++l->rejections >= TRIES)
		return l->moved == l->cursor ? bury(l, db, answer) : 0;
	note_failure(l, answer->text, backoff(l->rejections, REJECTED_MAX_MS), now_ms);
	return 0;
}

static void
delivered(struct lane *l, struct sink_progress progress, int64_t now_ms)
{
	if (progress.position == 0)
		return;
	if (l->failure[0] != '\0')
		log_info("sink %lld (%s): delivers again", (long long)l->sink.id, l->sink.name);
	l->failure[0] = '\0';
	l->failures = l->rejections = 0;
	l->moved = progress.position;
	l->delivered += progress.events;
	counter_add(COUNTER_SINK_DELIVERED, progress.events);
	l->stale = true;
	l->store_ms = now_ms;
}

static void
sent(struct lane *l)
{
	l->sent = l->upto;
	l->at += l->part;
	l->most = l->most * 2 > l->sink.batch ? l->sink.batch : l->most * 2;
}

static int
tested(struct lane *l, struct database *db, enum sink_state state, const struct sink_answer *answer)
{
	struct args a = {.n = 0};

	l->testing = l->test_wanted = false;
	event_clear(&l->test);
	add_number(&a, l->sink.id);
	add_text(&a, state == SINK_SENT ? "delivered" : answer->text);
	return change(db, TESTED, &a) < 0 ? -1 : 0;
}

static int
take_answer(struct lane *l, struct database *db, int64_t now_ms)
{
	struct sink_answer answer;
	enum sink_state state = l->kind->step(l->link, now_ms, &answer);
	bool was_busy = l->busy, testing = l->testing;

	delivered(l, l->kind->confirmed(l->link, now_ms, false), now_ms);
	if (state == SINK_BUSY)
		return 0;
	l->busy = false;
	if (testing && was_busy)
		return tested(l, db, state, &answer);
	if (state == SINK_FAILED)
		failed(l, &answer, now_ms);
	else if (state == SINK_REJECTED)
		return rejected(l, db, &answer, now_ms);
	else if (was_busy)
		sent(l);
	return 0;
}

/* What goes out. */

static int
fetch(struct lane *l, struct database *db, int64_t now_ms)
{
	struct args a = {.n = 0};
	int64_t top, oldest;
	bool all = l->tenant_id[0] == '\0';
	int rows;

	forget_events(l);
	add_number(&a, l->sent);
	add_number(&a, FETCH);
	if (!all)
		add_text(&a, l->tenant_id);
	l->rows = run(db, all ? FETCH_ALL : FETCH_TENANT, &a);
	if (l->rows == NULL)
		return -1;
	top = result_int(l->rows, 0, 0);
	oldest = result_int(l->rows, 0, 1);
	if (oldest - 1 > l->sent) {
		log_error("sink %lld (%s): positions %lld to %lld are past their retention and were never sent",
			  (long long)l->sink.id, l->sink.name, (long long)l->sent + 1, (long long)oldest - 1);
		l->missed += oldest - 1 - l->sent;
		counter_add(COUNTER_SINK_MISSED, oldest - 1 - l->sent);
		l->stale = true;
		l->store_ms = now_ms;
	}
	rows = result_null(l->rows, 0, 2) ? 0 : PQntuples(l->rows);
	l->window = rows == FETCH ? result_int(l->rows, rows - 1, 2) : top;
	l->idle = rows < FETCH;
	for (int i = 0; i < rows; i++) {
		struct event *e = &l->events[l->n];

		*e = (struct event){.position = result_int(l->rows, i, 2),
				    .id = result_int(l->rows, i, 3),
				    .time_us = result_time_us(l->rows, i, 4),
				    .tenant = result_bytes(l->rows, i, 5),
				    .type = result_bytes(l->rows, i, 6),
				    .ueid = result_bytes(l->rows, i, 7),
				    .data = result_bytes(l->rows, i, 8)};
		event_read(e);
		if (event_wanted(e, l->sink.types, l->sink.least))
			l->n++;
		else
			event_clear(e);
	}
	return 0;
}

static void
send_test(struct lane *l)
{
	static const char type[] = "test", data[] = "{\"text\": \"this is only a test\"}";
	const char *tenant = l->sink.tenant == NULL ? "operator" : l->sink.tenant;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	l->test = (struct event){.time_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000,
				 .tenant = {(const uint8_t *)tenant, strlen(tenant)},
				 .type = {(const uint8_t *)type, sizeof type - 1},
				 .data = {(const uint8_t *)data, sizeof data - 1}};
	event_read(&l->test);
	l->testing = l->busy = true;
	l->kind->send(l->link, &l->test, 1, l->sent);
}

static void
send_part(struct lane *l)
{
	size_t bytes = 0;

	l->part = 0;
	while (l->at + l->part < l->n && l->part < l->most && (l->part == 0 || bytes < MESSAGE_BYTES))
		bytes += l->events[l->at + l->part++].data.len;
	l->upto = l->at + l->part == l->n ? l->window : l->events[l->at + l->part - 1].position;
	l->busy = true;
	l->kind->send(l->link, &l->events[l->at], l->part, l->upto);
}

/* Events that are not for this sink are behind it once what was sent before them is delivered. */
static void
pass_over(struct lane *l, int64_t now_ms)
{
	if (l->sent < l->window)
		l->sent = l->window;
	if (l->moved == l->sent || l->kind->pending(l->link))
		return;
	l->moved = l->sent;
	if (!l->stale)
		l->store_ms = now_ms + STORE_MS;
	l->stale = true;
}

static int
send_next(struct lane *l, struct database *db, int64_t now_ms)
{
	if (l->at == l->n) {
		if (l->idle)
			return 0;
		if (fetch(l, db, now_ms) < 0)
			return -1;
	}
	if (l->at < l->n)
		send_part(l);
	else
		pass_over(l, now_ms);
	return 0;
}

static int
store(struct lane *l, struct database *db)
{
	struct args a = {.n = 0};
	int n;

	add_number(&a, l->sink.id);
	add_number(&a, l->cursor);
	add_number(&a, l->moved);
	add_number(&a, l->delivered);
	add_number(&a, l->retried);
	add_number(&a, l->missed);
	add_text(&a, l->failure[0] == '\0' ? NULL : l->failure);
	n = change(db, STORE, &a);
	if (n != 1)
		return n < 0 ? -1 : 1;
	l->cursor = l->moved;
	l->delivered = l->retried = l->missed = 0;
	l->stale = false;
	return 0;
}

static int
try_to_open(struct lane *l, struct database *db, int64_t now_ms)
{
	struct sink_answer answer = {"", 0};
	char why[GUARD_WHY_SIZE] = "";

	if (open_link(l, why))
		return 0;
	sink_say(&answer, "", why);
	note_failure(l, answer.text, CONFIGURATION_MS, now_ms);
	return l->test_wanted ? tested(l, db, SINK_FAILED, &answer) : 0;
}

int
lane_run(struct lane *l, struct database *db, int64_t now_ms)
{
	int rc = 0;

	if (l->link == NULL && (now_ms >= l->next_ms || l->test_wanted))
		rc = try_to_open(l, db, now_ms);
	if (rc == 0 && l->link != NULL)
		rc = take_answer(l, db, now_ms);
	if (rc == 0 && l->stale && now_ms >= l->store_ms)
		rc = store(l, db);
	if (rc != 0 || l->link == NULL || l->busy)
		return rc;
	if (l->test_wanted)
		send_test(l);
	else if (now_ms >= l->next_ms)
		rc = send_next(l, db, now_ms);
	return rc;
}

int64_t
lane_due(const struct lane *l, int64_t now_ms)
{
	int64_t due = l->stale ? l->store_ms : INT64_MAX;

	if (!l->busy && (!l->idle || l->at < l->n || l->link == NULL) && l->next_ms < due)
		due = l->next_ms;
	if (l->test_wanted && !l->busy)
		due = now_ms;
	return due;
}

bool
lane_wait(const struct lane *l, struct curl_waitfd *fd)
{
	return l->link != NULL && l->kind->wait(l->link, fd);
}

bool
lane_end(struct lane *l, struct database *db, int64_t now_ms)
{
	struct sink_answer answer;

	if (l->link == NULL)
		return true;
	if (l->kind->step(l->link, now_ms, &answer) != SINK_BUSY)
		l->busy = false;
	delivered(l, l->kind->confirmed(l->link, now_ms, true), now_ms);
	if (l->stale && store(l, db) != 0)
		return true;
	return !l->kind->pending(l->link);
}
