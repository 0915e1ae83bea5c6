/*
 * The secure baseline of a device's configuration, baseline.cddl: made by the maker's command line, checked by the emitter.
 */
#ifndef FLEETSTATE_BASELINE_H
#define FLEETSTATE_BASELINE_H

#include "schema/cose.h"
#include "schema/limits.h"

struct baseline_file {
	struct slice path;	/* absolute */
	struct slice sha256;	/* 32 bytes */
	uint32_t uid, gid, mode;
};

struct baseline {
	uint64_t made;		/* seconds since 1970 */
	struct slice patterns[LIMIT_BASELINE_PATTERNS];
	size_t patterns_len;
	struct baseline_file files[LIMIT_BASELINE_FILES];
	size_t files_len;
};

/* The payload. What it says points into it. */
enum reason baseline_decode(struct slice payload, struct baseline *) WARN_UNUSED;
/* Returns the length, 0 when it does not fit. Patterns and files must be sorted. */
size_t baseline_encode(const struct baseline *, uint8_t *out, size_t size) WARN_UNUSED;

/* A whole message: its signature by just this key, then its payload. */
enum reason baseline_open(struct slice message, struct cose_key *, struct baseline *) WARN_UNUSED;

#endif
