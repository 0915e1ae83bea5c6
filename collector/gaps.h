/*
 * Devices that miss reports: each is told of them unasked when they are late, ever more rarely. Bounded; pure but for its memory, and for one thread at a
 * time.
 */
#ifndef FLEETSTATE_COLLECTOR_GAPS_H
#define FLEETSTATE_COLLECTOR_GAPS_H

#include "schema/receipt.h"

struct gaps;

/* For up to `max` devices, at least 1; when there are more, one that was told goes: each report of it that comes brings it back. NULL when memory ran
   out. */
struct gaps *gaps_new(size_t max) WARN_UNUSED;
void gaps_free(struct gaps *);

/* The device's newest account: remembered while it names something missing. Seconds of a steady clock. False: there is no room, and none of those that
   are remembered was told yet; so this one is to be told now. */
bool gaps_note(struct gaps *, const struct receipt *, int64_t now) WARN_UNUSED;
/* The accounts of a shard that is somebody else's now are no longer true. */
void gaps_forget_shard(struct gaps *, unsigned shard);
/* Gives `tell` the account of each device whose time has come. */
void gaps_tell(struct gaps *, int64_t now, void (*tell)(void *context, const struct receipt *), void *context);

#endif
