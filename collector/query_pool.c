#include "collector/query_pool.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/query_sql.h"
#include "schema/log.h"

#define SETTINGS_SIZE 512

/* Every list is read in its index's order. Plans made without the parameters take a page for all there is, and would rather sort: not here. Nor is a table
   that is small when a plan is made small as long as the plan is kept; nor is a device of a page looked up twice. Nor is a page worth another process,
   whose start takes longer than the page. */
#define SETTINGS                                                                                                       \
	"SET statement_timeout = %" PRId64 "; SET default_transaction_read_only = on; "                                \
	"SET plan_cache_mode = force_generic_plan; SET enable_sort = off; SET enable_bitmapscan = off; "               \
	"SET enable_seqscan = off; SET enable_memoize = off; "                                                         \
	"SET max_parallel_workers_per_gather = 0"

struct connection {
	struct database *db;
	unsigned set_up; /* the connection that has our settings */
	int64_t query_ms;
	bool busy;
};

struct query_pool {
	pthread_mutex_t lock;
	pthread_cond_t given_back;
	struct connection *connections;
	size_t n;
	size_t previews, previews_max; /* that run */
	char preview_ms[24], registrations_max[24];
	int64_t query_ms;
	bool has_secret; /* then neither changes any more */
	uint8_t secret[QUERY_SECRET];
	struct etag_key etags; /* of it */
};

struct query_pool *
query_pool_new(const char *uri, size_t n, size_t previews, int64_t preview_ms, int64_t query_ms,
	       int64_t registrations_max)
{
	struct query_pool *pool = calloc(1, sizeof *pool);

	if (pool == NULL)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->given_back, NULL);
	pool->previews_max = previews;
	pool->query_ms = query_ms;
	snprintf(pool->preview_ms, sizeof pool->preview_ms, "%" PRId64, preview_ms);
	snprintf(pool->registrations_max, sizeof pool->registrations_max, "%" PRId64, registrations_max);
	pool->connections = calloc(n, sizeof *pool->connections);
	if (pool->connections == NULL)
		goto fail;
	for (pool->n = 0; pool->n < n; pool->n++) {
		struct connection *c = &pool->connections[pool->n];

		c->query_ms = query_ms;
		c->db = database_new(uri, query_statements, QUERIES);
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

int64_t
query_pool_ms(const struct query_pool *pool)
{
	return pool->query_ms;
}

const char *
query_pool_preview_ms(const struct query_pool *pool)
{
	return pool->preview_ms;
}

const char *
query_pool_registrations_max(const struct query_pool *pool)
{
	return pool->registrations_max;
}

static struct connection *
free_connection(struct query_pool *pool)
{
	for (size_t i = 0; i < pool->n; i++)
		if (!pool->connections[i].busy)
			return &pool->connections[i];
	return NULL;
}

struct connection *
query_pool_take(struct query_pool *pool)
{
	struct connection *c;

	pthread_mutex_lock(&pool->lock);
	while ((c = free_connection(pool)) == NULL)
		pthread_cond_wait(&pool->given_back, &pool->lock);
	c->busy = true;
	pthread_mutex_unlock(&pool->lock);
	return c;
}

void
query_pool_give_back(struct query_pool *pool, struct connection *c)
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

PGconn *
connection_open(struct connection *c, bool again)
{
	PGconn *conn;
	char settings[SETTINGS_SIZE];

	if (!again)
		database_recheck(c->db);
	conn = database_connect(c->db);
	if (conn == NULL || c->set_up == database_connection(c->db))
		return conn;
	if (again)
		return NULL;
	snprintf(settings, sizeof settings, SETTINGS, c->query_ms);
	if (check_role(conn) < 0 || database_exec(c->db, settings) < 0) {
		database_drop(c->db);
		return NULL;
	}
	c->set_up = database_connection(c->db);
	return conn;
}

void
connection_drop(struct connection *c)
{
	database_drop(c->db);
}

bool
query_pool_enter(struct query_pool *pool)
{
	bool room;

	pthread_mutex_lock(&pool->lock);
	room = pool->previews < pool->previews_max;
	pool->previews += room;
	pthread_mutex_unlock(&pool->lock);
	return room;
}

void
query_pool_leave(struct query_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->previews--;
	pthread_mutex_unlock(&pool->lock);
}

/* Statements for no caller of ours. */

/* NULL: the database does not answer. */
static PGresult *
ask(struct query_pool *pool, enum query query, const struct param *params, int n)
{
	struct connection *c = query_pool_take(pool);
	PGresult *res = NULL;

	if (connection_open(c, false) != NULL)
		res = database_run(c->db, query_statements[query].name, params, n, NULL);
	query_pool_give_back(pool, c);
	return res;
}

bool
query_ready(struct query_pool *pool, char *why)
{
	PGresult *res = ask(pool, QUERY_READY, NULL, 0);

	if (res == NULL)
		strcpy(why, "no connection");
	PQclear(res);
	return res != NULL;
}

void
query_event_tops(struct query_pool *pool, const int32_t *tenants, size_t n, int64_t *tops)
{
	struct pg_array list = {0};
	struct param param;
	PGresult *res;

	pg_array_begin(&list, ARRAY_INT4);
	for (size_t i = 0; i < n; i++) {
		pg_array_int(&list, tenants[i]);
		tops[i] = 0;
	}
	param = pg_array_param(&list);
	res = ask(pool, QUERY_EVENT_TOPS, &param, 1);
	for (int i = 0; res != NULL && i < PQntuples(res) && (size_t)i < n; i++)
		tops[i] = result_int(res, i, 0);
	PQclear(res);
	pg_array_free(&list);
}

int
query_note(struct query_pool *pool, const struct param *params, int n)
{
	struct connection *c = query_pool_take(pool);
	PGresult *res = NULL;
	int rc = -1;

	if (connection_open(c, false) != NULL && database_exec(c->db, "BEGIN READ WRITE") == 0) {
		res = database_run(c->db, query_statements[QUERY_AUDIT_NOTED].name, params, n, NULL);
		rc = res != NULL && database_exec(c->db, "COMMIT") == 0 ? 0 : -1;
		if (rc < 0)
			database_drop(c->db);
	}
	query_pool_give_back(pool, c);
	PQclear(res);
	return rc;
}

int64_t
query_quota(struct query_pool *pool, const uint8_t hash[DIGEST_SIZE], struct quota_limits *limits)
{
	const struct param param = param_bytes(hash, DIGEST_SIZE);
	PGresult *res = ask(pool, QUERY_QUOTA, &param, 1);
	int64_t *const own[] = {&limits->requests, &limits->bytes, &limits->exports};
	int64_t token = 0;

	if (res == NULL)
		return -1;
	if (PQntuples(res) == 1)
		token = result_int(res, 0, 0);
	for (int i = 0; i < 3 && token > 0; i++)
		if (!result_null(res, 0, 1 + i))
			*own[i] = result_int(res, 0, 1 + i);
	PQclear(res);
	return token;
}

static bool
has_secret(struct query_pool *pool)
{
	bool has;

	pthread_mutex_lock(&pool->lock);
	has = pool->has_secret;
	pthread_mutex_unlock(&pool->lock);
	return has;
}

static void
keep_secret(struct query_pool *pool, struct slice secret)
{
	pthread_mutex_lock(&pool->lock);
	if (!pool->has_secret && secret.len == QUERY_SECRET && etag_key_derive(secret, &pool->etags) == 0) {
		memcpy(pool->secret, secret.at, QUERY_SECRET);
		pool->has_secret = true;
	}
	pthread_mutex_unlock(&pool->lock);
}

/* Read once: it never changes in a database's life. */
static bool
learn_secret(struct query_pool *pool)
{
	PGresult *res;

	if (has_secret(pool))
		return true;
	res = ask(pool, QUERY_CURSOR_SECRET, NULL, 0);
	if (res != NULL)
		keep_secret(pool, result_bytes(res, 0, 0));
	PQclear(res);
	return has_secret(pool);
}

int
query_secret(struct query_pool *pool, uint8_t out[QUERY_SECRET])
{
	if (!learn_secret(pool))
		return -1;
	memcpy(out, pool->secret, QUERY_SECRET);
	return 0;
}

const struct etag_key *
query_etag_key(struct query_pool *pool)
{
	return learn_secret(pool) ? &pool->etags : NULL;
}
