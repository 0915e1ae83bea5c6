/*
 * Messages and encodings made by others, through the production functions. They are found through VECTORS (../shared/vectors if unset);
 * run from the top of the tree. What each must give is in the tables here and in tests/vectors/appendix_a.txt.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "schema/cbor.h"
#include "schema/cose.h"
#include "schema/topics.h"

#define BYTES_MAX 1024
#define APPENDIX_A 82

/* Hex or base64url that a file holds. */
struct bytes {
	uint8_t at[BYTES_MAX];
	size_t len;
};

static const char *
vectors(void)
{
	const char *directory = getenv("VECTORS");

	return directory != NULL ? directory : "../shared/vectors";
}

static bool
there_are_none(void)
{
	if (access(vectors(), R_OK) == 0)
		return false;
	printf("skipped: no vectors at %s\n", vectors());
	return true;
}

static json_t *
load(const char *name)
{
	char path[512];
	json_error_t error;
	json_t *file;

	snprintf(path, sizeof path, "%s/%s", vectors(), name);
	file = json_load_file(path, JSON_DECODE_INT_AS_REAL, &error); /* some are beyond int64 */
	if (file == NULL)
		fail_msg("%s: %s", path, error.text);
	return file;
}

static struct slice
slice_of(const struct bytes *bytes)
{
	return (struct slice){bytes->at, bytes->len};
}

static void
unhex(const char *text, struct bytes *out)
{
	char lower[2 * BYTES_MAX + 1];
	size_t len = strlen(text);

	assert_true(len <= 2 * BYTES_MAX);
	for (size_t i = 0; i < len; i++)
		lower[i] = (char)tolower((unsigned char)text[i]);
	out->len = len / 2;
	assert_true(hex_parse((struct slice){(const uint8_t *)lower, len}, out->at, out->len));
}

static void
unbase64url(const char *text, struct bytes *out)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	unsigned held = 0;

	out->len = 0;
	for (; *text != '\0'; text++) {
		const char *digit = strchr(alphabet, *text);

		assert_non_null(digit);
		bits = bits << 6 | (uint32_t)(digit - alphabet);
		held += 6;
		if (held >= 8) {
			held -= 8;
			assert_true(out->len < BYTES_MAX);
			out->at[out->len++] = (uint8_t)(bits >> held);
		}
	}
}

/* "x" in base64url, or "x_hex". */
static void
coordinate(json_t *jwk, const char *name, struct bytes *out)
{
	char hex_name[8];

	snprintf(hex_name, sizeof hex_name, "%s_hex", name);
	if (json_object_get(jwk, name) != NULL)
		unbase64url(json_string_value(json_object_get(jwk, name)), out);
	else
		unhex(json_string_value(json_object_get(jwk, hex_name)), out);
}

/* The key as a SubjectPublicKeyInfo: a fixed head for each curve, then the point. NULL when it is none of ours. */
static struct cose_key *
key_of(json_t *jwk)
{
	static const struct {
		const char *curve, *head;
	} curves[] = {
		{"P-256", "3059301306072a8648ce3d020106082a8648ce3d03010703420004"},
		{"P-384", "3076301006072a8648ce3d020106052b8104002203620004"},
		{"P-521", "30819b301006072a8648ce3d020106052b810400230381860004"},
		{"Ed25519", "302a300506032b6570032100"},
		{"Ed448", "3043300506032b6571033a00"},
	};
	const char *curve = json_string_value(json_object_get(jwk, "crv"));
	struct bytes spki = {.len = 0}, part;

	for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++) {
		if (strcmp(curve, curves[i].curve) == 0)
			unhex(curves[i].head, &spki);
	}
	assert_true(spki.len > 0);
	coordinate(jwk, "x", &part);
	memcpy(spki.at + spki.len, part.at, part.len);
	spki.len += part.len;
	if (json_object_get(jwk, "y") != NULL || json_object_get(jwk, "y_hex") != NULL) {
		coordinate(jwk, "y", &part);
		memcpy(spki.at + spki.len, part.at, part.len);
		spki.len += part.len;
	}
	return cose_key_from_spki(slice_of(&spki));
}

/* The algorithm of a header, 0 if it names none or names it by a text. */
static int
alg_of(struct slice header)
{
	struct cbor_reader r;
	struct cbor_map map;
	int64_t label, alg = 0;

	cbor_reader_init(&r, header);
	cbor_read_map(&r, &map, 8);
	while (cbor_map_next(&r, &map, &label)) {
		if (label == 1 && cbor_peek(&r) != CBOR_TEXT)
			alg = cbor_read_int(&r);
		else
			cbor_read_item(&r, 4);
	}
	return (int)alg;
}

/* These messages have no tag 61 and a filled unprotected map, so cose_decode refuses them all: this takes them apart more kindly. */
static enum reason
take_apart(struct slice message, struct cose_signed *out)
{
	struct cbor_reader r;
	struct slice unprotected;

	cbor_reader_init(&r, message);
	if (cbor_peek(&r) == CBOR_TAG)
		cbor_read_tag(&r, 18);
	if (cbor_read_array(&r, 4) != 4)
		cbor_fail(&r, REASON_MALFORMED);
	out->protected = cbor_read_bytes(&r, BYTES_MAX);
	unprotected = cbor_read_item(&r, 4);
	out->payload = cbor_read_bytes(&r, BYTES_MAX);
	out->signature = cbor_read_bytes(&r, BYTES_MAX);
	/* RFC 9052 3: a header of no parameters is signed as h''. */
	if (out->protected.len == 1 && out->protected.at[0] == 0xa0)
		out->protected.len = 0;
	out->alg = alg_of(out->protected);
	if (out->alg == 0)
		out->alg = alg_of(unprotected);
	return cbor_reader_end(&r);
}

#define EXAMPLES "cose-wg-examples/"

/* `key`: whether it is one of ours; `verdict`: of the kind reading and cose_verify_signed; `decode`: of cose_decode. */
static const struct {
	const char *file;
	bool key;
	enum reason verdict, decode;
	const char *why;
} messages[] = {
	{"sign1-tests/sign-pass-01.json", true, REASON_OK, REASON_NON_CANONICAL,
	 "the header is h'a0', signed as h''; algorithm unprotected"},
	{"sign1-tests/sign-pass-02.json", true, REASON_OK, REASON_NON_CANONICAL, "external data is signed too"},
	{"sign1-tests/sign-pass-03.json", true, REASON_OK, REASON_NON_CANONICAL, "no tag"},
	{"sign1-tests/sign-fail-01.json", true, REASON_NON_CANONICAL, REASON_NON_CANONICAL, "tag 998"},
	{"sign1-tests/sign-fail-02.json", true, REASON_BAD_SIGNATURE, REASON_NON_CANONICAL, "the payload was changed"},
	{"sign1-tests/sign-fail-03.json", true, REASON_ALGORITHM_UNKNOWN, REASON_NON_CANONICAL, "algorithm -999"},
	{"sign1-tests/sign-fail-04.json", true, REASON_ALGORITHM_UNKNOWN, REASON_NON_CANONICAL,
	 "algorithm \"unknown\""},
	{"sign1-tests/sign-fail-06.json", true, REASON_BAD_SIGNATURE, REASON_NON_CANONICAL, "the header has one more"},
	{"sign1-tests/sign-fail-07.json", true, REASON_BAD_SIGNATURE, REASON_NON_CANONICAL, "the header has one less"},
	{"ecdsa-examples/ecdsa-sig-01.json", true, REASON_OK, REASON_NON_CANONICAL, "ES256"},
	{"ecdsa-examples/ecdsa-sig-02.json", true, REASON_OK, REASON_NON_CANONICAL, "ES384"},
	{"ecdsa-examples/ecdsa-sig-03.json", false, REASON_OK, REASON_NON_CANONICAL, "P-521"},
	{"ecdsa-examples/ecdsa-sig-04.json", true, REASON_ALGORITHM_UNKNOWN, REASON_NON_CANONICAL, "ES512 with P-256"},
	{"eddsa-examples/eddsa-sig-01.json", true, REASON_OK, REASON_NON_CANONICAL, "Ed25519"},
	{"eddsa-examples/eddsa-sig-02.json", false, REASON_OK, REASON_NON_CANONICAL, "Ed448"},
	{"RFC8152/Appendix_C_2_1.json", true, REASON_OK, REASON_NON_CANONICAL, "ES256"},
	{"CWT/A_3.json", true, REASON_OK, REASON_NON_CANONICAL, "a CWT without tag 61, and nothing unprotected"},
};

static void
check_message(size_t row, json_t *file, struct cose_key *key)
{
	json_t *input = json_object_get(json_object_get(file, "input"), "sign0");
	const char *external = json_string_value(json_object_get(input, "external"));
	const char *structure =
		json_string_value(json_object_get(json_object_get(file, "intermediates"), "ToBeSign_hex"));
	struct bytes message, aad = {.len = 0}, tbs;
	uint8_t digest[DIGEST_SIZE] = {0}, want[DIGEST_SIZE];
	struct cose_signed part = {0};
	struct cose_sign1 unused;
	enum reason got;

	unhex(json_string_value(json_object_get(json_object_get(file, "output"), "cbor")), &message);
	assert_int_equal(cose_decode(slice_of(&message), &unused), messages[row].decode);
	if (key == NULL)
		return;
	got = take_apart(slice_of(&message), &part);
	if (external != NULL)
		unhex(external, &aad);
	part.external = slice_of(&aad);
	if (got == REASON_OK)
		got = cose_verify_signed(&part, key, digest);
	if (got != messages[row].verdict)
		fail_msg("%s (%s): %s", messages[row].file, messages[row].why, reason_name(got));
	if (got != REASON_OK)
		return;
	/* Not only the verdict: the very bytes that were signed. */
	unhex(structure, &tbs);
	sha256(slice_of(&tbs), want);
	assert_memory_equal(digest, want, DIGEST_SIZE);
	/* And every one of them refuses another text. */
	part.payload.len--;
	assert_int_equal(cose_verify_signed(&part, key, NULL), REASON_BAD_SIGNATURE);
}

static void
test_cose_examples(void **state)
{
	(void)state;
	if (there_are_none())
		skip();
	for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
		char name[256];
		json_t *file;
		struct cose_key *key;

		snprintf(name, sizeof name, EXAMPLES "%s", messages[i].file);
		file = load(name);
		key = key_of(json_object_get(json_object_get(json_object_get(file, "input"), "sign0"), "key"));
		if ((key != NULL) != messages[i].key)
			fail_msg("%s: key", messages[i].file);
		check_message(i, file, key);
		cose_key_free(key);
		json_decref(file);
	}
}

/* Messages of many signers, tag 98: no Sign1 at all. */
static void
test_cose_sign_is_refused(void **state)
{
	static const char *const files[] = {
		EXAMPLES "eddsa-examples/eddsa-01.json", EXAMPLES "eddsa-examples/eddsa-02.json",
		EXAMPLES "ecdsa-examples/ecdsa-01.json", EXAMPLES "ecdsa-examples/ecdsa-02.json"};

	(void)state;
	if (there_are_none())
		skip();
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		json_t *file = load(files[i]);
		struct bytes message;
		struct cose_sign1 unused;

		unhex(json_string_value(json_object_get(json_object_get(file, "output"), "cbor")), &message);
		assert_int_equal(cose_decode(slice_of(&message), &unused), REASON_NON_CANONICAL);
		json_decref(file);
	}
}

/* A token by another implementation, tags and all; only its kid, of 5 bytes, is not as we want it. */
static void
test_other_implementation(void **state)
{
	json_t *file;
	struct bytes public, protected, payload, structure, signature, spki, token;
	uint8_t digest[DIGEST_SIZE], want[DIGEST_SIZE];
	struct cose_sign1 unused;
	struct cose_signed part = {.alg = -8};
	struct cose_key *key;

	(void)state;
	if (there_are_none())
		skip();
	file = load("fleetstate-example/report1.json");
	unhex(json_string_value(json_object_get(file, "public_hex")), &public);
	unhex(json_string_value(json_object_get(file, "protected_hex")), &protected);
	unhex(json_string_value(json_object_get(file, "payload_hex")), &payload);
	unhex(json_string_value(json_object_get(file, "sig_structure_hex")), &structure);
	unhex(json_string_value(json_object_get(file, "signature_hex")), &signature);
	unhex(json_string_value(json_object_get(file, "token_hex")), &token);
	unhex("302a300506032b6570032100", &spki);
	memcpy(spki.at + spki.len, public.at, public.len);
	spki.len += public.len;
	key = cose_key_from_spki(slice_of(&spki));
	assert_non_null(key);
	part.protected = slice_of(&protected);
	part.payload = slice_of(&payload);
	part.signature = slice_of(&signature);
	assert_int_equal(cose_verify_signed(&part, key, digest), REASON_OK);
	sha256(slice_of(&structure), want);
	assert_memory_equal(digest, want, DIGEST_SIZE);
	assert_int_equal(cose_decode(slice_of(&token), &unused), REASON_MALFORMED);
	cose_key_free(key);
	json_decref(file);
}

static enum reason
read_as_item(const char *hex)
{
	struct bytes bytes;
	struct cbor_reader r;

	unhex(hex, &bytes);
	cbor_reader_init(&r, slice_of(&bytes));
	cbor_read_item(&r, LIMIT_DEPTH);
	return cbor_reader_end(&r);
}

/* The committed list alone, and against the outside file when that is there. */
static void
test_appendix_a(void **state)
{
	FILE *list = fopen("tests/vectors/appendix_a.txt", "r");
	json_t *outside = there_are_none() ? NULL : load("cbor-test-vectors/appendix_a.json");
	char line[512], hex[256], verdict[64];
	size_t n = 0;

	(void)state;
	assert_non_null(list);
	while (fgets(line, sizeof line, list) != NULL) {
		if (line[0] == '#')
			continue;
		assert_int_equal(sscanf(line, "%255s %63s", hex, verdict), 2);
		if (strcmp(reason_name(read_as_item(hex)), verdict) != 0)
			fail_msg("%s: %s, not %s", hex, reason_name(read_as_item(hex)), verdict);
		if (outside != NULL)
			assert_string_equal(hex, json_string_value(json_object_get(json_array_get(outside, n), "hex")));
		n++;
	}
	fclose(list);
	assert_int_equal(n, APPENDIX_A);
	if (outside != NULL)
		assert_int_equal(json_array_size(outside), APPENDIX_A);
	json_decref(outside);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cose_examples),
		cmocka_unit_test(test_cose_sign_is_refused),
		cmocka_unit_test(test_other_implementation),
		cmocka_unit_test(test_appendix_a),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
