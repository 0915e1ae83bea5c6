#include "collector/forward.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/lane.h"
#include "schema/log.h"

#define LANES_MAX 256
#define LOOK_MS 2000 /* between two looks at the sinks, when no notice told of a change */
#define TICK_MS 1000 /* the longest wait */
#define STEP_MS 250 /* while something is on its way that no socket tells of */
#define END_MS 2000

/* Adding a kind of sink: its file, and its row here. */
static const struct sink_kind *const kinds[] = {&sink_webhook, &sink_syslog};

/* A leader whose machine is gone loses its locks within seconds. */
static const char session[] = "SET statement_timeout = '60s'; SET enable_seqscan = off; SET tcp_keepalives_idle = 3; "
			      "SET tcp_keepalives_interval = 1;"
			      " SET tcp_keepalives_count = 3; LISTEN fleetstate_position; LISTEN fleetstate_sink";

static const struct statement lead = {"lane_lead", "SELECT pg_try_advisory_lock(8261, $1::int)::int::int8", 1};
static const struct statement yield = {"lane_yield", "SELECT pg_advisory_unlock(8261, $1::int)::int::int8", 1};

struct forward {
	const struct settings *settings;
	struct database *db;
	struct guard *guard;
	struct vault_key key;
	bool has_key;
	struct sink_ground ground;
	struct lane *lanes[LANES_MAX];
	size_t n;
	unsigned set_up; /* the connection that was set up */
	int64_t look_ms;
	pthread_t thread;
	atomic_bool stop;
};

const struct sink_kind *
sink_kind(const char *name)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	return NULL;
}

void
sink_say(struct sink_answer *answer, const char *prefix, const char *text)
{
	snprintf(answer->text, sizeof answer->text, "%s%s", prefix, text);
	for (char *at = answer->text; *at != '\0'; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
}

/* Which sinks are ours. */

static void
drop_lane(struct forward *f, size_t i)
{
	lane_free(f->lanes[i]);
	f->lanes[i] = f->lanes[--f->n];
	counter_set(COUNTER_SINKS_HELD, (int64_t)f->n);
}

/* The locks went with the connection: others may lead them already. */
static void
drop_all(struct forward *f)
{
	if (f->n > 0)
		log_warning("forward: database connection lost, and with it %zu sinks", f->n);
	while (f->n > 0)
		drop_lane(f, f->n - 1);
	database_drop(f->db);
	f->set_up = 0;
}

/* 1 yes, 0 no, -1: the database fails. */
static int
ask(struct forward *f, const struct statement *statement, int64_t id)
{
	char text[PARAM_NUMBER];
	const struct param param = param_number(text, id);
	PGresult *res = database_query(f->db, statement, &param, 1, NULL);
	int answer;

	if (res == NULL)
		return -1;
	answer = (int)result_int(res, 0, 0);
	PQclear(res);
	return answer;
}

static size_t
find_lane(const struct forward *f, int64_t id)
{
	size_t i = 0;

	while (i < f->n && lane_id(f->lanes[i]) != id)
		i++;
	return i;
}

static int
try_to_lead(struct forward *f, const PGresult *sinks, int row)
{
	int64_t id = result_int(sinks, row, LANE_SINK_ID);
	int got = f->n == LANES_MAX ? 0 : ask(f, &lead, id);

	if (got <= 0)
		return got;
	f->lanes[f->n] = lane_new(f->db, &f->ground, f->has_key ? &f->key : NULL, sinks, row);
	if (f->lanes[f->n] == NULL)
		return ask(f, &yield, id) < 0 ? -1 : 0;
	f->n++;
	counter_set(COUNTER_SINKS_HELD, (int64_t)f->n);
	return 0;
}

static int
look_for_sinks(struct forward *f)
{
	PGresult *sinks = database_run(f->db, LANE_SINKS, NULL, 0, NULL);
	bool there[LANES_MAX] = {false};
	int rc = sinks == NULL ? -1 : 0;
	size_t held = f->n;

	for (int row = 0; rc == 0 && row < PQntuples(sinks); row++) {
		size_t i = find_lane(f, result_int(sinks, row, LANE_SINK_ID));

		if (i < f->n) {
			there[i] = true;
			if (result_bool(sinks, row, LANE_TEST))
				lane_test(f->lanes[i]);
		} else {
			rc = try_to_lead(f, sinks, row);
		}
	}
	for (size_t i = held; rc == 0 && i-- > 0;)
		if (!there[i]) {
			rc = ask(f, &yield, lane_id(f->lanes[i])) < 0 ? -1 : 0;
			drop_lane(f, i);
		}
	PQclear(sinks);
	f->look_ms = clock_ms() + LOOK_MS;
	return rc;
}

/* The loop. */

static void
take_notices(struct forward *f, PGconn *conn)
{
	PGnotify *notice;

	(void)PQconsumeInput(conn);
	while ((notice = PQnotifies(conn)) != NULL) {
		if (strcmp(notice->relname, "fleetstate_sink") == 0)
			f->look_ms = 0;
		else
			for (size_t i = 0; i < f->n; i++)
				lane_wake(f->lanes[i]);
		PQfreemem(notice);
	}
}

static PGconn *
connect_anew(struct forward *f)
{
	PGconn *conn = database_connect(f->db);

	if (conn != NULL && f->set_up == database_connection(f->db))
		return conn;
	while (f->n > 0)
		drop_lane(f, f->n - 1);
	f->set_up = 0;
	f->look_ms = 0;
	if (conn == NULL || database_exec(f->db, session) < 0)
		return NULL;
	f->set_up = database_connection(f->db);
	return conn;
}

static void
take_finished(struct forward *f)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(f->ground.multi, &left)) != NULL) {
		struct sink_link *link = NULL;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)(void *)&link);
		for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
			if (kinds[i] == sink_kind(link->sink->kind))
				kinds[i]->finished(link, code);
	}
}

/* -1: the database fails. */
static int
run_lanes(struct forward *f)
{
	int running;

	(void)curl_multi_perform(f->ground.multi, &running);
	take_finished(f);
	for (size_t i = f->n; i-- > 0;) {
		int rc = lane_run(f->lanes[i], f->db, clock_ms());

		if (rc < 0)
			return -1;
		if (rc > 0) {
			rc = ask(f, &yield, lane_id(f->lanes[i]));
			drop_lane(f, i);
			if (rc < 0)
				return -1;
		}
	}
	(void)curl_multi_perform(f->ground.multi, &running);
	return 0;
}

static void
wait_for_work(struct forward *f, PGconn *conn)
{
	struct curl_waitfd fds[LANES_MAX + 1];
	int64_t now = clock_ms(), due = f->look_ms, lane;
	unsigned n = 0;

	if (conn != NULL)
		fds[n++] = (struct curl_waitfd){.fd = PQsocket(conn), .events = CURL_WAIT_POLLIN};
	for (size_t i = 0; i < f->n; i++) {
		if (lane_wait(f->lanes[i], &fds[n])) {
			n++;
			due = due < now + STEP_MS ? due : now + STEP_MS;
		}
		lane = lane_due(f->lanes[i], now);
		due = lane < due ? lane : due;
	}
	due = conn == NULL || due > now + TICK_MS ? TICK_MS : due - now;
	(void)curl_multi_poll(f->ground.multi, fds, n, due > 0 ? (int)due : 0, NULL);
}

static void
end(struct forward *f)
{
	int64_t until = clock_ms() + END_MS;
	bool over = false;

	while (!over && clock_ms() < until) {
		int running;

		(void)curl_multi_perform(f->ground.multi, &running);
		take_finished(f);
		over = true;
		for (size_t i = 0; i < f->n; i++)
			over = lane_end(f->lanes[i], f->db, clock_ms()) && over;
		if (!over)
			(void)curl_multi_poll(f->ground.multi, NULL, 0, 20, NULL);
	}
	while (f->n > 0)
		drop_lane(f, f->n - 1);
}

static void *
run(void *argument)
{
	struct forward *f = argument;

	while (!atomic_load(&f->stop)) {
		PGconn *conn = connect_anew(f);

		if (conn != NULL) {
			take_notices(f, conn);
			if ((clock_ms() >= f->look_ms && look_for_sinks(f) < 0) || run_lanes(f) < 0) {
				drop_all(f);
				conn = NULL;
			} else {
				take_notices(f, conn);
			}
		}
		wait_for_work(f, conn);
	}
	end(f);
	return NULL;
}

static int
read_settings(struct forward *f)
{
	const struct settings *s = f->settings;
	char why[GUARD_WHY_SIZE > VAULT_WHY_SIZE ? GUARD_WHY_SIZE : VAULT_WHY_SIZE] = "";

	f->guard = guard_new(s->sink_networks, s->sink_http, s->sink_timeout, why);
	if (f->guard == NULL) {
		log_error("forward: sink_networks: %s", why);
		return -1;
	}
	if (setting_given(s->secret_key) == NULL)
		return 0;
	f->has_key = true;
	if (vault_key_load(&f->key, s->secret_key, why) == 0)
		return 0;
	log_error("forward: secret_key: %s", why);
	return -1;
}

static void
release(struct forward *f)
{
	curl_multi_cleanup(f->ground.multi);
	database_free(f->db); /* and with it the locks */
	guard_free(f->guard);
	OPENSSL_cleanse(&f->key, sizeof f->key);
	free(f);
}

struct forward *
forward_start(const struct settings *settings)
{
	struct forward *f;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return NULL;
	f = calloc(1, sizeof *f);
	if (f == NULL)
		return NULL;
	f->settings = settings;
	f->db = database_new(settings->database, lane_statements, lane_statements_n);
	f->ground.multi = curl_multi_init();
	f->ground.host = settings->name;
	f->ground.timeout_ms = settings->sink_timeout * 1000;
	if (f->db != NULL && f->ground.multi != NULL && read_settings(f) == 0) {
		f->ground.guard = f->guard;
		if (pthread_create(&f->thread, NULL, run, f) == 0)
			return f;
	}
	release(f);
	return NULL;
}

void
forward_stop(struct forward *f)
{
	if (f == NULL)
		return;
	atomic_store(&f->stop, true);
	curl_multi_wakeup(f->ground.multi);
	pthread_join(f->thread, NULL);
	release(f);
}
