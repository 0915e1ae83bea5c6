/*
 * What callers show: bearer tokens (RFC 6750), "fst_" and 256 random bits in base64url, and browsers' sessions, the same after "fss_". The database
 * knows only their SHA-256. And what they may be good for: roles and scopes.
 */
#ifndef FLEETSTATE_COLLECTOR_AUTH_H
#define FLEETSTATE_COLLECTOR_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/cose.h"
#include "schema/slice.h"

#define TOKEN_PREFIX "fst_"	/* secret scanners look for it */
#define SESSION_PREFIX "fss_"
#define TOKEN_SIZE 48	/* the prefix, 43 characters, the NUL */
#define SESSION_COOKIE "__Host-fleetstate"
#define SESSION_SECONDS (8 * 3600)	/* as the database has it */

/* From least to most. An operator stands above tenants. */
enum role { ROLE_NONE, ROLE_VIEWER, ROLE_ANALYST, ROLE_ADMIN, ROLE_OPERATOR };

/* What a token may be narrowed to. ANY: whatever it is narrowed to. */
enum scope {
	SCOPE_ANY,
#define SCOPE(symbol, name, help) SCOPE_##symbol,
#include "collector/scopes.def"
#undef SCOPE
};

#define SCOPE_BIT(scope) (1u << (scope))
#define SCOPES_ALL UINT32_MAX

/* The scope of that name, or SCOPE_ANY: there is none. */
enum scope scope_parse(const char *name, size_t len) WARN_UNUSED;
/* Of names with spaces between, their bits. What is no name gives none. */
uint32_t scopes_parse(const char *names, size_t len) WARN_UNUSED;

/* The other way round, as much as fits. */
void scopes_print(uint32_t bits, char *out, size_t size);

bool role_parse(const char *name, enum role *) WARN_UNUSED;
const char *role_name(enum role);	/* static */

/* From the value of an Authorization header, which may be NULL: the token's hash, or false if it has not the form of one of ours. */
bool token_parse(const char *authorization, uint8_t hash[DIGEST_SIZE]) WARN_UNUSED;

/* The token in it, whatever it looks like: what stands behind "Bearer", or all. */
const char *bearer(const char *authorization);
/* The same of a session's cookie. */
bool session_parse(const char *cookie, uint8_t hash[DIGEST_SIZE]) WARN_UNUSED;

/* A new one with this prefix. -1 when the system has no random bytes. */
int token_make(const char *prefix, char token[TOKEN_SIZE], uint8_t hash[DIGEST_SIZE]) WARN_UNUSED;

/* What a page shows beside its session's cookie when it changes something: another site's page has the cookie sent, but can't know this. */
void session_csrf(const char *session, char csrf[TOKEN_SIZE]);
/* Whether `shown`, which may be NULL, is it. */
bool session_csrf_fits(const char *session, const char *shown) WARN_UNUSED;
/* Whether the Origin header (NULL: none; RFC 6454) names the host that was asked, by whatever scheme: TLS may end before us. */
bool origin_is(const char *origin, const char *host) WARN_UNUSED;

/* base64url without padding (RFC 4648 5). encode writes 4 characters for each 3 bytes or part of them, and a NUL. decode wants just `len`
   bytes, and the one spelling of them. */
void base64url_encode(const uint8_t *, size_t len, char *out);
bool base64url_decode(const char *text, uint8_t *out, size_t len) WARN_UNUSED;

#endif
