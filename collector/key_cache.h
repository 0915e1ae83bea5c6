/*
 * A worker's own cache of ready public keys: cose keys serve one thread. Bounded; the entry used least recently goes. Keys are told apart by content,
 * not by where they lie.
 */
#ifndef FLEETSTATE_COLLECTOR_KEY_CACHE_H
#define FLEETSTATE_COLLECTOR_KEY_CACHE_H

#include "collector/keyring.h"
#include "schema/cose.h"

struct key_cache;
struct key_cache *key_cache_new(size_t entries) WARN_UNUSED;	/* at least 1 */
void key_cache_free(struct key_cache *);
/* NULL only if the stored key can't be read, or memory ran out. Valid until the next call. */
struct cose_key *key_cache_get(struct key_cache *, const struct device_key *);

#endif
