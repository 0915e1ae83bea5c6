/*
 * Receipts: what the collector tells devices of their reports. Composed after each commit, signed and published by a thread of their own from a
 * bounded queue; one that does not fit is counted and left, since devices ask again.
 */
#ifndef FLEETSTATE_COLLECTOR_ANSWER_H
#define FLEETSTATE_COLLECTOR_ANSWER_H

#include "collector/judge.h"
#include "collector/settings.h"
#include "collector/subscribe.h"

struct answer;

/* NULL, logged, when key or certificate can't be read. */
struct answer *answer_start(const struct settings *, struct subscribe *) WARN_UNUSED;
void answer_stop(struct answer *);

/* A batch is in: to each device that asked, that misses something, that is wanted of, or that was refused for good. `load` is how full the queue
   is, in percent: it sets the pace of backlogs. The store stage's thread. */
void answer_batch(struct answer *, const struct judge *, struct message **, size_t n, unsigned load);
/* The account of one device, with the nonce of a challenge. Any thread. */
void answer_challenge(struct answer *, const struct ueid *, const struct ledger *, struct slice nonce);
/* The shard is no longer ours, and what we know of its devices soon no longer true. Any thread. */
void answer_forget_shard(struct answer *, unsigned shard);
/* A report with an unknown key: its device may send the chain. Any thread. */
void answer_want_chain(struct answer *, const struct message *);

#endif
