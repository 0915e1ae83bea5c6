/*
 * When reports that were published go a second time: those with sections, ever more rarely until a receipt covers them, and those that a receipt
 * misses. Pure, but for reading the spool's index; times are milliseconds of the monotonic clock.
 */
#ifndef FLEETSTATE_REPEAT_H
#define FLEETSTATE_REPEAT_H

#include "emitter/spool.h"

struct repeat {
	enum { REPEAT_NONE, REPEAT_SECTIONS, REPEAT_MISSING } kind;	/* of the pass that is under way */
	uint64_t at, end;	/* the last number looked at, the last one to look at */
	int64_t sections_at, wait;	/* the next pass over those with sections, 0: none waits for a receipt; from one to the next */
	int64_t missing_at;	/* when a pass over what is missing began last */
};

void repeat_init(struct repeat *, int64_t now);
/* On a new connection: those with sections go at once. */
void repeat_connected(struct repeat *, int64_t now);
/* A report with sections was published for the first time on this connection. */
void repeat_await(struct repeat *, int64_t now);
/* Begins a pass if it is time, over what was published. `interval` in seconds. */
void repeat_begin(struct repeat *, struct spool *, uint32_t interval, uint64_t published, int64_t now);
/* The next report of the pass. False: there is none, or the pass is over. */
bool repeat_next(struct repeat *, struct spool *, struct spool_record *out);
/* A receipt was taken. */
void repeat_heard(struct repeat *, struct spool *);
/* When repeat_begin has something to do, at the latest; INT64_MAX: not by time. */
int64_t repeat_due(const struct repeat *, const struct spool *);

#endif
