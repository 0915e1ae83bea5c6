/*
 * How many messages of one device may be refused. Who sends more has the rest given up unread, so that a flood of bad messages costs its neighbours
 * little. A device that reports as it should never gets here, and a good report that is given up with the bad ones waits in its device's spool. Any thread.
 */
#ifndef FLEETSTATE_COLLECTOR_BUDGET_H
#define FLEETSTATE_COLLECTOR_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/topics.h"

#define BUDGET_BURST 20	/* seconds' worth may come at once */

struct budget;

struct budget *budget_new(int64_t per_second) WARN_UNUSED;	/* 0: as many as come */
void budget_free(struct budget *);

void budget_refused(struct budget *, const struct ueid *, int64_t now_ms);
/* Whether a message of this topic is worth reading. */
bool budget_allows(struct budget *, struct slice topic, int64_t now_ms);

#endif
