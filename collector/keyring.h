/*
 * Who we know: devices by ueid, each with its keys and its ledger head, read from the database once and kept warm by the holder of the shard.
 * Any thread may find, and read a device's keys, tenant and lifecycle; `ledger` is the store stage's, and so is reloading. A healthy device with
 * one P-256 key takes 456 bytes and its place in the table.
 */
#ifndef FLEETSTATE_COLLECTOR_KEYRING_H
#define FLEETSTATE_COLLECTOR_KEYRING_H

#include <stdatomic.h>

#include "collector/database.h"
#include "collector/ledger.h"
#include "schema/topics.h"

enum lifecycle { LIFECYCLE_PENDING, LIFECYCLE_ACTIVE, LIFECYCLE_RETIRED, LIFECYCLE_REVOKED, LIFECYCLE_DELETED, LIFECYCLE_TRANSFERRED };
enum key_status { KEY_ACTIVE, KEY_RETIRED, KEY_REVOKED };

struct device_key {
	uint8_t kid[KID_SIZE];
	enum key_status status;
	int64_t not_before, not_after;	/* seconds since 1970 */
	int64_t revoked_at;		/* likewise; 0: it is not */
	uint64_t superseded_epoch, superseded_seq;	/* its successor signs from this number on; 0: there is none, or no number is known */
	struct slice spki;		/* DER; in the same allocation */
};

/* Never changed once it can be seen: a reload that finds other keys puts a new one in its place and keeps the old for readers that are still
   in it. */
struct device_keys {
	struct device_keys *replaced;
	size_t len;
	struct device_key at[];
};

struct device {
	struct ueid ueid;
	uint8_t shard;
	int64_t device_id;
	_Atomic int32_t tenant_id;
	_Atomic enum lifecycle lifecycle;
	struct device_keys *_Atomic keys;	/* never NULL in the keyring; of length 0 before enrolment */
	struct ledger ledger;		/* head and gaps: the store stage's */
	int64_t chain_wanted;		/* seconds of the monotonic clock: when its chain was last asked for; likewise */
	struct device *next;		/* in the keyring's bucket */
};

struct keyring;

struct keyring *keyring_new(void) WARN_UNUSED;
void keyring_free(struct keyring *);

/* The pointer is good until the device's shard is forgotten. NULL if it is not in memory; it may still be in the database. */
struct device *keyring_find(struct keyring *, const struct ueid *);
const struct device_key *device_find_key(const struct device *, struct slice kid);
/* Why nothing is taken of a device that is gone; OK if it is not. */
enum reason lifecycle_reason(enum lifecycle);

/* Reads those of the ueids that the database knows and memory does not, in one statement. -1 when the database fails: try again later. */
int keyring_load(struct keyring *, struct database *, const struct ueid *, size_t n) WARN_UNUSED;
/* Reads those of the ueids that are in memory anew: after a compare-and-set missed, or a key or lifecycle changed (NOTIFY). The struct device stays
   where it is; one that is forgotten meanwhile is passed by. The store stage's thread. */
int keyring_reload(struct keyring *, struct database *, const struct ueid *, size_t n) WARN_UNUSED;
/* The same for some of all the devices in memory, from *place on, which is 0 at first and moves. 1: there are more; 0: that was all, *place is 0 again;
   -1: the database fails, *place stays. */
int keyring_reload_some(struct keyring *, struct database *, size_t *place) WARN_UNUSED;
/* Forgets a shard that was handed over. The caller has drained the pipeline of it. */
void keyring_forget_shard(struct keyring *, unsigned shard);
size_t keyring_count(const struct keyring *);

#endif
