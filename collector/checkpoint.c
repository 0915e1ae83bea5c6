#include "collector/checkpoint.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/database.h"
#include "collector/seal.h"
#include "schema/checkpoint.h"
#include "schema/log.h"

#define LOOK_SECONDS 60 /* between two looks whether it is time, or the interval when that is less */
#define BUSY_SECONDS 600 /* before a partition that somebody reads is tried again: each try stops others for a second */

#define PIECE "10000" /* rows of a table removed in one transaction */

/* clang-format off */
enum { DUE, AUDIT, LEAVES, READ, NODES, KEEP, TELL, TRIM, EXPIRE, EXPIRE_TENANTS, EXPIRE_AUDIT, EXPIRE_HISTORY, EXPIRE_REPEATS, PURGE, RELEASE, VEIL };
static const struct statement statements[] = {
	/* The lock is this transaction's; whoever does not get it leaves the work to who did. */
	[DUE] = {"checkpoint_due",
		"SELECT n.next, n.sha256 FROM (SELECT pg_try_advisory_xact_lock(8259, 8) AS ours OFFSET 0) l,"
		" LATERAL (SELECT coalesce(max(number), 0) + 1 AS next, coalesce(max(made_at), '-infinity') AS made_at,"
		" (SELECT c.sha256 FROM checkpoint c ORDER BY c.number DESC LIMIT 1) AS sha256 FROM checkpoint) n"
		" WHERE l.ours AND n.made_at <= now() - make_interval(secs => $1::float8)"
		" AND (n.next > 1 OR EXISTS (SELECT FROM device_hot WHERE hi > 0))", 1},
	[AUDIT] = {"checkpoint_audit", "SELECT number, hash FROM audit_head", 0},
	/* Of what was transferred and is not heard since, the former tenant's row speaks. */
	[LEAVES] = {"checkpoint_leaves",
		"INSERT INTO checkpoint_leaf (number, place, device_id, tenant_id, ueid, epoch, seq, head, received_at, sections_head)"
		" SELECT $1::bigint, row_number() OVER (ORDER BY h.device_id) - 1, h.device_id, h.tenant_id, d.ueid, h.epoch, h.hi, h.head, h.last_seen,"
		" h.sections_head FROM device_hot h JOIN device d ON d.device_id = h.device_id WHERE h.hi > 0 AND h.head IS NOT NULL"
		" AND h.last_seen IS NOT NULL", 1},
	[READ] = {"checkpoint_read", "SELECT ueid, epoch, seq, head, sections_head FROM checkpoint_leaf WHERE number = $1::bigint ORDER BY place", 1},
	[NODES] = {"checkpoint_nodes",
		"INSERT INTO checkpoint_node (number, place, hash) SELECT $1::bigint, n - 1, hash FROM unnest($2::bytea[]) WITH ORDINALITY AS u (hash, n)", 2},
	[KEEP] = {"checkpoint_keep",
		"INSERT INTO checkpoint (number, made_at, devices, root, sha256, message, next_due) VALUES ($1::bigint, to_timestamp($2::bigint), $3::bigint,"
		" $4::bytea, $5::bytea, $6::bytea, now() + make_interval(secs => $7::float8))", 7},
	[TELL] = {"checkpoint_tell",
		"INSERT INTO event (tenant_id, type, data) SELECT tenant_id, 'ledger.checkpoint', jsonb_build_object('number', $1::bigint, 'devices', $2::bigint,"
		" 'root', encode($3::bytea, 'hex'), 'sha256', encode($4::bytea, 'hex'), 'message', translate(encode($5::bytea, 'base64'), E'\\n', ''))"
		" FROM tenant", 5},
	/* The last 31 are kept, and of those before one in thirty for as long as there are reports that it speaks for: the way from any report to a leaf
	   stays short. */
	[TRIM] = {"checkpoint_trim",
		"WITH o AS MATERIALIZED (SELECT array_agg(number) AS numbers FROM checkpoint WHERE number <= $1::bigint - 31 AND CASE WHEN number % 30 = 0"
		"  THEN made_at < least(now() - make_interval(secs => $2::float8), (SELECT min(since) FROM device_kept)) ELSE number > $1::bigint - 331 END),"
		" n AS (DELETE FROM checkpoint_node WHERE number = ANY ((SELECT numbers FROM o)::bigint[]))"
		" DELETE FROM checkpoint_leaf WHERE number = ANY ((SELECT numbers FROM o)::bigint[])", 2},
	[EXPIRE] = {"expire", "SELECT partition, reports, busy FROM expire_reports($1::bool, make_interval(secs => $2::float8), $3::bool)", 3},
	[EXPIRE_TENANTS] = {"expire_tenants",
		"SELECT reports, more FROM expire_tenants(" PIECE ", make_interval(secs => $1::float8), make_interval(secs => $2::float8), $3::bool)", 3},
	[EXPIRE_AUDIT] = {"expire_audit", "SELECT expire_audit(make_interval(secs => $1::float8), $2::bool)", 2},
	[EXPIRE_HISTORY] = {"expire_history", "SELECT expire_history(make_interval(secs => $1::float8), " PIECE ")", 1},
	[EXPIRE_REPEATS] = {"expire_repeats", "SELECT expire_repeats()", 0},
	[PURGE] = {"purge_devices", "SELECT purge_devices(" PIECE ")", 0},
	[RELEASE] = {"release_reports", "SELECT release_reports(" PIECE ", make_interval(secs => $1::float8), make_interval(secs => $2::float8))", 2},
	[VEIL] = {"veil_stored", "SELECT veil_stored(500)", 0},
};
/* clang-format on */

struct checkpointer {
	const struct settings *settings;
	struct database *db;
	struct seal *seal;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	int64_t busy_until; /* seconds of the monotonic clock */
};

static int
run_statement(struct checkpointer *c, int statement, const struct param *params)
{
	PGresult *res = database_run(c->db, statements[statement].name, params, statements[statement].params, NULL);

	PQclear(res);
	return res == NULL ? -1 : 0;
}

static void
read_leaf(const PGresult *res, merkle_hash hash)
{
	struct checkpoint_leaf leaf = {.epoch = (uint64_t)result_int(res, 0, 1),
				       .seq = (uint64_t)result_int(res, 0, 2)};
	struct slice sections = result_bytes(res, 0, 4);

	memcpy(leaf.ueid.bytes, result_bytes(res, 0, 0).at, UEID_SIZE);
	memcpy(leaf.head, result_bytes(res, 0, 3).at, DIGEST_SIZE);
	leaf.has_sections = sections.len == DIGEST_SIZE;
	if (leaf.has_sections)
		memcpy(leaf.sections, sections.at, DIGEST_SIZE);
	checkpoint_leaf_hash(&leaf, hash);
}

/* The root of the leaves so far is one of the nodes that are kept, and another begins. */
static void
end_node(struct merkle *node, struct pg_array *nodes)
{
	merkle_hash root;

	if (node->leaves == 0)
		return;
	merkle_root(node, root);
	pg_array_bytes(nodes, (struct slice){root, DIGEST_SIZE});
	node->leaves = 0;
}

/* Row by row: a million leaves need not stand in memory, only a thousand nodes. */
static int
read_root(struct checkpointer *c, struct param number_param, struct checkpoint *out, struct pg_array *nodes)
{
	const char *values[1] = {number_param.at};
	struct merkle tree = {.leaves = 0}, node = {.leaves = 0};
	PGconn *conn = database_connect(c->db);
	merkle_hash leaf;
	PGresult *res;
	int rc = 0;

	if (conn == NULL || PQsendQueryPrepared(conn, statements[READ].name, 1, values, NULL, NULL, 1) != 1 ||
	    PQsetSingleRowMode(conn) != 1)
		return -1;
	while ((res = PQgetResult(conn)) != NULL) {
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE) {
			read_leaf(res, leaf);
			merkle_add(&tree, leaf);
			merkle_add(&node, leaf);
			if (node.leaves == CHECKPOINT_FAN)
				end_node(&node, nodes);
		} else if (PQresultStatus(res) != PGRES_TUPLES_OK) {
			rc = -1;
		}
		PQclear(res);
	}
	end_node(&node, nodes);
	out->devices = tree.leaves;
	merkle_root(&tree, out->root);
	return rc;
}

/* -1: the database fails. */
static int
build_tree(struct checkpointer *c, struct param number_param, struct checkpoint *out)
{
	struct pg_array nodes = {0};
	int rc;

	pg_array_begin(&nodes, ARRAY_BYTEA);
	rc = read_root(c, number_param, out, &nodes);
	if (rc == 0 && nodes.items > 0)
		rc = run_statement(c, NODES, (const struct param[]){number_param, pg_array_param(&nodes)});
	pg_array_free(&nodes);
	return rc;
}

static int
read_audit(struct checkpointer *c, struct checkpoint *out)
{
	PGresult *res = database_run(c->db, statements[AUDIT].name, NULL, 0, NULL);
	struct slice hash;

	if (res == NULL)
		return -1;
	hash = result_bytes(res, 0, 1);
	out->audit_number = (uint64_t)result_int(res, 0, 0);
	out->has_audit = out->audit_number > 0 && hash.len == DIGEST_SIZE;
	if (out->has_audit)
		memcpy(out->audit_hash, hash.at, DIGEST_SIZE);
	PQclear(res);
	return 0;
}

static int
sign_and_keep(struct checkpointer *c, struct checkpoint *checkpoint)
{
	uint8_t payload[256], message[LIMIT_CHECKPOINT], digest[DIGEST_SIZE];
	char n[PARAM_NUMBER], at[PARAM_NUMBER], devices[PARAM_NUMBER], interval[PARAM_NUMBER], keep[PARAM_NUMBER];
	struct cbor_writer w;
	size_t len;

	cbor_writer_init(&w, payload, sizeof payload);
	checkpoint_encode(checkpoint, &w);
	len = w.overflow ? 0 : seal_sign(c->seal, (struct slice){payload, w.len}, message, sizeof message);
	if (len == 0) {
		log_error("checkpoint: it can't be signed");
		return -1;
	}
	sha256((struct slice){message, len}, digest);
	const struct param number_param = param_number(n, (int64_t)checkpoint->number),
			   devices_param = param_number(devices, (int64_t)checkpoint->devices);
	const struct param kept[7] = {number_param,
				      param_number(at, (int64_t)checkpoint->iat),
				      devices_param,
				      param_bytes(checkpoint->root, DIGEST_SIZE),
				      param_bytes(digest, DIGEST_SIZE),
				      param_bytes(message, len),
				      param_number(interval, c->settings->checkpoint_interval)};
	const struct param trimmed[2] = {number_param, param_number(keep, c->settings->sections_retention)};
	const struct param told[5] = {number_param, devices_param, kept[3], kept[4], kept[5]};

	if (run_statement(c, KEEP, kept) < 0 || run_statement(c, TELL, told) < 0 || run_statement(c, TRIM, trimmed) < 0)
		return -1;
	return 0;
}

/* 1: made; 0: it is not time, or another collector is at it; -1: the database fails, or signing. */
static int
make_checkpoint(struct checkpointer *c)
{
	struct checkpoint checkpoint = {.iat = (uint64_t)(clock_now_us() / 1000000)};
	char interval[PARAM_NUMBER], n[PARAM_NUMBER];
	const struct param interval_param = param_number(interval, c->settings->checkpoint_interval);
	struct param number_param;
	struct slice previous;
	PGresult *res = database_run(c->db, statements[DUE].name, &interval_param, 1, NULL);

	if (res == NULL || PQntuples(res) == 0) {
		PQclear(res);
		return res == NULL ? -1 : 0;
	}
	checkpoint.number = (uint64_t)result_int(res, 0, 0);
	previous = result_bytes(res, 0, 1);
	checkpoint.has_previous = previous.len == DIGEST_SIZE;
	if (checkpoint.has_previous)
		memcpy(checkpoint.previous, previous.at, DIGEST_SIZE);
	PQclear(res);
	number_param = param_number(n, (int64_t)checkpoint.number);
	if (read_audit(c, &checkpoint) < 0 || run_statement(c, LEAVES, &number_param) < 0 ||
	    build_tree(c, number_param, &checkpoint) < 0 || sign_and_keep(c, &checkpoint) < 0)
		return -1;
	log_info("checkpoint made number=%llu devices=%llu", (unsigned long long)checkpoint.number,
		 (unsigned long long)checkpoint.devices);
	return 1;
}

static void
look(struct checkpointer *c)
{
	int made;

	/* A checkpoint's time must be one that others can believe. */
	if (!clock_is_right() || database_exec(c->db, "BEGIN") < 0)
		return;
	made = make_checkpoint(c);
	if (made <= 0)
		(void)!database_exec(c->db, "ROLLBACK");
	else if (database_exec(c->db, "COMMIT") == 0)
		counter_add(COUNTER_CHECKPOINTS, 1);
}

static struct param
flag(bool value)
{
	return param_text(value ? "true" : "false");
}

/* What checkpoints speak for may go when its time is over: a partition of it. False: there is no more to do for now. */
static bool
expire_partition(struct checkpointer *c, bool with_sections)
{
	const struct settings *s = c->settings;
	char keep[PARAM_NUMBER];
	const struct param params[3] = {flag(with_sections),
					param_number(keep, with_sections ? s->sections_retention : s->quiet_retention),
					flag(s->retention_uncovered)};
	PGresult *res = database_run(c->db, statements[EXPIRE].name, params, statements[EXPIRE].params, NULL);
	bool gone = res != NULL && !result_null(res, 0, 0);

	if (gone) {
		struct slice name = result_bytes(res, 0, 0);

		log_info("retention: partition dropped name=%.*s reports=%lld", (int)name.len, (const char *)name.at,
			 (long long)result_int(res, 0, 1));
		counter_add(COUNTER_EXPIRED, result_int(res, 0, 1));
	} else if (res != NULL && result_bool(res, 0, 2)) {
		log_warning("retention: a partition whose time is over is in use");
		c->busy_until = clock_ms() / 1000 + BUSY_SECONDS;
	}
	PQclear(res);
	return gone;
}

static bool
is_stopping(struct checkpointer *c)
{
	bool stop;

	pthread_mutex_lock(&c->lock);
	stop = c->stop;
	pthread_mutex_unlock(&c->lock);
	return stop;
}

static bool
goes_on(struct checkpointer *c, int64_t until)
{
	return clock_ms() < until && !is_stopping(c);
}

/* How many rows a statement says that it dropped. */
static int64_t
expire_rows(struct checkpointer *c, int statement, const struct param *params)
{
	PGresult *res = database_run(c->db, statements[statement].name, params, statements[statement].params, NULL);
	int64_t n = res == NULL ? 0 : result_int(res, 0, 0);

	PQclear(res);
	if (n > 0)
		log_info("retention: %s rows=%lld dropped", statements[statement].name, (long long)n);
	return n;
}

/* A piece of what is over sooner than others' by its tenant's own retention. False: there is no more to do for now. */
static bool
expire_tenants(struct checkpointer *c, const struct param *params)
{
	PGresult *res =
		database_run(c->db, statements[EXPIRE_TENANTS].name, params, statements[EXPIRE_TENANTS].params, NULL);
	int64_t n = res == NULL ? 0 : result_int(res, 0, 0);
	bool more = res != NULL && result_bool(res, 0, 1);

	PQclear(res);
	if (n > 0) {
		log_info("retention: %s rows=%lld dropped", statements[EXPIRE_TENANTS].name, (long long)n);
		counter_add(COUNTER_EXPIRED, n);
	}
	return more;
}

static void
expire(struct checkpointer *c)
{
	const struct settings *s = c->settings;
	char audit[PARAM_NUMBER], quiet[PARAM_NUMBER], sections[PARAM_NUMBER];
	const struct param audit_params[2] = {param_number(audit, s->audit_retention), flag(s->retention_uncovered)};
	const struct param usual[3] = {param_number(quiet, s->quiet_retention),
				       param_number(sections, s->sections_retention), flag(s->retention_uncovered)};
	int64_t n, until;

	if (!clock_is_right() || clock_ms() / 1000 < c->busy_until)
		return;
	while (expire_partition(c, false))
		;
	while (expire_partition(c, true))
		;
	/* Some thousand at once. */
	while ((n = expire_rows(c, EXPIRE_AUDIT, audit_params)) > 0)
		counter_add(COUNTER_AUDIT_EXPIRED, n);
	/* Not for longer than it takes until a checkpoint may be due: the rest goes after that. */
	until = clock_ms() + LOOK_SECONDS * 1000;
	while (expire_tenants(c, usual) && goes_on(c, until))
		;
	while (expire_rows(c, RELEASE, usual) > 0 && goes_on(c, until))
		;
	while (expire_rows(c, EXPIRE_HISTORY, &usual[1]) > 0 && goes_on(c, until))
		;
	(void)run_statement(c, EXPIRE_REPEATS, NULL);
}

/* Whatever the clock says, and whoever reads: what was deleted goes. */
static void
purge(struct checkpointer *c)
{
	while (expire_rows(c, PURGE, NULL) > 0 && !is_stopping(c))
		;
}

/* A little at once, as others wait for it: a state takes milliseconds. What a large fleet still lacks after a while comes with the next look, as a
   checkpoint may be due. */
static void
veil(struct checkpointer *c)
{
	int64_t until = clock_ms() + LOOK_SECONDS * 1000, rows = 0, n;

	do {
		PGresult *res = database_run(c->db, statements[VEIL].name, NULL, 0, NULL);

		n = res == NULL ? 0 : result_int(res, 0, 0);
		rows += n;
		PQclear(res);
	} while (n > 0 && goes_on(c, until));
	if (rows > 0)
		log_info("personal: what is stored %s brought to its tenant's way", n > 0 ? "is being" : "was");
}

static void *
run(void *argument)
{
	struct checkpointer *c = argument;
	int64_t interval = c->settings->checkpoint_interval;
	struct timespec until;

	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		pthread_mutex_unlock(&c->lock);
		look(c);
		expire(c);
		purge(c);
		veil(c);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += interval < LOOK_SECONDS ? interval : LOOK_SECONDS;
		pthread_mutex_lock(&c->lock);
		while (!c->stop && pthread_cond_timedwait(&c->wake, &c->lock, &until) == 0)
			;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void
checkpointer_free(struct checkpointer *c)
{
	seal_free(c->seal);
	database_free(c->db);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct checkpointer *
checkpointer_start(const struct settings *settings)
{
	struct checkpointer *c = calloc(1, sizeof *c);
	pthread_condattr_t attributes;

	if (c == NULL)
		return NULL;
	c->settings = settings;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&c->lock, NULL);
	c->db = database_new(settings->database, statements, sizeof statements / sizeof statements[0]);
	c->seal = seal_open(settings);
	if (c->db != NULL && c->seal != NULL && pthread_create(&c->thread, NULL, run, c) == 0)
		return c;
	checkpointer_free(c);
	return NULL;
}

void
checkpointer_stop(struct checkpointer *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	checkpointer_free(c);
}
