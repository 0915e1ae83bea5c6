/*
 * How a package URL (ECMA-427) writes what it names: emitters write them so, and who asks with one is read so. Pure.
 */
#ifndef FLEETSTATE_PURL_H
#define FLEETSTATE_PURL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands as it is (clause 5.4); ":" needs no encoding anywhere. All else is "%" and two digits, which are capital. */
bool purl_plain(uint8_t);
/* What a byte becomes: one character, or three. */
size_t purl_encode(uint8_t, char out[3]);

#endif
