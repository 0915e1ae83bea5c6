/*
 * The collector's own key and its certificate chain: what receipts, checkpoints and manifests are signed with. Any thread.
 */
#ifndef FLEETSTATE_COLLECTOR_SEAL_H
#define FLEETSTATE_COLLECTOR_SEAL_H

#include "collector/settings.h"
#include "schema/cose.h"

struct seal;

/* NULL, logged, when key or certificate can't be read. */
struct seal *seal_open(const struct settings *) WARN_UNUSED;
void seal_free(struct seal *);	/* NULL is fine */
/* The whole message; its length, 0 if it does not fit or signing failed. */
size_t seal_sign(struct seal *, struct slice payload, uint8_t *out, size_t size) WARN_UNUSED;

#endif
