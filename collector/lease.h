/*
 * Which shards are ours: advisory locks of the database, so that a shard has one collector at a time, and a share of them for each that lives.
 */
#ifndef FLEETSTATE_COLLECTOR_LEASE_H
#define FLEETSTATE_COLLECTOR_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/settings.h"

/* What holding a shard means. `drain` returns when nothing of the shard is under way any more. */
struct lease_events {
	int (*hold)(void *context, unsigned shard);	/* -1: can't, give it back */
	void (*release)(void *context, unsigned shard);	/* nothing new arrives when it returns */
	void (*drain)(void *context, unsigned shard);
	int64_t (*cut_off)(void *context);	/* for how many ms nothing of what is held could be heard; 0: it is, -1: nothing is held */
	bool (*answered_aside)(void *context);	/* whether the broker is there, while nothing is held */
	void (*end_aside)(void *context);
	void *context;
};

struct lease;

struct lease *lease_start(const struct settings *, const struct lease_events *) WARN_UNUSED;
/* Releases, drains and gives back all shards. */
void lease_stop(struct lease *);
/* Whether the database answers and every shard has a holder, for all that we know. `why` holds 128 bytes. Any thread. */
bool lease_ready(struct lease *, char *why);

#endif
