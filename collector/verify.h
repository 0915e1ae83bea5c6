/*
 * Verification: bytes, keys and a time in; a report or a reason out. No I/O, no clock. In this order: size, envelope, key, algorithm, signature,
 * and only then the claims.
 */
#ifndef FLEETSTATE_COLLECTOR_VERIFY_H
#define FLEETSTATE_COLLECTOR_VERIFY_H

#include "collector/enrol.h"
#include "collector/keyring.h"
#include "collector/message.h"

#define VERIFY_GRACE (30 * 86400)	/* seconds that a known key is good for after its certificate's end */
#define VERIFY_CLOCK_SUSPECT 300	/* seconds between iat and reception, beyond the interval, that flag a clock ahead; or any iat before 2020 */

/* Fills in the verify part of `message`, whose device the caller has looked up (NULL: not known). Sets reason, or parked, or enrolment. */
void verify_message(struct message *message, struct key_cache *, const struct anchors *);

#endif
