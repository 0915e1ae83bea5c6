/*
 * Cursors of lists: where a page ended, signed with what it was a page of. Opaque to clients: base64url of position and a truncated HMAC-SHA256.
 * Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CURSOR_H
#define FLEETSTATE_COLLECTOR_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/slice.h"

#define CURSOR_KEYS 3
#define CURSOR_TEXT 1024	/* what a device says of itself is no longer */
#define CURSOR_SIZE 1426	/* 28 bytes of numbers, the text and 16 bytes of HMAC, in base64url, with the NUL */

struct cursor {
	int32_t tenant_id;
	int64_t keys[CURSOR_KEYS];	/* of the last item; 0 where the list has fewer */
	char text[CURSOR_TEXT + 1];	/* of a list that is in order of texts; else empty */
};

/* `list` names the list with its filters, unambiguously. */
void cursor_print(const struct cursor *, struct slice secret, struct slice list, char out[CURSOR_SIZE]);
/* False if it was not printed with this secret for this list. */
bool cursor_parse(const char *text, struct slice secret, struct slice list, struct cursor *) WARN_UNUSED;

#endif
