/*
 * One simulated device: its condition, the life that changes it, and the emitter's own pipeline from the report on.
 */
#ifndef FLEETSTATE_SIM_DEVICE_H
#define FLEETSTATE_SIM_DEVICE_H

#include "emitter/pipeline.h"

struct fleet {
	const char *pki, *state;	/* directories */
	const char *broker, *ca;
	uint32_t interval;		/* seconds */
	size_t spool_size;
	uint64_t seed;
	unsigned life;			/* changes per thousand reports of one device */
	bool awake;			/* silence is none of them */
	unsigned keep_alive, backoff_max_ms;	/* seconds; towards the broker */
	struct receipt_trust *trust;
	struct journal *journal;
};

struct device;

/* What the whole fleet did, over all the boots of its devices. */
struct tally {
	unsigned long devices, connected, asleep, pending, dropped;
	unsigned long counters[COUNTERS];
};

/* The device of that ueid; it comes up `delay_ms` from now. NULL when memory ran out. */
struct device *device_new(const struct fleet *, const struct ueid *, int64_t now, int64_t delay_ms) WARN_UNUSED;
void device_free(struct device *, unsigned wait_ms);
int device_fd(const struct device *);	/* -1: asleep */
/* Lives on. Returns when to call again, -1 after logging why it can't. */
int64_t device_step(struct device *, int64_t now);
/* Whether what it reported was taken over by the broker; with `receipt` also accounted for by the collector. */
bool device_done(const struct device *, bool receipt);
void device_tally(const struct device *, struct tally *);

#endif
