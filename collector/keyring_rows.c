#include "collector/keyring_rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collector/words.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* A row a key and a gap; a device's are together, by key, then by gap. */
const struct statement keyring_select = {
	"keyring_devices",
	"SELECT d.device_id, d.ueid, d.tenant_id, d.lifecycle,"
	" h.rev, h.epoch, h.hi, h.head, h.sections_head, h.facts, h.last_seen, h.last_iat, h.interval_s,"
	" s.state_digest, s.inventory_digest,"
	" EXISTS (SELECT FROM inventory i WHERE i.tenant_id = d.tenant_id AND i.digest = s.inventory_digest),"
	" k.kid, k.status, k.not_before, k.not_after, k.revoked_at, k.superseded_epoch, k.superseded_seq, k.spki, "
	"lower(g.missing), upper(g.missing)"
	" FROM device d"
	" LEFT JOIN device_hot h ON h.device_id = d.device_id"
	" LEFT JOIN device_state s ON s.device_id = d.device_id"
	" LEFT JOIN device_key k ON k.device_id = d.device_id"
	" LEFT JOIN report_gap g ON h.gaps AND g.device_id = d.device_id AND g.epoch = h.epoch"
	" WHERE d.ueid = ANY ($1) AND d.lifecycle <> 'transferred'"
	" ORDER BY d.device_id, k.kid, lower(g.missing)",
	1};

enum column {
	DEVICE_ID,
	UEID,
	TENANT_ID,
	LIFECYCLE,
	REV,
	EPOCH,
	HI,
	HEAD,
	SECTIONS_HEAD,
	FACTS,
	LAST_SEEN,
	LAST_IAT,
	INTERVAL,
	STATE_DIGEST,
	INVENTORY_DIGEST,
	INVENTORY_KNOWN,
	KID,
	STATUS,
	NOT_BEFORE,
	NOT_AFTER,
	REVOKED_AT,
	SUPERSEDED_EPOCH,
	SUPERSEDED_SEQ,
	SPKI,
	MISSING_FROM,
	MISSING_TO,
};

/* As in enum lifecycle and enum key_status. */
static const char *const lifecycles[] = {"pending", "active", "retired", "revoked", "deleted", "transferred"};
static const char *const statuses[] = {"active", "retired", "revoked"};

/* A name that is not there counts as the last one, which is good for nothing. */
static size_t
name_index(struct slice name, const char *const *names, size_t n)
{
	size_t i;

	for (i = 0; i < n - 1; i++)
		if (word_is(name, names[i]))
			break;
	return i;
}

static bool
same_field(const PGresult *res, int a, int b, int column)
{
	struct slice x = result_bytes(res, a, column), y = result_bytes(res, b, column);

	return x.len == y.len && (x.len == 0 || memcmp(x.at, y.at, x.len) == 0);
}

/* The first row after those that have the same field as `from`. */
static int
rows_of_same(const PGresult *res, int from, int end, int column)
{
	int to = from + 1;

	while (to < end && same_field(res, from, to, column))
		to++;
	return to;
}

static bool
copy_digest(const PGresult *res, int row, int column, uint8_t *out, size_t len)
{
	struct slice s = result_bytes(res, row, column);

	if (s.len != len)
		return false;
	memcpy(out, s.at, len);
	return true;
}

bool
keyring_rows_next(struct keyring_rows *r, struct ueid *ueid)
{
	r->from = r->to;
	if (r->from == PQntuples(r->res))
		return false;
	r->to = rows_of_same(r->res, r->from, PQntuples(r->res), DEVICE_ID);
	(void)copy_digest(r->res, r->from, UEID, ueid->bytes, UEID_SIZE);
	return true;
}

static void
read_key(const PGresult *res, int row, struct device_key *key, uint8_t *spki_at)
{
	struct slice spki = result_bytes(res, row, SPKI), kid = result_bytes(res, row, KID);

	assert(kid.len == KID_SIZE);
	memcpy(key->kid, kid.at, KID_SIZE);
	key->status = (enum key_status)name_index(result_bytes(res, row, STATUS), statuses, LENGTH(statuses));
	key->not_before = result_time_us(res, row, NOT_BEFORE) / 1000000;
	key->not_after = result_time_us(res, row, NOT_AFTER) / 1000000;
	key->revoked_at = result_time_us(res, row, REVOKED_AT) / 1000000;
	key->superseded_epoch = (uint64_t)result_int(res, row, SUPERSEDED_EPOCH);
	key->superseded_seq = (uint64_t)result_int(res, row, SUPERSEDED_SEQ);
	memcpy(spki_at, spki.at, spki.len);
	key->spki = (struct slice){spki_at, spki.len};
}

/* All keys and what they are made of in one allocation. */
static int
read_keys(struct keyring_rows r, struct device_keys **out)
{
	size_t n = 0, bytes = 0;
	struct device_keys *keys;
	uint8_t *at;

	/* Without any key there is one row, whose key is NULL. */
	if (result_null(r.res, r.from, KID))
		r.to = r.from;
	for (int i = r.from; i < r.to; i = rows_of_same(r.res, i, r.to, KID)) {
		n++;
		bytes += result_bytes(r.res, i, SPKI).len;
	}
	keys = calloc(1, sizeof *keys + n * sizeof keys->at[0] + bytes);
	if (keys == NULL)
		return -1;
	at = (uint8_t *)&keys->at[n];
	for (int i = r.from; i < r.to; i = rows_of_same(r.res, i, r.to, KID)) {
		struct device_key *key = &keys->at[keys->len++];

		read_key(r.res, i, key, at);
		at += key->spki.len;
	}
	*out = keys;
	return 0;
}

/* Ranges come in order. Should any touch or overlap they become one; nothing that is missing is lost by that. */
static int
read_gaps(struct keyring_rows r, struct ledger *l)
{
	int to = rows_of_same(r.res, r.from, r.to, KID);

	if (result_null(r.res, r.from, MISSING_FROM))
		return 0;
	l->missing = calloc((size_t)(to - r.from), sizeof *l->missing);
	if (l->missing == NULL)
		return -1;
	l->missing_size = (size_t)(to - r.from);
	for (int i = r.from; i < to; i++) {
		uint64_t first = (uint64_t)result_int(r.res, i, MISSING_FROM);
		uint64_t last = (uint64_t)result_int(r.res, i, MISSING_TO) - 1;
		struct seq_range *before = l->missing_len == 0 ? NULL : &l->missing[l->missing_len - 1];

		if (last >= l->hi)
			last = l->hi - 1;
		if (first > last)
			continue;
		if (before == NULL || first > before->last + 1)
			l->missing[l->missing_len++] = (struct seq_range){first, last};
		else if (last > before->last)
			before->last = last;
	}
	return 0;
}

static bool
facts_match(const PGresult *res, int row, const uint8_t facts[FACTS_SIZE])
{
	uint8_t state[DIGEST_SIZE], inventory[DIGEST_SIZE], known[FACTS_SIZE];

	if (!copy_digest(res, row, STATE_DIGEST, state, DIGEST_SIZE) ||
	    !copy_digest(res, row, INVENTORY_DIGEST, inventory, DIGEST_SIZE))
		return false;
	report_facts_digest(state, inventory, known);
	return memcmp(known, facts, FACTS_SIZE) == 0;
}

static int
read_ledger(struct keyring_rows r, struct ledger *l)
{
	const PGresult *res = r.res;
	int row = r.from;

	*l = (struct ledger){.rev = -1};
	l->inventory_known = result_bool(res, row, INVENTORY_KNOWN);
	if (result_null(res, row, REV))
		return 0;
	l->rev = result_int(res, row, REV);
	l->epoch = (uint64_t)result_int(res, row, EPOCH);
	l->hi = (uint64_t)result_int(res, row, HI);
	l->started = l->hi > 0;
	l->has_head = copy_digest(res, row, HEAD, l->head, DIGEST_SIZE);
	l->has_sections_head = copy_digest(res, row, SECTIONS_HEAD, l->sections_head, DIGEST_SIZE);
	l->facts_known = copy_digest(res, row, FACTS, l->facts, FACTS_SIZE) && facts_match(res, row, l->facts);
	l->last_seen_us = result_time_us(res, row, LAST_SEEN);
	l->last_iat = result_time_us(res, row, LAST_IAT) / 1000000;
	l->interval = (uint32_t)result_int(res, row, INTERVAL);
	return l->started ? read_gaps(r, l) : 0;
}

int
keyring_rows_read(struct keyring_rows r, struct device *d)
{
	struct device_keys *keys;

	if (read_keys(r, &keys) < 0)
		return -1;
	if (read_ledger(r, &d->ledger) < 0) {
		free(keys);
		return -1;
	}
	d->keys = keys;
	d->device_id = result_int(r.res, r.from, DEVICE_ID);
	d->tenant_id = (int32_t)result_int(r.res, r.from, TENANT_ID);
	d->lifecycle =
		(enum lifecycle)name_index(result_bytes(r.res, r.from, LIFECYCLE), lifecycles, LENGTH(lifecycles));
	return 0;
}
