/*
 * The threads that verify: each takes the messages of its share of the devices, looks their keys up, and passes them on finished. A report whose key
 * nobody knows waits with its worker until its device is enrolled, or its time is over.
 */
#ifndef FLEETSTATE_COLLECTOR_WORKERS_H
#define FLEETSTATE_COLLECTOR_WORKERS_H

#include "collector/answer.h"
#include "collector/budget.h"
#include "collector/enrol.h"
#include "collector/keyring.h"
#include "collector/queue.h"
#include "collector/settings.h"

struct workers;

/* NULL, logged, when the threads can't be made. The anchors are taken over. */
struct workers *workers_start(const struct settings *, struct queue *, struct keyring *, struct answer *, struct budget *, struct anchors *) WARN_UNUSED;
/* The queue was closed: waits until they have finished what is in it. */
void workers_join(struct workers *);
void workers_free(struct workers *);	/* after workers_join, which it does if need be */
/* From the next run of messages on. Takes them over and frees the former. Any thread. */
void workers_set_anchors(struct workers *, struct anchors *);
/* Whether reports that wait are let go instead: for a shard that is handed over. */
void workers_drain(struct workers *, unsigned shard, bool);
/* From now on a database that fails is not waited for. */
void workers_give_up(struct workers *);

#endif
