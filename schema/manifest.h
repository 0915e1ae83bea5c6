/*
 * The manifest of an export: what the collector gave out, and as of when (manifest.cddl). The payload only: cose.h signs and verifies.
 */
#ifndef FLEETSTATE_MANIFEST_H
#define FLEETSTATE_MANIFEST_H

#include "schema/report.h"

#define MANIFEST_TENANT 64 /* with its NUL, as the next */
#define MANIFEST_FORMAT 32
#define LIMIT_MANIFEST (LIMIT_CHAIN + 512) /* the whole message */

struct manifest {
	uint64_t iat; /* 6, by the collector's clock */
	char tenant[MANIFEST_TENANT]; /* -65570: its id */
	char format[MANIFEST_FORMAT];
	uint64_t rows, size; /* devices; bytes of the body */
	uint8_t sha256[DIGEST_SIZE]; /* of the body */
	uint64_t position; /* of the change feed */
	bool has_since;
	uint64_t since; /* changed_since */
};

enum reason manifest_decode(struct slice payload, struct manifest *out) WARN_UNUSED;
void manifest_encode(const struct manifest *, struct cbor_writer *);

#endif
