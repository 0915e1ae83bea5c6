/*
 * Verdicts that are not ingest's: the fleet judged anew when the operator's rules changed, what time or further reports decide, and tenants' own
 * policies under a time limit of their own. What a verdict is, and how it becomes alerts and posture, is SQL: schema/sql/005_judgement.sql.
 */
#ifndef FLEETSTATE_COLLECTOR_EVALUATE_H
#define FLEETSTATE_COLLECTOR_EVALUATE_H

#include "collector/settings.h"

struct evaluate;

/* Starts two threads, so that a tenant's slow predicate holds up tenants' own alone. NULL, logged, on failure. */
struct evaluate *evaluate_start(const struct settings *) WARN_UNUSED;
void evaluate_stop(struct evaluate *);

#endif
