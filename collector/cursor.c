#include "collector/cursor.h"

#include <assert.h>
#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "collector/auth.h"

#define POSITION_SIZE (4 + 8 * CURSOR_KEYS)
#define MAC_SIZE 16
#define LIST_MAX 8192

static_assert((POSITION_SIZE + MAC_SIZE) * 4 / 3 + 2 <= CURSOR_SIZE, "a cursor fits");

static void
position_write(const struct cursor *cursor, uint8_t out[POSITION_SIZE])
{
	uint32_t tenant = htobe32((uint32_t)cursor->tenant_id);

	memcpy(out, &tenant, sizeof tenant);
	for (size_t i = 0; i < CURSOR_KEYS; i++) {
		uint64_t key = htobe64((uint64_t)cursor->keys[i]);

		memcpy(out + 4 + 8 * i, &key, sizeof key);
	}
}

static void
position_read(const uint8_t in[POSITION_SIZE], struct cursor *cursor)
{
	uint32_t tenant;

	memcpy(&tenant, in, sizeof tenant);
	cursor->tenant_id = (int32_t)be32toh(tenant);
	for (size_t i = 0; i < CURSOR_KEYS; i++) {
		uint64_t key;

		memcpy(&key, in + 4 + 8 * i, sizeof key);
		cursor->keys[i] = (int64_t)be64toh(key);
	}
}

/* The position is of a fixed length and comes first, so no other pair gives the same bytes. */
static bool
mac(const uint8_t position[POSITION_SIZE], struct slice secret, struct slice list, uint8_t out[MAC_SIZE])
{
	uint8_t text[POSITION_SIZE + LIST_MAX], whole[EVP_MAX_MD_SIZE];

	if (list.len > LIST_MAX)
		return false;
	memcpy(text, position, POSITION_SIZE);
	memcpy(text + POSITION_SIZE, list.at, list.len);
	if (HMAC(EVP_sha256(), secret.at, (int)secret.len, text, POSITION_SIZE + list.len, whole, NULL) == NULL)
		return false;
	memcpy(out, whole, MAC_SIZE);
	return true;
}

void
cursor_print(const struct cursor *cursor, struct slice secret, struct slice list, char out[CURSOR_SIZE])
{
	uint8_t bytes[POSITION_SIZE + MAC_SIZE];

	position_write(cursor, bytes);
	/* Without a MAC it is a cursor that nobody takes: the next page fails, not this one. */
	if (!mac(bytes, secret, list, bytes + POSITION_SIZE))
		memset(bytes + POSITION_SIZE, 0, MAC_SIZE);
	base64url_encode(bytes, sizeof bytes, out);
}

bool
cursor_parse(const char *text, struct slice secret, struct slice list, struct cursor *cursor)
{
	uint8_t bytes[POSITION_SIZE + MAC_SIZE], want[MAC_SIZE];

	if (!base64url_decode(text, bytes, sizeof bytes) || !mac(bytes, secret, list, want) ||
	    CRYPTO_memcmp(want, bytes + POSITION_SIZE, MAC_SIZE) != 0)
		return false;
	position_read(bytes, cursor);
	return true;
}
