/*
 * Bytes to test with, written as text or in hex. Include it after cmocka.h.
 */
#ifndef FLEETSTATE_TESTS_BYTES_H
#define FLEETSTATE_TESTS_BYTES_H

#include <string.h>

#include "schema/topics.h"

static inline struct slice
text(const char *string)
{
	return (struct slice){(const uint8_t *)string, strlen(string)};
}

/* Into `out`, which has room for half the text. */
static inline struct slice
unhex(const char *hex, uint8_t *out)
{
	size_t len = strlen(hex) / 2;

	assert_true(hex_parse(text(hex), out, len));
	return (struct slice){out, len};
}

#endif
