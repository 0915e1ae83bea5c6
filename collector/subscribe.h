/*
 * The collector's one user of paho: for each shard that is held, one MQTT 5 client with a fixed name and a session that outlives it, so that a
 * successor inherits its queue. What arrives is copied into the queue; receipts go out on the same connections.
 */
#ifndef FLEETSTATE_COLLECTOR_SUBSCRIBE_H
#define FLEETSTATE_COLLECTOR_SUBSCRIBE_H

#include <stdbool.h>

#include "collector/budget.h"
#include "collector/queue.h"
#include "collector/settings.h"

struct subscribe;

/* Connects to nothing yet; starts the thread that connects, reconnects and sends canaries. NULL, logged, on failure. */
struct subscribe *subscribe_start(const struct settings *, struct queue *, struct budget *) WARN_UNUSED;
/* Lets all shards go and ends. */
void subscribe_stop(struct subscribe *);

/* Takes a shard's session, soon. -1 when paho refuses. */
int subscribe_hold(struct subscribe *, unsigned shard) WARN_UNUSED;
/* Leaves it to the broker: when this returns, nothing of the shard arrives any more. */
void subscribe_release(struct subscribe *, unsigned shard);

/* Whether of every shard that is held a canary came back in the last minute. Any thread. `why` holds 128 bytes. */
bool subscribe_ready(struct subscribe *, char *why);

/* Whether some shard that is held, or the connection aside, has been down for five seconds, or no answer came for fifteen. Any thread. `why`
   holds 128 bytes. */
bool subscribe_deaf(struct subscribe *, char *why);

/* For how many milliseconds none of the shards that are held has had a connection; 0: one has, -1: none is held. Any thread. */
int64_t subscribe_cut_off(struct subscribe *);

/* For who holds nothing: whether the broker answers a connection that hears only its own canary, which is made at the first call. */
bool subscribe_answered_aside(struct subscribe *);
void subscribe_end_aside(struct subscribe *);

/* For how long, until how long ago, we heard all that the broker got for the shard: milliseconds from then to now. False: not held, or not yet. A lost
   connection and a broker that did not answer for ten seconds begin it anew. Any thread. */
bool subscribe_heard(struct subscribe *, unsigned shard, int64_t *since_ms, int64_t *until_ms);

/* Whether we hold the shard and are connected, so that a receipt can go out. Any thread. */
bool subscribe_is_up(struct subscribe *, unsigned shard);

/* Hands a receipt to the shard's connection, QoS 1. -1: not held, not connected, or too many are on their way. */
int subscribe_publish(struct subscribe *, const struct ueid *, struct slice receipt) WARN_UNUSED;

#endif
