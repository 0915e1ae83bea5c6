/* The plain functions of SHA-256 and SHA-384 need no memory and can't fail, which a digest of EVP's may. Those of ECDSA take r and s as they are: EVP
   would have them in DER, parse it, write it again and compare, and so costs 2 % more. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "schema/key.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schema/ecdsa.h"

#define ERROR_SIZE 256

typedef void digest_function(const struct slice *parts, size_t n, uint8_t *digest);

static digest_function digest_sha384;

/* What a key may be, and the two algorithms it then has: the first is sent, both are taken (RFC 9053 2, RFC 9864 2). */
struct family {
	int alg, also;
	const char *type, *group, *curve; /* OpenSSL's names: of the key, of its group, and for making one */
	digest_function *digest; /* NULL: EdDSA takes the whole text */
	size_t digest_len, signature_len;
	struct slice spki; /* what its canonical SubjectPublicKeyInfo begins with, of a point the 4 included */
	size_t spki_len, public_len; /* of the whole; and of the key, with which it ends */
};

/* RFC 5480 2.1, RFC 8410 4: the algorithm, the group, and a BIT STRING with an uncompressed point or the key. */
static const uint8_t spki_p256[] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
};
static const uint8_t spki_p384[] = {
	0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
	0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
};
static const uint8_t spki_ed25519[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

static const struct family families[] = {
	{
		.alg = -7,
		.also = -9,
		.type = "EC",
		.group = "prime256v1",
		.curve = "P-256",
		.digest = sha256_parts,
		.digest_len = SHA256_DIGEST_LENGTH,
		.signature_len = 64,
		.spki = {spki_p256, sizeof spki_p256},
		.spki_len = 91,
		.public_len = 65,
	},
	{
		.alg = -35,
		.also = -51,
		.type = "EC",
		.group = "secp384r1",
		.curve = "P-384",
		.digest = digest_sha384,
		.digest_len = SHA384_DIGEST_LENGTH,
		.signature_len = 96,
		.spki = {spki_p384, sizeof spki_p384},
		.spki_len = 120,
		.public_len = 97,
	},
	{
		.alg = -8,
		.also = -19,
		.type = "ED25519",
		.signature_len = 64,
		.spki = {spki_ed25519, sizeof spki_ed25519},
		.spki_len = 44,
		.public_len = 32,
	},
};

#define FAMILIES (sizeof families / sizeof families[0])

struct cose_key {
	EVP_PKEY *pkey; /* ECDSA: only to sign; NULL: a public one */
	const struct family *family;
	EC_KEY *point; /* ECDSA: the public key */
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

static const struct family *
family_of_spki(struct slice der)
{
	for (size_t i = 0; i < FAMILIES; i++) {
		if (der.len == families[i].spki_len && memcmp(der.at, families[i].spki.at, families[i].spki.len) == 0)
			return &families[i];
	}
	return NULL;
}

void
sha256_parts(const struct slice *parts, size_t n, uint8_t digest[DIGEST_SIZE])
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
	sha256_parts(&bytes, 1, digest);
}

void
sha256_pair(struct slice first, struct slice second, uint8_t digest[DIGEST_SIZE])
{
	const struct slice parts[] = {first, second};

	sha256_parts(parts, 2, digest);
}

bool
cose_alg_known(int64_t alg)
{
	return family_of_alg(alg) != NULL;
}

enum reason
cose_alg_check(int alg, struct slice signature)
{
	const struct family *family = family_of_alg(alg);

	if (family == NULL)
		return REASON_ALGORITHM_UNKNOWN;
	if (signature.len != family->signature_len)
		return REASON_MALFORMED;
	if (family->digest == NULL)
		return REASON_OK;
	return ecdsa_s_is_high(signature) ? REASON_NON_CANONICAL : REASON_OK;
}

/* A group of each family, made once and then only copied, by any thread: what is the same in all keys is half of what a key costs otherwise. */
static EC_GROUP *groups[FAMILIES];

static void
make_groups(void)
{
	for (size_t i = 0; i < FAMILIES; i++)
		if (families[i].curve != NULL)
			groups[i] = EC_GROUP_new_by_curve_name(EC_curve_nist2nid(families[i].curve));
}

/* The point with which the SubjectPublicKeyInfo ends. OpenSSL refuses one that is not on the curve. */
static EC_KEY *
point_new(struct slice spki, const struct family *family)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t head = family->spki_len - family->public_len;
	EC_KEY *point = EC_KEY_new();

	pthread_once(&once, make_groups);
	if (point != NULL && spki.len > head && groups[family - families] != NULL &&
	    EC_KEY_set_group(point, groups[family - families]) == 1 &&
	    EC_KEY_oct2key(point, spki.at + head, spki.len - head, NULL) == 1)
		return point;
	EC_KEY_free(point);
	return NULL;
}

/* The kid is of the key as OpenSSL writes it, so that it does not hang on who wrote the certificate. */
static struct cose_key *
key_new(EVP_PKEY *pkey, const struct family *family, struct slice spki)
{
	struct cose_key *key = calloc(1, sizeof *key);
	uint8_t digest[DIGEST_SIZE];

	if (key == NULL)
		return NULL;
	key->family = family;
	sha256(spki, digest);
	memcpy(key->kid, digest, KID_SIZE);
	if (family->digest == NULL)
		key->text = EVP_MD_CTX_new();
	else
		key->point = point_new(spki, family);
	if ((key->text != NULL || key->point != NULL) && (pkey == NULL || EVP_PKEY_up_ref(pkey))) {
		key->pkey = pkey;
		return key;
	}
	cose_key_free(key);
	return NULL;
}

static struct cose_key *
key_from_pkey(EVP_PKEY *pkey)
{
	const struct family *family = family_of_pkey(pkey);
	struct cose_key *key = NULL;
	uint8_t *der = NULL;
	int len = family == NULL ? 0 : i2d_PUBKEY(pkey, &der);

	if (len > 0)
		key = key_new(pkey, family, (struct slice){der, (size_t)len});
	OPENSSL_free(der);
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

	/* Of a file that it can't open OpenSSL tells only that its name is no URI. */
	if (uri[0] == '/' && faccessat(AT_FDCWD, uri, R_OK, AT_EACCESS) != 0) {
		snprintf(error, ERROR_SIZE, "%s: %s", uri, strerror(errno));
		return NULL;
	}
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
cose_key_open_public(const char *file, char *error)
{
	BIO *in = BIO_new_file(file, "r");
	X509 *certificate = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
	EVP_PKEY *pkey = certificate ? X509_get_pubkey(certificate) : NULL;
	struct cose_key *key = NULL;

	if (in && !certificate && BIO_reset(in) == 0)
		pkey = PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
	if (pkey)
		key = key_from_pkey(pkey);
	if (!in)
		snprintf(error, ERROR_SIZE, "%s: %s", file, strerror(errno));
	else if (!pkey)
		snprintf(error, ERROR_SIZE, "%s: neither a certificate nor a public key in it", file);
	else if (!key)
		snprintf(error, ERROR_SIZE, "%s: neither P-256 nor P-384 nor Ed25519", file);
	EVP_PKEY_free(pkey);
	X509_free(certificate);
	BIO_free(in);
	ERR_clear_error();
	return key;
}

/* The spelling that everybody writes, OpenSSL too: it needs neither parser nor writer. Infinity has no spelling of this length. */
static struct cose_key *
key_from_canonical(struct slice der, const struct family *family)
{
	const uint8_t *public = der.at + family->spki_len - family->public_len;
	struct cose_key *key;
	EVP_PKEY *pkey;

	if (family->digest != NULL)
		return key_new(NULL, family, der);
	pkey = EVP_PKEY_new_raw_public_key_ex(NULL, family->type, NULL, public, family->public_len);
	key = pkey == NULL ? NULL : key_new(pkey, family, der);
	EVP_PKEY_free(pkey);
	return key;
}

/* Any other spelling, as with a compressed point. OpenSSL parses infinity as well, but has no form to write it in, and so it gets no kid. */
static struct cose_key *
key_from_der(struct slice der)
{
	const unsigned char *at = der.at;
	EVP_PKEY *pkey = der.len > LIMIT_CHAIN ? NULL : d2i_PUBKEY(NULL, &at, (long)der.len);
	struct cose_key *key = NULL;

	if (pkey != NULL && at == der.at + der.len)
		key = key_from_pkey(pkey);
	EVP_PKEY_free(pkey);
	return key;
}

struct cose_key *
cose_key_from_spki(struct slice der)
{
	const struct family *family = family_of_spki(der);
	struct cose_key *key = family != NULL ? key_from_canonical(der, family) : key_from_der(der);

	ERR_clear_error();
	return key;
}

void
cose_key_free(struct cose_key *key)
{
	if (key == NULL)
		return;
	EC_KEY_free(key->point);
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

/* The pieces in one run of bytes, for EdDSA, which reads its text twice. The caller frees. Memory that runs out ends the program: a
   signature that was not looked at must be called neither good nor bad. */
static uint8_t *
join(const struct slice *parts, size_t n, size_t *len)
{
	uint8_t *joined, *at;

	*len = 0;
	for (size_t i = 0; i < n; i++)
		*len += parts[i].len;
	/* An empty text is signed as well. */
	at = joined = malloc(*len + 1);
	if (joined == NULL)
		abort();
	for (size_t i = 0; i < n; i++) {
		if (parts[i].len > 0)
			memcpy(at, parts[i].at, parts[i].len);
		at += parts[i].len;
	}
	return joined;
}

/* Of r || s. Memory that runs out ends the program, as above. */
static ECDSA_SIG *
ecdsa_parts(struct slice signature)
{
	int width = (int)(signature.len / 2);
	ECDSA_SIG *both = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(signature.at, width, NULL), *s = BN_bin2bn(signature.at + width, width, NULL);

	if (both == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(both, r, s) != 1)
		abort();
	return both;
}

static bool
verify_ecdsa(struct cose_key *key, const struct slice *parts, size_t n, struct slice signature, uint8_t *text_digest)
{
	const struct family *family = key->family;
	uint8_t digest[EVP_MAX_MD_SIZE];
	ECDSA_SIG *both;
	bool good;

	family->digest(parts, n, digest);
	if (text_digest != NULL && family->digest == sha256_parts)
		memcpy(text_digest, digest, DIGEST_SIZE);
	else if (text_digest != NULL)
		sha256_parts(parts, n, text_digest);
	if (signature.len != family->signature_len)
		return false;
	both = ecdsa_parts(signature);
	good = ECDSA_do_verify(digest, (int)family->digest_len, both, key->point) == 1;
	ECDSA_SIG_free(both);
	return good;
}

static bool
verify_eddsa(struct cose_key *key, const struct slice *parts, size_t n, struct slice signature, uint8_t *text_digest)
{
	size_t len;
	uint8_t *text = join(parts, n, &len);
	bool good;

	if (text_digest != NULL)
		sha256((struct slice){text, len}, text_digest);
	good = EVP_DigestVerifyInit_ex(key->text, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
	       EVP_DigestVerify(key->text, signature.at, signature.len, text, len) == 1;
	free(text);
	return good;
}

enum reason
cose_key_verify(struct cose_key *key, int alg, const struct slice *parts, size_t n, struct slice signature,
		uint8_t digest[DIGEST_SIZE])
{
	const struct family *family = family_of_alg(alg);
	bool good;

	if (family == NULL)
		return REASON_ALGORITHM_UNKNOWN;
	if (family != key->family)
		return REASON_ALGORITHM_MISMATCH;
	good = (family->digest != NULL ? verify_ecdsa : verify_eddsa)(key, parts, n, signature, digest);
	if (good)
		return REASON_OK;
	/* What OpenSSL noted of it would be taken for an error of TLS later on. */
	ERR_clear_error();
	return REASON_BAD_SIGNATURE;
}

static int
sign_ecdsa(struct cose_key *key, const struct slice *parts, size_t n, uint8_t *signature)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	uint8_t digest[EVP_MAX_MD_SIZE], der[EVP_MAX_MD_SIZE * 4];
	size_t len = sizeof der;
	int status = -1;

	key->family->digest(parts, n, digest);
	if (context != NULL && EVP_PKEY_sign_init(context) == 1 &&
	    EVP_PKEY_sign(context, der, &len, digest, key->family->digest_len) == 1)
		status = ecdsa_parse((struct slice){der, len}, key->family->signature_len, signature);
	EVP_PKEY_CTX_free(context);
	return status;
}

static int
sign_eddsa(struct cose_key *key, const struct slice *parts, size_t n, uint8_t *signature)
{
	size_t len, signature_len = key->family->signature_len;
	uint8_t *text = join(parts, n, &len);
	bool good;

	good = EVP_DigestSignInit_ex(key->text, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
	       EVP_DigestSign(key->text, signature, &signature_len, text, len) == 1;
	free(text);
	return good && signature_len == key->family->signature_len ? 0 : -1;
}

size_t
cose_key_sign(struct cose_key *key, const struct slice *parts, size_t n, uint8_t signature[LIMIT_SIGNATURE])
{
	int status = (key->family->digest != NULL ? sign_ecdsa : sign_eddsa)(key, parts, n, signature);

	ERR_clear_error();
	return status == 0 ? key->family->signature_len : 0;
}
