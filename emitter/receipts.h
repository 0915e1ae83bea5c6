/*
 * What a trusted receipt is to this device: ours and new, or one of several things that are only counted. Pure, but for reading the spool.
 */
#ifndef FLEETSTATE_RECEIPTS_H
#define FLEETSTATE_RECEIPTS_H

#include "emitter/spool.h"
#include "schema/receipt.h"

enum counter {
#define COUNTER(symbol, name, help) COUNTER_##symbol,
#include "emitter/counters.def"
#undef COUNTER
	COUNTERS
};

const char *counter_name(enum counter);
const char *counter_help(enum counter);

/* COUNTER_RECEIPTS: it holds for us. Else what to count. `last` is the last number that we used. */
enum counter receipts_judge(const struct receipt *, const struct ueid *, uint64_t epoch, uint64_t last, struct spool *);

#endif
