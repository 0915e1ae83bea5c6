/*
 * Who we know: devices by ueid, each with its keys and its ledger head, read from the database once and kept warm by the holder of the shard.
 * Any thread may find; only the store stage changes `hot` and `gaps`.
 */
#ifndef FLEETSTATE_COLLECTOR_KEYRING_H
#define FLEETSTATE_COLLECTOR_KEYRING_H

#include "collector/database.h"
#include "collector/ledger.h"
#include "schema/cose.h"
#include "schema/topics.h"

enum lifecycle { LIFECYCLE_PENDING, LIFECYCLE_ACTIVE, LIFECYCLE_RETIRED, LIFECYCLE_REVOKED, LIFECYCLE_TRANSFERRED };
enum key_status { KEY_ACTIVE, KEY_RETIRED, KEY_REVOKED };

struct device_key {
	uint8_t kid[KID_SIZE];
	enum key_status status;
	int64_t not_before, not_after;	/* seconds since 1970 */
	struct slice spki;		/* DER; owned */
};

struct device {
	struct ueid ueid;
	int64_t device_id;
	int32_t tenant_id;
	enum lifecycle lifecycle;
	struct device_key *keys;
	size_t keys_len;
	struct ledger ledger;		/* head and gaps: the store stage's */
	struct device *next;		/* in the keyring's bucket */
};

struct keyring;

struct keyring *keyring_new(void) WARN_UNUSED;
void keyring_free(struct keyring *);

/* NULL if it is not in memory; it may still be in the database. */
struct device *keyring_find(struct keyring *, const struct ueid *);
const struct device_key *device_find_key(const struct device *, struct slice kid);

/* Reads those of the ueids that the database knows and memory does not, in one statement. -1 when the database fails: try again later. */
int keyring_load(struct keyring *, struct database *, const struct ueid *, size_t n) WARN_UNUSED;
/* Reads these anew: after a compare-and-set missed, or a key or lifecycle changed (NOTIFY). The struct device stays where it is. */
int keyring_reload(struct keyring *, struct database *, struct device **, size_t n) WARN_UNUSED;
/* Forgets a shard that was handed over. The caller has drained the pipeline of it. */
void keyring_forget_shard(struct keyring *, unsigned shard);
size_t keyring_count(const struct keyring *);

/* A worker's own cache of ready public keys: cose keys serve one thread. Returns NULL only if the stored key can't be read. Valid until the next
   call. Bounded; the entry used least recently goes. */
struct key_cache;
struct key_cache *key_cache_new(size_t entries) WARN_UNUSED;
void key_cache_free(struct key_cache *);
struct cose_key *key_cache_get(struct key_cache *, const struct device_key *);

#endif
