/*
 * What the numbers of the kernel say of the machine's health. Pure.
 */
#ifndef FLEETSTATE_HEALTH_H
#define FLEETSTATE_HEALTH_H

#include <stdbool.h>

#include "schema/slice.h"

/* Less than 5 % of what users other than root may fill, or of the inodes where they are counted: as df(1) reckons. */
bool health_is_full(uint64_t blocks, uint64_t free, uint64_t available, uint64_t inodes, uint64_t inodes_free);
/* oom_kill of /proc/vmstat. */
bool oom_kills_parse(struct slice text, uint64_t *kills) WARN_UNUSED;

#endif
