/*
 * Personal facts, those that facts.def marks so: sent as they are, hashed for this device, or left out. The monitor judges before, so that what it says
 * is the same; it never names a person.
 */
#ifndef FLEETSTATE_PERSONAL_H
#define FLEETSTATE_PERSONAL_H

#include <stdbool.h>

#include "schema/facts.h"
#include "schema/slice.h"

#define PERSONAL_SECRET 32
#define PERSONAL_HASH 22	/* "hmac:", 16 hex digits and the NUL */

enum personal_way { PERSONAL_KEEP, PERSONAL_HASHED, PERSONAL_OMITTED };

struct personal {
	enum personal_way way;
	uint8_t secret[PERSONAL_SECRET];	/* this device's own: who has only reports can't try names */
};

/* `way` is keep, hash or omit. The secret is made in the state directory when it is first needed; without a directory (NULL) it is good for this run
   only. 0, or -1 and a line in `error` (of 256 bytes). */
int personal_open(struct personal *, const char *way, const char *state_dir, char *error) WARN_UNUSED;
/* A person's name or address as it may be told; NULL when it may not be. */
const char *personal_text(const struct personal *, const char *text, char hash[PERSONAL_HASH]);
/* Makes `told` what `facts` are, as they may be told. Lists keep their length; of a text all words are hashed but the few that name nobody, "alice
   sudo". What is left out says how much that was. -1: memory ran out. */
int personal_apply(const struct personal *, const struct facts *facts, struct facts *told) WARN_UNUSED;

#endif
