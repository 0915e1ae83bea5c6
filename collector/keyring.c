#include "collector/keyring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "collector/keyring_rows.h"

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
	case LIFECYCLE_DELETED:
		return REASON_DEVICE_DELETED;
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

static int
add_device(struct keyring *k, struct keyring_rows r, const struct ueid *ueid, uint64_t reloads)
{
	struct device *d = calloc(1, sizeof *d);

	if (d == NULL || keyring_rows_read(r, d) < 0) {
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
		    x->not_after != y->not_after || x->revoked_at != y->revoked_at ||
		    x->superseded_epoch != y->superseded_epoch || x->superseded_seq != y->superseded_seq ||
		    x->spki.len != y->spki.len || memcmp(x->spki.at, y->spki.at, x->spki.len) != 0)
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
renew_device(struct keyring *k, struct keyring_rows r, const struct ueid *ueid, uint64_t reloads)
{
	struct device *d, fresh = {0};
	int result = 0;

	(void)reloads;
	pthread_rwlock_rdlock(&k->lock);
	d = find_locked(k, ueid);
	if (d != NULL)
		result = keyring_rows_read(r, &fresh);
	if (d != NULL && result == 0)
		renew(d, &fresh);
	pthread_rwlock_unlock(&k->lock);
	return result;
}

/* Runs the statement and gives each device's rows to `each`, until one is not 0. */
static int
read_devices(struct keyring *k, struct database *db, struct pg_array *ueids,
	     int (*each)(struct keyring *, struct keyring_rows, const struct ueid *, uint64_t reloads))
{
	uint64_t reloads = k->reloads;
	struct param param = pg_array_param(ueids);
	struct keyring_rows r = {0};
	struct ueid ueid;
	PGresult *res;
	int result = 0;

	if (ueids->items == 0 && !ueids->failed)
		return 0;
	res = database_query(db, &keyring_select, &param, 1, NULL);
	if (res == NULL)
		return -1;
	r.res = res;
	while (result == 0 && keyring_rows_next(&r, &ueid))
		result = each(k, r, &ueid, reloads);
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
