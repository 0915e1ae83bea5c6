/*
 * From judgement to rows: what each device, epoch, report and refusal of a judged batch becomes in the database.
 */
#ifndef FLEETSTATE_COLLECTOR_RECORD_H
#define FLEETSTATE_COLLECTOR_RECORD_H

#include <time.h>

#include "collector/judge.h"
#include "collector/transaction.h"

/* Refused messages are all counted; so many of a reason and second are kept as samples. Zeroed at first. */
struct sampler {
	struct {
		time_t second;
		unsigned n;
	} of[REASONS];
};

/* -1 when memory ran out. */
int record(struct transaction *, const struct judge *, struct message **, size_t n, struct sampler *) WARN_UNUSED;

#endif
