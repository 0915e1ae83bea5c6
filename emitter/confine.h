/*
 * The emitter's own obedience: it gives up what it does not need. The one user of libcap-ng and libseccomp.
 */
#ifndef FLEETSTATE_CONFINE_H
#define FLEETSTATE_CONFINE_H

#include <stdbool.h>
#include <sys/types.h>

#include "schema/slice.h"

struct confine_user {
	uid_t uid;
	gid_t gid;
};

/* Who that user is. -1 and a line in `error` (of 256 bytes) when there is none. */
int confine_find_user(const char *name, struct confine_user *, char *error) WARN_UNUSED;
/* Gives a directory, made if it is not there, and what root owns below it, to that user; only root can, and only if it is root's own. 0/-1. */
int confine_hand_over(const char *directory, const struct confine_user *, char *error) WARN_UNUSED;
/* Becomes that user for good, with no more of the capabilities at hand than probes need; without privilege to do so only if this is that user
   already. No program that this process starts can have more. 0/-1. */
int confine_become(const struct confine_user *, char *error) WARN_UNUSED;
/* Becomes that user (NULL: stays) with no capability at all. 0/-1. */
int confine_strip(const struct confine_user *, char *error) WARN_UNUSED;
/* From now on all threads of this process can make no system calls but those that the emitter needs; others fail with EPERM. 0/-1. */
int confine_calls(char *error) WARN_UNUSED;

#endif
