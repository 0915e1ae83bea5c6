/*
 * The file by which a running emitter tells how it is, and the command that shows it. Only root and the emitter's own user can read it.
 */
#ifndef FLEETSTATE_STATUS_H
#define FLEETSTATE_STATUS_H

#include "emitter/pipeline.h"

/* Replaces the file below `dir`. It is not synced: what it says is old after a crash anyway. 0, or -1 with errno. */
int status_write(const char *state_dir, const struct pipeline_status *, uint32_t interval, uint64_t wall) WARN_UNUSED;
/* Prints it for people, or as the JSON that it is. Exit status: 0 connected or lately so, 1 not, 2 can't tell, after saying why. */
int status_show(const char *state_dir, bool json, uint64_t wall);

#endif
