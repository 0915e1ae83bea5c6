/*
 * Compresses a body piece by piece, into one stream of gzip (RFC 1952) or zstd (RFC 8878) that can be unpacked up to the end of each piece. Its memory is
 * bounded: about a megabyte.
 */
#ifndef FLEETSTATE_COLLECTOR_PACKER_H
#define FLEETSTATE_COLLECTOR_PACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/slice.h"

enum coding { CODING_NONE, CODING_GZIP, CODING_ZSTD };

struct packer;

/* Of a coding that is one. NULL: out of memory. */
struct packer *packer_new(enum coding) WARN_UNUSED;
void packer_free(struct packer *); /* NULL is fine */
/* What comes of the bytes, to be freed; `ends`: nothing follows. -1: out of memory. */
int packer_add(struct packer *, struct slice, bool ends, uint8_t **out, size_t *len) WARN_UNUSED;

#endif
