/*
 * Sinks' secrets as the database keeps them: AES-256-GCM under a key that lies in a file of the operator's, and never in the database. A sealed secret
 * is bound to the sink's tenant, name, kind and target: moved to another row, or with the target changed, it does not open.
 */
#ifndef FLEETSTATE_COLLECTOR_VAULT_H
#define FLEETSTATE_COLLECTOR_VAULT_H

#include <stdbool.h>

#include "schema/slice.h"

#define VAULT_KEY_SIZE 32
#define VAULT_OVERHEAD (1 + 12 + 16)	/* version, nonce, tag */
#define VAULT_SECRET_MAX 16384		/* of a sink: a client's key in PEM */
#define VAULT_MAX (4 * 1024 * 1024)	/* of anything that is sealed: an answer that may be repeated */
#define VAULT_WHY_SIZE 256

struct vault_key {
	uint8_t at[VAULT_KEY_SIZE];
};

/* 64 hex digits; others than owner and group must not be able to read the file. -1, `why` says it. Cleanse the key. */
int vault_key_load(struct vault_key *, const char *file, char *why) WARN_UNUSED;
/* What a secret is bound to, NUL between the parts. `tenant` NULL: an operator's. Returns the length; 0: too long for `size`. */
size_t vault_binding(char *at, size_t size, const char *tenant, const char *name, const char *kind, const char *target);
/* `out` holds secret.len + VAULT_OVERHEAD. Returns its length, 0 on failure. */
size_t vault_close(const struct vault_key *, struct slice binding, struct slice secret, uint8_t *out) WARN_UNUSED;
/* `out` holds sealed.len. Returns the secret's length, -1 if it does not open: another key, another binding, or changed. */
int vault_open(const struct vault_key *, struct slice binding, struct slice sealed, uint8_t *out) WARN_UNUSED;

#endif
