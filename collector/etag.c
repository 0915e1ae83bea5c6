#include "collector/etag.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "schema/key.h"
#include "schema/topics.h"

#define NONCE_SIZE 12
#define FEW 8192 /* bytes: SHA-256 has done with them when GMAC has begun */

struct etag {
	bool weak;
	struct slice opaque; /* with its quotation marks */
};

int
etag_key_derive(struct slice secret, struct etag_key *key)
{
	/* A cursor's text begins with its position's length, which is less than these two bytes are. */
	static const char label[] = "etag";
	uint8_t whole[DIGEST_SIZE];

	if (HMAC(EVP_sha256(), secret.at, (int)secret.len, (const uint8_t *)label, strlen(label), whole, NULL) == NULL)
		return -1;
	memcpy(key->mac, whole, ETAG_HALF);
	memcpy(key->cover, whole + ETAG_HALF, ETAG_HALF);
	OPENSSL_cleanse(whole, sizeof whole);
	return 0;
}

/* NIST SP 800-38D: GCM of nothing, with the body as what is authenticated only. */
static int
gmac(const uint8_t key[ETAG_HALF], struct slice body, uint8_t mac[ETAG_HALF])
{
	static const uint8_t nonce[NONCE_SIZE];
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n, rc = -1;

	if (c != NULL && body.len <= INT_MAX && EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
	    EVP_EncryptUpdate(c, NULL, &n, body.at, (int)body.len) == 1 && EVP_EncryptFinal_ex(c, mac, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, ETAG_HALF, mac) == 1)
		rc = 0;
	EVP_CIPHER_CTX_free(c);
	return rc;
}

int
etag_hash(const struct etag_key *key, struct slice body, size_t bytes, char *hex)
{
	uint8_t mac[ETAG_HALF], digest[DIGEST_SIZE];

	if (body.len > FEW) {
		if (gmac(key->mac, body, mac) < 0)
			return -1;
		body = (struct slice){mac, sizeof mac};
	}
	sha256_pair((struct slice){key->cover, ETAG_HALF}, body, digest);
	hex_print(digest, bytes, hex);
	return 0;
}

/* RFC 9110 8.8.3: etagc. */
static bool
is_tag_character(char c)
{
	return (unsigned char)c > ' ' && c != '"' && c != 0x7f;
}

static const char *
skip_blanks(const char *at)
{
	return at + strspn(at, " \t");
}

/* Takes the next tag off a list. 0: it is at its end; -1: what comes is none. A tag holds no quotation mark, but may hold a comma. */
static int
next_tag(const char **list, struct etag *tag)
{
	const char *at = *list + strspn(*list, " \t,"), *end;

	if (*at == '\0')
		return 0;
	tag->weak = strncmp(at, "W/", 2) == 0;
	at += tag->weak ? 2 : 0;
	if (*at != '"')
		return -1;
	for (end = at + 1; is_tag_character(*end); end++)
		;
	if (*end != '"')
		return -1;
	tag->opaque = (struct slice){(const uint8_t *)at, (size_t)(++end - at)};
	*list = skip_blanks(end);
	return **list == '\0' || **list == ',' ? 1 : -1;
}

static bool
is_any(const char *list)
{
	list = skip_blanks(list);
	return *list == '*' && *skip_blanks(list + 1) == '\0';
}

bool
etag_list_ok(const char *list)
{
	struct etag tag;
	int next, n = 0;

	if (is_any(list))
		return true;
	while ((next = next_tag(&list, &tag)) > 0)
		n++;
	return next == 0 && n > 0;
}

static bool
is_listed(const char *list, const char *etag, bool strongly)
{
	struct etag own, tag;

	if (list == NULL || !etag_list_ok(list))
		return false;
	if (is_any(list))
		return true;
	if (etag == NULL || next_tag(&etag, &own) <= 0)
		return false;
	while (next_tag(&list, &tag) > 0)
		if (tag.opaque.len == own.opaque.len && memcmp(tag.opaque.at, own.opaque.at, own.opaque.len) == 0 &&
		    !(strongly && (tag.weak || own.weak)))
			return true;
	return false;
}

bool
etag_is_listed(const char *if_none_match, const char *etag)
{
	return is_listed(if_none_match, etag, false);
}

bool
etag_is_matched(const char *if_match, const char *etag)
{
	return is_listed(if_match, etag, true);
}

/* Whether it is one that we may have given for the revision: what the digest is of has changed since, perhaps, and does not count. */
static bool
is_of(const struct etag *tag, int64_t revision, size_t digits)
{
	const uint8_t *at = tag->opaque.at;
	char start[24];
	size_t len = (size_t)snprintf(start, sizeof start, "\"%" PRId64 "%s", revision, digits > 0 ? "." : "");

	if (tag->opaque.len != len + digits + 1 || memcmp(at, start, len) != 0)
		return false;
	for (at += len; digits > 0 && strchr("0123456789abcdef", *at) != NULL; at++)
		digits--;
	return digits == 0;
}

static bool
lists_revision(const char *list, int64_t revision, size_t digits, bool strongly)
{
	struct etag tag;

	if (revision == 0)
		return false;
	if (is_any(list))
		return true;
	while (next_tag(&list, &tag) > 0)
		if (is_of(&tag, revision, digits) && !(strongly && tag.weak))
			return true;
	return false;
}

bool
etag_permits(const char *if_match, const char *if_none_match, int64_t revision, size_t digits)
{
	return (if_match == NULL || lists_revision(if_match, revision, digits, true)) &&
	       (if_none_match == NULL || !lists_revision(if_none_match, revision, digits, false));
}
