/*
 * The outbox's sequencer: gives each committed event its position, soon after the commit, one collector at a time; and deletes what is past its
 * retention. Readers go by position: no event ever appears behind one that they have seen, however late its transaction committed.
 */
#ifndef FLEETSTATE_COLLECTOR_OUTBOX_H
#define FLEETSTATE_COLLECTOR_OUTBOX_H

#include "collector/settings.h"

struct outbox;

/* Needs no database yet. NULL, logged, on failure. */
struct outbox *outbox_start(const struct settings *) WARN_UNUSED;
void outbox_stop(struct outbox *);

#endif
