/* The part of `fleetstate audit` that holds the evidence against the checkpoints. */
#include <stdio.h>
#include <string.h>

#include "collector/cli/audit.h"
#include "schema/checkpoint.h"
#include "schema/receipt.h"

/* clang-format off */
enum { ALL, LEAVES, BEYOND, DELETED };
static const struct statement statements[] = {
	[ALL] = {"audit_checkpoints", "SELECT number, devices, root, sha256, message FROM checkpoint ORDER BY number", 0},
	[LEAVES] = {"audit_leaves", "SELECT number, ueid, epoch, seq, head, sections_head FROM checkpoint_leaf ORDER BY number, place", 0},
	/* The newest one speaks for all before it: each report names the one before. */
	[BEYOND] = {"audit_beyond",
		"SELECT l.ueid, l.epoch, l.seq, l.number FROM checkpoint_leaf l JOIN tenant t USING (tenant_id)"
		" LEFT JOIN report r ON r.device_id = l.device_id AND r.epoch = l.epoch AND r.seq = l.seq AND r.sha256 = l.head"
		" WHERE l.number = (SELECT max(number) FROM checkpoint) AND r.device_id IS NULL"
		" AND ($1::text IS NULL OR t.id = $1) AND ($2::text IS NULL OR l.ueid = decode($2, 'hex')) AND ($3::bigint IS NULL OR l.received_at >= to_timestamp($3))"
		" AND NOT EXISTS (SELECT FROM report_expired x WHERE x.device_id = l.device_id AND x.epoch = l.epoch"
		"  AND (x.seq > l.seq OR (x.seq = l.seq AND x.sha256 = l.head)))"
		/* Another tenant has it, or it was deleted. */
		" AND NOT EXISTS (SELECT FROM report_drop p WHERE p.device_id = l.device_id AND p.epoch = l.epoch AND p.dropped @> l.seq"
		"  AND (p.sha256 = l.head OR p.cause = 'deleted'))"
		" ORDER BY l.device_id", 3},
	/* What counts as deleted, but for what the audit log said of it; that may be past its own retention. */
	[DELETED] = {"audit_deleted",
		"SELECT d.ueid, x.epoch, x.seq, x.entry FROM device d JOIN tenant t USING (tenant_id), LATERAL ("
		"  SELECT p.epoch, upper(p.dropped) - 1 AS seq, p.declared_by AS entry FROM report_drop p WHERE p.device_id = d.device_id AND p.cause = 'deleted'"
		"   AND p.declared_by > (SELECT gone FROM audit_head) AND NOT EXISTS (SELECT FROM audit a WHERE a.number = p.declared_by"
		"    AND a.line::jsonb @> jsonb_build_object('method', 'ERASE', 'target', '/v1/devices/' || encode(d.ueid, 'hex'), 'chain', jsonb_build_array("
		"     jsonb_build_object('epoch', epoch_hex(p.epoch), 'seq', upper(p.dropped) - 1, 'sha256', encode(p.sha256, 'hex')))))"
		"  UNION ALL SELECT e.epoch, e.hi, 0 FROM device_epoch e WHERE e.device_id = d.device_id AND d.deleted_at IS NOT NULL AND e.hi > 0"
		"   AND NOT EXISTS (SELECT FROM report_drop p WHERE p.device_id = e.device_id AND p.epoch = e.epoch AND p.dropped @> e.hi AND p.cause = 'deleted')) x"
		" WHERE ($1::text IS NULL OR t.id = $1) AND ($2::text IS NULL OR d.ueid = decode($2, 'hex')) ORDER BY 1, 2", 2},
};
/* clang-format on */

static void
tell(struct checkpoint_audit *a, uint64_t number, const char *detail)
{
	a->print(a->context, FINDING_CHECKPOINT, &(struct audit_place){.checkpoint = number}, detail);
}

enum reason
operator_signed(const struct anchors *anchors, const struct cose_sign1 *cose, uint64_t iat)
{
	struct enrolment *signer = NULL;
	struct cose_key *key;
	enum reason reason =
		enrol_named(anchors, cose->chain, cose->chain_len, RECEIPT_NAME, cose->kid, (int64_t)iat, &signer);

	if (reason != REASON_OK)
		return reason;
	key = cose_key_from_spki(signer->spki);
	reason = key == NULL ? REASON_UNKNOWN_KEY : cose_verify(cose, key, NULL);
	cose_key_free(key);
	enrolment_free(signer);
	return reason;
}

const char *
audit_read_checkpoint(const struct anchors *anchors, struct slice message, struct checkpoint *c)
{
	struct cose_sign1 cose;
	enum reason reason = cose_decode(message, &cose);

	if (reason == REASON_OK)
		reason = checkpoint_decode(cose.payload, c);
	if (reason == REASON_OK && anchors != NULL)
		reason = operator_signed(anchors, &cose, c->iat);
	return reason == REASON_OK ? NULL : reason_name(reason);
}

static const char *
check_message(const struct checkpoint_audit *a, const PGresult *res, int row, struct checkpoint *c,
	      uint8_t digest[DIGEST_SIZE])
{
	struct slice message = result_bytes(res, row, 4), root = result_bytes(res, row, 2),
		     recorded = result_bytes(res, row, 3);
	const char *wrong = audit_read_checkpoint(a->anchors, message, c);

	sha256(message, digest);
	if (wrong != NULL)
		return wrong;
	if (recorded.len != DIGEST_SIZE || memcmp(recorded.at, digest, DIGEST_SIZE) != 0)
		return "the message has another digest than was recorded";
	if ((int64_t)c->number != result_int(res, row, 0) || (int64_t)c->devices != result_int(res, row, 1) ||
	    root.len != DIGEST_SIZE || memcmp(root.at, c->root, DIGEST_SIZE) != 0)
		return "the message says another number, root or count than stands beside it";
	return NULL;
}

/* What somebody kept must be one of those that are here, to the byte. */
static void
check_held(struct checkpoint_audit *a, const PGresult *res)
{
	struct cose_sign1 cose;
	struct checkpoint held;
	int n = PQntuples(res);

	if (a->held.at == NULL)
		return;
	if (cose_decode(a->held, &cose) != REASON_OK || checkpoint_decode(cose.payload, &held) != REASON_OK) {
		tell(a, 0, "what was given is no checkpoint");
		return;
	}
	for (int i = 0; i < n; i++) {
		struct slice message = result_bytes(res, i, 4);

		if (message.len == a->held.len && memcmp(message.at, a->held.at, message.len) == 0)
			return;
	}
	tell(a, held.number, "the one that was given is not here");
}

static int
check_messages(struct checkpoint_audit *a, PGresult *res)
{
	uint8_t before[DIGEST_SIZE] = {0}, digest[DIGEST_SIZE];
	int n = PQntuples(res);

	for (int i = 0; i < n; i++) {
		uint64_t number = (uint64_t)result_int(res, i, 0);
		struct checkpoint c = {.iat = 0};
		const char *wrong = check_message(a, res, i, &c, digest);

		if (wrong != NULL)
			tell(a, number, wrong);
		else if (number != (uint64_t)i + 1)
			tell(a, number, "the one before it is gone");
		else if (i > 0 && memcmp(c.previous, before, DIGEST_SIZE) != 0)
			tell(a, number, "it names another one before it");
		memcpy(before, digest, DIGEST_SIZE);
		a->checkpoints++;
	}
	return 0;
}

/* The checkpoint of that number among the rows. */
static int
find_number(const PGresult *all, int64_t number)
{
	int n = PQntuples(all);

	for (int i = 0; i < n; i++)
		if (result_int(all, i, 0) == number)
			return i;
	return -1;
}

static void
check_root(struct checkpoint_audit *a, const PGresult *all, int64_t number, const struct merkle *tree)
{
	int row = find_number(all, number);
	struct slice told;
	merkle_hash root;

	if (row < 0)
		return;
	merkle_root(tree, root);
	told = result_bytes(all, row, 2);
	if (told.len != DIGEST_SIZE || memcmp(told.at, root, DIGEST_SIZE) != 0)
		tell(a, (uint64_t)number, "its leaves give another root");
}

/* What somebody wrote there may have another length than it should. */
static void
copy_bytes(uint8_t *to, size_t size, struct slice from)
{
	if (from.len > 0)
		memcpy(to, from.at, from.len < size ? from.len : size);
}

static void
read_leaf(const PGresult *res, merkle_hash hash)
{
	struct checkpoint_leaf leaf = {.epoch = (uint64_t)result_int(res, 0, 2),
				       .seq = (uint64_t)result_int(res, 0, 3)};

	copy_bytes(leaf.ueid.bytes, UEID_SIZE, result_bytes(res, 0, 1));
	copy_bytes(leaf.head, DIGEST_SIZE, result_bytes(res, 0, 4));
	leaf.has_sections = !result_null(res, 0, 5);
	if (leaf.has_sections)
		copy_bytes(leaf.sections, DIGEST_SIZE, result_bytes(res, 0, 5));
	checkpoint_leaf_hash(&leaf, hash);
}

/* Row by row: a million leaves need not stand in memory. */
static int
check_leaves(struct checkpoint_audit *a, const PGresult *all)
{
	PGconn *conn = database_connect(a->db);
	struct merkle tree = {.leaves = 0};
	int64_t number = 0;
	PGresult *res;
	int rc = 0;

	if (conn == NULL || PQsendQueryParams(conn, statements[LEAVES].sql, 0, NULL, NULL, NULL, NULL, 1) != 1 ||
	    PQsetSingleRowMode(conn) != 1)
		return -1;
	while ((res = PQgetResult(conn)) != NULL) {
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE) {
			merkle_hash leaf;

			if (number != result_int(res, 0, 0)) {
				check_root(a, all, number, &tree);
				tree.leaves = 0;
				number = result_int(res, 0, 0);
			}
			read_leaf(res, leaf);
			merkle_add(&tree, leaf);
		} else if (PQresultStatus(res) != PGRES_TUPLES_OK) {
			rc = -1;
		}
		PQclear(res);
	}
	check_root(a, all, number, &tree);
	return rc;
}

/* Each row: a device, epoch and number that something is wrong with. */
static void
tell_places(struct checkpoint_audit *a, enum finding finding, const PGresult *res, bool of_log)
{
	for (int i = 0; i < PQntuples(res); i++) {
		uint64_t seq = (uint64_t)result_int(res, i, 2), number = (uint64_t)result_int(res, i, 3);
		struct ueid ueid = {{0}};

		copy_bytes(ueid.bytes, UEID_SIZE, result_bytes(res, i, 0));
		a->print(a->context, finding,
			 &(struct audit_place){&ueid, (uint64_t)result_int(res, i, 1), seq, seq, of_log ? 0 : number,
					       of_log ? number : 0},
			 NULL);
	}
}

static int
check_deleted(struct checkpoint_audit *a)
{
	PGresult *res = database_query(a->db, &statements[DELETED],
				       (const struct param[]){param_text(a->tenant), param_text(a->ueid)}, 2, NULL);

	if (res == NULL)
		return -1;
	tell_places(a, FINDING_DELETION, res, true);
	PQclear(res);
	return 0;
}

static int
check_beyond(struct checkpoint_audit *a)
{
	bool all = a->since_us == INT64_MIN;
	char since[24];
	PGresult *res;

	snprintf(since, sizeof since, "%lld", (long long)(all ? 0 : a->since_us / 1000000));
	res = database_query(
		a->db, &statements[BEYOND],
		(const struct param[]){param_text(a->tenant), param_text(a->ueid), param_text(all ? NULL : since)}, 3,
		NULL);
	if (res == NULL)
		return -1;
	tell_places(a, FINDING_BEYOND, res, false);
	PQclear(res);
	return 0;
}

int
audit_checkpoints(struct checkpoint_audit *a)
{
	PGresult *all = database_query(a->db, &statements[ALL], NULL, 0, NULL);
	int rc = -1;

	if (all == NULL)
		return -1;
	check_held(a, all);
	if (check_messages(a, all) == 0 && check_leaves(a, all) == 0)
		rc = check_beyond(a) < 0 ? -1 : check_deleted(a);
	PQclear(all);
	return rc;
}
