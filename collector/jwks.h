/*
 * The identity provider's keys: read from a file or through the way out, by a thread of its own, and kept. No request ever waits for them.
 */
#ifndef FLEETSTATE_COLLECTOR_JWKS_H
#define FLEETSTATE_COLLECTOR_JWKS_H

#include "collector/jwt.h"
#include "collector/settings.h"

struct jwks;

/* NULL after logging why: settings that do not fit, or a file that is not right. A URL is waited for by nobody. */
struct jwks *jwks_start(const struct settings *) WARN_UNUSED;
void jwks_stop(struct jwks *);

const char *jwks_issuer(const struct jwks *);
/* As jwt_verify, by the keys that are here. False: there are none yet. A key that is not known has them read again, before long. */
bool jwks_verify(struct jwks *, const char *text, int64_t now, struct jwt *, enum jwt_refusal *) WARN_UNUSED;

#endif
