/* The plain functions of SHA-256 and SHA-384 need no memory and can't fail, which a digest of EVP's may. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "schema/cose.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schema/cbor.h"

#define TAG_CWT 61 /* RFC 8392 6 */
#define TAG_SIGN1 18 /* RFC 9052 2 */
#define HEADER_ALG 1
#define HEADER_KID 4
#define HEADER_CHAIN 33 /* RFC 9360 2 */
#define WIDTH_MAX 48 /* of P-384's r or s */
#define DER_MAX (2 + 2 * (2 + 1 + WIDTH_MAX))
#define ERROR_SIZE 256

typedef void digest_function(const struct slice *parts, size_t n, uint8_t *digest);

static digest_function digest_sha256, digest_sha384;

/* What a key may be, and the two algorithms it then has: the first is sent, both are taken (RFC 9053 2, RFC 9864 2). */
struct family {
	int alg, also;
	const char *type, *group, *curve; /* OpenSSL's names: of the key, of its group, and for making one */
	digest_function *digest; /* NULL: EdDSA takes the whole text */
	size_t digest_len, signature_len;
	uint8_t half[WIDTH_MAX]; /* half the group's order, rounded down: the largest s allowed */
};

static const struct family families[] = {
	{-7, -9, "EC", "prime256v1", "P-256", digest_sha256, SHA256_DIGEST_LENGTH, 64, {0x7f, 0xff, 0xff, 0xff, 0x80,
											0x00, 0x00, 0x00, 0x7f, 0xff,
											0xff, 0xff, 0xff, 0xff, 0xff,
											0xff, 0xde, 0x73, 0x7d, 0x56,
											0xd3, 0x8b, 0xcf, 0x42, 0x79,
											0xdc, 0xe5, 0x61, 0x7e, 0x31,
											0x92, 0xa8}},
	{-35,
	 -51,
	 "EC",
	 "secp384r1",
	 "P-384",
	 digest_sha384,
	 SHA384_DIGEST_LENGTH,
	 96,
	 {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xe3, 0xb1, 0xa6, 0xc0, 0xfa, 0x1b, 0x96, 0xef,
	  0xac, 0x0d, 0x06, 0xd9, 0x24, 0x58, 0x53, 0xbd, 0x76, 0x76, 0x0c, 0xb5, 0x66, 0x62, 0x94, 0xb9}},
	{-8, -19, "ED25519", NULL, NULL, NULL, 0, 64, {0}},
};

#define FAMILIES (sizeof families / sizeof families[0])

struct cose_key {
	EVP_PKEY *pkey;
	const struct family *family;
	EVP_PKEY_CTX *verify; /* ECDSA: made ready once, used for every signature */
	EVP_MD_CTX *text; /* EdDSA */
	uint8_t kid[KID_SIZE];
};

static const struct family *
family_of_alg(int64_t alg)
{
	for (size_t i = 0; i < FAMILIES; i++) {
		if (alg == families[i].alg || alg == families[i].also)
			return &families[i];
	}
	return NULL;
}

static const struct family *
family_of_pkey(const EVP_PKEY *pkey)
{
	char group[32] = "";
	int explicit = 0;

	EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL);
	EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit);
	for (size_t i = 0; i < FAMILIES && explicit == 0; i++) {
		if (!EVP_PKEY_is_a(pkey, families[i].type))
			continue;
		if (families[i].group == NULL || strcmp(group, families[i].group) == 0)
			return &families[i];
	}
	return NULL;
}

static void
digest_sha256(const struct slice *parts, size_t n, uint8_t *digest)
{
	SHA256_CTX context;

	SHA256_Init(&context);
	for (size_t i = 0; i < n; i++)
		SHA256_Update(&context, parts[i].at, parts[i].len);
	SHA256_Final(digest, &context);
}

static void
digest_sha384(const struct slice *parts, size_t n, uint8_t *digest)
{
	SHA512_CTX context;

	SHA384_Init(&context);
	for (size_t i = 0; i < n; i++)
		SHA384_Update(&context, parts[i].at, parts[i].len);
	SHA384_Final(digest, &context);
}

void
sha256(struct slice bytes, uint8_t digest[DIGEST_SIZE])
{
	digest_sha256(&bytes, 1, digest);
}

void
sha256_pair(struct slice first, struct slice second, uint8_t digest[DIGEST_SIZE])
{
	const struct slice parts[] = {first, second};

	digest_sha256(parts, 2, digest);
}

/* The Sig_structure, RFC 9052 4.4, in pieces, so that the payload is not copied. */
struct tbs {
	uint8_t front[32], middle[16], last[16];
	struct slice parts[6];
};

#define TBS_PARTS 6

static void
tbs_init(struct tbs *tbs, const struct cose_signed *part)
{
	struct cbor_writer front, middle, last;

	cbor_writer_init(&front, tbs->front, sizeof tbs->front);
	cbor_write_array(&front, 4);
	cbor_write_string(&front, "Signature1");
	cbor_write_bytes_head(&front, part->protected.len);
	cbor_writer_init(&middle, tbs->middle, sizeof tbs->middle);
	cbor_write_bytes_head(&middle, part->external.len);
	cbor_writer_init(&last, tbs->last, sizeof tbs->last);
	cbor_write_bytes_head(&last, part->payload.len);
	tbs->parts[0] = (struct slice){tbs->front, front.len};
	tbs->parts[1] = part->protected;
	tbs->parts[2] = (struct slice){tbs->middle, middle.len};
	tbs->parts[3] = part->external;
	tbs->parts[4] = (struct slice){tbs->last, last.len};
	tbs->parts[5] = part->payload;
}

/* The pieces in one run of bytes, for EdDSA, which reads its text twice. The caller frees. Memory that runs out ends the program: a
   signature that was not looked at must be called neither good nor bad. */
static uint8_t *
tbs_join(const struct tbs *tbs, size_t *len)
{
	uint8_t *joined, *at;

	*len = 0;
	for (size_t i = 0; i < TBS_PARTS; i++)
		*len += tbs->parts[i].len;
	at = joined = malloc(*len);
	if (joined == NULL)
		abort();
	for (size_t i = 0; i < TBS_PARTS; i++) {
		if (tbs->parts[i].len > 0)
			memcpy(at, tbs->parts[i].at, tbs->parts[i].len);
		at += tbs->parts[i].len;
	}
	return joined;
}

static struct cose_key *
key_new(EVP_PKEY *pkey)
{
	struct cose_key *key = calloc(1, sizeof *key);

	if (key == NULL)
		return NULL;
	if (!EVP_PKEY_up_ref(pkey)) {
		free(key);
		return NULL;
	}
	key->pkey = pkey;
	key->family = family_of_pkey(pkey);
	if (key->family == NULL)
		goto fail;
	if (key->family->digest == NULL) {
		key->text = EVP_MD_CTX_new();
	} else {
		key->verify = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
		if (key->verify == NULL || EVP_PKEY_verify_init(key->verify) != 1)
			goto fail;
	}
	if (key->verify == NULL && key->text == NULL)
		goto fail;
	return key;
fail:
	cose_key_free(key);
	return NULL;
}

/* The kid is of the key as OpenSSL writes it, so that it does not hang on who wrote the certificate. */
static int
key_name(struct cose_key *key)
{
	uint8_t digest[DIGEST_SIZE], *der = NULL;
	int len = i2d_PUBKEY(key->pkey, &der);

	if (len <= 0)
		return -1;
	sha256((struct slice){der, (size_t)len}, digest);
	memcpy(key->kid, digest, KID_SIZE);
	OPENSSL_free(der);
	return 0;
}

static struct cose_key *
key_from_pkey(EVP_PKEY *pkey)
{
	struct cose_key *key = key_new(pkey);

	if (key != NULL && key_name(key) == -1) {
		cose_key_free(key);
		key = NULL;
	}
	ERR_clear_error();
	return key;
}

/* The first private key, else the last public one. */
static EVP_PKEY *
load_pkey(OSSL_STORE_CTX *store)
{
	EVP_PKEY *found = NULL, *pkey;
	bool private = false;

	while (!private && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (info == NULL)
			break;
		private = OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY;
		pkey = private ? OSSL_STORE_INFO_get1_PKEY(info) : OSSL_STORE_INFO_get1_PUBKEY(info);
		if (pkey != NULL) {
			EVP_PKEY_free(found);
			found = pkey;
		}
		OSSL_STORE_INFO_free(info);
	}
	return found;
}

struct cose_key *
cose_key_open(const char *uri, char *error)
{
	OSSL_STORE_CTX *store;
	EVP_PKEY *pkey = NULL;
	struct cose_key *key = NULL;
	const char *why = NULL;

	ERR_clear_error();
	/* UI_null: a daemon asks nobody for a passphrase. */
	store = OSSL_STORE_open(uri, UI_null(), NULL, NULL, NULL);
	if (store != NULL)
		pkey = load_pkey(store);
	if (pkey == NULL) {
		why = ERR_reason_error_string(ERR_peek_error());
		snprintf(error, ERROR_SIZE, "%s: %s", uri, why != NULL ? why : "no key in it");
		goto out;
	}
	key = key_from_pkey(pkey);
	if (key == NULL)
		snprintf(error, ERROR_SIZE, "%s: neither P-256 nor P-384 nor Ed25519", uri);
out:
	EVP_PKEY_free(pkey);
	OSSL_STORE_close(store);
	ERR_clear_error();
	return key;
}

struct cose_key *
cose_key_from_spki(struct slice der)
{
	const unsigned char *at = der.at;
	EVP_PKEY *pkey = der.len > LIMIT_CHAIN ? NULL : d2i_PUBKEY(NULL, &at, (long)der.len);
	struct cose_key *key = NULL;

	if (pkey != NULL && at == der.at + der.len)
		key = key_from_pkey(pkey);
	EVP_PKEY_free(pkey);
	ERR_clear_error();
	return key;
}

struct cose_key *
cose_key_dup(const struct cose_key *key)
{
	struct cose_key *copy = key_new(key->pkey);

	if (copy != NULL)
		memcpy(copy->kid, key->kid, KID_SIZE);
	return copy;
}

void
cose_key_free(struct cose_key *key)
{
	if (key == NULL)
		return;
	EVP_PKEY_CTX_free(key->verify);
	EVP_MD_CTX_free(key->text);
	EVP_PKEY_free(key->pkey);
	free(key);
}

void
cose_key_kid(const struct cose_key *key, uint8_t kid[KID_SIZE])
{
	memcpy(kid, key->kid, KID_SIZE);
}

int
cose_key_alg(const struct cose_key *key)
{
	return key->family->alg;
}

static int
sync_directory_of(const char *file)
{
	char *copy = strdup(file);
	int fd, status;

	if (copy == NULL)
		return -1;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd == -1)
		return -1;
	status = fsync(fd);
	close(fd);
	return status;
}

static int
write_pem(const char *file, EVP_PKEY *pkey)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR), status = -1;
	FILE *stream = fd == -1 ? NULL : fdopen(fd, "w");

	if (stream == NULL) {
		if (fd != -1)
			close(fd);
		return -1;
	}
	if (PEM_write_PKCS8PrivateKey(stream, pkey, NULL, NULL, 0, NULL, NULL) == 1 && fflush(stream) == 0)
		status = fsync(fd);
	if (fclose(stream) != 0)
		status = -1;
	return status;
}

int
cose_key_generate(int alg, const char *file)
{
	const struct family *family = family_of_alg(alg);
	EVP_PKEY *pkey = NULL;
	char *temporary = NULL;
	int status = -1;

	if (family == NULL)
		return -1;
	pkey = family->curve != NULL ? EVP_PKEY_Q_keygen(NULL, NULL, family->type, family->curve)
				     : EVP_PKEY_Q_keygen(NULL, NULL, family->type);
	if (pkey == NULL || asprintf(&temporary, "%s.new", file) == -1) {
		temporary = NULL;
		goto out;
	}
	/* A start that was cut short may have left one; a key that is there is never overwritten, hence link and not rename. */
	if (unlink(temporary) == -1 && errno != ENOENT)
		goto out;
	if (write_pem(temporary, pkey) == 0 && link(temporary, file) == 0)
		status = sync_directory_of(file);
	unlink(temporary);
out:
	free(temporary);
	EVP_PKEY_free(pkey);
	ERR_clear_error();
	return status;
}

static void
read_certificate(struct cbor_reader *r, struct cose_sign1 *message, size_t *total)
{
	struct slice certificate = cbor_read_bytes(r, LIMIT_CHAIN - *total);

	if (r->error == REASON_OK && certificate.len == 0)
		cbor_fail(r, REASON_MALFORMED);
	if (r->error == REASON_OK)
		message->chain[message->chain_len++] = certificate;
	*total += certificate.len;
}

static void
read_chain(struct cbor_reader *r, struct cose_sign1 *message)
{
	size_t total = 0, n;

	if (cbor_peek(r) == CBOR_BYTES) {
		read_certificate(r, message, &total);
		return;
	}
	n = cbor_read_array(r, LIMIT_CHAIN_CERTS);
	/* RFC 9360 2: one certificate is not put into an array. */
	if (r->error == REASON_OK && n < 2)
		cbor_fail(r, REASON_MALFORMED);
	for (size_t i = 0; i < n && r->error == REASON_OK; i++)
		read_certificate(r, message, &total);
}

static void
read_alg(struct cbor_reader *r, struct cose_sign1 *message)
{
	int64_t alg;

	/* RFC 9052 3.1: an algorithm may be named by a text; none of ours is. */
	if (cbor_peek(r) == CBOR_TEXT)
		cbor_fail(r, REASON_ALGORITHM_UNKNOWN);
	alg = cbor_read_int(r);
	if (r->error == REASON_OK && family_of_alg(alg) == NULL)
		cbor_fail(r, REASON_ALGORITHM_UNKNOWN);
	if (r->error == REASON_OK)
		message->alg = (int)alg;
}

static void
read_kid(struct cbor_reader *r, struct cose_sign1 *message)
{
	message->kid = cbor_read_bytes(r, SIZE_MAX);
	if (r->error == REASON_OK && message->kid.len != KID_SIZE)
		cbor_fail(r, REASON_MALFORMED);
}

static const struct {
	int64_t label;
	void (*read)(struct cbor_reader *, struct cose_sign1 *);
	bool required;
} headers[] = {
	{HEADER_ALG, read_alg, true},
	{HEADER_KID, read_kid, true},
	{HEADER_CHAIN, read_chain, false},
};

#define HEADERS (sizeof headers / sizeof headers[0])

/* No label is taken that isn't known, `crit` among them: so there is nothing critical that could be passed over (RFC 9052 3.1). */
static enum reason
decode_header(struct slice header, struct cose_sign1 *message)
{
	struct cbor_reader r;
	struct cbor_map map;
	int64_t label;
	bool seen[HEADERS] = {false};
	size_t i;

	cbor_reader_init(&r, header);
	cbor_read_map(&r, &map, SIZE_MAX);
	while (cbor_map_next(&r, &map, &label)) {
		for (i = 0; i < HEADERS && headers[i].label != label; i++)
			continue;
		if (i == HEADERS) {
			cbor_fail(&r, REASON_MALFORMED);
			break;
		}
		headers[i].read(&r, message);
		seen[i] = true;
	}
	for (i = 0; i < HEADERS; i++) {
		if (headers[i].required && !seen[i])
			cbor_fail(&r, REASON_MALFORMED);
	}
	return cbor_reader_end(&r);
}

static bool
s_is_high(const struct family *family, const uint8_t *signature)
{
	size_t width = family->signature_len / 2;

	return family->digest != NULL && memcmp(signature + width, family->half, width) > 0;
}

static enum reason
check_signature_form(const struct cose_sign1 *message)
{
	const struct family *family = family_of_alg(message->alg);

	if (message->signature.len != family->signature_len)
		return REASON_MALFORMED;
	return s_is_high(family, message->signature.at) ? REASON_NON_CANONICAL : REASON_OK;
}

enum reason
cose_decode(struct slice bytes, struct cose_sign1 *out)
{
	struct cose_sign1 message = {0};
	struct cbor_reader r;
	struct cbor_map unprotected;
	enum reason reason;

	if (bytes.len > LIMIT_MESSAGE)
		return REASON_TOO_LARGE;
	cbor_reader_init(&r, bytes);
	/* A COSE_Sign1 without its tags: known, but not the one spelling. */
	if (cbor_peek(&r) == CBOR_ARRAY)
		cbor_fail(&r, REASON_NON_CANONICAL);
	cbor_read_tag(&r, TAG_CWT);
	if (cbor_peek(&r) == CBOR_ARRAY)
		cbor_fail(&r, REASON_NON_CANONICAL);
	cbor_read_tag(&r, TAG_SIGN1);
	if (cbor_read_array(&r, SIZE_MAX) != 4)
		cbor_fail(&r, REASON_MALFORMED);
	message.protected = cbor_read_bytes(&r, LIMIT_HEADER);
	cbor_read_map(&r, &unprotected, SIZE_MAX);
	if (unprotected.left != 0)
		cbor_fail(&r, REASON_NON_CANONICAL);
	message.payload = cbor_read_bytes(&r, LIMIT_MESSAGE);
	message.signature = cbor_read_bytes(&r, LIMIT_SIGNATURE);
	reason = cbor_reader_end(&r);
	if (reason == REASON_OK)
		reason = decode_header(message.protected, &message);
	if (reason == REASON_OK)
		reason = check_signature_form(&message);
	if (reason == REASON_OK)
		*out = message;
	return reason;
}

static struct cose_signed
signed_part(const struct cose_sign1 *message)
{
	/* external_aad is empty: everything that matters is in the message. */
	return (struct cose_signed){.alg = message->alg,
				    .protected = message->protected,
				    .payload = message->payload,
				    .signature = message->signature};
}

void
cose_tbs_digest(const struct cose_sign1 *message, uint8_t digest[DIGEST_SIZE])
{
	struct cose_signed part = signed_part(message);
	struct tbs tbs;

	tbs_init(&tbs, &part);
	digest_sha256(tbs.parts, TBS_PARTS, digest);
}

/* An INTEGER of DER out of one that is big endian and `width` long. Returns its end. */
static uint8_t *
put_integer(uint8_t *der, const uint8_t *number, size_t width)
{
	while (width > 1 && *number == 0) {
		number++;
		width--;
	}
	*der++ = 0x02;
	*der++ = (uint8_t)(width + (*number >> 7));
	if (*number & 0x80)
		*der++ = 0;
	memcpy(der, number, width);
	return der + width;
}

/* r || s to ECDSA-Sig-Value (RFC 3279 2.2.3), which is under 128 bytes and so has a length of one. */
static size_t
put_der(uint8_t der[DER_MAX], const uint8_t *signature, size_t width)
{
	uint8_t *end = put_integer(der + 2, signature, width);

	end = put_integer(end, signature + width, width);
	der[0] = 0x30;
	der[1] = (uint8_t)(end - der - 2);
	return (size_t)(end - der);
}

static bool
verify_ecdsa(struct cose_key *key, const struct tbs *tbs, struct slice signature, uint8_t *tbs_digest)
{
	const struct family *family = key->family;
	uint8_t digest[EVP_MAX_MD_SIZE], der[DER_MAX];
	size_t len;

	family->digest(tbs->parts, TBS_PARTS, digest);
	if (tbs_digest != NULL && family->digest == digest_sha256)
		memcpy(tbs_digest, digest, DIGEST_SIZE);
	else if (tbs_digest != NULL)
		digest_sha256(tbs->parts, TBS_PARTS, tbs_digest);
	if (signature.len != family->signature_len)
		return false;
	len = put_der(der, signature.at, family->signature_len / 2);
	return EVP_PKEY_verify(key->verify, der, len, digest, family->digest_len) == 1;
}

static bool
verify_eddsa(struct cose_key *key, const struct tbs *tbs, struct slice signature, uint8_t *tbs_digest)
{
	size_t len;
	uint8_t *text = tbs_join(tbs, &len);
	bool good;

	if (tbs_digest != NULL)
		sha256((struct slice){text, len}, tbs_digest);
	good = EVP_DigestVerifyInit_ex(key->text, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
	       EVP_DigestVerify(key->text, signature.at, signature.len, text, len) == 1;
	free(text);
	return good;
}

enum reason
cose_verify_signed(const struct cose_signed *part, struct cose_key *key, uint8_t digest[DIGEST_SIZE])
{
	const struct family *family = family_of_alg(part->alg);
	struct tbs tbs;
	bool good;

	if (family == NULL)
		return REASON_ALGORITHM_UNKNOWN;
	if (family != key->family)
		return REASON_ALGORITHM_MISMATCH;
	tbs_init(&tbs, part);
	good = (family->digest != NULL ? verify_ecdsa : verify_eddsa)(key, &tbs, part->signature, digest);
	if (good)
		return REASON_OK;
	/* What OpenSSL noted of it would be taken for an error of TLS later on. */
	ERR_clear_error();
	return REASON_BAD_SIGNATURE;
}

enum reason
cose_verify(const struct cose_sign1 *message, struct cose_key *key, uint8_t digest[DIGEST_SIZE])
{
	struct cose_signed part = signed_part(message);

	return cose_verify_signed(&part, key, digest);
}

/* Brings s down to n - s when it is over half of n = 2 * half + 1: that signs as well. */
static int
normalise(const struct family *family, uint8_t *signature)
{
	int width = (int)(family->signature_len / 2);
	BIGNUM *s, *order;
	int status = -1;

	if (!s_is_high(family, signature))
		return 0;
	s = BN_bin2bn(signature + width, width, NULL);
	order = BN_bin2bn(family->half, width, NULL);
	if (s == NULL || order == NULL)
		goto out;
	if (!BN_lshift1(order, order) || !BN_add_word(order, 1) || !BN_sub(s, order, s))
		goto out;
	if (BN_bn2binpad(s, signature + width, width) == width)
		status = 0;
out:
	BN_free(s);
	BN_free(order);
	return status;
}

static int
from_der(const struct family *family, const uint8_t *der, size_t len, uint8_t *signature)
{
	int width = (int)(family->signature_len / 2);
	ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &der, (long)len);
	int status = -1;

	if (parsed == NULL)
		return -1;
	if (BN_bn2binpad(ECDSA_SIG_get0_r(parsed), signature, width) == width &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(parsed), signature + width, width) == width)
		status = normalise(family, signature);
	ECDSA_SIG_free(parsed);
	return status;
}

static int
sign_ecdsa(struct cose_key *key, const struct tbs *tbs, uint8_t *signature)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	uint8_t digest[EVP_MAX_MD_SIZE], der[EVP_MAX_MD_SIZE * 4];
	size_t len = sizeof der;
	int status = -1;

	key->family->digest(tbs->parts, TBS_PARTS, digest);
	if (context != NULL && EVP_PKEY_sign_init(context) == 1 &&
	    EVP_PKEY_sign(context, der, &len, digest, key->family->digest_len) == 1)
		status = from_der(key->family, der, len, signature);
	EVP_PKEY_CTX_free(context);
	return status;
}

static int
sign_eddsa(struct cose_key *key, const struct tbs *tbs, uint8_t *signature)
{
	size_t len, signature_len = key->family->signature_len;
	uint8_t *text = tbs_join(tbs, &len);
	bool good;

	good = EVP_DigestSignInit_ex(key->text, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
	       EVP_DigestSign(key->text, signature, &signature_len, text, len) == 1;
	free(text);
	return good && signature_len == key->family->signature_len ? 0 : -1;
}

static void
write_header(struct cbor_writer *w, const struct cose_key *key, const struct slice *chain, size_t chain_len)
{
	cbor_write_map(w, chain_len > 0 ? 3 : 2);
	cbor_write_uint(w, HEADER_ALG);
	cbor_write_int(w, key->family->alg);
	cbor_write_uint(w, HEADER_KID);
	cbor_write_bytes(w, (struct slice){key->kid, KID_SIZE});
	if (chain_len == 0)
		return;
	cbor_write_uint(w, HEADER_CHAIN);
	if (chain_len > 1)
		cbor_write_array(w, chain_len);
	for (size_t i = 0; i < chain_len; i++)
		cbor_write_bytes(w, chain[i]);
}

static void
write_message(struct cbor_writer *w, const struct cose_signed *part)
{
	cbor_write_tag(w, TAG_CWT);
	cbor_write_tag(w, TAG_SIGN1);
	cbor_write_array(w, 4);
	cbor_write_bytes(w, part->protected);
	cbor_write_map(w, 0);
	cbor_write_bytes(w, part->payload);
	cbor_write_bytes(w, part->signature);
}

static bool
chain_fits(const struct slice *chain, size_t chain_len)
{
	size_t room = LIMIT_CHAIN;

	if (chain_len > LIMIT_CHAIN_CERTS)
		return false;
	for (size_t i = 0; i < chain_len; i++) {
		if (chain[i].len == 0 || chain[i].len > room)
			return false;
		room -= chain[i].len;
	}
	return true;
}

size_t
cose_sign(struct cose_key *key, const struct slice *chain, size_t chain_len, struct slice payload, uint8_t *out,
	  size_t size)
{
	uint8_t header[LIMIT_HEADER], signature[LIMIT_SIGNATURE];
	struct cose_signed part = {.alg = key->family->alg, .payload = payload};
	struct cbor_writer w;
	struct tbs tbs;
	int status;

	if (!chain_fits(chain, chain_len))
		return 0;
	cbor_writer_init(&w, header, sizeof header);
	write_header(&w, key, chain, chain_len);
	if (w.overflow)
		return 0;
	part.protected = (struct slice){header, w.len};
	tbs_init(&tbs, &part);
	status = (key->family->digest != NULL ? sign_ecdsa : sign_eddsa)(key, &tbs, signature);
	ERR_clear_error();
	if (status == -1)
		return 0;
	part.signature = (struct slice){signature, key->family->signature_len};
	cbor_writer_init(&w, out, size);
	write_message(&w, &part);
	return w.overflow || w.len > LIMIT_MESSAGE ? 0 : w.len;
}
