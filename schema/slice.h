/*
 * A run of bytes that somebody else owns. It lives as long as the message it points into.
 */
#ifndef FLEETSTATE_SLICE_H
#define FLEETSTATE_SLICE_H

#include <stddef.h>
#include <stdint.h>

struct slice {
	const uint8_t *at;	/* NULL: absent */
	size_t len;
};

#define WARN_UNUSED __attribute__((warn_unused_result))

#endif
