#include "collector/keyring.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "collector/words.h"
#include "schema/log.h"

struct keyring {
	pthread_rwlock_t lock; /* over buckets and the `next` of devices */
	struct device **buckets;
	size_t mask;
	_Atomic size_t count;
	_Atomic uint64_t reloads; /* begun: what was read for a load before one may be older than what it was for */
	uint64_t salt[2];
};

#define BUCKETS_FIRST 1024
#define STALE 1 /* beside 0 and -1 */
#define SOME 1024
#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* A row a key and a gap; a device's are together, by key, then by gap. */
static const struct statement select_devices = {
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
static const char *const lifecycles[] = {"pending", "active", "retired", "revoked", "transferred"};
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

struct keyring *
keyring_new(void)
{
	struct keyring *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	k->buckets = calloc(BUCKETS_FIRST, sizeof(struct device *));
	if (k->buckets == NULL || getrandom(k->salt, sizeof k->salt, 0) != (ssize_t)sizeof k->salt ||
	    pthread_rwlock_init(&k->lock, NULL) != 0) {
		free(k->buckets);
		free(k);
		return NULL;
	}
	k->mask = BUCKETS_FIRST - 1;
	return k;
}

static void
device_free(struct device *d)
{
	struct device_keys *keys, *replaced;

	if (d == NULL)
		return;
	for (keys = d->keys; keys != NULL; keys = replaced) {
		replaced = keys->replaced;
		free(keys);
	}
	ledger_free(&d->ledger);
	free(d);
}

void
keyring_free(struct keyring *k)
{
	if (k == NULL)
		return;
	for (unsigned shard = 0; shard < SHARDS; shard++)
		keyring_forget_shard(k, shard);
	pthread_rwlock_destroy(&k->lock);
	free(k->buckets);
	free(k);
}

/* Ueids are random, but their makers choose them: the salt keeps anyone from choosing a bucket. */
static size_t
bucket_of(const struct keyring *k, const struct ueid *ueid)
{
	uint64_t halves[2];
	unsigned __int128 product;

	memcpy(halves, ueid->bytes + 1, sizeof halves);
	product = (unsigned __int128)(halves[0] ^ k->salt[0]) * (halves[1] ^ k->salt[1]);
	return (size_t)((uint64_t)product ^ (uint64_t)(product >> 64)) & k->mask;
}

/* Under the lock. */
static struct device *
find_locked(const struct keyring *k, const struct ueid *ueid)
{
	struct device *d = k->buckets[bucket_of(k, ueid)];

	while (d != NULL && memcmp(&d->ueid, ueid, sizeof *ueid) != 0)
		d = d->next;
	return d;
}

struct device *
keyring_find(struct keyring *k, const struct ueid *ueid)
{
	struct device *d;

	pthread_rwlock_rdlock(&k->lock);
	d = find_locked(k, ueid);
	pthread_rwlock_unlock(&k->lock);
	return d;
}

const struct device_key *
device_find_key(const struct device *d, struct slice kid)
{
	const struct device_keys *keys = d->keys;

	if (keys == NULL || kid.len != KID_SIZE)
		return NULL;
	for (size_t i = 0; i < keys->len; i++)
		if (memcmp(keys->at[i].kid, kid.at, KID_SIZE) == 0)
			return &keys->at[i];
	return NULL;
}

enum reason
lifecycle_reason(enum lifecycle lifecycle)
{
	switch (lifecycle) {
	case LIFECYCLE_PENDING:
	case LIFECYCLE_ACTIVE:
		return REASON_OK;
	case LIFECYCLE_REVOKED:
		return REASON_DEVICE_REVOKED;
	case LIFECYCLE_RETIRED:
	case LIFECYCLE_TRANSFERRED:
		break;
	}
	return REASON_DEVICE_RETIRED;
}

size_t
keyring_count(const struct keyring *k)
{
	return k->count;
}

/* Twice the buckets; when there is no memory the chains get longer, and that is all. */
static void
grow_locked(struct keyring *k)
{
	struct device **old = k->buckets;
	size_t n = k->mask + 1;
	struct device **grown = calloc(2 * n, sizeof(struct device *));

	if (grown == NULL)
		return;
	k->buckets = grown;
	k->mask = 2 * n - 1;
	for (size_t i = 0; i < n; i++) {
		struct device *next;

		for (struct device *d = old[i]; d != NULL; d = next) {
			size_t b = bucket_of(k, &d->ueid);

			next = d->next;
			d->next = grown[b];
			grown[b] = d;
		}
	}
	free(old);
}

/* Another thread may have been faster; then `d` goes. So it does when a reload began since it was read, which is then STALE. */
static int
insert(struct keyring *k, struct device *d, uint64_t reloads)
{
	bool stale;

	pthread_rwlock_wrlock(&k->lock);
	stale = reloads != k->reloads;
	if (!stale && find_locked(k, &d->ueid) == NULL) {
		size_t b;

		if (k->count > k->mask)
			grow_locked(k);
		b = bucket_of(k, &d->ueid);
		d->next = k->buckets[b];
		k->buckets[b] = d;
		k->count++;
		d = NULL;
	}
	pthread_rwlock_unlock(&k->lock);
	device_free(d);
	return stale ? STALE : 0;
}

void
keyring_forget_shard(struct keyring *k, unsigned shard)
{
	pthread_rwlock_wrlock(&k->lock);
	for (size_t i = 0; i <= k->mask; i++) {
		struct device **link = &k->buckets[i];

		while (*link != NULL) {
			struct device *d = *link;

			if (d->shard != shard) {
				link = &d->next;
				continue;
			}
			*link = d->next;
			k->count--;
			device_free(d);
		}
	}
	pthread_rwlock_unlock(&k->lock);
}

/* From the database. A device's rows are [from, to) of the result. */

struct rows {
	const PGresult *res;
	int from, to;
};

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
read_keys(struct rows r, struct device_keys **out)
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
read_gaps(struct rows r, struct ledger *l)
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
read_ledger(struct rows r, struct ledger *l)
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

/* All but ueid and shard. -1 when memory ran out: nothing is owned then. */
static int
read_device(struct rows r, struct device *d)
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

static int
add_device(struct keyring *k, struct rows r, const struct ueid *ueid, uint64_t reloads)
{
	struct device *d = calloc(1, sizeof *d);

	if (d == NULL || read_device(r, d) < 0) {
		free(d);
		return -1;
	}
	d->ueid = *ueid;
	d->shard = (uint8_t)ueid_shard(ueid);
	return insert(k, d, reloads);
}

static bool
same_keys(const struct device_keys *a, const struct device_keys *b)
{
	if (a->len != b->len)
		return false;
	for (size_t i = 0; i < a->len; i++) {
		const struct device_key *x = &a->at[i], *y = &b->at[i];

		if (memcmp(x->kid, y->kid, KID_SIZE) != 0 || x->status != y->status || x->not_before != y->not_before ||
		    x->not_after != y->not_after || x->superseded_epoch != y->superseded_epoch ||
		    x->superseded_seq != y->superseded_seq || x->spki.len != y->spki.len ||
		    memcmp(x->spki.at, y->spki.at, x->spki.len) != 0)
			return false;
	}
	return true;
}

/* The fresh keys take the place of the old ones, which readers may still be in. */
static void
replace_keys(struct device *d, struct device_keys *fresh)
{
	struct device_keys *old = d->keys;

	if (same_keys(old, fresh)) {
		free(fresh);
		return;
	}
	fresh->replaced = old;
	d->keys = fresh;
}

/* Takes over what `fresh` owns. */
static void
renew(struct device *d, const struct device *fresh)
{
	replace_keys(d, fresh->keys);
	d->device_id = fresh->device_id;
	d->tenant_id = fresh->tenant_id;
	d->lifecycle = fresh->lifecycle;
	ledger_free(&d->ledger);
	d->ledger = fresh->ledger;
}

/* Under the lock from finding it to the last of it: nobody may be waiting for anything of its shard, which can be forgotten any time. */
static int
renew_device(struct keyring *k, struct rows r, const struct ueid *ueid, uint64_t reloads)
{
	struct device *d, fresh = {0};
	int result = 0;

	(void)reloads;
	pthread_rwlock_rdlock(&k->lock);
	d = find_locked(k, ueid);
	if (d != NULL)
		result = read_device(r, &fresh);
	if (d != NULL && result == 0)
		renew(d, &fresh);
	pthread_rwlock_unlock(&k->lock);
	return result;
}

/* Runs the statement and gives each device's rows to `each`, until one is not 0. */
static int
read_devices(struct keyring *k, struct database *db, struct pg_array *ueids,
	     int (*each)(struct keyring *, struct rows, const struct ueid *, uint64_t reloads))
{
	uint64_t reloads = k->reloads;
	struct param param = pg_array_param(ueids);
	PGresult *res;
	int result = 0, n;

	if (ueids->items == 0 && !ueids->failed)
		return 0;
	res = database_query(db, &select_devices, &param, 1, NULL);
	if (res == NULL)
		return -1;
	n = PQntuples(res);
	for (int from = 0, to; from < n && result == 0; from = to) {
		struct ueid ueid;

		to = rows_of_same(res, from, n, DEVICE_ID);
		if (copy_digest(res, from, UEID, ueid.bytes, UEID_SIZE))
			result = each(k, (struct rows){res, from, to}, &ueid, reloads);
	}
	PQclear(res);
	return result;
}

static int
load(struct keyring *k, struct database *db, const struct ueid *ueids, size_t n)
{
	struct pg_array wanted = {0};
	int result;

	pg_array_begin(&wanted, ARRAY_BYTEA);
	for (size_t i = 0; i < n; i++)
		if (keyring_find(k, &ueids[i]) == NULL)
			pg_array_bytes(&wanted, (struct slice){ueids[i].bytes, UEID_SIZE});
	result = read_devices(k, db, &wanted, add_device);
	pg_array_free(&wanted);
	return result;
}

int
keyring_load(struct keyring *k, struct database *db, const struct ueid *ueids, size_t n)
{
	int result;

	do
		result = load(k, db, ueids, n);
	while (result == STALE);
	return result;
}

static int
reload(struct keyring *k, struct database *db, struct pg_array *wanted)
{
	k->reloads++;
	return read_devices(k, db, wanted, renew_device);
}

int
keyring_reload(struct keyring *k, struct database *db, const struct ueid *ueids, size_t n)
{
	struct pg_array wanted = {0};
	int result;

	pg_array_begin(&wanted, ARRAY_BYTEA);
	for (size_t i = 0; i < n; i++)
		pg_array_bytes(&wanted, (struct slice){ueids[i].bytes, UEID_SIZE});
	result = reload(k, db, &wanted);
	pg_array_free(&wanted);
	return result;
}

/* Whole buckets. Growing moves their devices to the same place or a later one, so that none is passed over. */
int
keyring_reload_some(struct keyring *k, struct database *db, size_t *place)
{
	struct pg_array wanted = {0};
	size_t at = *place;
	bool more;
	int result;

	pg_array_begin(&wanted, ARRAY_BYTEA);
	pthread_rwlock_rdlock(&k->lock);
	for (; at <= k->mask && wanted.items < SOME; at++)
		for (const struct device *d = k->buckets[at]; d != NULL; d = d->next)
			pg_array_bytes(&wanted, (struct slice){d->ueid.bytes, UEID_SIZE});
	more = at <= k->mask;
	pthread_rwlock_unlock(&k->lock);
	result = reload(k, db, &wanted);
	pg_array_free(&wanted);
	if (result < 0)
		return -1;
	*place = more ? at : 0;
	return more;
}

/* The cache: entries in a fixed array, chained by hash and in the order of their use. */

#define NONE UINT32_MAX

struct cached_key {
	uint8_t kid[KID_SIZE];
	uint32_t next; /* in the bucket */
	uint32_t older, newer;
	struct slice spki; /* owned */
	struct cose_key *key;
};

struct key_cache {
	uint32_t size, used, oldest, newest;
	uint32_t mask;
	uint32_t *buckets;
	struct cached_key *entries;
};

struct key_cache *
key_cache_new(size_t entries)
{
	struct key_cache *c = calloc(1, sizeof *c);
	uint32_t buckets = 1;

	assert(entries >= 1 && entries <= UINT32_MAX / 4);
	if (c == NULL)
		return NULL;
	while (buckets < entries)
		buckets *= 2;
	c->size = (uint32_t)entries;
	c->mask = buckets - 1;
	c->oldest = c->newest = NONE;
	c->buckets = malloc(buckets * sizeof *c->buckets);
	c->entries = calloc(entries, sizeof *c->entries);
	if (c->buckets == NULL || c->entries == NULL) {
		key_cache_free(c);
		return NULL;
	}
	memset(c->buckets, 0xff, buckets * sizeof *c->buckets);
	return c;
}

static void
cached_key_clear(struct cached_key *e)
{
	cose_key_free(e->key);
	free((void *)(uintptr_t)e->spki.at);
}

void
key_cache_free(struct key_cache *c)
{
	if (c == NULL)
		return;
	for (uint32_t i = 0; i < c->used; i++)
		cached_key_clear(&c->entries[i]);
	free(c->entries);
	free(c->buckets);
	free(c);
}

/* A kid is part of a hash, so any part of it will do. */
static uint32_t *
cache_bucket(struct key_cache *c, const uint8_t kid[KID_SIZE])
{
	uint32_t hash;

	memcpy(&hash, kid, sizeof hash);
	return &c->buckets[hash & c->mask];
}

static void
unlink_use(struct key_cache *c, uint32_t i)
{
	struct cached_key *e = &c->entries[i];

	*(e->older == NONE ? &c->oldest : &c->entries[e->older].newer) = e->newer;
	*(e->newer == NONE ? &c->newest : &c->entries[e->newer].older) = e->older;
}

static void
link_newest(struct key_cache *c, uint32_t i)
{
	struct cached_key *e = &c->entries[i];

	e->older = c->newest;
	e->newer = NONE;
	*(c->newest == NONE ? &c->oldest : &c->entries[c->newest].newer) = i;
	c->newest = i;
}

/* The entry to fill: a fresh one, or else the one used least recently, emptied. */
static uint32_t
take_entry(struct key_cache *c)
{
	uint32_t i = c->oldest, *link;

	if (c->used < c->size)
		return c->used++;
	unlink_use(c, i);
	for (link = cache_bucket(c, c->entries[i].kid); *link != i;)
		link = &c->entries[*link].next;
	*link = c->entries[i].next;
	cached_key_clear(&c->entries[i]);
	return i;
}

static struct cose_key *
cache_add(struct key_cache *c, const struct device_key *wanted)
{
	struct cose_key *key = cose_key_from_spki(wanted->spki);
	uint8_t *spki = malloc(wanted->spki.len);
	struct cached_key *e;
	uint32_t i, *bucket;

	if (key == NULL || spki == NULL) {
		cose_key_free(key);
		free(spki);
		return NULL;
	}
	i = take_entry(c);
	e = &c->entries[i];
	bucket = cache_bucket(c, wanted->kid);
	memcpy(e->kid, wanted->kid, KID_SIZE);
	memcpy(spki, wanted->spki.at, wanted->spki.len);
	e->spki = (struct slice){spki, wanted->spki.len};
	e->key = key;
	e->next = *bucket;
	*bucket = i;
	link_newest(c, i);
	return key;
}

struct cose_key *
key_cache_get(struct key_cache *c, const struct device_key *wanted)
{
	uint32_t i = *cache_bucket(c, wanted->kid);

	for (; i != NONE; i = c->entries[i].next) {
		const struct cached_key *e = &c->entries[i];

		if (e->spki.len == wanted->spki.len && memcmp(e->kid, wanted->kid, KID_SIZE) == 0 &&
		    memcmp(e->spki.at, wanted->spki.at, e->spki.len) == 0)
			break;
	}
	if (i == NONE)
		return cache_add(c, wanted);
	if (i != c->newest) {
		unlink_use(c, i);
		link_newest(c, i);
	}
	return c->entries[i].key;
}
