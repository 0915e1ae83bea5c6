/*
 * Watches this running system between two sweeps, and compares one sweep with the next: what happens becomes events. Its sources are a table: logs of
 * log-ins, configuration files, USB devices, the clock, listening sockets, packages, the boot. None starts a program, and none blocks.
 */
#ifndef FLEETSTATE_WITNESS_H
#define FLEETSTATE_WITNESS_H

#include <poll.h>

#include "emitter/collect.h"
#include "emitter/events.h"

#define WITNESS_FDS 4

struct witness;

/* `files`: the declared configuration files, as config_files has them, or NULL. NULL when memory ran out. A source that is not there is done without. */
struct witness *witness_new(struct events *, int dir, const char *files, const uint8_t boot_id[BOOT_ID_SIZE]) WARN_UNUSED;
void witness_free(struct witness *);
/* Other files are declared. What happened to the former ones until now is told; -1 when memory ran out: they stay. */
int witness_declare(struct witness *, const char *files) WARN_UNUSED;

/* What to wait for until `*until`, which becomes earlier when they may be looked at only then. */
size_t witness_fds(const struct witness *, struct pollfd fds[WITNESS_FDS], int64_t now, int64_t *until);
/* Looks at what changed by itself, at most once a second. */
void witness_look(struct witness *, int64_t now);
/* A sweep was made: looks at everything, and compares. */
void witness_sweep(struct witness *, const struct facts *, const struct inventory *, int64_t now);
/* The report of that sweep is durable. */
void witness_told(struct witness *, const struct inventory *);

#endif
