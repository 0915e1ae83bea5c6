/*
 * Makes a checkpoint (checkpoint.cddl) whenever the last one is old enough, at one collector at a time, and hands it to every tenant's change feed.
 * Then drops the partitions of reports whose retention is over, which checkpoints speak for.
 */
#ifndef FLEETSTATE_COLLECTOR_CHECKPOINT_H
#define FLEETSTATE_COLLECTOR_CHECKPOINT_H

#include "collector/settings.h"

struct checkpointer;

struct checkpointer *checkpointer_start(const struct settings *) WARN_UNUSED;
void checkpointer_stop(struct checkpointer *);

#endif
