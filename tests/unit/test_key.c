/* Keys: where they come from, what is refused, and raw signatures over slices. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/key.h"
#include "schema/topics.h"
#include "tests/unit/keys.h"

static const struct slice text[] = {{(const uint8_t *)"what the ", 9}, {NULL, 0}, {(const uint8_t *)"device saw", 10}};

#define PARTS (sizeof text / sizeof text[0])

/* The same text, cut elsewhere, is the same text; another is another, and its digest is told either way. */
static void
test_sign_and_verify_slices(void **state)
{
	const struct slice whole = {(const uint8_t *)"what the device saw", 19};
	uint8_t signature[LIMIT_SIGNATURE], digest[DIGEST_SIZE], want[DIGEST_SIZE];

	(void)state;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		struct slice signed_by = {signature, cose_key_sign(keys[i], text, PARTS, signature)};

		assert_int_equal(signed_by.len, algorithms[i] == -35 ? 96 : 64);
		assert_int_equal(cose_alg_check(algorithms[i], signed_by), REASON_OK);
		assert_int_equal(cose_key_verify(keys[i], algorithms[i], &whole, 1, signed_by, digest), REASON_OK);
		sha256(whole, want);
		assert_memory_equal(digest, want, DIGEST_SIZE);
		sha256(text[0], want);
		assert_int_equal(cose_key_verify(keys[i], algorithms[i], text, 1, signed_by, digest),
				 REASON_BAD_SIGNATURE);
		assert_memory_equal(digest, want, DIGEST_SIZE);
		assert_int_equal(cose_key_verify(keys[i], algorithms[i], text, 0, signed_by, NULL),
				 REASON_BAD_SIGNATURE);
		signed_by.len--;
		assert_int_equal(cose_alg_check(algorithms[i], signed_by), REASON_MALFORMED);
		assert_int_equal(cose_key_verify(keys[i], algorithms[i], text, PARTS, signed_by, NULL),
				 REASON_BAD_SIGNATURE);
	}
}

/* Each algorithm has two names, and no other name is known. */
static void
test_algorithm_names(void **state)
{
	static const int names[][2] = {{-7, -9}, {-35, -51}, {-8, -19}};
	static const int64_t unknown[] = {0, 7, -36, -37, -47, INT64_C(-4294967303), INT64_MIN, INT64_MAX};
	uint8_t signature[LIMIT_SIGNATURE];

	(void)state;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		struct slice signed_by = {signature, cose_key_sign(keys[i], text, PARTS, signature)};

		for (size_t j = 0; j < ALGORITHMS; j++) {
			for (size_t n = 0; n < 2; n++) {
				assert_true(cose_alg_known(names[j][n]));
				assert_int_equal(cose_key_verify(keys[i], names[j][n], text, PARTS, signed_by, NULL),
						 i == j ? REASON_OK : REASON_ALGORITHM_MISMATCH);
			}
		}
	}
	for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
		assert_false(cose_alg_known(unknown[i]));
	assert_int_equal(cose_key_verify(keys[0], -36, text, PARTS, (struct slice){signature, 64}, NULL),
			 REASON_ALGORITHM_UNKNOWN);
	assert_int_equal(cose_alg_check(-36, (struct slice){signature, 64}), REASON_ALGORITHM_UNKNOWN);
}

static void
write_file(const char *path, const char *content)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(content, file);
	assert_int_equal(fclose(file), 0);
}

static void
test_open_refused(void **state)
{
	static const char *const contents[] = {
		"",
		"no key",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		/* X25519 */
		"-----BEGIN PRIVATE "
		"KEY-----\nMC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq\n-----END PRIVATE "
		"KEY-----\n",
	};
	char path[64], error[256];

	(void)state;
	path_of(path, "bad");
	error[0] = '\0';
	assert_null(cose_key_open(path, error));
	assert_non_null(strstr(error, path));
	for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) {
		write_file(path, contents[i]);
		error[0] = '\0';
		assert_null(cose_key_open(path, error));
		assert_non_null(strstr(error, path));
	}
	unlink(path);
	assert_null(cose_key_open(directory, error));
	assert_null(cose_key_open("pkcs11:no-such-provider", error));
}

#define P256 "3059301306072a8648ce3d020106082a8648ce3d030107034200"
#define P384 "3076301006072a8648ce3d020106052b81040022036200"
#define ZERO32 "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES32 "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static void
test_spki_refused(void **state)
{
	/* No point of its curve: one off, nought, coordinates over the field's prime (of a point that is), infinity; a byte after it; and
	   another curve, secp256k1. */
	static const char *const rows[] = {
		"",
		"30",
		P256 "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
		     "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f6",
		P256 "04" ZERO32 ZERO32,
		P256 "04" ONES32 ONES32,
		P256 "04ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"
		     "66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4",
		P384 "04" ZERO32 ZERO32 ZERO32,
		P384 "04" ONES32 ONES32 ONES32,
		"3019301306072a8648ce3d020106082a8648ce3d03010703020000",
		"3016301006072a8648ce3d020106052b8104002203020000",
		"3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0"
		"f4a13945d898c296"
		"4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f500",
		"3056301006072a8648ce3d020106052b8104000a0342000479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f281"
		"5b16f81798"
		"483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
	};
	static const char good[] = "3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a44"
				   "0f277037d812deb33a0f4a13945d898c296"
				   "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
	uint8_t der[128], digest[DIGEST_SIZE], kid[KID_SIZE], signature[LIMIT_SIGNATURE];
	struct cose_key *key;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t len = strlen(rows[i]) / 2;

		assert_true(hex_parse((struct slice){(const uint8_t *)rows[i], 2 * len}, der, len));
		assert_null(cose_key_from_spki((struct slice){der, len}));
	}
	/* And the base point itself: the kid is of these bytes, and a public key signs nothing. */
	assert_true(hex_parse((struct slice){(const uint8_t *)good, strlen(good)}, der, strlen(good) / 2));
	key = cose_key_from_spki((struct slice){der, strlen(good) / 2});
	assert_non_null(key);
	sha256((struct slice){der, strlen(good) / 2}, digest);
	cose_key_kid(key, kid);
	assert_memory_equal(kid, digest, KID_SIZE);
	assert_int_equal(cose_key_alg(key), -7);
	assert_int_equal(cose_key_sign(key, text, PARTS, signature), 0);
	cose_key_free(key);
}

/* What OpenSSL makes of it: the kid of what it would write again, or nothing. */
static bool
kid_by_openssl(struct slice der, uint8_t kid[KID_SIZE])
{
	const unsigned char *at = der.at;
	EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)der.len);
	uint8_t *again = NULL, digest[DIGEST_SIZE];
	char group[32] = "";
	bool ours;
	int len;

	if (pkey == NULL)
		return false;
	EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL);
	ours = EVP_PKEY_is_a(pkey, "ED25519") || strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0;
	len = i2d_PUBKEY(pkey, &again);
	assert_true(len > 0);
	sha256((struct slice){again, (size_t)len}, digest);
	memcpy(kid, digest, KID_SIZE);
	OPENSSL_free(again);
	EVP_PKEY_free(pkey);
	return ours && at == der.at + der.len;
}

static void
check_against_openssl(struct slice der)
{
	uint8_t want[KID_SIZE], got[KID_SIZE];
	struct cose_key *key = cose_key_from_spki(der);
	bool taken = kid_by_openssl(der, want);

	assert_int_equal(key != NULL, taken);
	if (key == NULL)
		return;
	cose_key_kid(key, got);
	assert_memory_equal(got, want, KID_SIZE);
	cose_key_free(key);
}

static const char *const kinds[] = {"P-256", "P-384", "ED25519"};

/* The SPKI of a new key; of a point in the form that is asked for. */
static struct slice
new_spki(size_t kind, const char *form, uint8_t **der)
{
	EVP_PKEY *pkey = kind < 2 ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", kinds[kind])
				  : EVP_PKEY_Q_keygen(NULL, NULL, kinds[kind]);
	int len;

	assert_non_null(pkey);
	if (form != NULL)
		assert_int_equal(EVP_PKEY_set_utf8_string_param(pkey, "point-format", form), 1);
	*der = NULL;
	len = i2d_PUBKEY(pkey, der);
	assert_true(len > 0);
	EVP_PKEY_free(pkey);
	return (struct slice){*der, (size_t)len};
}

/* The short way through a canonical SPKI is the long way's, for good keys and with any bit of one changed. */
static void
test_spki_as_openssl_has_it(void **state)
{
	static const char *const forms[] = {NULL, "uncompressed", "compressed", "hybrid"};

	(void)state;
	for (size_t kind = 0; kind < ALGORITHMS; kind++) {
		for (size_t f = 0; f < (kind < 2 ? sizeof forms / sizeof forms[0] : 1); f++) {
			uint8_t *bytes;
			struct slice der = new_spki(kind, forms[f], &bytes);

			check_against_openssl(der);
			for (size_t bit = 0; bit < 8 * der.len; bit++) {
				bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
				check_against_openssl(der);
				bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			}
			check_against_openssl((struct slice){bytes, der.len - 1});
			OPENSSL_free(bytes);
		}
	}
}

/* A key in its file and its SPKI in a certificate are one: same kid, and what the one signs the other verifies. */
static void
test_spki_of_a_signer(void **state)
{
	char path[64], error[256];

	(void)state;
	for (size_t kind = 0; kind < ALGORITHMS; kind++) {
		uint8_t *bytes = NULL, kid[KID_SIZE], other[KID_SIZE], signature[LIMIT_SIGNATURE];
		struct cose_key *private, *public;
		struct slice signed_by;
		EVP_PKEY *pkey;
		FILE *file;
		int len;

		path_of(path, "signer");
		assert_int_equal(cose_key_generate(algorithms[kind], path), 0);
		private = cose_key_open(path, error);
		assert_non_null(private);
		file = fopen(path, "r");
		assert_non_null(file);
		pkey = PEM_read_PrivateKey(file, NULL, NULL, NULL);
		fclose(file);
		unlink(path);
		len = i2d_PUBKEY(pkey, &bytes);
		assert_true(len > 0);
		public = cose_key_from_spki((struct slice){bytes, (size_t)len});
		assert_non_null(public);
		cose_key_kid(private, kid);
		cose_key_kid(public, other);
		assert_memory_equal(kid, other, KID_SIZE);
		assert_int_equal(cose_key_alg(public), algorithms[kind]);
		signed_by = (struct slice){signature, cose_key_sign(private, text, PARTS, signature)};
		assert_int_equal(cose_key_verify(public, algorithms[kind], text, PARTS, signed_by, NULL), REASON_OK);
		assert_int_equal(cose_key_verify(public, algorithms[kind], text, 1, signed_by, NULL),
				 REASON_BAD_SIGNATURE);
		assert_int_equal(cose_key_sign(public, text, PARTS, signature), 0);
		OPENSSL_free(bytes);
		EVP_PKEY_free(pkey);
		cose_key_free(private);
		cose_key_free(public);
	}
}

#define THREADS 4
#define KEYS_EACH 200

static void *
open_many(void *argument)
{
	const struct slice *der = argument;

	for (size_t i = 0; i < KEYS_EACH; i++) {
		struct cose_key *key = cose_key_from_spki(der[i % ALGORITHMS]);

		if (key == NULL)
			return NULL;
		cose_key_free(key);
	}
	return argument;
}

/* What is shared by all keys is read by every worker at once. */
static void
test_spki_in_threads(void **state)
{
	uint8_t *bytes[ALGORITHMS];
	struct slice der[ALGORITHMS];
	pthread_t threads[THREADS];
	void *good;

	(void)state;
	for (size_t kind = 0; kind < ALGORITHMS; kind++)
		der[kind] = new_spki(kind, NULL, &bytes[kind]);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, open_many, der), 0);
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &good), 0);
		assert_non_null(good);
	}
	for (size_t kind = 0; kind < ALGORITHMS; kind++)
		OPENSSL_free(bytes[kind]);
}

static void
test_generate(void **state)
{
	char path[64], nowhere[64], before[1024] = "", after[1024] = "";
	struct stat status;
	FILE *file;

	(void)state;
	path_of(path, "new");
	assert_int_equal(cose_key_generate(-36, path), -1);
	path_of(nowhere, "no-such-folder/key");
	assert_int_equal(cose_key_generate(-7, nowhere), -1);
	umask(0);
	assert_int_equal(cose_key_generate(-7, path), 0);
	umask(022);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	file = fopen(path, "r");
	assert_true(fread(before, 1, sizeof before - 1, file) > 100);
	fclose(file);
	/* A key is never overwritten. */
	assert_int_equal(cose_key_generate(-7, path), -1);
	file = fopen(path, "r");
	assert_true(fread(after, 1, sizeof after - 1, file) > 100);
	fclose(file);
	assert_string_equal(before, after);
	unlink(path);
}

static void
test_digests(void **state)
{
	static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	uint8_t digest[DIGEST_SIZE];
	char hex[2 * DIGEST_SIZE + 1];

	(void)state;
	sha256((struct slice){(const uint8_t *)"abc", 3}, digest);
	hex_print(digest, DIGEST_SIZE, hex);
	assert_string_equal(hex, abc);
	sha256_pair((struct slice){(const uint8_t *)"a", 1}, (struct slice){(const uint8_t *)"bc", 2}, digest);
	hex_print(digest, DIGEST_SIZE, hex);
	assert_string_equal(hex, abc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sign_and_verify_slices),
		cmocka_unit_test(test_algorithm_names),
		cmocka_unit_test(test_open_refused),
		cmocka_unit_test(test_spki_refused),
		cmocka_unit_test(test_spki_as_openssl_has_it),
		cmocka_unit_test(test_spki_of_a_signer),
		cmocka_unit_test(test_spki_in_threads),
		cmocka_unit_test(test_generate),
		cmocka_unit_test(test_digests),
	};

	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
