/*
 * How a package URL (ECMA-427) writes what it names: emitters write them so, and who asks with one is read so. Pure.
 */
#ifndef FLEETSTATE_PURL_H
#define FLEETSTATE_PURL_H

#include <stddef.h>
#include <stdint.h>

/* What a byte becomes: itself, or "%" and two digits. Returns how many characters that is. */
size_t purl_encode(uint8_t, char out[3]);

#endif
