/*
 * Who waits for events: requests that were put aside until their tenant has one beyond the position that they know, or until their time is over.
 * One thread asks the database for all of them, and only while somebody waits.
 */
#ifndef FLEETSTATE_COLLECTOR_FEED_H
#define FLEETSTATE_COLLECTOR_FEED_H

#include "collector/query.h"

/* Part of what waits. */
struct waiter {
	struct waiter *next;
	int32_t tenant_id;
	int64_t after;		/* the position up to which it knows all */
	int64_t until_ms;	/* as clock_ms counts */
};

struct feed;

/* `wake` is called by the feed's thread, once for each wait. NULL if memory or threads ran out. */
struct feed *feed_start(struct query_pool *, void (*wake)(void *context, struct waiter *), void *context) WARN_UNUSED;
/* Any thread. The waiter may be woken before this returns. */
void feed_wait(struct feed *, struct waiter *);
/* Wakes all; nobody may wait from then on. NULL is fine. */
void feed_stop(struct feed *);

#endif
