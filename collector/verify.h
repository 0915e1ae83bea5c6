/*
 * Verification: bytes, keys and a time in; a report or a reason out. No I/O, no clock. In this order: size, envelope, key, algorithm, signature;
 * then whether key and device are still good, so that only who holds the key moves those counters; and only then the claims.
 */
#ifndef FLEETSTATE_COLLECTOR_VERIFY_H
#define FLEETSTATE_COLLECTOR_VERIFY_H

#include "collector/enrol.h"
#include "collector/key_cache.h"
#include "collector/message.h"

#define VERIFY_GRACE (30 * 86400)	/* seconds that a known key is good for after its certificate's end */
#define VERIFY_CLOCK_AHEAD 300	/* seconds that iat may be after the reception before the clock is flagged */
#define VERIFY_RUN 64	/* messages that are looked at together, at most */
#define VERIFY_CLOCK_LEAST INT64_C(1577836800)	/* an iat before 2020 is flagged: a clock that was never set */

/* Fills in the verify part of `message`, whose ueid, bytes, received_us and device (NULL: not known) the caller has set, the rest zero. Sets
   reason, or parked, or neither: then report is good, and enrolment is there if the key is new or its certificate begins later than the one we
   have. The digest of the message is always there. Call it again on a parked message whose device became known. */
void verify_message(struct message *message, struct key_cache *, const struct anchors *);

/* The same for all of a run that have no reason yet, oldest first. A device's backlog is a chain: the newest signature is verified, and of a quiet report
   directly before one that was found good, under the same key and in the same epoch, only that its bytes are those whose digest that one signed. Where
   the chain breaks, and for everything else, the signature itself is verified. */
void verify_run(struct message **run, size_t n, struct key_cache *, const struct anchors *);

#endif
