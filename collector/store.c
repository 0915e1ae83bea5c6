#include "collector/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/counters.h"
#include "collector/enrol.h"
#include "schema/facts.h"
#include "schema/log.h"

#define RETRY_MS 200
#define SAMPLES_PER_SECOND 10 /* of one reason: enough to see what it is, too few to fill a disk */
#define SAMPLE_SIZE 4096
#define COLUMNS_MAX 12
#define RELOADS_MAX 1024

enum outcome {
	DONE,
	AGAIN, /* the environment: as it is, later */
	MOVED, /* another collector moved a row: read anew, judge anew */
	DATA, /* the database refuses a row */
};

/*
 * The statements that write, in the order in which they run. Columns are the letters of their arrays' types: 4 int4, 8 int8, b bytea, t text,
 * z timestamptz, o boolean, j jsonb. A statement without rows does not run.
 */
enum write {
	ENROL_DEVICE,
	ENROL_HOT,
	ENROL_KEY,
	MOVE_HOT,
	ADD_QUIET,
	ADD_FULL,
	ADD_EPOCH,
	SPEND_WORD,
	DELETE_GAP,
	ADD_GAP,
	ADD_DROP,
	ADD_COMPONENT,
	ADD_INVENTORY,
	ADD_MEMBER,
	ADD_HISTORY,
	MOVE_STATE,
	SET_DEVICE,
	RETURN_SILENT,
	SET_UNTRUSTED,
	ADD_EVENT,
	COUNT_REFUSAL,
	ADD_REFUSAL,
	WRITES
};

/* clang-format off */
static const struct {
	const char *name, *columns, *sql;
} writes[WRITES] = {
	[ENROL_DEVICE] = {"enrol_device", "b4oz",
		"INSERT INTO device (ueid, tenant_id, lifecycle, first_seen)"
		" SELECT u.ueid, u.tenant_id, CASE WHEN u.hold THEN 'pending' ELSE 'active' END, u.at"
		" FROM unnest($1::bytea[], $2::int[], $3::bool[], $4::timestamptz[]) AS u (ueid, tenant_id, hold, at)"
		" ON CONFLICT (ueid) DO NOTHING"},
	[ENROL_HOT] = {"enrol_hot", "b",
		"INSERT INTO device_hot (device_id, tenant_id)"
		" SELECT d.device_id, d.tenant_id FROM unnest($1::bytea[]) AS u (ueid) JOIN device d ON d.ueid = u.ueid"
		" ON CONFLICT (device_id) DO NOTHING"},
	/* A device that was registered beforehand takes its first key whatever tenant the anchor names; from then on only its own tenant's. */
	[ENROL_KEY] = {"enrol_key", "b4bbbbbzzz",
		"WITH k AS ("
		" INSERT INTO device_key (device_id, kid, tenant_id, spki, chain, not_before, not_after, enrolled_at)"
		" SELECT DISTINCT ON (d.device_id, u.kid) d.device_id, u.kid, d.tenant_id, u.spki,"
		"  array_remove(ARRAY[u.c1, u.c2, u.c3], NULL), u.not_before, u.not_after, u.at"
		" FROM unnest($1::bytea[], $2::int[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::timestamptz[],"
		"  $9::timestamptz[], $10::timestamptz[]) AS u (ueid, tenant_id, kid, spki, c1, c2, c3, not_before, not_after, at)"
		" JOIN device d ON d.ueid = u.ueid"
		" WHERE d.lifecycle IN ('pending', 'active') AND"
		"  (d.tenant_id = u.tenant_id OR NOT EXISTS (SELECT FROM device_key o WHERE o.device_id = d.device_id))"
		" ORDER BY d.device_id, u.kid, u.at"
		" ON CONFLICT (device_id, kid) DO UPDATE SET chain = EXCLUDED.chain, not_before = EXCLUDED.not_before, not_after = EXCLUDED.not_after"
		"  WHERE EXCLUDED.not_before > device_key.not_before"
		" RETURNING device_id, tenant_id, kid)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT k.tenant_id, CASE WHEN EXISTS (SELECT FROM device_key o WHERE o.device_id = k.device_id AND o.kid = k.kid) THEN 'device.renewed'"
		"  WHEN EXISTS (SELECT FROM device_key o WHERE o.device_id = k.device_id) THEN 'device.rekeyed' ELSE 'device.enrolled' END, d.ueid, jsonb_build_object('kid', encode(k.kid, 'hex'))"
		" FROM k JOIN device d ON d.device_id = k.device_id"},
	[MOVE_HOT] = {"move_hot", "8888bbbzz4o",
		"UPDATE device_hot h SET rev = h.rev + 1, epoch = u.epoch, hi = u.hi, head = u.head, sections_head = u.sections_head,"
		" facts = u.facts, last_seen = u.last_seen, last_iat = u.last_iat, interval_s = u.interval_s, gaps = u.gaps"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::timestamptz[],"
		" $9::timestamptz[], $10::int[], $11::bool[])"
		" AS u (device_id, rev, epoch, hi, head, sections_head, facts, last_seen, last_iat, interval_s, gaps)"
		" WHERE h.device_id = u.device_id AND h.rev = u.rev"},
	[ADD_QUIET] = {"add_quiet", "888z4zb4b",
		"INSERT INTO report_quiet (device_id, epoch, seq, received_at, tenant_id, issued_at, sha256, flags, message)"
		" SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::int[], $6::timestamptz[], $7::bytea[],"
		" $8::int[], $9::bytea[])"},
	[ADD_FULL] = {"add_full", "888z4zb4b4",
		"INSERT INTO report_full (device_id, epoch, seq, received_at, tenant_id, issued_at, sha256, flags, message, sections)"
		" SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::int[], $6::timestamptz[], $7::bytea[],"
		" $8::int[], $9::bytea[], $10::int[])"},
	[ADD_EPOCH] = {"add_epoch", "8848zzo8888",
		"INSERT INTO device_epoch AS e (device_id, epoch, tenant_id, hi, first_seen, certified, vouched, duplicates, late, forks, chain_breaks)"
		" SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::bool[],"
		" $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])"
		" ON CONFLICT (device_id, epoch) DO UPDATE SET hi = greatest(e.hi, EXCLUDED.hi), certified = greatest(e.certified, EXCLUDED.certified), duplicates = e.duplicates + EXCLUDED.duplicates,"
		" late = e.late + EXCLUDED.late, forks = e.forks + EXCLUDED.forks, chain_breaks = e.chain_breaks + EXCLUDED.chain_breaks"},
	[SPEND_WORD] = {"spend_word", "8",
		"UPDATE device SET reprovision_until = NULL WHERE device_id = ANY ($1::bigint[]) AND reprovision_until IS NOT NULL"},
	[DELETE_GAP] = {"delete_gap", "8888",
		"DELETE FROM report_gap g USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (device_id, epoch, first, last)"
		" WHERE g.device_id = u.device_id AND g.epoch = u.epoch AND g.missing = int8range(u.first, u.last, '[]')"},
	[ADD_GAP] = {"add_gap", "88884",
		"INSERT INTO report_gap (device_id, epoch, missing, tenant_id)"
		" SELECT u.device_id, u.epoch, int8range(u.first, u.last, '[]'), u.tenant_id"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[]) AS u (device_id, epoch, first, last, tenant_id)"
		" ON CONFLICT (device_id, epoch, missing) DO NOTHING"},
	[ADD_DROP] = {"add_drop", "88884t8",
		"INSERT INTO report_drop (device_id, epoch, dropped, tenant_id, cause, declared_by)"
		" SELECT u.device_id, u.epoch, int8range(u.first, u.last, '[]'), u.tenant_id, u.cause, u.seq"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::bigint[])"
		" AS u (device_id, epoch, first, last, tenant_id, cause, seq)"
		" ON CONFLICT (device_id, epoch, dropped) DO NOTHING"},
	[ADD_COMPONENT] = {"add_component", "4bttttttt",
		"INSERT INTO component (tenant_id, digest, type, name, version, architecture, source, source_version, purl)"
		" SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])"
		" ON CONFLICT (tenant_id, digest) DO NOTHING"},
	[ADD_INVENTORY] = {"add_inventory", "4b4",
		"INSERT INTO inventory (tenant_id, digest, components) SELECT * FROM unnest($1::int[], $2::bytea[], $3::int[])"
		" ON CONFLICT (tenant_id, digest) DO NOTHING"},
	[ADD_MEMBER] = {"add_member", "4bb",
		"INSERT INTO inventory_component (inventory_id, component_id, tenant_id)"
		" SELECT i.inventory_id, c.component_id, u.tenant_id FROM unnest($1::int[], $2::bytea[], $3::bytea[]) AS u (tenant_id, inventory, component)"
		" JOIN inventory i ON i.tenant_id = u.tenant_id AND i.digest = u.inventory"
		" JOIN component c ON c.tenant_id = u.tenant_id AND c.digest = u.component"
		" ON CONFLICT (inventory_id, component_id) DO NOTHING"},
	/* The first of a device's states in the batch is compared with what is stored, each other one was compared with the one before it. */
	[ADD_HISTORY] = {"add_history", "8z884zbbjo",
		"WITH u AS (SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::int[], $6::timestamptz[], $7::bytea[],"
		"  $8::bytea[], $9::jsonb[], $10::bool[])"
		"  AS u (device_id, valid_from, epoch, seq, tenant_id, issued_at, state_digest, inventory_digest, state, first)),"
		" h AS (INSERT INTO state_history (device_id, valid_from, epoch, seq, tenant_id, issued_at, state_digest, inventory_digest, state)"
		"  SELECT u.device_id, u.valid_from, u.epoch, u.seq, u.tenant_id, u.issued_at, u.state_digest, u.inventory_digest, u.state"
		"  FROM u LEFT JOIN device_state s ON s.device_id = u.device_id"
		"  WHERE s.device_id IS NULL OR ((s.epoch <> u.epoch OR s.seq < u.seq) AND"
		"   (NOT u.first OR s.state_digest <> u.state_digest OR s.inventory_digest <> u.inventory_digest))"
		"  RETURNING device_id, tenant_id, epoch, seq, state_digest, inventory_digest)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT h.tenant_id, e.type, d.ueid, jsonb_build_object('epoch', epoch_hex(h.epoch), 'seq', h.seq, 'digest', encode(e.digest, 'hex'),"
		"  'previous', encode(e.previous, 'hex'))"
		" FROM h JOIN device d ON d.device_id = h.device_id LEFT JOIN device_state s ON s.device_id = h.device_id,"
		" LATERAL (VALUES ('device.state', h.state_digest, s.state_digest), ('device.inventory', h.inventory_digest, s.inventory_digest))"
		"  AS e (type, digest, previous)"
		" WHERE e.digest IS DISTINCT FROM e.previous AND d.lifecycle <> 'pending'"},
	[MOVE_STATE] = {"move_state", "8488zzbbj",
		"INSERT INTO device_state AS s (device_id, tenant_id, epoch, seq, received_at, issued_at, state_digest, inventory_digest, state)"
		" SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::bytea[],"
		" $8::bytea[], $9::jsonb[])"
		" ON CONFLICT (device_id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, epoch = EXCLUDED.epoch, seq = EXCLUDED.seq,"
		" received_at = EXCLUDED.received_at, issued_at = EXCLUDED.issued_at, state_digest = EXCLUDED.state_digest,"
		" inventory_digest = EXCLUDED.inventory_digest, state = EXCLUDED.state"
		" WHERE s.epoch <> EXCLUDED.epoch OR s.seq < EXCLUDED.seq"},
	[SET_DEVICE] = {"set_device", "888tttttttt",
		"UPDATE device d SET serial = u.serial, vendor = u.vendor, hwmodel = u.hwmodel, hwversion = u.hwversion, oemid = u.oemid,"
		" swname = u.swname, swversion = u.swversion, kernel = u.kernel,"
		" reasons = CASE WHEN d.posture = 'unknown' AND d.reasons = '{no-state}' THEN ARRAY['no-policies'] ELSE d.reasons END"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],"
		" $10::text[], $11::text[])"
		" AS u (device_id, epoch, seq, serial, vendor, hwmodel, hwversion, oemid, swname, swversion, kernel)"
		" JOIN device_state s ON s.device_id = u.device_id AND s.epoch = u.epoch AND s.seq = u.seq"
		" WHERE d.device_id = u.device_id AND ((d.posture = 'unknown' AND d.reasons = '{no-state}') OR"
		" (d.serial, d.vendor, d.hwmodel, d.hwversion, d.oemid, d.swname, d.swversion, d.kernel) IS DISTINCT FROM"
		" (u.serial, u.vendor, u.hwmodel, u.hwversion, u.oemid, u.swname, u.swversion, u.kernel))"},
	[RETURN_SILENT] = {"return_silent", "8",
		"WITH d AS (UPDATE device d SET posture = 'unknown', posture_since = now(),"
		"  reasons = CASE WHEN EXISTS (SELECT FROM device_state s WHERE s.device_id = d.device_id) THEN ARRAY['no-policies'] ELSE ARRAY['no-state'] END"
		"  FROM unnest($1::bigint[]) AS u (device_id) WHERE d.device_id = u.device_id AND d.posture = 'silent'"
		"  RETURNING d.tenant_id, d.ueid, d.posture, d.reasons, d.lifecycle)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT tenant_id, 'device.posture', ueid, jsonb_build_object('posture', posture, 'reasons', reasons, 'previous', 'silent') FROM d"
		" WHERE lifecycle <> 'pending'"},
	[SET_UNTRUSTED] = {"set_untrusted", "8t",
		"WITH d AS (UPDATE device d SET posture = 'untrusted', posture_since = CASE WHEN o.posture = 'untrusted' THEN d.posture_since ELSE now() END,"
		"  reasons = CASE WHEN o.posture = 'untrusted' THEN array_append(o.reasons, u.reason) ELSE ARRAY[u.reason] END"
		"  FROM unnest($1::bigint[], $2::text[]) AS u (device_id, reason) JOIN device o ON o.device_id = u.device_id"
		"  WHERE d.device_id = u.device_id AND NOT (o.posture = 'untrusted' AND u.reason = ANY (o.reasons))"
		"  RETURNING d.tenant_id, d.ueid, d.posture, d.reasons, o.posture AS previous)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT tenant_id, 'device.posture', ueid, jsonb_build_object('posture', posture, 'reasons', reasons, 'previous', previous) FROM d"},
	[ADD_EVENT] = {"add_event", "4tbj",
		"INSERT INTO event (tenant_id, type, ueid, data) SELECT * FROM unnest($1::int[], $2::text[], $3::bytea[], $4::jsonb[])"},
	[COUNT_REFUSAL] = {"count_refusal", "8t4",
		"INSERT INTO refusal_count AS r (device_id, reason, tenant_id, n)"
		" SELECT u.device_id, u.reason, u.tenant_id, count(*) FROM unnest($1::bigint[], $2::text[], $3::int[]) AS u (device_id, reason, tenant_id)"
		" GROUP BY 1, 2, 3 ORDER BY 1, 2 ON CONFLICT (device_id, reason) DO UPDATE SET n = r.n + EXCLUDED.n"},
	[ADD_REFUSAL] = {"add_refusal", "z48bt4bb",
		"INSERT INTO refusal (received_at, tenant_id, device_id, ueid, reason, size, sha256, sample)"
		" SELECT * FROM unnest($1::timestamptz[], $2::int[], $3::bigint[], $4::bytea[], $5::text[], $6::int[], $7::bytea[], $8::bytea[])"},
};

/* What only the database knows, asked before the transaction. */
enum read { READ_EPOCHS, READ_VOUCHERS, READ_PENDING, READ_INVENTORIES, READ_TAKEN, READS };

static const struct {
	const char *name, *columns, *sql;
} reads[READS] = {
	[READ_EPOCHS] = {"read_epochs", "88",
		"SELECT e.device_id, e.epoch, e.hi, e.vouched, lower(g.missing), upper(g.missing)"
		" FROM (SELECT DISTINCT device_id, epoch FROM unnest($1::bigint[], $2::bigint[]) AS u (device_id, epoch)) u"
		" JOIN device_epoch e ON e.device_id = u.device_id AND e.epoch = u.epoch"
		" LEFT JOIN report_gap g ON g.device_id = e.device_id AND g.epoch = e.epoch ORDER BY 1, 2, 5"},
	[READ_VOUCHERS] = {"read_vouchers", "8",
		"SELECT d.device_id, max(e.certified) FILTER (WHERE e.vouched), coalesce(d.reprovision_until >= now(), false),"
		" count(*) FILTER (WHERE NOT e.vouched) FROM device d LEFT JOIN device_epoch e ON e.device_id = d.device_id"
		" WHERE d.device_id = ANY ($1::bigint[]) GROUP BY d.device_id"},
	[READ_PENDING] = {"read_pending", "8",
		"SELECT u.device_id, (SELECT count(*) FROM report_quiet q WHERE q.device_id = u.device_id) +"
		" (SELECT count(*) FROM report_full f WHERE f.device_id = u.device_id) FROM unnest($1::bigint[]) AS u (device_id)"},
	[READ_INVENTORIES] = {"read_inventories", "84b",
		"SELECT u.i FROM unnest($1::bigint[], $2::int[], $3::bytea[]) AS u (i, tenant_id, digest)"
		" JOIN inventory v ON v.tenant_id = u.tenant_id AND v.digest = u.digest"},
	[READ_TAKEN] = {"read_taken", "8888b",
		"SELECT u.i, r.sha256 = u.sha256, CASE WHEN r.sha256 <> u.sha256 THEN r.message END, NULL::bool"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) AS u (i, device_id, epoch, seq, sha256)"
		" JOIN report r ON r.device_id = u.device_id AND r.epoch = u.epoch AND r.seq = u.seq"
		" UNION ALL SELECT u.i, NULL, NULL, p.cause = 'skipped'"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) AS u (i, device_id, epoch, seq, sha256)"
		" JOIN report_drop p ON p.device_id = u.device_id AND p.epoch = u.epoch AND p.dropped @> u.seq"},
};
/* clang-format on */

struct rows {
	struct pg_array column[COLUMNS_MAX];
	int columns, at;
	size_t n;
};

struct store {
	struct database *db;
	struct keyring *keyring;
	store_committed *committed;
	void *context;
	struct statement statements[WRITES + READS];
	struct rows writes[WRITES], reads[READS];
	struct judge judge;
	size_t batch_max;
	int64_t pending_max;
	struct ueid *ueids; /* of a batch */
	bool *found; /* by place in a read */
	int backend; /* the connection that was set up */
	atomic_bool give_up;
	struct {
		time_t second;
		unsigned n;
	} samples[REASONS];
	pthread_mutex_t reload_lock;
	struct ueid reloads[RELOADS_MAX];
	size_t reloads_n;
	bool reload_all; /* from the first on */
	bool reloading_all; /* the store stage's: from reload_place on */
	size_t reload_place;
};

/* Rows. */

static enum array_type
type_of(char letter)
{
	switch (letter) {
	case '4':
		return ARRAY_INT4;
	case '8':
		return ARRAY_INT8;
	case 'b':
		return ARRAY_BYTEA;
	case 't':
		return ARRAY_TEXT;
	case 'z':
		return ARRAY_TIMESTAMPTZ;
	case 'o':
		return ARRAY_BOOL;
	default:
		return ARRAY_JSONB;
	}
}

static void
rows_empty(struct rows *r, const char *columns)
{
	r->columns = (int)strlen(columns);
	r->n = 0;
	for (int i = 0; i < r->columns; i++)
		pg_array_begin(&r->column[i], type_of(columns[i]));
}

static struct rows *
row_begin(struct rows *r)
{
	r->at = 0;
	r->n++;
	return r;
}

static void
row_int(struct rows *r, int64_t v)
{
	pg_array_int(&r->column[r->at++], v);
}

static void
row_time(struct rows *r, int64_t us)
{
	pg_array_time_us(&r->column[r->at++], us);
}

static void
row_slice(struct rows *r, struct slice s)
{
	pg_array_bytes(&r->column[r->at++], s);
}

static void
row_bytes(struct rows *r, const void *at, size_t len)
{
	row_slice(r, (struct slice){at, len});
}

static void
row_text(struct rows *r, const char *text)
{
	row_bytes(r, text, strlen(text));
}

static void
row_null(struct rows *r)
{
	pg_array_null(&r->column[r->at++]);
}

static bool
rows_failed(const struct rows *r)
{
	for (int i = 0; i < r->columns; i++)
		if (r->column[i].failed)
			return true;
	return false;
}

static void
empty_all(struct store *s)
{
	for (int i = 0; i < WRITES; i++)
		rows_empty(&s->writes[i], writes[i].columns);
	for (int i = 0; i < READS; i++)
		rows_empty(&s->reads[i], reads[i].columns);
}

/* Transactions. */

static void
wait_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* What a failed statement means. Disk full, shutdown, a lost connection or a lock are the environment's; so is a missing partition, which
   comes as a check violation without a constraint. */
static enum outcome
outcome_of(const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *constraint = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);

	if (state == NULL)
		return AGAIN;
	if (strcmp(state, "23514") == 0 && constraint == NULL)
		return AGAIN;
	if (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0 || strncmp(state, "54", 2) == 0)
		return DATA;
	return AGAIN;
}

static int
send(PGconn *conn, enum write w, struct rows *r)
{
	const char *values[COLUMNS_MAX];
	int lengths[COLUMNS_MAX], formats[COLUMNS_MAX];

	for (int i = 0; i < r->columns; i++) {
		struct param p = pg_array_param(&r->column[i]);

		values[i] = p.at;
		lengths[i] = p.len;
		formats[i] = 1;
	}
	return PQsendQueryPrepared(conn, writes[w].name, r->columns, values, lengths, formats, 1) == 1 ? 0 : -1;
}

static int
send_command(PGconn *conn, const char *sql)
{
	return PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0) == 1 ? 0 : -1;
}

/* Takes in one statement's result; `affected` may be NULL. */
static enum outcome
receive(PGconn *conn, const char *what, long *affected)
{
	PGresult *res = PQgetResult(conn);
	ExecStatusType status = PQresultStatus(res);
	enum outcome outcome = DONE;

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
		if (affected != NULL)
			*affected = atol(PQcmdTuples(res));
	} else if (status == PGRES_PIPELINE_ABORTED) {
		outcome = AGAIN;
	} else {
		outcome = res == NULL ? AGAIN : outcome_of(res);
		log_warning("store: %s: %s", what, res == NULL ? PQerrorMessage(conn) : PQresultErrorMessage(res));
	}
	PQclear(res);
	while (res != NULL && (res = PQgetResult(conn)) != NULL)
		PQclear(res);
	return outcome;
}

static enum outcome
receive_sync(PGconn *conn)
{
	PGresult *res = PQgetResult(conn);
	enum outcome outcome = PQresultStatus(res) == PGRES_PIPELINE_SYNC ? DONE : AGAIN;

	PQclear(res);
	return outcome;
}

static enum outcome
send_writes(struct store *s, PGconn *conn, enum write first, enum write end)
{
	if (send_command(conn, "BEGIN") < 0)
		return AGAIN;
	for (enum write w = first; w < end; w++) {
		if (s->writes[w].n == 0)
			continue;
		if (rows_failed(&s->writes[w]) || send(conn, w, &s->writes[w]) < 0)
			return AGAIN;
	}
	return PQpipelineSync(conn) == 1 ? DONE : AGAIN;
}

/* The first failure stays; what follows it in the pipeline only says that it was skipped. */
static enum outcome
receive_writes(struct store *s, PGconn *conn, enum write first, enum write end)
{
	enum outcome outcome = receive(conn, "begin", NULL);

	for (enum write w = first; w < end; w++) {
		long affected = 0;
		enum outcome one;

		if (s->writes[w].n == 0)
			continue;
		one = receive(conn, writes[w].name, &affected);
		if (outcome == DONE)
			outcome = one;
		if (outcome == DONE && w == MOVE_HOT && affected != (long)s->writes[w].n)
			outcome = MOVED;
		if (outcome == DONE && w == ENROL_KEY)
			counter_add(COUNTER_ENROLLED, affected);
	}
	if (receive_sync(conn) != DONE && outcome == DONE)
		outcome = AGAIN;
	return outcome;
}

static enum outcome
finish(PGconn *conn, enum outcome outcome)
{
	enum outcome end;

	if (send_command(conn, outcome == DONE ? "COMMIT" : "ROLLBACK") < 0 || PQpipelineSync(conn) != 1)
		return AGAIN;
	end = receive(conn, "end of transaction", NULL);
	if (receive_sync(conn) != DONE || end != DONE)
		return AGAIN;
	return outcome;
}

/* Two round trips: all that is written, then its end. */
static enum outcome
transact(struct store *s, enum write first, enum write end)
{
	PGconn *conn = database_connect(s->db);
	enum outcome outcome;

	if (conn == NULL)
		return AGAIN;
	if (PQenterPipelineMode(conn) != 1) {
		database_drop(s->db);
		return AGAIN;
	}
	outcome = send_writes(s, conn, first, end);
	if (outcome == DONE) {
		outcome = receive_writes(s, conn, first, end);
		outcome = finish(conn, outcome);
	} else {
		PQpipelineSync(conn);
	}
	if (PQstatus(conn) != CONNECTION_OK || PQexitPipelineMode(conn) != 1 ||
	    PQtransactionStatus(conn) != PQTRANS_IDLE) {
		database_drop(s->db);
		return AGAIN;
	}
	return outcome;
}

/* A connection that is new gets its settings: statements here are planned once, for arrays of any length. */
static int
set_up(struct store *s)
{
	PGconn *conn = database_connect(s->db);

	if (conn == NULL)
		return -1;
	if (s->backend == PQbackendPID(conn))
		return 0;
	if (database_exec(s->db, "SET plan_cache_mode = force_generic_plan") < 0)
		return -1;
	s->backend = PQbackendPID(conn);
	return 0;
}

static PGresult *
read_rows(struct store *s, enum read r)
{
	struct param params[COLUMNS_MAX];

	for (int i = 0; i < s->reads[r].columns; i++)
		params[i] = pg_array_param(&s->reads[r].column[i]);
	return database_run(s->db, reads[r].name, params, s->reads[r].columns, NULL);
}

/* Enrolment. */

/* A key that is new, or a certificate for a known one that begins later. */
static bool
wants_enrolment(struct store *s, struct message *m)
{
	const struct device_key *key;

	if (m->reason != REASON_OK || m->enrolment == NULL)
		return false;
	m->device = keyring_find(s->keyring, &m->ueid);
	if (m->device == NULL)
		return true;
	key = device_find_key(m->device, (struct slice){m->enrolment->kid, KID_SIZE});
	return key == NULL || key->not_before < m->enrolment->not_before;
}

static void
add_enrolment(struct store *s, const struct message *m)
{
	const struct enrolment *e = m->enrolment;
	struct rows *r = row_begin(&s->writes[ENROL_DEVICE]);

	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_int(r, e->tenant_id);
	row_int(r, e->hold);
	row_time(r, m->received_us);
	r = row_begin(&s->writes[ENROL_HOT]);
	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	r = row_begin(&s->writes[ENROL_KEY]);
	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_int(r, e->tenant_id);
	row_bytes(r, e->kid, KID_SIZE);
	row_slice(r, e->spki);
	for (size_t i = 0; i < LIMIT_CHAIN_CERTS; i++)
		row_slice(r, i < e->chain_len ? e->chain[i] : (struct slice){NULL, 0});
	row_time(r, e->not_before * 1000000);
	row_time(r, e->not_after * 1000000);
	row_time(r, m->received_us);
}

/* What the database made of it: under another tenant a device does not take the key. */
static enum reason
enrolled(const struct message *m)
{
	if (m->device->lifecycle > LIFECYCLE_ACTIVE)
		return REASON_DEVICE_RETIRED;
	if (device_find_key(m->device, (struct slice){m->enrolment->kid, KID_SIZE}) == NULL)
		return REASON_UEID_OWNED_ELSEWHERE;
	return REASON_OK;
}

/* A transaction of its own, before the batch's: a device that is known and has sent nothing yet is no harm, and memory never holds one that is
   not in the database. */
static enum outcome
enrol(struct store *s, struct message **messages, size_t n)
{
	size_t ueids = 0, known = 0; /* those in memory from the end of the array */
	enum outcome outcome;

	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];

		if (!wants_enrolment(s, m))
			continue;
		add_enrolment(s, m);
		if (m->device == NULL)
			s->ueids[ueids++] = m->ueid;
		else
			s->ueids[s->batch_max - ++known] = m->ueid;
	}
	if (ueids + known == 0)
		return DONE;
	outcome = transact(s, ENROL_DEVICE, ENROL_KEY + 1);
	if (outcome != DONE)
		return outcome;
	if ((ueids > 0 && keyring_load(s->keyring, s->db, s->ueids, ueids) < 0) ||
	    (known > 0 && keyring_reload(s->keyring, s->db, s->ueids + s->batch_max - known, known) < 0))
		return AGAIN;
	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];

		if (m->reason != REASON_OK || m->enrolment == NULL)
			continue;
		m->device = keyring_find(s->keyring, &m->ueid);
		if (m->device == NULL)
			return AGAIN;
		m->reason = enrolled(m);
	}
	return DONE;
}

/* What the judge has to know. */

static struct docket *
find_docket(struct judge *j, int64_t device_id)
{
	size_t low = 0, high = j->dockets_n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (j->dockets[middle].device->device_id < device_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < j->dockets_n && j->dockets[low].device->device_id == device_id ? &j->dockets[low] : NULL;
}

static int
take_epoch(struct judge *j, const PGresult *res, int from, int to)
{
	struct docket *d = find_docket(j, result_int(res, from, 0));
	struct ledger l = {.started = true};
	int rc = 0;

	l.epoch = (uint64_t)result_int(res, from, 1);
	l.hi = (uint64_t)result_int(res, from, 2);
	if (d == NULL || (d->current != NULL && d->current->ledger.epoch == l.epoch))
		return 0;
	l.missing = calloc((size_t)(to - from), sizeof *l.missing);
	if (l.missing == NULL)
		return -1;
	for (int i = from; i < to && !result_null(res, i, 4); i++)
		l.missing[l.missing_len++] =
			(struct seq_range){(uint64_t)result_int(res, i, 4), (uint64_t)result_int(res, i, 5) - 1};
	rc = judge_add_epoch(j, d, &l, result_bool(res, from, 3));
	ledger_free(&l);
	return rc;
}

static int
take_epochs(struct judge *j, const PGresult *res)
{
	int end = PQntuples(res);

	for (int from = 0, to; from < end; from = to) {
		to = from + 1;
		while (to < end && result_int(res, to, 0) == result_int(res, from, 0) &&
		       result_int(res, to, 1) == result_int(res, from, 1))
			to++;
		if (take_epoch(j, res, from, to) < 0)
			return -1;
	}
	return 0;
}

static int
take_vouchers(struct judge *j, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		struct docket *d = find_docket(j, result_int(res, i, 0));

		if (d == NULL)
			continue;
		d->vouched_until = result_null(res, i, 1) ? INT64_MAX : result_time_us(res, i, 1) / 1000000;
		d->reprovision = result_bool(res, i, 2);
		d->unvouched = result_int(res, i, 3);
	}
	return 0;
}

static int
take_pending(struct store *s, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		struct docket *d = find_docket(&s->judge, result_int(res, i, 0));

		if (d != NULL)
			d->allowance = s->pending_max - result_int(res, i, 1);
	}
	return 0;
}

static enum outcome
learn_epochs(struct store *s)
{
	struct judge *j = &s->judge;
	PGresult *epochs, *vouchers;
	enum outcome outcome = AGAIN;

	for (size_t i = 0; i < j->dockets_n; i++) {
		struct docket *d = &j->dockets[i];

		if (!d->other_epochs)
			continue;
		row_int(row_begin(&s->reads[READ_VOUCHERS]), d->device->device_id);
		for (size_t k = 0; k < d->n; k++) {
			struct rows *r = row_begin(&s->reads[READ_EPOCHS]);

			row_int(r, d->device->device_id);
			row_int(r, (int64_t)d->messages[k]->report.epoch);
		}
	}
	if (s->reads[READ_VOUCHERS].n == 0)
		return DONE;
	epochs = read_rows(s, READ_EPOCHS);
	vouchers = read_rows(s, READ_VOUCHERS);
	if (epochs != NULL && vouchers != NULL && take_epochs(j, epochs) == 0 && take_vouchers(j, vouchers) == 0)
		outcome = DONE;
	PQclear(epochs);
	PQclear(vouchers);
	return outcome;
}

static enum outcome
learn_pending(struct store *s)
{
	PGresult *res;

	for (size_t i = 0; i < s->judge.dockets_n; i++)
		if (s->judge.dockets[i].device->lifecycle == LIFECYCLE_PENDING)
			row_int(row_begin(&s->reads[READ_PENDING]), s->judge.dockets[i].device->device_id);
	if (s->reads[READ_PENDING].n == 0)
		return DONE;
	res = read_rows(s, READ_PENDING);
	if (res == NULL)
		return AGAIN;
	take_pending(s, res);
	PQclear(res);
	return DONE;
}

static bool
has_state(const struct message *m)
{
	return m->reason == REASON_OK && m->device != NULL && m->report.state.at != NULL;
}

static enum outcome
learn_inventories(struct store *s, struct message **messages, size_t n)
{
	struct rows *r = &s->reads[READ_INVENTORIES];
	PGresult *res;

	for (size_t i = 0; i < n; i++) {
		if (!has_state(messages[i]))
			continue;
		row_begin(r);
		row_int(r, (int64_t)i);
		row_int(r, messages[i]->device->tenant_id);
		row_bytes(r, messages[i]->report.inventory_digest, DIGEST_SIZE);
		messages[i]->inventory_stored = messages[i]->report.inventory.at != NULL;
		s->found[i] = false;
	}
	if (r->n == 0)
		return DONE;
	res = read_rows(s, READ_INVENTORIES);
	if (res == NULL)
		return AGAIN;
	for (int i = 0; i < PQntuples(res); i++) {
		size_t at = (size_t)result_int(res, i, 0);

		s->found[at] = true;
		messages[at]->inventory_stored = true;
	}
	PQclear(res);
	return DONE;
}

static bool
same_signed(const PGresult *res, int row, const struct message *m)
{
	uint8_t tbs[DIGEST_SIZE];
	struct cose_sign1 cose;

	if (result_bool(res, row, 1))
		return true;
	if (cose_decode(result_bytes(res, row, 2), &cose) != REASON_OK)
		return false;
	cose_tbs_digest(&cose, tbs);
	return memcmp(tbs, m->tbs, DIGEST_SIZE) == 0;
}

/* A report says more than what was declared of it, and the same one more than another. */
static enum taken
taken_by(const PGresult *res, int row, const struct message *m)
{
	if (result_null(res, row, 1))
		return result_bool(res, row, 3) ? TAKEN_SKIPPED : TAKEN_OVERWRITTEN;
	return same_signed(res, row, m) ? TAKEN_SAME : TAKEN_OTHER;
}

static enum outcome
settle_taken(struct store *s)
{
	static const int weight[] = {
		[TAKEN_GONE] = 0, [TAKEN_SKIPPED] = 1, [TAKEN_OVERWRITTEN] = 1, [TAKEN_OTHER] = 2, [TAKEN_SAME] = 3};
	struct judge *j = &s->judge;
	enum taken *found;
	PGresult *res;

	if (j->asked_n == 0)
		return DONE;
	for (size_t i = 0; i < j->asked_n; i++) {
		const struct message *m = j->asked[i];
		struct rows *r = row_begin(&s->reads[READ_TAKEN]);

		row_int(r, (int64_t)i);
		row_int(r, m->device->device_id);
		row_int(r, (int64_t)m->report.epoch);
		row_int(r, (int64_t)m->report.seq);
		row_bytes(r, m->sha256, DIGEST_SIZE);
	}
	found = calloc(j->asked_n, sizeof *found);
	res = found == NULL ? NULL : read_rows(s, READ_TAKEN);
	if (res == NULL) {
		free(found);
		return AGAIN;
	}
	for (int i = 0; i < PQntuples(res); i++) {
		size_t at = (size_t)result_int(res, i, 0);
		enum taken taken = taken_by(res, i, j->asked[at]);

		if (weight[taken] > weight[found[at]])
			found[at] = taken;
	}
	for (size_t i = 0; i < j->asked_n; i++)
		judge_settle(j, j->asked[i], found[i]);
	PQclear(res);
	free(found);
	return DONE;
}

/* From judgement to rows. */

static void
add_report(struct store *s, const struct message *m)
{
	bool full = m->report.state.at != NULL;
	struct rows *r = row_begin(&s->writes[full ? ADD_FULL : ADD_QUIET]);

	row_int(r, m->device->device_id);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_time(r, m->received_us);
	row_int(r, m->device->tenant_id);
	row_time(r, (int64_t)m->report.iat * 1000000);
	row_bytes(r, m->sha256, DIGEST_SIZE);
	row_int(r, (int64_t)m->flags);
	row_slice(r, m->bytes);
	if (full)
		row_int(r, 1 | (m->report.inventory.at != NULL ? 2 : 0));
}

static void
add_drops(struct store *s, const struct docket *d, const struct account *a)
{
	for (size_t i = 0; i < a->drops.len; i++) {
		const struct ledger_drop *drop = &a->drops.at[i];
		struct rows *r = row_begin(&s->writes[ADD_DROP]);

		row_int(r, d->device->device_id);
		row_int(r, (int64_t)a->ledger.epoch);
		row_int(r, (int64_t)drop->range.first);
		row_int(r, (int64_t)drop->range.last);
		row_int(r, d->device->tenant_id);
		row_text(r, drop->cause == DROP_SKIPPED ? "skipped" : "overwritten");
		row_int(r, (int64_t)drop->declared_by);
	}
}

static void
add_hot(struct store *s, const struct docket *d)
{
	const struct ledger *l = &d->current->ledger;
	struct rows *r = row_begin(&s->writes[MOVE_HOT]);

	row_int(r, d->device->device_id);
	row_int(r, d->device->ledger.rev);
	row_int(r, (int64_t)l->epoch);
	row_int(r, (int64_t)l->hi);
	row_bytes(r, l->has_head ? l->head : NULL, DIGEST_SIZE);
	row_bytes(r, l->has_sections_head ? l->sections_head : NULL, DIGEST_SIZE);
	row_bytes(r, l->facts, FACTS_SIZE);
	row_time(r, l->last_seen_us);
	row_time(r, l->last_iat * 1000000);
	row_int(r, (int64_t)l->interval);
	row_int(r, l->missing_len > 0);
}

static void
add_epoch(struct store *s, const struct docket *d, const struct account *a)
{
	bool counted = a->duplicates + a->late + a->forks + a->chain_breaks > 0;
	struct rows *r;

	if (!a->fresh && !a->left && !counted && a->certified == 0 && (a == d->current || !a->changed))
		return;
	r = row_begin(&s->writes[ADD_EPOCH]);
	row_int(r, d->device->device_id);
	row_int(r, (int64_t)a->ledger.epoch);
	row_int(r, d->device->tenant_id);
	row_int(r, (int64_t)a->ledger.hi);
	row_time(r, a->fresh ? a->first_seen_us : d->messages[0]->received_us);
	if (a->certified != 0)
		row_time(r, a->certified * 1000000);
	else
		row_null(r);
	row_int(r, a->vouched);
	row_int(r, a->duplicates);
	row_int(r, a->late);
	row_int(r, a->forks);
	row_int(r, a->chain_breaks);
	if (a->fresh && a->vouched && a != d->accounts)
		row_int(row_begin(&s->writes[SPEND_WORD]), d->device->device_id);
}

static void
add_gap(struct store *s, enum write w, const struct docket *d, uint64_t epoch, struct seq_range range)
{
	struct rows *r = row_begin(&s->writes[w]);

	row_int(r, d->device->device_id);
	row_int(r, (int64_t)epoch);
	row_int(r, (int64_t)range.first);
	row_int(r, (int64_t)range.last);
	if (w == ADD_GAP)
		row_int(r, d->device->tenant_id);
}

static int
compare_ranges(const struct ledger *a, size_t i, const struct ledger *b, size_t k)
{
	if (i == a->missing_len || k == b->missing_len)
		return i == a->missing_len ? 1 : -1;
	if (a->missing[i].first != b->missing[k].first)
		return a->missing[i].first < b->missing[k].first ? -1 : 1;
	return a->missing[i].last < b->missing[k].last ? -1 : a->missing[i].last > b->missing[k].last;
}

/* Only the ranges that differ are written. Both lists ascend. */
static void
add_gaps(struct store *s, const struct docket *d, const struct account *a)
{
	const struct ledger *old = a->before, *now = &a->ledger;
	size_t i = 0, k = 0;

	while (i < old->missing_len || k < now->missing_len) {
		int order = compare_ranges(old, i, now, k);

		if (order < 0)
			add_gap(s, DELETE_GAP, d, now->epoch, old->missing[i++]);
		else if (order > 0)
			add_gap(s, ADD_GAP, d, now->epoch, now->missing[k++]);
		else
			i++, k++;
	}
}

static void
add_component(struct store *s, const struct message *m, const struct component *c, struct slice encoding)
{
	const struct slice parts[] = {c->name, c->version, c->architecture, c->source, c->source_version, c->purl};
	uint8_t digest[DIGEST_SIZE];
	struct rows *r = row_begin(&s->writes[ADD_COMPONENT]);

	sha256(encoding, digest);
	row_int(r, m->device->tenant_id);
	row_bytes(r, digest, DIGEST_SIZE);
	row_text(r, component_type_name(c->type));
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		row_slice(r, parts[i]);
	r = row_begin(&s->writes[ADD_MEMBER]);
	row_int(r, m->device->tenant_id);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_bytes(r, digest, DIGEST_SIZE);
}

static void
add_inventory(struct store *s, const struct message *m)
{
	struct rows *r = row_begin(&s->writes[ADD_INVENTORY]);
	struct cbor_reader reader;
	size_t n;

	row_int(r, m->device->tenant_id);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_int(r, (int64_t)m->report.components);
	cbor_reader_init(&reader, m->report.inventory);
	n = cbor_read_array(&reader, LIMIT_COMPONENTS);
	for (size_t i = 0; i < n && reader.error == REASON_OK; i++) {
		const uint8_t *at = reader.at;
		struct component c;

		component_decode(&reader, &c);
		if (reader.error == REASON_OK)
			add_component(s, m, &c, (struct slice){at, (size_t)(reader.at - at)});
	}
}

/* The set that another message of this batch brings is not written twice. */
static void
add_inventories(struct store *s, struct message **messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];
		bool before = false;

		if (!has_state(m) || m->report.inventory.at == NULL || s->found[i] || !message_is_stored(m))
			continue;
		for (size_t k = 0; k < i && !before; k++)
			before = has_state(messages[k]) && messages[k]->report.inventory.at != NULL &&
				 message_is_stored(messages[k]) &&
				 messages[k]->device->tenant_id == m->device->tenant_id &&
				 memcmp(messages[k]->report.inventory_digest, m->report.inventory_digest,
					DIGEST_SIZE) == 0;
		if (!before)
			add_inventory(s, m);
	}
}

static void
add_history(struct store *s, const struct message *m, bool first, const char *state)
{
	struct rows *r = row_begin(&s->writes[ADD_HISTORY]);

	row_int(r, m->device->device_id);
	row_time(r, m->received_us);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_int(r, m->device->tenant_id);
	row_time(r, (int64_t)m->report.iat * 1000000);
	row_bytes(r, m->report.state_digest, DIGEST_SIZE);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_text(r, state);
	row_int(r, first);
}

static void
add_state(struct store *s, const struct message *m, const char *state)
{
	struct rows *r = row_begin(&s->writes[MOVE_STATE]);

	row_int(r, m->device->device_id);
	row_int(r, m->device->tenant_id);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_time(r, m->received_us);
	row_time(r, (int64_t)m->report.iat * 1000000);
	row_bytes(r, m->report.state_digest, DIGEST_SIZE);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_text(r, state);
}

/* In the order of set_device's columns. */
static const enum fact device_facts[] = {FACT_DEVICE_SERIAL,    FACT_DEVICE_VENDOR, FACT_DEVICE_HWMODEL,
					 FACT_DEVICE_HWVERSION, FACT_DEVICE_OEMID,  FACT_DEVICE_SWNAME,
					 FACT_DEVICE_SWVERSION, FACT_OS_KERNEL};

static void
add_device(struct store *s, const struct message *m)
{
	struct rows *r = row_begin(&s->writes[SET_DEVICE]);

	row_int(r, m->device->device_id);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	for (size_t i = 0; i < sizeof device_facts / sizeof device_facts[0]; i++)
		row_slice(r, facts_find_text(m->report.state, device_facts[i]));
}

static char *
state_text(const struct message *m)
{
	json_t *json = facts_json(m->report.state, m->report.readings);
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);

	json_decref(json);
	return text;
}

static bool
same_facts(const struct message *a, const struct message *b)
{
	return memcmp(a->report.facts, b->report.facts, FACTS_SIZE) == 0;
}

/* The states of one device, oldest first: history where it changed, the newest as the device's state. -1 when memory ran out. */
static int
add_states(struct store *s, const struct docket *d)
{
	const struct message *last = NULL;

	for (size_t i = 0; i < d->n; i++) {
		const struct message *m = d->messages[i];
		char *text;

		if (d->current == NULL || !has_state(m) || !message_is_stored(m) || m->verdict > LEDGER_DUPLICATE ||
		    m->report.epoch != d->current->ledger.epoch)
			continue;
		if (last != NULL && m->report.seq < last->report.seq)
			continue;
		text = state_text(m);
		if (text == NULL)
			return -1;
		if (last == NULL || !same_facts(last, m))
			add_history(s, m, last == NULL, text);
		if (m == d->current->state) {
			add_state(s, m, text);
			add_device(s, m);
		}
		free(text);
		last = m;
	}
	return 0;
}

static void
add_event(struct store *s, const struct message *m, const char *type)
{
	struct rows *r = row_begin(&s->writes[ADD_EVENT]);
	char hex[2 * DIGEST_SIZE + 1], data[256];

	hex_print(m->sha256, DIGEST_SIZE, hex);
	snprintf(data, sizeof data, "{\"epoch\": \"%016llx\", \"seq\": %llu, \"sha256\": \"%s\"}",
		 (unsigned long long)m->report.epoch, (unsigned long long)m->report.seq, hex);
	row_int(r, m->device->tenant_id);
	row_text(r, type);
	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_text(r, data);
}

/* One event a batch is enough to say that a key is in two places. */
static void
add_distrust(struct store *s, const struct docket *d)
{
	struct rows *r;

	if (!d->fork && !d->second_epoch)
		return;
	r = row_begin(&s->writes[SET_UNTRUSTED]);
	row_int(r, d->device->device_id);
	row_text(r, d->fork ? "fork" : "second-epoch");
	for (size_t i = 0; i < d->n; i++)
		if (d->messages[i]->reason == REASON_OK && d->messages[i]->verdict > LEDGER_DUPLICATE) {
			add_event(s, d->messages[i], d->fork ? "device.fork" : "device.second-epoch");
			return;
		}
}

static int
add_docket(struct store *s, const struct docket *d)
{
	for (const struct account *a = d->accounts; a != NULL; a = a->next) {
		add_epoch(s, d, a);
		add_gaps(s, d, a);
		add_drops(s, d, a);
	}
	if (d->stored == 0)
		return 0;
	/* A device whose only reports are of an epoch nobody vouched for has no ledger to move. */
	if (d->current != NULL)
		add_hot(s, d);
	for (size_t i = 0; i < d->n; i++)
		if (message_is_stored(d->messages[i]))
			add_report(s, d->messages[i]);
	if (d->was_away)
		row_int(row_begin(&s->writes[RETURN_SILENT]), d->device->device_id);
	add_distrust(s, d);
	return add_states(s, d);
}

/* Samples are few, counts are exact. */
static bool
may_sample(struct store *s, enum reason reason)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	if (s->samples[reason].second != t.tv_sec) {
		s->samples[reason].second = t.tv_sec;
		s->samples[reason].n = 0;
	}
	return s->samples[reason].n++ < SAMPLES_PER_SECOND;
}

static void
add_sample(struct store *s, const struct message *m)
{
	struct rows *r = row_begin(&s->writes[ADD_REFUSAL]);
	uint8_t digest[DIGEST_SIZE];

	sha256(m->bytes, digest);
	row_time(r, m->received_us);
	if (m->device != NULL) {
		row_int(r, m->device->tenant_id);
		row_int(r, m->device->device_id);
	} else {
		row_null(r);
		row_null(r);
	}
	if (m->reason == REASON_TOPIC_MALFORMED)
		row_null(r);
	else
		row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_text(r, reason_name(m->reason));
	row_int(r, (int64_t)m->bytes.len);
	row_bytes(r, digest, DIGEST_SIZE);
	row_bytes(r, m->bytes.at, m->bytes.len < SAMPLE_SIZE ? m->bytes.len : SAMPLE_SIZE);
}

static void
add_refusal(struct store *s, const struct message *m)
{
	if (m->device != NULL) {
		struct rows *r = row_begin(&s->writes[COUNT_REFUSAL]);

		row_int(r, m->device->device_id);
		row_text(r, reason_name(m->reason));
		row_int(r, m->device->tenant_id);
	}
	if (may_sample(s, m->reason))
		add_sample(s, m);
}

static int
add_all(struct store *s, struct message **messages, size_t n)
{
	for (size_t i = 0; i < s->judge.dockets_n; i++)
		if (add_docket(s, &s->judge.dockets[i]) < 0)
			return -1;
	add_inventories(s, messages, n);
	for (size_t i = 0; i < n; i++)
		if (messages[i]->reason != REASON_OK)
			add_refusal(s, messages[i]);
	return 0;
}

/* After the commit. */

static void
count_message(const struct message *m, int64_t now_us)
{
	static const enum counter by_verdict[] = {[LEDGER_NEW] = COUNTER_STORED,
						  [LEDGER_LATE] = COUNTER_LATE,
						  [LEDGER_DUPLICATE] = COUNTER_DUPLICATES,
						  [LEDGER_FORK] = COUNTER_FORKS,
						  [LEDGER_SECOND_EPOCH] = COUNTER_SECOND_EPOCHS};

	if (m->reason != REASON_OK) {
		counter_refused(m->reason);
		return;
	}
	counter_took(now_us > m->received_us ? now_us - m->received_us : 0);
	counter_add(by_verdict[m->verdict], 1);
	if (m->verdict != LEDGER_DUPLICATE && m->verdict != LEDGER_NEW)
		counter_add(COUNTER_STORED, 1);
	if (m->flags & REPORT_CHAIN_BREAK)
		counter_add(COUNTER_CHAIN_BREAKS, 1);
}

/* The batch. */

static enum outcome
judge_batch(struct store *s, struct message **messages, size_t n)
{
	enum outcome outcome = enrol(s, messages, n);

	if (outcome != DONE)
		return outcome;
	if (judge_begin(&s->judge, messages, n) < 0)
		return AGAIN;
	if ((outcome = learn_epochs(s)) != DONE || (outcome = learn_pending(s)) != DONE ||
	    (outcome = learn_inventories(s, messages, n)) != DONE)
		return outcome;
	if (judge_run(&s->judge) < 0)
		return AGAIN;
	return settle_taken(s);
}

static int64_t
clock_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static bool
anything_to_write(const struct store *s)
{
	for (enum write w = MOVE_HOT; w < WRITES; w++)
		if (s->writes[w].n > 0)
			return true;
	return false;
}

static enum outcome
attempt(struct store *s, struct message **messages, size_t n)
{
	int64_t begun = clock_us(CLOCK_MONOTONIC), now;
	enum outcome outcome;

	if (set_up(s) < 0)
		return AGAIN;
	empty_all(s);
	outcome = judge_batch(s, messages, n);
	if (outcome != DONE)
		return outcome;
	if (add_all(s, messages, n) < 0)
		return AGAIN;
	if (anything_to_write(s))
		outcome = transact(s, MOVE_HOT, WRITES);
	if (outcome != DONE)
		return outcome;
	judge_commit(&s->judge);
	now = clock_us(CLOCK_REALTIME); /* as received_us */
	for (size_t i = 0; i < n; i++)
		count_message(messages[i], now);
	counter_add(COUNTER_BATCHES, 1);
	counter_add(COUNTER_STORE_US, clock_us(CLOCK_MONOTONIC) - begun);
	s->committed(s->context, &s->judge, messages, n);
	return DONE;
}

static void
read_anew(struct store *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->judge.dockets_n; i++)
		s->ueids[n++] = s->judge.dockets[i].device->ueid;
	if (n > 0 && keyring_reload(s->keyring, s->db, s->ueids, n) < 0)
		log_warning("store: could not read %zu devices anew", n);
}

static int store_range(struct store *, struct message **, size_t);

static int
split(struct store *s, struct message **messages, size_t n)
{
	counter_add(COUNTER_BATCH_SPLITS, 1);
	if (n == 1) {
		messages[0]->reason = REASON_UNSTORABLE;
		return store_range(s, messages, n);
	}
	if (store_range(s, messages, n / 2) < 0)
		return -1;
	return store_range(s, messages + n / 2, n - n / 2);
}

static int
store_range(struct store *s, struct message **messages, size_t n)
{
	for (;;) {
		switch (attempt(s, messages, n)) {
		case DONE:
			return 0;
		case DATA:
			if (n > 1 || messages[0]->reason == REASON_OK)
				return split(s, messages, n);
			log_error("store: not even the refusal of a message can be stored");
			counter_refused(messages[0]->reason);
			return 0;
		case MOVED:
			read_anew(s);
			break;
		case AGAIN:
			if (atomic_load(&s->give_up))
				return -1;
			wait_ms(RETRY_MS);
			break;
		}
		counter_add(COUNTER_BATCH_RETRIES, 1);
	}
}

/* Empties the list. */
static size_t
take_reloads(struct store *s, struct ueid *ueids)
{
	size_t n;

	pthread_mutex_lock(&s->reload_lock);
	n = s->reloads_n;
	memcpy(ueids, s->reloads, n * sizeof *ueids);
	s->reloads_n = 0;
	if (s->reload_all) {
		s->reload_all = false;
		s->reloading_all = true;
		s->reload_place = 0;
	}
	pthread_mutex_unlock(&s->reload_lock);
	return n;
}

/* In parts, so that reports do not wait for it. */
static void
reload_part(struct store *s)
{
	int more = keyring_reload_some(s->keyring, s->db, &s->reload_place);

	if (more < 0)
		log_warning("store: devices not read anew yet");
	else
		s->reloading_all = more == 1;
}

bool
store_reload_now(struct store *s)
{
	struct ueid ueids[RELOADS_MAX];
	size_t n = take_reloads(s, ueids);

	if (n > 0 && keyring_reload(s->keyring, s->db, ueids, n) < 0)
		store_reload_all(s);
	else
		counter_add(COUNTER_RELOADS, (int64_t)n);
	if (s->reloading_all)
		reload_part(s);
	return s->reloading_all;
}

int
store_batch(struct store *s, struct message **messages, size_t n)
{
	while (n > 0) {
		size_t part = n < s->batch_max ? n : s->batch_max;
		int rc = store_range(s, messages, part);

		judge_end(&s->judge);
		if (rc < 0)
			return -1;
		messages += part;
		n -= part;
	}
	return 0;
}

void
store_reload(struct store *s, const struct ueid *ueid)
{
	pthread_mutex_lock(&s->reload_lock);
	if (s->reloads_n < RELOADS_MAX)
		s->reloads[s->reloads_n++] = *ueid;
	else
		s->reload_all = true;
	pthread_mutex_unlock(&s->reload_lock);
}

void
store_reload_all(struct store *s)
{
	pthread_mutex_lock(&s->reload_lock);
	s->reload_all = true;
	pthread_mutex_unlock(&s->reload_lock);
}

void
store_give_up(struct store *s)
{
	atomic_store(&s->give_up, true);
}

static void
fill_statements(struct store *s)
{
	for (int i = 0; i < WRITES; i++)
		s->statements[i] = (struct statement){writes[i].name, writes[i].sql, (int)strlen(writes[i].columns)};
	for (int i = 0; i < READS; i++)
		s->statements[WRITES + i] =
			(struct statement){reads[i].name, reads[i].sql, (int)strlen(reads[i].columns)};
}

struct store *
store_new(const struct settings *settings, struct keyring *keyring, store_committed *committed, void *context)
{
	struct store *s = calloc(1, sizeof *s);
	size_t max = (size_t)settings->batch_max;

	if (s == NULL)
		return NULL;
	fill_statements(s);
	pthread_mutex_init(&s->reload_lock, NULL);
	s->keyring = keyring;
	s->committed = committed;
	s->context = context;
	s->batch_max = max;
	s->pending_max = settings->pending_max;
	s->db = database_new(settings->database, s->statements, WRITES + READS);
	s->ueids = calloc(max, sizeof *s->ueids);
	s->found = calloc(max, sizeof *s->found);
	if (s->db == NULL || s->ueids == NULL || s->found == NULL || judge_init(&s->judge, max) < 0) {
		store_free(s);
		return NULL;
	}
	return s;
}

void
store_free(struct store *s)
{
	if (s == NULL)
		return;
	judge_free(&s->judge);
	database_free(s->db);
	for (int i = 0; i < WRITES; i++)
		for (int k = 0; k < COLUMNS_MAX; k++)
			pg_array_free(&s->writes[i].column[k]);
	for (int i = 0; i < READS; i++)
		for (int k = 0; k < COLUMNS_MAX; k++)
			pg_array_free(&s->reads[i].column[k]);
	free(s->ueids);
	free(s->found);
	pthread_mutex_destroy(&s->reload_lock);
	free(s);
}
