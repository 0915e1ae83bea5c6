/*
 * Devices that miss reports: each is told of them unasked when they are late, ever more rarely. Bounded; pure but for its memory, and for one thread at a
 * time.
 */
#ifndef FLEETSTATE_COLLECTOR_GAPS_H
#define FLEETSTATE_COLLECTOR_GAPS_H

#include "schema/receipt.h"

struct gaps;

/* For up to `max` devices, at least 1; when there are more, the one that was told most often goes. NULL when memory ran out. */
struct gaps *gaps_new(size_t max) WARN_UNUSED;
void gaps_free(struct gaps *);

/* The device's newest account: remembered while it names something missing. Seconds of a steady clock. */
void gaps_note(struct gaps *, const struct receipt *, int64_t now);
/* The accounts of a shard that is somebody else's now are no longer true. */
void gaps_forget_shard(struct gaps *, unsigned shard);
/* Gives `tell` the account of each device whose time has come. */
void gaps_tell(struct gaps *, int64_t now, void (*tell)(void *context, const struct receipt *), void *context);

#endif
