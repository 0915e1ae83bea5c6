/*
 * What time itself brings about: partitions made ahead, devices that fall silent, certificates that end, the system's own troubles, refusals that are
 * told of together, samples that are too many; and what others changed in the database and we have to hear of.
 */
#ifndef FLEETSTATE_COLLECTOR_WATCH_H
#define FLEETSTATE_COLLECTOR_WATCH_H

#include <stdbool.h>

#include "collector/enrol.h"
#include "collector/settings.h"
#include "collector/tls.h"

struct watch_events {
	/* From when till when, in microseconds since 1970, nothing of the shard can have escaped us: what came is stored. False: no such time. */
	bool (*heard)(void *context, unsigned shard, int64_t *since, int64_t *until);
	bool (*deaf)(void *context, char *why);			/* whether the broker can't be heard; `why` holds 128 bytes */
	void (*anchors)(void *context, struct anchors *);	/* other ones than before; taken over */
	void (*device)(void *context, const struct ueid *);	/* its keys or lifecycle changed */
	void (*devices)(void *context);				/* those of we don't know which may have */
	void *context;
};

struct watch;

/* Makes the partitions before it returns. `tls`, which must outlive it, may be NULL. NULL, logged, on failure. */
struct watch *watch_start(const struct settings *, struct tls *tls, const struct watch_events *) WARN_UNUSED;
void watch_stop(struct watch *);

#endif
