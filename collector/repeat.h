/*
 * Requests that may be repeated (Idempotency-Key): what one is told from another by, and its answer as it is kept. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_REPEAT_H
#define FLEETSTATE_COLLECTOR_REPEAT_H

#include "collector/request.h"

#define REPEAT_KEY_MAX 255

/* 1 to REPEAT_KEY_MAX bytes of visible ASCII. */
bool repeat_key_ok(const char *key) WARN_UNUSED;
/* What the database knows of a key. */
void repeat_key_hash(const char *key, uint8_t hash[DIGEST_SIZE]);
/* Of all that is asked: method, path, parameters and body, as they came. */
void repeat_digest(const struct request *, uint8_t digest[DIGEST_SIZE]);
/* The answer, sealed under the key: a secret in it opens to nobody who reads the database. The caller frees `*sealed`. -1: memory. */
int repeat_close(const struct request *, const struct response *, uint8_t **sealed, size_t *len) WARN_UNUSED;
/* The answer again, with a header that says so. -1: it does not open. */
int repeat_open(const struct request *, struct slice sealed, struct response *) WARN_UNUSED;

#endif
