#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/receipt.h"
#include "tests/unit/bytes.h"

#define VECTORS_HERE "tests/vectors/"
#define ROOM (2 * LIMIT_RECEIPT)

static void
assert_same_again(const struct receipt *receipt, struct slice payload)
{
	static uint8_t out[ROOM];
	struct cbor_writer w;

	cbor_writer_init(&w, out, sizeof out);
	receipt_encode(receipt, &w);
	assert_false(w.overflow);
	assert_int_equal(w.len, payload.len);
	assert_memory_equal(out, payload.at, payload.len);
}

/* What independent code made from the CDDL: tests/vectors/make_known_answer.py. */
static void
known(void **unused)
{
	static uint8_t bytes[ROOM];
	json_t *expected = json_load_file(VECTORS_HERE "known.json", 0, NULL), *got, *wanted;
	FILE *file = fopen(VECTORS_HERE "known-receipt.cbor", "rb");
	struct slice message = {bytes, fread(bytes, 1, sizeof bytes, file)};
	uint8_t spki[256], tbs[DIGEST_SIZE];
	struct cose_key *key;
	struct cose_sign1 sign1;
	struct receipt receipt;

	(void)unused;
	fclose(file);
	key = cose_key_from_spki(
		unhex(json_string_value(json_object_get(json_object_get(expected, "receipt"), "spki")), spki));
	assert_non_null(key);
	assert_int_equal(cose_decode(message, &sign1), REASON_OK);
	assert_int_equal(cose_verify(&sign1, key, tbs), REASON_OK);
	cose_key_free(key);

	assert_int_equal(receipt_decode(sign1.payload, &receipt), REASON_OK);
	assert_int_equal(receipt.iat, 1790000301);
	assert_true(receipt.epoch == UINT64_C(0x8877665544332211));
	assert_int_equal(receipt.up_to, 1042);
	assert_true(receipt.has_digest);
	assert_int_equal(receipt.missing_len, 2);
	assert_int_equal(receipt.missing[1].first, 40);
	assert_int_equal(receipt.missing[1].last, 41);
	assert_int_equal(receipt.refused_len, 1);
	assert_int_equal(receipt.wants, WANT_CHAIN | WANT_INVENTORY);
	assert_int_equal(receipt.pace_ms, 50);
	assert_same_again(&receipt, sign1.payload);

	got = receipt_json(&receipt);
	wanted = json_pack("{s:O, s:s, s:s, s:i, s:O, s:[[i,i],[i,i]], s:[{s:O, s:s}], s:[s,s], s:i, s:O}", "ueid",
			   json_object_get(expected, "ueid"), "epoch", "8877665544332211", "issued_at",
			   "2026-09-21T14:18:21Z", "up_to", 1042, "digest", json_object_get(expected, "receipt_digest"),
			   "missing", 3, 3, 40, 41, "refused", "sha256", json_object_get(expected, "refused_digest"),
			   "reason", "bad-signature", "wants", "chain", "inventory", "pace_ms", 50, "nonce",
			   json_object_get(expected, "nonce"));
	assert_non_null(wanted);
	assert_true(json_equal(got, wanted));
	json_decref(got);
	json_decref(wanted);
	json_decref(expected);
}

static void
of_nothing(void **unused)
{
	struct receipt receipt = {.iat = 1, .ueid = {{1}}, .epoch = 7}, again;
	static uint8_t out[ROOM];
	struct cbor_writer w;
	json_t *json;

	(void)unused;
	cbor_writer_init(&w, out, sizeof out);
	receipt_encode(&receipt, &w);
	assert_int_equal(receipt_decode((struct slice){out, w.len}, &again), REASON_OK);
	assert_false(again.has_digest);
	assert_null(again.nonce.at);
	assert_int_equal(again.up_to, 0);
	json = receipt_json(&again);
	assert_int_equal(json_object_size(json), 8);
	assert_int_equal(json_array_size(json_object_get(json, "wants")), 0);
	json_decref(json);
}

/* The longest receipt still fits its limit. */
static void
of_everything(void **unused)
{
	static struct receipt receipt, again;
	static uint8_t out[ROOM], letters[LIMIT_NAME];
	struct cbor_writer w;

	(void)unused;
	memset(letters, 'x', sizeof letters);
	receipt = (struct receipt){.iat = LIMIT_IAT,
				   .ueid = {{1}},
				   .epoch = UINT64_MAX,
				   .up_to = LIMIT_SEQ,
				   .has_digest = true,
				   .wants = 7,
				   .pace_ms = UINT32_MAX,
				   .nonce = {letters, LIMIT_NONCE}};
	for (size_t i = 0; i < LIMIT_RECEIPT_MISSING; i++)
		receipt.missing[receipt.missing_len++] = (struct seq_range){
			LIMIT_SEQ - 2 * (LIMIT_RECEIPT_MISSING - i), LIMIT_SEQ - 2 * (LIMIT_RECEIPT_MISSING - i)};
	for (size_t i = 0; i < LIMIT_RECEIPT_REFUSED; i++)
		receipt.refused[receipt.refused_len++].reason = (struct slice){letters, sizeof letters};
	cbor_writer_init(&w, out, sizeof out);
	receipt_encode(&receipt, &w);
	assert_in_range(w.len, 1, LIMIT_RECEIPT - LIMIT_CHAIN - 256);
	assert_int_equal(receipt_decode((struct slice){out, w.len}, &again), REASON_OK);
	assert_same_again(&again, (struct slice){out, w.len});
}

#define UEID                                                                                                           \
	"19010051"                                                                                                     \
	"01000102030405060708090a0b0c0d0e0f"
#define PROFILE                                                                                                        \
	"19010953"                                                                                                     \
	"69fe8cc694cda0f2b09f9db5d6e3f7d2fa8459"
#define IAT "061a6ab13d2d"
#define ACCOUNT "3a0001000d"
#define NONCE "3a0001000e"
#define EPOCH "488877665544332211"
#define DIGEST "58201111111111111111111111111111111111111111111111111111111111111111"
#define SHORT "581f11111111111111111111111111111111111111111111111111111111111111"
#define FRONT "a4" IAT UEID PROFILE ACCOUNT

static void
each_rule(void **unused)
{
	static const struct {
		const char *hex;
		enum reason reason;
	} rows[] = {
		{FRONT "87" EPOCH "00f680800000", REASON_OK},
		/* claims */
		{"a3" UEID PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_CLAIM_MISSING},
		{"a3" IAT PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_CLAIM_MISSING},
		{"a3" IAT UEID ACCOUNT "87" EPOCH "00f680800000", REASON_CLAIM_MISSING},
		{"a3" IAT UEID PROFILE, REASON_CLAIM_MISSING},
		{"a4061b0000003afff44180" UEID PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_CLAIM_INVALID},
		{"a40620" UEID PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_MALFORMED},
		{"a4" IAT "19010051"
		 "02000102030405060708090a0b0c0d0e0f" PROFILE ACCOUNT "87" EPOCH "00f680800000",
		 REASON_CLAIM_INVALID},
		{"a4" IAT "19010050"
		 "010001020304050607080"
		 "90a0b0c0d0e" PROFILE ACCOUNT "87" EPOCH "00f680800000",
		 REASON_CLAIM_INVALID},
		{"a4" IAT UEID "190109536"
		 "afe8cc694cda0f2b09f9db5d6e3f7d2fa8459" ACCOUNT "87" EPOCH "00f680800000",
		 REASON_PROFILE_UNKNOWN},
		{"a4" UEID IAT PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_NON_CANONICAL},
		{"a5" IAT IAT UEID PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_DUPLICATE_KEY},
		{FRONT "87" EPOCH "00f68080000000", REASON_TRAILING_BYTES},
		/* the account */
		{FRONT "86" EPOCH "00f6808000", REASON_CLAIM_INVALID},
		{FRONT "88" EPOCH "00f68080000000", REASON_CLAIM_INVALID},
		{FRONT "f6", REASON_MALFORMED},
		{FRONT "87"
		       "4788776655443322"
		       "00f680800000",
		 REASON_CLAIM_INVALID},
		{FRONT "87"
		       "00"
		       "00f680800000",
		 REASON_MALFORMED},
		{FRONT "87" EPOCH "20f680800000", REASON_MALFORMED},
		{FRONT "87" EPOCH "1b001ffffffffffffff680800000", REASON_OK},
		{FRONT "87" EPOCH "1b0020000000000000f680800000", REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05" DIGEST "80800000", REASON_OK},
		{FRONT "87" EPOCH "05f680800000", REASON_OK}, /* it was dropped */
		{FRONT "87" EPOCH "00" DIGEST "80800000", REASON_CLAIM_INVALID}, /* of what? */
		{FRONT "87" EPOCH "05" SHORT "80800000", REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05"
		       "f4"
		       "80800000",
		 REASON_MALFORMED},
		/* missing */
		{FRONT "87" EPOCH "05f6"
		       "8182"
		       "0105"
		       "800000",
		 REASON_OK},
		{FRONT "87" EPOCH "05f6"
		       "82820102820304"
		       "800000",
		 REASON_OK},
		{FRONT "87" EPOCH "05f6"
		       "8182"
		       "0005"
		       "800000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f6"
		       "8182"
		       "0302"
		       "800000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f6"
		       "8182"
		       "0506"
		       "800000",
		 REASON_CLAIM_INVALID}, /* beyond up_to */
		{FRONT "87" EPOCH "05f6"
		       "82820304820102"
		       "800000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f6"
		       "82820102820203"
		       "800000",
		 REASON_CLAIM_INVALID}, /* 2 twice */
		{FRONT "87" EPOCH "05f6"
		       "8181"
		       "01"
		       "800000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f6"
		       "8183"
		       "010101"
		       "800000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f6"
		       "81"
		       "01"
		       "800000",
		 REASON_MALFORMED},
		{FRONT "87" EPOCH "05f6"
		       "f6"
		       "800000",
		 REASON_MALFORMED},
		/* refused */
		{FRONT "87" EPOCH "05f680"
		       "8182" DIGEST "6178"
		       "0000",
		 REASON_OK},
		{FRONT "87" EPOCH "05f680"
		       "8182" SHORT "6178"
		       "0000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f680"
		       "8182" DIGEST "00"
		       "0000",
		 REASON_MALFORMED},
		{FRONT "87" EPOCH "05f680"
		       "8182" DIGEST "61ff"
		       "0000",
		 REASON_TEXT_INVALID},
		{FRONT "87" EPOCH "05f680"
		       "8181" DIGEST "0000",
		 REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "05f680"
		       "a0"
		       "0000",
		 REASON_MALFORMED},
		/* wants and pace */
		{FRONT "87" EPOCH "00f680800700", REASON_OK},
		{FRONT "87" EPOCH "00f680800800", REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "00f680802000", REASON_MALFORMED},
		{FRONT "87" EPOCH "00f68080001affffffff", REASON_OK},
		{FRONT "87" EPOCH "00f68080001b0000000100000000", REASON_CLAIM_INVALID},
		{FRONT "87" EPOCH "00f680800020", REASON_MALFORMED},
		/* the nonce, and what nobody knows */
		{"a5" IAT UEID PROFILE ACCOUNT "87" EPOCH "00f680800000" NONCE "481111111111111111", REASON_OK},
		{"a5" IAT UEID PROFILE ACCOUNT "87" EPOCH "00f680800000" NONCE "4711111111111111",
		 REASON_CLAIM_INVALID},
		{"a5" IAT UEID PROFILE ACCOUNT "87" EPOCH "00f680800000" NONCE "5841"
		 "1111111111111111111111111111111111111111111111111111111111111111"
		 "111111111111111111111111111111111111111111111111111111111111111111",
		 REASON_CLAIM_INVALID},
		{"a5" IAT UEID PROFILE ACCOUNT "87" EPOCH "00f680800000" NONCE "00", REASON_MALFORMED},
		{"a5" IAT "0a00" UEID PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_OK},
		{"a5" IAT "0af7" UEID PROFILE ACCOUNT "87" EPOCH "00f680800000", REASON_MALFORMED},
		/* the map */
		{"80", REASON_MALFORMED},
		{"", REASON_TRUNCATED},
		{"a0", REASON_CLAIM_MISSING},
	};
	uint8_t bytes[512];
	struct receipt receipt;

	(void)unused;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum reason got = receipt_decode(unhex(rows[i].hex, bytes), &receipt);

		if (got != rows[i].reason)
			fail_msg("row %zu, %s: %s, not %s", i, rows[i].hex, reason_name(got),
				 reason_name(rows[i].reason));
	}
}

/* One range, or one refusal, over the limit; a name of a reason that is too long. */
static void
limits(void **unused)
{
	static const struct {
		size_t missing, refused, name;
		enum reason reason;
	} rows[] = {
		{LIMIT_RECEIPT_MISSING, LIMIT_RECEIPT_REFUSED, LIMIT_NAME, REASON_OK},
		{LIMIT_RECEIPT_MISSING + 1, 0, 1, REASON_LIMIT_EXCEEDED},
		{0, LIMIT_RECEIPT_REFUSED + 1, 1, REASON_LIMIT_EXCEEDED},
		{0, 1, LIMIT_NAME + 1, REASON_LIMIT_EXCEEDED},
	};
	static uint8_t out[ROOM], letters[LIMIT_NAME + 1];
	struct receipt receipt;

	(void)unused;
	memset(letters, 'x', sizeof letters);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t len = unhex(FRONT "87" EPOCH "19ffff"
					 "f6",
				   out)
				     .len;
		struct cbor_writer w;

		cbor_writer_init(&w, out + len, sizeof out - len);
		cbor_write_array(&w, rows[i].missing);
		for (size_t j = 0; j < rows[i].missing; j++) {
			cbor_write_array(&w, 2);
			cbor_write_uint(&w, 2 * j + 1);
			cbor_write_uint(&w, 2 * j + 1);
		}
		cbor_write_array(&w, rows[i].refused);
		for (size_t j = 0; j < rows[i].refused; j++) {
			cbor_write_array(&w, 2);
			cbor_write_bytes(&w, (struct slice){letters, DIGEST_SIZE});
			cbor_write_text(&w, (struct slice){letters, rows[i].name});
		}
		cbor_write_uint(&w, 0);
		cbor_write_uint(&w, 0);
		assert_int_equal(receipt_decode((struct slice){out, len + w.len}, &receipt), rows[i].reason);
	}
	assert_int_equal(receipt_decode((struct slice){out, LIMIT_RECEIPT + 1}, &receipt), REASON_TOO_LARGE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known),     cmocka_unit_test(of_nothing), cmocka_unit_test(of_everything),
		cmocka_unit_test(each_rule), cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
