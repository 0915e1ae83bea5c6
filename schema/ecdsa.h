/*
 * How an ECDSA signature by P-256 or P-384 is written: as r || s, each 32 or 48 bytes wide (RFC 9053 2.1), or as the DER that OpenSSL wants. As s
 * and n - s sign alike, only the lower one is sent and taken: so a message has one signature that nobody can respell.
 */
#ifndef FLEETSTATE_ECDSA_H
#define FLEETSTATE_ECDSA_H

#include <stdbool.h>

#include "schema/slice.h"

#define ECDSA_DER_MAX (2 + 2 * (2 + 1 + 48))

/* In all three r || s is 64 bytes for P-256, 96 for P-384; the caller has looked. */

bool ecdsa_s_is_high(struct slice signature);	/* over half of the group's order */
size_t ecdsa_print(struct slice signature, uint8_t der[ECDSA_DER_MAX]);	/* returns the DER's length */
/* From DER, with s brought down if it is high. 0; -1 if it is none, does not fit, or memory ran out. */
int ecdsa_parse(struct slice der, size_t len, uint8_t *signature) WARN_UNUSED;

#endif
