/*
 * JSON Web Tokens (RFC 7519) of an identity provider, as access tokens: a text, the provider's keys (RFC 7517), what is wanted of it and a `now` in; who it
 * speaks for or a refusal out. Only RS256 and ES256, by keys that we hold: whatever a token brings along or points at is not looked at (RFC 8725). Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_JWT_H
#define FLEETSTATE_COLLECTOR_JWT_H

#include <stdbool.h>

#include "collector/auth.h"

#define JWT_MAX 8192		/* bytes of a token; providers' have one to three thousand */
#define JWK_SET_MAX (64 * 1024)	/* bytes; more than a call out takes in */
#define JWK_SET_KEYS 64		/* what more there are do not count */
#define JWT_WHY_SIZE 128
#define JWT_NAME_SIZE 256	/* of a subject, a name */

enum jwt_refusal {
	JWT_OK,
#define JWT_REFUSAL(symbol, why) JWT_##symbol,
#include "collector/jwt_refusals.def"
#undef JWT_REFUSAL
};
/* Static text; NULL of JWT_OK. */
const char *jwt_why(enum jwt_refusal);

struct jwk_set;

/* Its keys that are for verifying RS256 (RSA of 2048 to 8192 bits) or ES256 and have a name; others are passed over. NULL: `why` says what is wrong with
   the whole. */
struct jwk_set *jwk_set_parse(struct slice json, char why[JWT_WHY_SIZE]) WARN_UNUSED;
void jwk_set_free(struct jwk_set *);
size_t jwk_set_len(const struct jwk_set *);

/* What is wanted of a token, and how its claims are read. A claim is named by itself, or by the way to it: "realm_access.roles". A map is words like
   "value=name", with spaces between. */
struct jwt_rules {
	const char *issuer, *audience;
	int64_t leeway_s;
	const char *tenant_claim, *tenants;	/* NULL: the value is the tenant's name */
	const char *role_claim, *roles;
	const char *scope_claim, *scopes;	/* NULL claim: it narrows nothing; NULL map: values are scopes' names */
	const char *name_claim;
};

/* Whom it speaks for. */
struct jwt {
	char subject[JWT_NAME_SIZE], name[JWT_NAME_SIZE];
	char tenant[64];		/* empty: an operator's */
	enum role role;
	uint32_t scopes;		/* bits; 0: it is narrowed to none, and may what its role may */
	int64_t expires;		/* seconds since 1970 */
};

/* Whether a credential looks like one at all: three parts, the first an object's. */
bool jwt_has_form(const char *text) WARN_UNUSED;
/* `now` in seconds since 1970. `out` is written on JWT_OK only. Any thread. */
enum jwt_refusal jwt_verify(const struct jwk_set *, const struct jwt_rules *, const char *text, int64_t now, struct jwt *out) WARN_UNUSED;
/* Where a map of roles or of scopes goes wrong; NULL: nowhere. */
const char *jwt_roles_fault(const char *map), *jwt_scopes_fault(const char *map);

#endif
