/*
 * What a compressed file holds, in pieces, unpacked in a child process by the library that its kind needs: gzip, lz4, xz or zstd. The libraries are
 * only loaded there, and are there wherever apt or apk is.
 */
#ifndef FLEETSTATE_UNPACK_H
#define FLEETSTATE_UNPACK_H

#include <stdbool.h>

#include "emitter/child.h"

enum unpack_kind { UNPACK_GZIP, UNPACK_LZ4, UNPACK_XZ, UNPACK_ZSTD, UNPACK_KINDS };
const char *unpack_suffix(enum unpack_kind);	/* ".gz" */

/* `file` is open to read. As child_run. */
int unpack(enum unpack_kind, int file, bool (*take)(void *, struct slice), void *taker, char why[CHILD_WHY]) WARN_UNUSED;

#endif
