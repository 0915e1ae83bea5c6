/*
 * The last reports that the collector refused for good, one file each, for whoever has to find out why.
 */
#ifndef FLEETSTATE_QUARANTINE_H
#define FLEETSTATE_QUARANTINE_H

#include "emitter/durable.h"

#define QUARANTINE_MAX 16

/* Keeps the message below the directory `at`, as quarantine/<seq>-<reason>.cose, removing the oldest above the maximum. 0, or -1 with errno. */
int quarantine_keep(int at, uint64_t seq, struct slice reason, struct slice message) WARN_UNUSED;

#endif
