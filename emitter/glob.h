/*
 * Names with wildcards, below the root of a source: "etc/pam.d/common-*". As glob(7), but that no name beginning with a dot is matched
 * by a wildcard, and "{a,b}" and "~" mean nothing.
 */
#ifndef FLEETSTATE_GLOB_H
#define FLEETSTATE_GLOB_H

#include "emitter/source.h"

/* Calls `take` for each path that matches and is there, in the order of their bytes; it may read what it likes, and returns false to stop. At most
   `max` are given. -1 when there are more, a directory can't be read (source_why), or memory ran out. */
int source_glob(struct source *, const char *pattern, size_t max, bool (*take)(void *, const char *path), void *) WARN_UNUSED;

#endif
