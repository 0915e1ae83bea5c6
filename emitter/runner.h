/*
 * Runs the maker's executables: a process of its own, forked before the emitter is confined, that starts nothing but what passes its checks, without a
 * shell, with an empty environment, within limits of time and output, and never with a capability. Another one starts it again when it is killed.
 */
#ifndef FLEETSTATE_RUNNER_H
#define FLEETSTATE_RUNNER_H

#include "emitter/confine.h"

#define RUNNER_OUTPUT 256	/* bytes that one may print: a line */
#define RUNNER_MS 2000		/* how long one may take */

struct runner;

/* Forks; the other process becomes `user` (NULL: stays who it is) and ends with this one. NULL and a line in `error` (of 256 bytes). */
struct runner *runner_start(const struct confine_user *user, char *error) WARN_UNUSED;
void runner_stop(struct runner *);	/* NULL is fine */

/* Runs the executable of that absolute path: its output without blanks around it, in `out` with a NUL; or -1 and why, for people; or -2 and why when the
   other process did not say, and may another time. It has to be a regular file that root owns and nobody else may write. Waits for the limit at most. */
int runner_run(struct runner *, const char *path, char out[RUNNER_OUTPUT + 1], char *error) WARN_UNUSED;

#endif
