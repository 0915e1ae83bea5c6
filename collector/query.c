#include "collector/query.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/routes.h"
#include "schema/log.h"

#define STATEMENT_TIMEOUT "10s"
#define ANSWER_MS 12000 /* a little more than the server's own limit: then its connection is given up */

#define SETTINGS                                                                                                       \
	"SET statement_timeout = '" STATEMENT_TIMEOUT "'; SET default_transaction_read_only = on; SET jit = off; "     \
	"SET plan_cache_mode = force_generic_plan"

/* The tenant is named in every statement, for the index; row-level security says the same once more, for safety. */
#define TENANT "tenant_id = (SELECT tenant_context())"

/* What narrows a list of devices beside the filter that leads it. */
#define DEVICE_FILTERS                                                                                                 \
	"($1::text IS NULL OR posture = $1) AND ($2::text IS NULL OR lifecycle = $2) AND ($3::text IS NULL OR "        \
	"hwmodel = $3) "                                                                                               \
	"AND ($4::text IS NULL OR swversion = $4) AND ($5::text IS NULL OR starts_with(encode(ueid, 'hex'), "          \
	"lower($5)) "                                                                                                  \
	"OR strpos(lower(concat_ws(' ', serial, hwmodel, swname, swversion)), lower($5)) > 0) "
#define DEVICE_PAGE "AND device_id > $9::int8 ORDER BY device_id LIMIT $8::int8"
/* One statement a leading filter, so that each has the plan of its own index. All take the same parameters: posture, lifecycle, model, firmware,
   q, component, component version, limit, after. */
#define DEVICES(lead)                                                                                                  \
	"SELECT item, device_id FROM device_item WHERE " TENANT " AND " lead " AND " DEVICE_FILTERS                    \
	"AND ($6::text IS NULL OR $7::text IS NULL OR true) " DEVICE_PAGE

#define REPORT_ITEM                                                                                                    \
	"json_build_object('epoch', epoch_hex(epoch), 'seq', seq, 'issued_at', rfc3339(issued_at), 'received_at', "    \
	"rfc3339(received_at), 'sha256', encode(sha256, 'hex'), 'sections', section_names(sections), 'size', "         \
	"octet_length(message), 'flags', flag_names(flags))::text"

static const struct statement statements[] = {
	[QUERY_SIGN_IN] = {"sign_in", "SELECT tenant_id, role FROM sign_in($1::bytea, $2::text)", 2},
	[QUERY_CURSOR_SECRET] = {"cursor_secret", "SELECT read_cursor_secret()", 0},
	[QUERY_READY] = {"ready", "SELECT 1", 0},
	[QUERY_FLEET] = {"fleet",
			 "WITH c AS (SELECT lifecycle, posture, hwmodel, swversion, sum(n)::int8 AS n FROM fleet_count "
			 "WHERE " TENANT
			 " GROUP BY 1, 2, 3, 4), active AS (SELECT * FROM c WHERE lifecycle = 'active') "
			 "SELECT json_build_object('tenant', t.id, 'name', t.name, "
			 "'total', (SELECT coalesce(sum(n), 0)::int8 FROM active), "
			 "'posture', (SELECT json_object_agg(p, (SELECT coalesce(sum(n), 0)::int8 FROM active WHERE "
			 "posture = p)) "
			 "FROM unnest('{untrusted,silent,degraded,unknown,operational}'::text[]) p), "
			 "'lifecycle', (SELECT json_object_agg(l, (SELECT coalesce(sum(n), 0)::int8 FROM c WHERE "
			 "lifecycle = l)) "
			 "FROM unnest('{pending,active,retired,revoked,transferred}'::text[]) l), "
			 "'model', (SELECT coalesce(json_object_agg(k, n), '{}') FROM (SELECT coalesce(hwmodel, '') AS "
			 "k, sum(n)::int8 AS n "
			 "FROM active GROUP BY 1 HAVING sum(n) > 0 ORDER BY 2 DESC, 1 LIMIT 1000) x), "
			 "'firmware', (SELECT coalesce(json_object_agg(k, n), '{}') FROM (SELECT coalesce(swversion, "
			 "'') AS k, sum(n)::int8 "
			 "AS n FROM active GROUP BY 1 HAVING sum(n) > 0 ORDER BY 2 DESC, 1 LIMIT 1000) x))::text "
			 "FROM tenant t WHERE t." TENANT,
			 0},
	[QUERY_DEVICES] = {"devices", DEVICES("true"), 9},
	[QUERY_DEVICES_POSTURE] = {"devices_posture", DEVICES("posture = $1::text"), 9},
	[QUERY_DEVICES_MODEL] = {"devices_model", DEVICES("hwmodel = $3::text"), 9},
	[QUERY_DEVICES_FIRMWARE] = {"devices_firmware", DEVICES("swversion = $4::text"), 9},
	[QUERY_DEVICES_COMPONENT] =
		{"devices_component",
		 /* Few inventories have a component, each with few devices or many: a page of each by the index, then the first of them all.
		    OFFSET 0: a plan made without the parameters takes a page for a tenth of the fleet, and would join whole tables. */
		 "WITH sets AS MATERIALIZED (SELECT i.digest FROM component c "
		 "JOIN inventory_component ic ON ic.component_id = c.component_id "
		 "JOIN inventory i ON i.inventory_id = ic.inventory_id WHERE c." TENANT
		 " AND c.name = $6::text AND ($7::text IS NULL OR c.version = $7) GROUP BY 1), "
		 "found AS MATERIALIZED (SELECT x.device_id FROM sets, LATERAL (SELECT s.device_id FROM device_state "
		 "s, "
		 "LATERAL (SELECT FROM device d WHERE d.device_id = s.device_id AND " DEVICE_FILTERS
		 "OFFSET 0) d WHERE s." TENANT " AND s.inventory_digest = sets.digest AND s.device_id > $9::int8 ORDER "
		 "BY s.device_id LIMIT $8::int8) x "
		 "ORDER BY 1 LIMIT $8::int8) "
		 "SELECT v.item, found.device_id FROM found, LATERAL (SELECT item FROM device_item i "
		 "WHERE i.device_id = found.device_id OFFSET 0) v ORDER BY 2",
		 9},
	[QUERY_DEVICE] =
		{"device",
		 /* The view's object with one more member. */
		 "SELECT left(item, -1) || ', \"ledger\" : ' || (SELECT json_build_object('duplicates', "
		 "coalesce(sum(duplicates), 0)::int8, "
		 "'late', coalesce(sum(late), 0)::int8, 'forks', coalesce(sum(forks), 0)::int8, 'chain_breaks', "
		 "coalesce(sum(chain_breaks), 0)::int8, 'missing', (SELECT coalesce(sum(upper(missing) - "
		 "lower(missing)), 0)::int8 "
		 "FROM report_gap g WHERE g.device_id = v.device_id))::text FROM device_epoch e WHERE e.device_id = "
		 "v.device_id) || '}' "
		 "FROM device_item v WHERE ueid = $1::bytea AND " TENANT,
		 1},
	[QUERY_STATE] = {"state",
			 "SELECT CASE WHEN s.device_id IS NOT NULL THEN json_build_object('ueid', encode(d.ueid, "
			 "'hex'), 'epoch', "
			 "epoch_hex(s.epoch), 'seq', s.seq, 'issued_at', rfc3339(s.issued_at), 'received_at', "
			 "rfc3339(s.received_at), "
			 "'state_digest', encode(s.state_digest, 'hex'), 'state', s.state)::text END "
			 "FROM device d LEFT JOIN device_state s ON s.device_id = d.device_id WHERE d.ueid = $1::bytea "
			 "AND d." TENANT,
			 1},
	[QUERY_INVENTORY_HEAD] =
		{"inventory_head",
		 "SELECT CASE WHEN s.device_id IS NOT NULL THEN json_build_object('ueid', encode(d.ueid, 'hex'), "
		 "'digest', "
		 "encode(s.inventory_digest, 'hex'), 'complete', i.inventory_id IS NOT NULL, 'components', "
		 "i.components)::text END "
		 "FROM device d LEFT JOIN device_state s ON s.device_id = d.device_id LEFT JOIN inventory i ON "
		 "i.tenant_id = s.tenant_id AND i.digest = s.inventory_digest WHERE d.ueid = $1::bytea AND d." TENANT,
		 1},
	[QUERY_INVENTORY] =
		{"inventory",
		 "SELECT json_strip_nulls(json_build_object('type', c.type, 'name', c.name, 'version', c.version, "
		 "'architecture', "
		 "c.architecture, 'source', c.source, 'source_version', c.source_version, 'purl', c.purl))::text, "
		 "c.component_id "
		 "FROM inventory_component ic JOIN component c ON c.component_id = ic.component_id WHERE "
		 "ic.inventory_id = "
		 "(SELECT i.inventory_id FROM device d JOIN device_state s ON s.device_id = d.device_id JOIN inventory "
		 "i ON "
		 "i.tenant_id = s.tenant_id AND i.digest = s.inventory_digest WHERE d.ueid = $1::bytea AND d." TENANT
		 ") AND ic.component_id > $3::int8 ORDER BY ic.component_id LIMIT $2::int8",
		 3},
	[QUERY_LEDGER] =
		{"ledger",
		 "SELECT json_build_object('ueid', encode(d.ueid, 'hex'), 'epochs', coalesce((SELECT "
		 "json_agg(json_build_object("
		 "'epoch', epoch_hex(e.epoch), 'first_seen', rfc3339(e.first_seen), 'current', e.current, 'vouched', "
		 "e.vouched, "
		 "'received', ranges_json(int8multirange(int8range(1, e.top, '[]')) - e.missing - e.dropped), "
		 "'missing', ranges_json(e.missing), 'dropped', ranges_json(e.dropped), 'duplicates', e.duplicates, "
		 "'late', e.late, "
		 "'forks', e.forks, 'chain_breaks', e.chain_breaks) ORDER BY e.first_seen DESC, e.epoch) FROM ("
		 "SELECT x.*, h.epoch IS NOT DISTINCT FROM x.epoch AND h.hi > 0 AS current, "
		 "CASE WHEN h.epoch = x.epoch THEN h.hi ELSE x.hi END AS top, "
		 "coalesce((SELECT range_agg(g.missing) FROM report_gap g WHERE g.device_id = d.device_id AND g.epoch "
		 "= x.epoch), '{}') "
		 "AS missing, "
		 "coalesce((SELECT range_agg(p.dropped) FROM report_drop p WHERE p.device_id = d.device_id AND p.epoch "
		 "= x.epoch), '{}') "
		 "AS dropped FROM device_epoch x LEFT JOIN device_hot h ON h.device_id = x.device_id WHERE x.device_id "
		 "= d.device_id "
		 "ORDER BY x.first_seen DESC LIMIT 100) e), '[]'), "
		 "'refused', coalesce((SELECT json_object_agg(r.reason, r.n) FROM refusal_count r WHERE r.device_id = "
		 "d.device_id), "
		 "'{}'))::text FROM device d WHERE d.ueid = $1::bytea AND d." TENANT,
		 1},
	[QUERY_DEVICE_EXISTS] = {"device_exists", "SELECT 1 FROM device WHERE ueid = $1::bytea AND " TENANT, 1},
	[QUERY_REPORTS] = {"reports",
			   "SELECT " REPORT_ITEM ", received_at, epoch, seq FROM report WHERE " TENANT
			   " AND device_id = (SELECT device_id FROM device d WHERE d.ueid = $1::bytea AND d." TENANT
			   ") AND ($2::int8 IS NULL OR epoch = $2) AND received_at >= $4::timestamptz "
			   "AND (received_at, epoch, seq) > ($4::timestamptz, $5::int8, $6::int8) ORDER BY "
			   "received_at, epoch, seq LIMIT $3::int8",
			   6},
	[QUERY_REPORT_BY_SEQ] =
		{"report_by_seq",
		 "SELECT message, sha256, " REPORT_ITEM " FROM report WHERE " TENANT
		 " AND device_id = (SELECT device_id FROM device d WHERE d.ueid = $1::bytea AND d." TENANT
		 ") AND epoch = $2::int8 AND seq = $3::int8 ORDER BY received_at LIMIT 16",
		 3},
	[QUERY_REPORT_BY_DIGEST] = {"report_by_digest",
				    "SELECT message FROM report WHERE sha256 = $1::bytea AND " TENANT " LIMIT 1", 1},
	[QUERY_REFUSALS] = {"refusals",
			    "SELECT json_build_object('received_at', rfc3339(received_at), 'ueid', encode(ueid, "
			    "'hex'), 'reason', reason, 'size', "
			    "size, 'sha256', encode(sha256, 'hex'), 'sample', translate(encode(sample, 'base64'), "
			    "E'\\n', ''))::text, refusal_id "
			    "FROM refusal WHERE " TENANT
			    " AND ($1::text IS NULL OR reason = $1) AND ($2::bytea IS NULL OR ueid = $2) "
			    "AND refusal_id > $4::int8 ORDER BY refusal_id LIMIT $3::int8",
			    4},
	/* Judges the token itself, so it needs no sign-in. */
	[QUERY_FLEET_METRICS] = {"fleet_metrics",
				 "SELECT family, tenant, label, value, n FROM fleet_metrics($1::bytea, $2::text)", 2},
};

struct connection {
	struct database *db;
	int backend; /* the server process that has our settings */
	bool busy;
};

struct query_pool {
	pthread_mutex_t lock;
	pthread_cond_t given_back;
	struct connection *connections;
	size_t n;
	bool has_secret;
	uint8_t secret[QUERY_SECRET];
};

struct query_pool *
query_pool_new(const char *uri, size_t n)
{
	struct query_pool *pool = calloc(1, sizeof *pool);

	if (pool == NULL)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->given_back, NULL);
	pool->connections = calloc(n, sizeof *pool->connections);
	if (pool->connections == NULL)
		goto fail;
	for (pool->n = 0; pool->n < n; pool->n++) {
		struct connection *c = &pool->connections[pool->n];

		c->db = database_new(uri, statements, sizeof statements / sizeof *statements);
		if (c->db == NULL)
			goto fail;
	}
	return pool;
fail:
	query_pool_free(pool);
	return NULL;
}

void
query_pool_free(struct query_pool *pool)
{
	if (pool == NULL)
		return;
	for (size_t i = 0; i < pool->n; i++)
		database_free(pool->connections[i].db);
	free(pool->connections);
	pthread_cond_destroy(&pool->given_back);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static struct connection *
free_connection(struct query_pool *pool)
{
	for (size_t i = 0; i < pool->n; i++)
		if (!pool->connections[i].busy)
			return &pool->connections[i];
	return NULL;
}

static struct connection *
take(struct query_pool *pool)
{
	struct connection *c;

	pthread_mutex_lock(&pool->lock);
	while ((c = free_connection(pool)) == NULL)
		pthread_cond_wait(&pool->given_back, &pool->lock);
	c->busy = true;
	pthread_mutex_unlock(&pool->lock);
	return c;
}

static void
give_back(struct query_pool *pool, struct connection *c)
{
	pthread_mutex_lock(&pool->lock);
	c->busy = false;
	pthread_cond_signal(&pool->given_back);
	pthread_mutex_unlock(&pool->lock);
}

/* A role that row-level security does not bind would show every tenant's rows to anyone, so it is not used. */
static int
check_role(PGconn *conn)
{
	PGresult *res =
		PQexec(conn, "SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user");
	bool good = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1 && *PQgetvalue(res, 0, 0) == 'f';

	if (PQresultStatus(res) == PGRES_TUPLES_OK && !good)
		log_error("query: database_api names a role that bypasses row-level security");
	PQclear(res);
	return good ? 0 : -1;
}

/* A connection that has our settings and is bound by row-level security, or NULL. */
static PGconn *
connect_api(struct connection *c)
{
	PGconn *conn = database_connect(c->db);

	if (conn == NULL || c->backend == PQbackendPID(conn))
		return conn;
	if (check_role(conn) < 0 || database_exec(c->db, SETTINGS) < 0) {
		database_drop(c->db);
		return NULL;
	}
	c->backend = PQbackendPID(conn);
	return conn;
}

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until a result can be read without blocking. */
static int
await(PGconn *conn, int64_t deadline_ms)
{
	while (PQisBusy(conn)) {
		struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
		int64_t left = deadline_ms - now_ms();

		if (left <= 0 || (poll(&fd, 1, (int)left) < 0 && errno != EINTR) || !PQconsumeInput(conn))
			return -1;
	}
	return 0;
}

static int
send_call(PGconn *conn, const char *name, const struct param *params, int n)
{
	const char *values[QUERY_PARAMS];
	int lengths[QUERY_PARAMS], formats[QUERY_PARAMS];

	assert(n <= QUERY_PARAMS);
	for (int i = 0; i < n; i++) {
		values[i] = params[i].at;
		lengths[i] = params[i].len;
		formats[i] = params[i].binary;
	}
	return PQsendQueryPrepared(conn, name, n, values, lengths, formats, 1) == 1 ? 0 : -1;
}

/* The next statement's result; the NULL that libpq gives behind each is taken too. NULL if the connection is of no use any more. */
static PGresult *
next_result(PGconn *conn, int64_t deadline_ms)
{
	PGresult *res, *end;

	if (await(conn, deadline_ms) < 0 || (res = PQgetResult(conn)) == NULL)
		return NULL;
	if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
		return res;
	if (await(conn, deadline_ms) < 0 || (end = PQgetResult(conn)) != NULL) {
		PQclear(res);
		return NULL;
	}
	return res;
}

static int
send_all(PGconn *conn, const struct call *calls, size_t n)
{
	if (!PQenterPipelineMode(conn))
		return -1;
	for (size_t i = 0; i < n; i++)
		if (send_call(conn, statements[calls[i].query].name, calls[i].params, calls[i].n) < 0)
			return -1;
	return PQpipelineSync(conn) == 1 ? 0 : -1;
}

/* What the database says when it will not. The first three are sign_in's own. */
static void
answer_error(struct request *request, struct response *response, const PGresult *res)
{
	static const struct {
		const char *state;
		enum problem problem;
		const char *detail;
	} rows[] = {
		{"FS401", PROBLEM_UNAUTHORIZED, "The token is not known, or was revoked, or its time is over."},
		{"FS400", PROBLEM_TENANT_REQUIRED, "Add ?tenant= with the tenant's id."},
		{"FS404", PROBLEM_NOT_FOUND, "There is no such tenant."},
		{"57014", PROBLEM_TIMEOUT, "The query took longer than " STATEMENT_TIMEOUT ". Narrow its filters."},
	};
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	for (size_t i = 0; state != NULL && i < sizeof rows / sizeof *rows; i++)
		if (strcmp(state, rows[i].state) == 0) {
			response_problem(response, rows[i].problem, "%s", rows[i].detail);
			return;
		}
	log_error("query: route=%s sqlstate=%s %s", request->route->path, state == NULL ? "-" : state,
		  PQresultErrorMessage(res));
	response_problem(response,
			 state != NULL && strncmp(state, "57", 2) == 0 ? PROBLEM_UNAVAILABLE : PROBLEM_INTERNAL, "%s",
			 "");
}

static int
check_sign_in(struct request *request, struct response *response, const PGresult *res)
{
	struct slice name = query_bytes(res, 0, 1);
	char text[16] = "";
	int32_t tenant;
	enum role role;

	assert(PQgetlength(res, 0, 0) == 4);
	memcpy(&tenant, PQgetvalue(res, 0, 0), 4);
	request->tenant_id = (int32_t)be32toh((uint32_t)tenant);
	if (name.len < sizeof text)
		memcpy(text, name.at, name.len);
	if (role_parse(text, &role) && role >= request->route->least)
		return 0;
	response_problem(response, PROBLEM_FORBIDDEN, "The role is %s.", text);
	return -1;
}

/* Reads all that was sent, up to the sync. -1: the connection is of no use; 1: the response is a problem. */
static int
receive_all(PGconn *conn, struct request *request, struct response *response, size_t n, PGresult **results)
{
	int64_t deadline = now_ms() + ANSWER_MS;
	int outcome = 0;

	for (size_t i = 0; i < n; i++) {
		results[i] = next_result(conn, deadline);
		if (results[i] == NULL)
			return -1;
		if (outcome == 0 && PQresultStatus(results[i]) != PGRES_TUPLES_OK) {
			answer_error(request, response, results[i]);
			outcome = 1;
		}
	}
	PGresult *sync = next_result(conn, deadline);

	if (PQresultStatus(sync) != PGRES_PIPELINE_SYNC) {
		PQclear(sync);
		return -1;
	}
	PQclear(sync);
	return PQexitPipelineMode(conn) == 1 ? outcome : -1;
}

static void
clear_all(PGresult **results, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		PQclear(results[i]);
		results[i] = NULL;
	}
}

static int
run(struct request *request, struct response *response, const struct call *calls, size_t n, PGresult **results)
{
	struct connection *c = take(request->pool);
	PGconn *conn = connect_api(c);
	int outcome = -1;

	for (size_t i = 0; i < n; i++)
		results[i] = NULL;
	if (conn != NULL && send_all(conn, calls, n) == 0)
		outcome = receive_all(conn, request, response, n, results);
	if (outcome < 0) {
		if (conn != NULL)
			log_error("query: route=%s connection lost: %s", request->route->path, PQerrorMessage(conn));
		database_drop(c->db);
		response_problem(response, PROBLEM_UNAVAILABLE, "%s", "");
		response_header(response, "Retry-After", "2");
	}
	give_back(request->pool, c);
	if (outcome == 0)
		return 0;
	clear_all(results, n);
	return -1;
}

static struct call
as_caller(const struct request *request, enum query query)
{
	const char *tenant = request_parameter(request, "tenant");

	return (struct call){query, {param_bytes(request->token, sizeof request->token), param_text(tenant)}, 2};
}

int
query_run(struct request *request, struct response *response, const struct call *calls, size_t n, PGresult **results)
{
	struct call all[1 + QUERY_CALLS];
	PGresult *got[1 + QUERY_CALLS];
	int rc = 0;

	assert(n <= QUERY_CALLS);
	all[0] = as_caller(request, QUERY_SIGN_IN);
	memcpy(&all[1], calls, n * sizeof *calls);
	if (run(request, response, all, 1 + n, got) < 0 || check_sign_in(request, response, got[0]) < 0) {
		clear_all(got, 1 + n);
		rc = -1;
	}
	PQclear(got[0]);
	memcpy(results, &got[1], n * sizeof *results);
	return rc;
}

int
query_fleet_metrics(struct request *request, struct response *response, PGresult **result)
{
	struct call call = as_caller(request, QUERY_FLEET_METRICS);

	return run(request, response, &call, 1, result);
}

bool
query_ready(struct query_pool *pool, char *why)
{
	struct connection *c = take(pool);
	PGresult *res = connect_api(c) == NULL ? NULL : database_run(c->db, "ready", NULL, 0, NULL);

	give_back(pool, c);
	if (res == NULL)
		strcpy(why, "no connection");
	PQclear(res);
	return res != NULL;
}

/* Read once: it never changes in a database's life. */
static int
load_secret(struct query_pool *pool)
{
	struct connection *c = take(pool);
	PGresult *res = NULL;
	struct slice secret;

	if (!pool->has_secret && connect_api(c) != NULL)
		res = database_run(c->db, "cursor_secret", NULL, 0, NULL);
	give_back(pool, c);
	if (res == NULL)
		return pool->has_secret ? 0 : -1;
	secret = query_bytes(res, 0, 0);
	pthread_mutex_lock(&pool->lock);
	if (secret.len == QUERY_SECRET) {
		memcpy(pool->secret, secret.at, QUERY_SECRET);
		pool->has_secret = true;
	}
	pthread_mutex_unlock(&pool->lock);
	PQclear(res);
	return secret.len == QUERY_SECRET ? 0 : -1;
}

int
query_secret(struct query_pool *pool, uint8_t out[QUERY_SECRET])
{
	bool has;

	pthread_mutex_lock(&pool->lock);
	has = pool->has_secret;
	pthread_mutex_unlock(&pool->lock);
	if (!has && load_secret(pool) < 0)
		return -1;
	memcpy(out, pool->secret, QUERY_SECRET);
	return 0;
}

struct slice
query_bytes(const PGresult *res, int row, int column)
{
	if (row >= PQntuples(res) || PQgetisnull(res, row, column))
		return (struct slice){NULL, 0};
	return (struct slice){(const uint8_t *)PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column)};
}

int64_t
query_int8(const PGresult *res, int row, int column)
{
	struct slice bytes = query_bytes(res, row, column);
	uint64_t number;

	if (bytes.at == NULL)
		return 0;
	assert(bytes.len == sizeof number);
	memcpy(&number, bytes.at, sizeof number);
	return (int64_t)be64toh(number);
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
