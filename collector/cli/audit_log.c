/* `fleetstate audit --log`: the audit log against its own hashes, its head and the checkpoints. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/cli/audit.h"
#include "schema/checkpoint.h"

/* clang-format off */
enum { CHECKPOINTS, ENTRIES, HEAD };
static const struct statement statements[] = {
	[CHECKPOINTS] = {"log_checkpoints", "SELECT number, devices, root, sha256, message FROM checkpoint ORDER BY number", 0},
	[ENTRIES] = {"log_entries", "SELECT a.number, a.line, a.hash, t.id FROM audit a LEFT JOIN tenant t ON t.tenant_id = a.tenant_id ORDER BY a.number", 0},
	[HEAD] = {"log_head", "SELECT number, hash, gone, gone_hash FROM audit_head", 0},
};
/* clang-format on */

/* What a checkpoint says of the log. */
struct mark {
	uint64_t checkpoint, number;
	uint8_t hash[DIGEST_SIZE];
};

struct reader {
	struct log_audit *audit;
	struct mark *marks; /* by number */
	size_t marks_len, next;
	uint64_t number; /* of the last entry */
	uint8_t hash[DIGEST_SIZE];
};

static void
tell(struct log_audit *a, uint64_t entry, uint64_t checkpoint, const char *detail)
{
	a->print(a->context, FINDING_AUDIT_LOG, &(struct audit_place){.entry = entry, .checkpoint = checkpoint},
		 detail);
}

static int
compare(const void *x, const void *y)
{
	const struct mark *a = x, *b = y;

	return (a->number > b->number) - (a->number < b->number);
}

static void
add_mark(struct reader *r, const struct checkpoint *c)
{
	struct mark *mark = &r->marks[r->marks_len];

	if (!c->has_audit)
		return;
	*mark = (struct mark){.checkpoint = c->number, .number = c->audit_number};
	memcpy(mark->hash, c->audit_hash, DIGEST_SIZE);
	r->marks_len++;
}

/* What somebody kept elsewhere says it, too. */
static void
add_held(struct reader *r)
{
	struct log_audit *a = r->audit;
	struct checkpoint c = {.iat = 0};
	const char *wrong;

	if (a->held.at == NULL)
		return;
	wrong = audit_read_checkpoint(a->anchors, a->held, &c);
	if (wrong == NULL)
		add_mark(r, &c);
	else
		tell(a, 0, c.number, wrong);
}

static int
read_marks(struct reader *r)
{
	struct log_audit *a = r->audit;
	PGresult *res = database_query(a->db, &statements[CHECKPOINTS], NULL, 0, NULL);
	int n = res == NULL ? 0 : PQntuples(res);

	if (res == NULL)
		return -1;
	r->marks = calloc((size_t)n + 1, sizeof *r->marks);
	if (r->marks == NULL) {
		PQclear(res);
		return -1;
	}
	for (int i = 0; i < n; i++) {
		struct checkpoint c = {.iat = 0};
		const char *wrong = audit_read_checkpoint(a->anchors, result_bytes(res, i, 4), &c);

		if (wrong == NULL)
			add_mark(r, &c);
		else
			tell(a, 0, (uint64_t)result_int(res, i, 0), wrong);
	}
	PQclear(res);
	add_held(r);
	qsort(r->marks, r->marks_len, sizeof *r->marks, compare);
	return 0;
}

/* Whether the entry says the number and the tenant that it stands under. */
static bool
says(struct slice line, uint64_t number, struct slice tenant)
{
	json_t *json = json_loadb((const char *)line.at, line.len, JSON_REJECT_DUPLICATES, NULL);
	json_t *whose = json_object_get(json, "tenant");
	bool good = (uint64_t)json_integer_value(json_object_get(json, "number")) == number;

	if (tenant.at == NULL)
		good = good && json_is_null(whose);
	else
		good = good && json_string_length(whose) == tenant.len &&
		       memcmp(json_string_value(whose), tenant.at, tenant.len) == 0;
	json_decref(json);
	return good;
}

static void
check_marks(struct reader *r)
{
	for (; r->next < r->marks_len && r->marks[r->next].number <= r->number; r->next++) {
		const struct mark *mark = &r->marks[r->next];

		if (mark->number == r->number && memcmp(mark->hash, r->hash, DIGEST_SIZE) != 0)
			tell(r->audit, mark->number, mark->checkpoint, "the checkpoint names another one");
	}
}

static void
check_entry(struct reader *r, const PGresult *row)
{
	uint64_t number = (uint64_t)result_int(row, 0, 0);
	struct slice line = result_bytes(row, 0, 1), hash = result_bytes(row, 0, 2);
	size_t len = DIGEST_SIZE + line.len;
	uint8_t *both = malloc(len), digest[DIGEST_SIZE];

	if (both == NULL)
		abort();
	memcpy(both, r->hash, DIGEST_SIZE);
	memcpy(both + DIGEST_SIZE, line.at, line.len);
	sha256((struct slice){both, len}, digest);
	free(both);
	if (number != r->number + 1)
		tell(r->audit, number, 0, "the one before it is gone");
	else if (hash.len != DIGEST_SIZE || memcmp(hash.at, digest, DIGEST_SIZE) != 0)
		tell(r->audit, number, 0, "its hash is not that of the one before and itself");
	else if (!says(line, number, result_bytes(row, 0, 3)))
		tell(r->audit, number, 0, "it stands under another number or tenant than it says");
	r->number = number;
	memset(r->hash, 0, DIGEST_SIZE);
	memcpy(r->hash, hash.at, hash.len < DIGEST_SIZE ? hash.len : DIGEST_SIZE);
	r->audit->entries++;
	check_marks(r);
}

/* Row by row: the log need not stand in memory. */
static int
read_entries(struct reader *r)
{
	PGconn *conn = database_connect(r->audit->db);
	PGresult *res;
	int rc = 0;

	if (conn == NULL || PQsendQueryParams(conn, statements[ENTRIES].sql, 0, NULL, NULL, NULL, NULL, 1) != 1 ||
	    PQsetSingleRowMode(conn) != 1)
		return -1;
	while ((res = PQgetResult(conn)) != NULL) {
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE)
			check_entry(r, res);
		else if (PQresultStatus(res) != PGRES_TUPLES_OK)
			rc = -1;
		PQclear(res);
	}
	return rc;
}

/* What is past its retention is gone, but for the hash of its last entry: from there on it is verified. */
static int
begin_after_retention(struct reader *r)
{
	PGresult *res = database_query(r->audit->db, &statements[HEAD], NULL, 0, NULL);
	struct slice hash;

	if (res == NULL)
		return -1;
	r->number = (uint64_t)result_int(res, 0, 2);
	hash = result_bytes(res, 0, 3);
	memcpy(r->hash, hash.at, hash.len < DIGEST_SIZE ? hash.len : DIGEST_SIZE);
	PQclear(res);
	r->audit->expired = r->number;
	check_marks(r);
	return 0;
}

static int
check_end(struct reader *r)
{
	PGresult *res = database_query(r->audit->db, &statements[HEAD], NULL, 0, NULL);
	struct slice hash;

	if (res == NULL)
		return -1;
	hash = result_bytes(res, 0, 1);
	if ((uint64_t)result_int(res, 0, 0) != r->number || hash.len != DIGEST_SIZE ||
	    memcmp(hash.at, r->hash, DIGEST_SIZE) != 0)
		tell(r->audit, (uint64_t)result_int(res, 0, 0), 0, "the log's head is not its last entry");
	PQclear(res);
	for (; r->next < r->marks_len; r->next++)
		tell(r->audit, r->marks[r->next].number, r->marks[r->next].checkpoint,
		     "the checkpoint names it, and it is not there");
	return 0;
}

int
audit_log(struct log_audit *a)
{
	struct reader r = {.audit = a};
	int rc = -1;

	/* One picture of all three: the log grows meanwhile. */
	if (database_exec(a->db, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") < 0)
		return -1;
	if (read_marks(&r) == 0 && begin_after_retention(&r) == 0 && read_entries(&r) == 0)
		rc = check_end(&r);
	if (database_exec(a->db, "COMMIT") < 0)
		rc = -1;
	free(r.marks);
	return rc;
}
