/*
 * What the judge and the rows of a batch have to know and memory does not: epochs other than the current, who vouched, what a pending device has
 * stored, which inventories the tenant has, and what stands under a number that is taken.
 */
#ifndef FLEETSTATE_COLLECTOR_LEARN_H
#define FLEETSTATE_COLLECTOR_LEARN_H

#include "collector/judge.h"
#include "collector/transaction.h"

/* Between judge_begin and judge_run. A pending device may have `pending_max` reports stored. */
enum outcome learn(struct transaction *, struct judge *, struct message **, size_t n, int64_t pending_max) WARN_UNUSED;
/* After judge_run: settles what it asked for. */
enum outcome learn_taken(struct transaction *, struct judge *) WARN_UNUSED;

#endif
