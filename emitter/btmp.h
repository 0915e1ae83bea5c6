/*
 * The records of failed log-ins, utmp(5), in either of the sizes that Linux's C libraries give them.
 */
#ifndef FLEETSTATE_BTMP_H
#define FLEETSTATE_BTMP_H

#include <stdbool.h>

#include "schema/slice.h"

/* 384 bytes where time is 32 bits wide, 400 where it is 64 (arm64): whichever fits a file of `size` bytes that begins with these. 0: neither. */
size_t btmp_record_size(uint64_t size, struct slice beginning) WARN_UNUSED;

/* How many of the records were written from `since` to `until`, in seconds since 1970. `older`: whether any was before. */
uint64_t btmp_count(struct slice records, size_t record_size, uint64_t since, uint64_t until, bool *older) WARN_UNUSED;

#endif
