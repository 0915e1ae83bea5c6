/*
 * Reasons to refuse a message; the list is reasons.def.
 */
#ifndef FLEETSTATE_REASON_H
#define FLEETSTATE_REASON_H

#include <stdbool.h>

enum reason {
#define REASON(symbol, name, permanent, help) REASON_##symbol,
#include "schema/reasons.def"
#undef REASON
	REASONS
};

/* The name that logs, counters and receipts use: "bad-signature". Never NULL. */
const char *reason_name(enum reason);
/* Whether there is one of the name, which is not "ok". */
bool reason_is(const char *name);
/* Whether sending the same bytes again can't help. */
bool reason_permanent(enum reason);

#endif
