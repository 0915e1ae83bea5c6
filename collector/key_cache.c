#include "collector/key_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Entries in a fixed array, chained by hash and in the order of their use. */

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
