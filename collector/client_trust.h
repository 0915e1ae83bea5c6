/*
 * Whose certificates clients of the HTTP interface may show: authorities, and their lists of revoked ones (RFC 5280). Bytes and a time in, a verdict
 * out. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CLIENT_TRUST_H
#define FLEETSTATE_COLLECTOR_CLIENT_TRUST_H

#include <stddef.h>
#include <stdint.h>

#include "schema/slice.h"

#define CLIENT_TRUST_WHY 256

struct client_trust;

/* `authorities`: certificates in PEM, one of them self-signed. `lists`: theirs in PEM, at NULL: none is asked for; else each authority of a chain has to
   have given one that is good. NULL: `why` says what stands against it. */
struct client_trust *client_trust_new(struct slice authorities, struct slice lists, char why[CLIENT_TRUST_WHY]) WARN_UNUSED;
void client_trust_free(struct client_trust *);

/* A chain as it was shown, in DER, the leaf first, at `now` in seconds since 1970. NULL: it is good, and for a TLS client; else what is wrong with it,
   a static text. Any thread. */
const char *client_trust_judge(const struct client_trust *, const struct slice *chain, size_t n, int64_t now) WARN_UNUSED;
/* When the first of the lists is over; INT64_MAX: there is none. */
int64_t client_trust_ends(const struct client_trust *) WARN_UNUSED;

#endif
