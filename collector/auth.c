#include "collector/auth.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TOKEN_BYTES 32

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static const char *const roles[] = {[ROLE_NONE] = "none",
				    [ROLE_VIEWER] = "viewer",
				    [ROLE_ANALYST] = "analyst",
				    [ROLE_ADMIN] = "admin",
				    [ROLE_OPERATOR] = "operator"};

const char *
role_name(enum role role)
{
	return roles[role];
}

bool
role_parse(const char *name, enum role *role)
{
	for (enum role r = ROLE_VIEWER; r <= ROLE_OPERATOR; r++)
		if (strcmp(roles[r], name) == 0) {
			*role = r;
			return true;
		}
	return false;
}

static const char *const scopes[] = {
#define SCOPE(symbol, name, help) [SCOPE_##symbol] = name,
#include "collector/scopes.def"
#undef SCOPE
};

enum scope
scope_parse(const char *name, size_t len)
{
	for (size_t i = SCOPE_ANY + 1; i < sizeof scopes / sizeof *scopes; i++)
		if (strlen(scopes[i]) == len && memcmp(scopes[i], name, len) == 0)
			return (enum scope)i;
	return SCOPE_ANY;
}

uint32_t
scopes_parse(const char *names, size_t len)
{
	uint32_t bits = 0;

	for (size_t at = 0, n; at < len; at += n + 1) {
		const char *end = memchr(names + at, ' ', len - at);

		n = end == NULL ? len - at : (size_t)(end - (names + at));
		bits |= SCOPE_BIT(scope_parse(names + at, n));
	}
	return bits & ~SCOPE_BIT(SCOPE_ANY);
}

void
scopes_print(uint32_t bits, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = SCOPE_ANY + 1; i < sizeof scopes / sizeof *scopes; i++)
		if ((bits & SCOPE_BIT(i)) != 0 && len < size)
			len += (size_t)snprintf(out + len, size - len, "%s%s", len == 0 ? "" : " ", scopes[i]);
}

void
base64url_encode(const uint8_t *at, size_t len, char *out)
{
	uint32_t bits = 0;
	unsigned held = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | at[i];
		for (held += 8; held >= 6; held -= 6)
			*out++ = alphabet[bits >> (held - 6) & 63];
	}
	if (held > 0)
		*out++ = alphabet[bits << (6 - held) & 63];
	*out = '\0';
}

bool
base64url_decode(const char *text, uint8_t *out, size_t len)
{
	uint32_t bits = 0;
	unsigned held = 0;
	size_t n = 0;

	for (; *text != '\0'; text++) {
		const char *digit = strchr(alphabet, *text);

		if (digit == NULL || n > len)
			return false;
		bits = bits << 6 | (uint32_t)(digit - alphabet);
		held += 6;
		if (held >= 8) {
			held -= 8;
			if (n == len)
				return false;
			out[n++] = (uint8_t)(bits >> held);
		}
	}
	/* What is left over must be zero bits, fewer than a character's: else two texts would mean the same bytes. */
	return n == len && held < 6 && (bits & ((1u << held) - 1)) == 0;
}

static bool
secret_parse(const char *text, const char *prefix, uint8_t hash[DIGEST_SIZE])
{
	uint8_t bytes[TOKEN_BYTES];
	bool good = strncmp(text, prefix, strlen(prefix)) == 0 &&
		    base64url_decode(text + strlen(prefix), bytes, sizeof bytes);

	OPENSSL_cleanse(bytes, sizeof bytes);
	if (!good)
		return false;
	sha256((struct slice){(const uint8_t *)text, strlen(text)}, hash);
	return true;
}

const char *
bearer(const char *authorization)
{
	return strncasecmp(authorization, "Bearer ", 7) == 0 ? authorization + 7 + strspn(authorization + 7, " ")
							     : authorization;
}

bool
token_parse(const char *authorization, uint8_t hash[DIGEST_SIZE])
{
	return authorization != NULL && bearer(authorization) != authorization &&
	       secret_parse(bearer(authorization), TOKEN_PREFIX, hash);
}

bool
session_parse(const char *cookie, uint8_t hash[DIGEST_SIZE])
{
	return cookie != NULL && secret_parse(cookie, SESSION_PREFIX, hash);
}

void
session_csrf(const char *session, char csrf[TOKEN_SIZE])
{
	static const char purpose[] = "fleetstate csrf ";
	uint8_t text[sizeof purpose + TOKEN_SIZE], digest[DIGEST_SIZE];
	size_t len = strlen(session) < TOKEN_SIZE ? strlen(session) : TOKEN_SIZE;

	memcpy(text, purpose, sizeof purpose);
	memcpy(text + sizeof purpose, session, len);
	sha256((struct slice){text, sizeof purpose + len}, digest);
	base64url_encode(digest, sizeof digest, csrf);
	OPENSSL_cleanse(text, sizeof text);
}

bool
session_csrf_fits(const char *session, const char *shown)
{
	char csrf[TOKEN_SIZE];

	session_csrf(session, csrf);
	return shown != NULL && strlen(shown) == strlen(csrf) && CRYPTO_memcmp(shown, csrf, strlen(csrf)) == 0;
}

bool
origin_is(const char *origin, const char *host)
{
	const char *at = origin == NULL ? NULL : strstr(origin, "://");

	if (at == NULL || host == NULL || host[0] == '\0')
		return false;
	return (strncmp(origin, "http:", 5) == 0 || strncmp(origin, "https:", 6) == 0) &&
	       strcasecmp(at + strlen("://"), host) == 0;
}

int
token_make(const char *prefix, char token[TOKEN_SIZE], uint8_t hash[DIGEST_SIZE])
{
	uint8_t bytes[TOKEN_BYTES];

	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return -1;
	memcpy(token, prefix, strlen(prefix));
	base64url_encode(bytes, sizeof bytes, token + strlen(prefix));
	OPENSSL_cleanse(bytes, sizeof bytes);
	sha256((struct slice){(const uint8_t *)token, strlen(token)}, hash);
	return 0;
}
