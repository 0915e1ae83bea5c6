/*
 * Challenges: hands the nonce of each open one to its device, in a receipt, until a report answers or its time is over; says which devices are heard
 * and do not answer. The question stands in a table, so it does not matter which collector took it, and it outlives the one that should have sent it.
 */
#ifndef FLEETSTATE_COLLECTOR_CHALLENGE_H
#define FLEETSTATE_COLLECTOR_CHALLENGE_H

#include <stdbool.h>

#include "collector/ledger.h"
#include "collector/settings.h"

struct challenge_events {
	bool (*is_up)(void *context, unsigned shard);	/* whether receipts of its devices go out by us */
	/* The device's account as the database has it. */
	void (*send)(void *context, const struct ueid *, const struct ledger *, struct slice nonce);
	void *context;
};

struct challenger;

/* The settings must outlive it. NULL, logged, on failure. */
struct challenger *challenger_start(const struct settings *, const struct challenge_events *) WARN_UNUSED;
void challenger_stop(struct challenger *);

#endif
