/*
 * Bearer tokens (RFC 6750): "fst_" and 256 random bits in base64url. The database knows only their SHA-256.
 */
#ifndef FLEETSTATE_COLLECTOR_AUTH_H
#define FLEETSTATE_COLLECTOR_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/cose.h"
#include "schema/slice.h"

#define TOKEN_PREFIX "fst_"
#define TOKEN_SIZE 48	/* the prefix, 43 characters, the NUL */

/* From least to most. An operator stands above tenants. */
enum role { ROLE_NONE, ROLE_VIEWER, ROLE_ANALYST, ROLE_ADMIN, ROLE_OPERATOR };

/* What a token may be narrowed to. ANY: whatever it is narrowed to. */
enum scope {
	SCOPE_ANY,
#define SCOPE(symbol, name, help) SCOPE_##symbol,
#include "collector/scopes.def"
#undef SCOPE
};

bool role_parse(const char *name, enum role *) WARN_UNUSED;

/* From the value of an Authorization header, which may be NULL: the token's hash, or false if it has not the form of one of ours. */
bool token_parse(const char *authorization, uint8_t hash[DIGEST_SIZE]) WARN_UNUSED;

/* A new one. -1 when the system has no random bytes. */
int token_make(char token[TOKEN_SIZE], uint8_t hash[DIGEST_SIZE]) WARN_UNUSED;

/* base64url without padding (RFC 4648 5). encode writes 4 characters for each 3 bytes or part of them, and a NUL. decode wants just `len`
   bytes, and the one spelling of them. */
void base64url_encode(const uint8_t *, size_t len, char *out);
bool base64url_decode(const char *text, uint8_t *out, size_t len) WARN_UNUSED;

#endif
