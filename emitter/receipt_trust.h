/*
 * Whether bytes are a receipt that the operator's collector signed: the signature, and the signer's certificate up to the operator's authority.
 * What the receipt says is judged elsewhere. The emitter's one user of X.509 paths.
 */
#ifndef FLEETSTATE_RECEIPT_TRUST_H
#define FLEETSTATE_RECEIPT_TRUST_H

#include "emitter/durable.h"
#include "schema/receipt.h"

struct receipt_trust;

/* `file`: the operator's authorities, PEM. May be shared by the devices of one thread. NULL and `error` on failure. */
struct receipt_trust *receipt_trust_open(const char *file, char *error) WARN_UNUSED;
void receipt_trust_free(struct receipt_trust *);

/* Verifies and decodes. `out` has slices into `message`. The certificates are judged at the receipt's own time: a device's clock may be wrong,
   and an older receipt than the last one is refused by who calls. */
enum reason receipt_trust_check(struct receipt_trust *, struct slice message, struct receipt *out) WARN_UNUSED;

#endif
