/*
 * The way of a report through the collector: subscribe -> verify -> store -> answer, and what steers it. The stages are a table in pipeline.c.
 */
#ifndef FLEETSTATE_COLLECTOR_PIPELINE_H
#define FLEETSTATE_COLLECTOR_PIPELINE_H

#include <stdbool.h>

#include "collector/settings.h"
#include "collector/tls.h"

struct pipeline;

/* Starts all stages. NULL after logging which one could not. The settings must outlive it, and `tls`, which may be NULL. */
struct pipeline *pipeline_start(const struct settings *, struct tls *tls) WARN_UNUSED;
/* Lets the shards go, finishes what is in the queue, stops the stages in reverse. */
void pipeline_stop(struct pipeline *);

/* For /readyz, from any thread; `why` holds 128 bytes. The context is the pipeline. */
bool pipeline_leases_ready(void *context, char *why);
bool pipeline_broker_ready(void *context, char *why);

#endif
