#include "collector/cursor.h"

#include <assert.h>
#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "collector/auth.h"

#define NUMBERS_SIZE (4 + 8 * CURSOR_KEYS)
#define POSITION_MAX (NUMBERS_SIZE + CURSOR_TEXT)
#define MAC_SIZE 16
#define LIST_MAX 8192

static_assert((POSITION_MAX + MAC_SIZE) * 4 / 3 + 2 <= CURSOR_SIZE, "a cursor fits");

/* How many bytes it has. */
static size_t
position_write(const struct cursor *cursor, uint8_t out[POSITION_MAX])
{
	uint32_t tenant = htobe32((uint32_t)cursor->tenant_id);
	size_t len = strlen(cursor->text);

	memcpy(out, &tenant, sizeof tenant);
	for (size_t i = 0; i < CURSOR_KEYS; i++) {
		uint64_t key = htobe64((uint64_t)cursor->keys[i]);

		memcpy(out + 4 + 8 * i, &key, sizeof key);
	}
	memcpy(out + NUMBERS_SIZE, cursor->text, len);
	return NUMBERS_SIZE + len;
}

static void
position_read(const uint8_t *in, size_t len, struct cursor *cursor)
{
	uint32_t tenant;

	memcpy(&tenant, in, sizeof tenant);
	cursor->tenant_id = (int32_t)be32toh(tenant);
	for (size_t i = 0; i < CURSOR_KEYS; i++) {
		uint64_t key;

		memcpy(&key, in + 4 + 8 * i, sizeof key);
		cursor->keys[i] = (int64_t)be64toh(key);
	}
	memcpy(cursor->text, in + NUMBERS_SIZE, len - NUMBERS_SIZE);
	cursor->text[len - NUMBERS_SIZE] = '\0';
}

/* The position's length comes first, so no other pair gives the same bytes. */
static bool
mac(const uint8_t *position, size_t len, struct slice secret, struct slice list, uint8_t out[MAC_SIZE])
{
	uint8_t text[sizeof(uint16_t) + POSITION_MAX + LIST_MAX], whole[EVP_MAX_MD_SIZE];
	uint16_t said = htobe16((uint16_t)len);

	if (list.len > LIST_MAX)
		return false;
	memcpy(text, &said, sizeof said);
	memcpy(text + sizeof said, position, len);
	memcpy(text + sizeof said + len, list.at, list.len);
	if (HMAC(EVP_sha256(), secret.at, (int)secret.len, text, sizeof said + len + list.len, whole, NULL) == NULL)
		return false;
	memcpy(out, whole, MAC_SIZE);
	return true;
}

void
cursor_print(const struct cursor *cursor, struct slice secret, struct slice list, char out[CURSOR_SIZE])
{
	uint8_t bytes[POSITION_MAX + MAC_SIZE];
	size_t len = position_write(cursor, bytes);

	/* Without a MAC it is a cursor that nobody takes: the next page fails, not this one. */
	if (!mac(bytes, len, secret, list, bytes + len))
		memset(bytes + len, 0, MAC_SIZE);
	base64url_encode(bytes, len + MAC_SIZE, out);
}

bool
cursor_parse(const char *text, struct slice secret, struct slice list, struct cursor *cursor)
{
	uint8_t bytes[POSITION_MAX + MAC_SIZE], want[MAC_SIZE];
	size_t size = strlen(text) * 3 / 4, len = size - MAC_SIZE;

	if (size < NUMBERS_SIZE + MAC_SIZE || size > sizeof bytes || !base64url_decode(text, bytes, size) ||
	    !mac(bytes, len, secret, list, want) || CRYPTO_memcmp(want, bytes + len, MAC_SIZE) != 0)
		return false;
	position_read(bytes, len, cursor);
	return true;
}
