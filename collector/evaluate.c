#include "collector/evaluate.h"

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

#define TICK_MS 250
#define SOME 500 /* devices judged in one transaction */
#define OWN_SOME 200 /* likewise by tenants' own policies: few, for the limit is on all of them together */
#define OWN_POLICIES_MAX 500 /* as policy_put has it */
#define PROGRESS_SECONDS 10
#define TIMEOUT "60s"
#define SETTINGS "SET plan_cache_mode = force_generic_plan; SET statement_timeout = '" TIMEOUT "'"
#define CANCELLED "57014" /* what a statement that overran ends with */

/* clang-format off */
enum { ANEW, DUE, PROGRESS, TENANTS, LOCK, UNLOCK, WORK, POLICIES, FIND, OVERRUN, JUDGED, ENDED };
static const struct statement statements[] = {
	[ANEW] = {"anew", "SELECT judge_anew($1)", 1},
	[DUE] = {"due", "SELECT judge_due($1)", 1},
	[PROGRESS] = {"progress", "SELECT done, greatest(total - done, 0) FROM judging WHERE tenant_id = 0", 0},
	/* One after another, each some devices in turn. */
	[TENANTS] = {"tenants", "SELECT j.tenant_id FROM judging j WHERE j.tenant_id > 0 AND (j.ended_at IS NULL OR EXISTS ("
		"SELECT FROM device_verdict v WHERE v.tenant_id = j.tenant_id AND v.own_rules < j.revision)) ORDER BY 1", 0},
	[LOCK] = {"lock", "SELECT pg_try_advisory_lock(8262, $1::int)", 1},
	[UNLOCK] = {"unlock", "SELECT pg_advisory_unlock(8262, $1::int)", 1},
	[WORK] = {"work", "SELECT revision::text, devices::text, marks::text, cardinality(devices) FROM own_work($1::int, $2::int)", 2},
	[POLICIES] = {"policies", "SELECT policy_id FROM policy WHERE tenant_id = $1::int AND slot IS NOT NULL AND policy_id > $2::int ORDER BY 1", 2},
	[FIND] = {"find", "SELECT own_found($1::int, $2::bigint[])", 2},
	[OVERRUN] = {"overrun", "SELECT own_overrun($1::int)", 1},
	[JUDGED] = {"judged", "SELECT count(*) FROM own_judged($1::int, $2::bigint, $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::bool)", 7},
	[ENDED] = {"ended", "SELECT count(*) FROM own_ended($1::int, $2::bigint)", 2},
};
/* clang-format on */

/* Some of a tenant's devices, on their way through its policies: as far as its time reaches in one turn, and on from there in the next. What changes
   meanwhile changes a device's mark or the revision, so that it is judged again. */
struct pass {
	struct pass *next;
	int32_t tenant;
	char revision[24], *devices, *marks;
	int64_t policy; /* the last one that had its turn */
	bool complete; /* none of them took too long */
};

/* A thread with its connection. */
struct judge_thread {
	struct database *db;
	pthread_t thread;
	bool started;
	unsigned set_up; /* the connection that was set up */
};

struct evaluate {
	const struct settings *settings;
	struct judge_thread rules, own;
	struct pass *passes; /* of tenants whose policies take more than a turn: own's */
	atomic_bool stop;
	int64_t told; /* when progress was last logged; 0: nothing to judge anew */
};

static void
nap(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* A connection that is new gets its settings. */
static int
connect_thread(struct judge_thread *t)
{
	PGconn *conn = database_connect(t->db);

	if (conn == NULL)
		return -1;
	if (t->set_up == database_connection(t->db))
		return 0;
	if (database_exec(t->db, SETTINGS) < 0)
		return -1;
	t->set_up = database_connection(t->db);
	return 0;
}

static PGresult *
run(struct judge_thread *t, int statement, const char *const *words, int n)
{
	struct param params[8] = {{NULL, 0, false}};

	for (int i = 0; i < n; i++)
		params[i] = param_text(words[i]);
	return database_run(t->db, statements[statement].name, params, n, NULL);
}

/* A number, or a truth as 1. -1 when the database fails. */
static int64_t
ask(struct judge_thread *t, int statement, const char *const *words, int n)
{
	PGresult *res = run(t, statement, words, n);
	int64_t value = -1;

	if (res != NULL && PQntuples(res) == 1)
		value = result_int(res, 0, 0);
	PQclear(res);
	return value;
}

/* The operator's rules. */

static void
tell_progress(struct evaluate *e, bool over)
{
	PGresult *res = run(&e->rules, PROGRESS, NULL, 0);

	if (res == NULL)
		return;
	if (PQntuples(res) == 1) {
		counter_set(COUNTER_TO_JUDGE, over ? 0 : result_int(res, 0, 1));
		log_info("evaluate: judged anew devices=%lld left=%lld%s", (long long)result_int(res, 0, 0),
			 over ? 0LL : (long long)result_int(res, 0, 1), over ? " done" : "");
	}
	PQclear(res);
}

/* Whether there may be more at once. */
static bool
judge_anew(struct evaluate *e)
{
	char some[16];
	int64_t n;

	snprintf(some, sizeof some, "%d", SOME);
	n = ask(&e->rules, ANEW, (const char *const[]){some}, 1);
	if (n > 0) {
		counter_add(COUNTER_JUDGED_ANEW, n);
		if (e->told == 0 || clock_s() >= e->told + PROGRESS_SECONDS) {
			tell_progress(e, false);
			e->told = clock_s();
		}
	} else if (n == 0 && e->told != 0) {
		tell_progress(e, true);
		e->told = 0;
	}
	return n == SOME;
}

static void
judge_due(struct evaluate *e)
{
	char some[16];
	int64_t n;

	snprintf(some, sizeof some, "%d", SOME);
	do {
		n = ask(&e->rules, DUE, (const char *const[]){some}, 1);
		if (n > 0)
			counter_add(COUNTER_DUE, n);
	} while (n == SOME && !atomic_load(&e->stop));
}

static void *
run_rules(void *argument)
{
	struct evaluate *e = argument;
	int64_t due = 0;

	while (!atomic_load(&e->stop)) {
		bool more = false;

		if (connect_thread(&e->rules) == 0) {
			more = judge_anew(e);
			if (clock_s() >= due) {
				judge_due(e);
				due = clock_s() + 1;
			}
		}
		nap(more ? 2 : TICK_MS);
	}
	return NULL;
}

/* Tenants' own. */

/* What was found, policy by policy, as PostgreSQL writes arrays. */
struct findings {
	char policies[OWN_POLICIES_MAX * 12 + 3];
	char seen[OWN_POLICIES_MAX * (OWN_SOME + 3) + 3];
	size_t policies_len, seen_len;
};

static void
findings_add(struct findings *f, const char *policy, struct slice outcomes)
{
	char sign = f->policies_len == 0 ? '{' : ',';
	int n;

	n = snprintf(f->policies + f->policies_len, sizeof f->policies - f->policies_len, "%c%s", sign, policy);
	f->policies_len += (size_t)n;
	n = snprintf(f->seen + f->seen_len, sizeof f->seen - f->seen_len, "%c\"%.*s\"", sign, (int)outcomes.len,
		     (const char *)outcomes.at);
	f->seen_len += (size_t)n;
}

static void
findings_end(struct findings *f)
{
	const char *end = f->policies_len == 0 ? "{}" : "}";

	snprintf(f->policies + f->policies_len, sizeof f->policies - f->policies_len, "%s", end);
	snprintf(f->seen + f->seen_len, sizeof f->seen - f->seen_len, "%s", end);
}

/* One policy over some devices, under the limit. -1: the database fails. */
static int
find(struct evaluate *e, const char *policy, struct pass *pass, struct findings *f)
{
	struct param params[2] = {param_text(policy), param_text(pass->devices)};
	char limit[64], state[6] = "";
	PGresult *res;

	snprintf(limit, sizeof limit, "SET statement_timeout = %lld", (long long)e->settings->policy_ms);
	if (database_exec(e->own.db, limit) < 0)
		return -1;
	res = database_run(e->own.db, statements[FIND].name, params, 2, state);
	if (res == NULL && strcmp(state, CANCELLED) != 0)
		return -1;
	if (database_exec(e->own.db, "SET statement_timeout = '" TIMEOUT "'") < 0) {
		PQclear(res);
		return -1;
	}
	if (res != NULL) {
		findings_add(f, policy, result_bytes(res, 0, 0));
		PQclear(res);
		return 0;
	}
	pass->complete = false;
	counter_add(COUNTER_OVERRUNS, 1);
	if (ask(&e->own, OVERRUN, &policy, 1) == 1)
		log_warning("evaluate: a tenant's policy took too long three times and is out policy_id=%s", policy);
	return 0;
}

/* As many policies as a turn has time for, and one at least. 1: that was all; 0: more are left; -1: the database fails. */
static int
find_some(struct evaluate *e, const char *tenant, struct pass *pass, struct findings *f)
{
	int64_t until = clock_ms() + e->settings->policy_ms;
	char policy[24];
	PGresult *res;
	int i = 0, n, rc = 0;

	snprintf(policy, sizeof policy, "%lld", (long long)pass->policy);
	res = run(&e->own, POLICIES, (const char *const[]){tenant, policy}, 2);
	if (res == NULL)
		return -1;
	n = PQntuples(res);
	while (i < n && i < OWN_POLICIES_MAX && rc == 0 && (i == 0 || clock_ms() < until)) {
		pass->policy = result_int(res, i++, 0);
		snprintf(policy, sizeof policy, "%d", (int)pass->policy);
		rc = find(e, policy, pass, f);
	}
	PQclear(res);
	findings_end(f);
	return rc < 0 ? -1 : i == n;
}

static struct pass **
find_pass(struct evaluate *e, const char *tenant)
{
	struct pass **at = &e->passes;

	while (*at != NULL && (*at)->tenant != atoi(tenant))
		at = &(*at)->next;
	return at;
}

static void
end_pass(struct pass **at)
{
	struct pass *pass = *at;

	*at = pass->next;
	free(pass->devices);
	free(pass->marks);
	free(pass);
}

/* False: there is nothing to do, or no way to do it. */
static bool
begin_pass(struct evaluate *e, const char *tenant, struct pass **at)
{
	char some[16], revision[24];
	struct pass *pass = NULL;
	PGresult *res;

	snprintf(some, sizeof some, "%d", OWN_SOME);
	res = run(&e->own, WORK, (const char *const[]){tenant, some}, 2);
	if (res != NULL && PQntuples(res) == 1 && !result_null(res, 0, 0)) {
		struct slice number = result_bytes(res, 0, 0), devices = result_bytes(res, 0, 1),
			     marks = result_bytes(res, 0, 2);

		snprintf(revision, sizeof revision, "%.*s", (int)number.len, (const char *)number.at);
		if (result_null(res, 0, 1))
			(void)ask(&e->own, ENDED, (const char *const[]){tenant, revision}, 2);
		else
			pass = calloc(1, sizeof *pass);
		if (pass != NULL) {
			pass->tenant = atoi(tenant);
			strcpy(pass->revision, revision);
			pass->devices = strndup((const char *)devices.at, devices.len);
			pass->marks = strndup((const char *)marks.at, marks.len);
			pass->complete = true;
			*at = pass;
			if (pass->devices == NULL || pass->marks == NULL)
				end_pass(at);
		}
	}
	PQclear(res);
	return *at != NULL;
}

/* A tenant's turn. Whether there may be more to do. */
static bool
take_turn(struct evaluate *e, const char *tenant, struct findings *f)
{
	struct pass **at = find_pass(e, tenant), *pass;
	bool more = false;
	int found;

	if (*at == NULL && !begin_pass(e, tenant, at))
		return false;
	pass = *at;
	memset(f, 0, sizeof *f);
	found = find_some(e, tenant, pass, f);
	if (found >= 0)
		more = ask(&e->own, JUDGED,
			   (const char *const[]){tenant, pass->revision, pass->devices, pass->marks, f->policies,
						 f->seen, found == 1 && pass->complete ? "t" : "f"},
			   7) >= 0;
	if (found == 1 || !more)
		end_pass(at);
	return more;
}

/* Each tenant in turn. Whether there may be more at once. */
static bool
judge_tenants(struct evaluate *e, struct findings *f)
{
	PGresult *res = run(&e->own, TENANTS, NULL, 0);
	bool more = false;

	if (res == NULL)
		return false;
	for (int i = 0; i < PQntuples(res) && !atomic_load(&e->stop); i++) {
		char number[12];
		const char *tenant = number;

		snprintf(number, sizeof number, "%d", (int)result_int(res, i, 0));
		if (ask(&e->own, LOCK, &tenant, 1) != 1)
			continue;
		more |= take_turn(e, tenant, f);
		(void)ask(&e->own, UNLOCK, &tenant, 1);
	}
	PQclear(res);
	return more;
}

static void *
run_own(void *argument)
{
	struct evaluate *e = argument;
	struct findings *f = malloc(sizeof *f);

	while (f != NULL && !atomic_load(&e->stop)) {
		bool more = connect_thread(&e->own) == 0 && judge_tenants(e, f);

		nap(more ? 2 : TICK_MS);
	}
	free(f);
	return NULL;
}

static int
start_thread(struct evaluate *e, struct judge_thread *t, void *(*run_thread)(void *))
{
	t->db = database_new(e->settings->database, statements, sizeof statements / sizeof statements[0]);
	t->started = t->db != NULL && pthread_create(&t->thread, NULL, run_thread, e) == 0;
	return t->started ? 0 : -1;
}

static void
stop_thread(struct judge_thread *t)
{
	if (t->started)
		pthread_join(t->thread, NULL);
	database_free(t->db);
}

struct evaluate *
evaluate_start(const struct settings *settings)
{
	struct evaluate *e = calloc(1, sizeof *e);

	if (e == NULL)
		return NULL;
	e->settings = settings;
	if (start_thread(e, &e->rules, run_rules) == 0 && start_thread(e, &e->own, run_own) == 0)
		return e;
	log_error("evaluate: can't start");
	evaluate_stop(e);
	return NULL;
}

void
evaluate_stop(struct evaluate *e)
{
	if (e == NULL)
		return;
	atomic_store(&e->stop, true);
	stop_thread(&e->rules);
	stop_thread(&e->own);
	while (e->passes != NULL)
		end_pass(&e->passes);
	free(e);
}
