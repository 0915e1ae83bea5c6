/*
 * Sends the outbox's events to the sinks. Several collectors share the sinks: each is led by one, which holds its advisory lock in the database; one that
 * dies is followed within seconds. The kinds of sinks are a table in forward.c.
 */
#ifndef FLEETSTATE_COLLECTOR_FORWARD_H
#define FLEETSTATE_COLLECTOR_FORWARD_H

#include "collector/settings.h"

struct forward;

/* Needs no database yet. NULL, logged: the settings are wrong, or memory. */
struct forward *forward_start(const struct settings *) WARN_UNUSED;
/* Waits a moment for what is on its way. */
void forward_stop(struct forward *);

#endif
