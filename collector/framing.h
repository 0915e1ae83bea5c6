/*
 * Whether a request's headers leave open where it ends, for whom it is, or who asks for what: what one reader takes for a body another takes for the next request
 * (RFC 9112 11.2). Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FRAMING_H
#define FLEETSTATE_COLLECTOR_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

struct framing {
	unsigned hosts, lengths, encodings;
	unsigned once;	/* of those that stand there once, which were there */
	bool bad_name, bad_value, bad_length, bad_encoding, twice;
};

/* One more header, zeroed struct first. A value that is absent is NULL. */
void framing_add(struct framing *, const char *name, const char *value);
/* What is wrong with them, a static text; NULL: nothing. `version` is that of the request's line. */
const char *framing_fault(const struct framing *, const char *version) __attribute__((warn_unused_result));

#endif
