#include "collector/auth.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>
#include <strings.h>

#define TOKEN_BYTES 32

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

bool
role_parse(const char *name, enum role *role)
{
	static const char *const names[] = {[ROLE_VIEWER] = "viewer",
					    [ROLE_ANALYST] = "analyst",
					    [ROLE_ADMIN] = "admin",
					    [ROLE_OPERATOR] = "operator"};

	for (enum role r = ROLE_VIEWER; r <= ROLE_OPERATOR; r++)
		if (strcmp(names[r], name) == 0) {
			*role = r;
			return true;
		}
	return false;
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

bool
token_parse(const char *authorization, uint8_t hash[DIGEST_SIZE])
{
	uint8_t bytes[TOKEN_BYTES];
	bool good;

	if (authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0)
		return false;
	authorization += 7;
	authorization += strspn(authorization, " ");
	good = strncmp(authorization, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0 &&
	       base64url_decode(authorization + strlen(TOKEN_PREFIX), bytes, sizeof bytes);
	OPENSSL_cleanse(bytes, sizeof bytes);
	if (!good)
		return false;
	sha256((struct slice){(const uint8_t *)authorization, strlen(authorization)}, hash);
	return true;
}

int
token_make(char token[TOKEN_SIZE], uint8_t hash[DIGEST_SIZE])
{
	uint8_t bytes[TOKEN_BYTES];

	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return -1;
	memcpy(token, TOKEN_PREFIX, strlen(TOKEN_PREFIX));
	base64url_encode(bytes, sizeof bytes, token + strlen(TOKEN_PREFIX));
	OPENSSL_cleanse(bytes, sizeof bytes);
	sha256((struct slice){(const uint8_t *)token, strlen(token)}, hash);
	return 0;
}
