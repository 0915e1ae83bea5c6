/*
 * What a cryptographic library's file says of itself: name and version, and the security level that OpenSSL was compiled with.
 */
#ifndef FLEETSTATE_CRYPTO_LIBRARY_H
#define FLEETSTATE_CRYPTO_LIBRARY_H

#include <stdbool.h>

#include "schema/slice.h"

#define LIBRARY_MARK 64	/* the longest text that is looked for */

struct crypto_library {
	char version[48];	/* "OpenSSL 3.0.14"; empty: not found */
	int level;		/* -1: its compiler's arguments do not say */

	uint8_t seam[2 * LIBRARY_MARK];
	size_t seam_len;
};
void crypto_library_init(struct crypto_library *);
/* The next piece of the file. false: nothing more is needed. */
bool crypto_library_feed(struct crypto_library *, struct slice piece);
/* The level in effect when no configuration sets one; -1: not known. */
int crypto_library_level(const struct crypto_library *);

#endif
