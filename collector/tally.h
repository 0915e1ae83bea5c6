/*
 * What went out of an export so far: its bytes' digest and number. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_TALLY_H
#define FLEETSTATE_COLLECTOR_TALLY_H

#include "schema/key.h"

struct tally;

struct tally *tally_new(void) WARN_UNUSED; /* NULL: no memory */
void tally_free(struct tally *); /* NULL is fine */
void tally_add(struct tally *, struct slice);
/* The last word on it. False: the library failed meanwhile. */
bool tally_end(struct tally *, uint8_t digest[DIGEST_SIZE], uint64_t *size) WARN_UNUSED;

#endif
