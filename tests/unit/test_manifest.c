#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/tally.h"
#include "schema/manifest.h"
#include "tests/unit/bytes.h"

#define PROFILE "5369fe8cc694cda0f2b09f9db5d6e3f7d2fa8459"
#define DIGEST "5820000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEAD "a3061a6ab0c100190109" PROFILE "3a00010021"
#define ACME "6461636d65"
#define CSV "63637376"

static void
there_and_back(void **unused)
{
	struct manifest one = {.iat = 1790000000,
			       .tenant = "acme",
			       .format = "csv",
			       .rows = 7,
			       .size = 1000,
			       .position = 41},
			got;
	uint8_t out[256];
	struct cbor_writer w;

	(void)unused;
	memset(one.sha256, 0x22, DIGEST_SIZE);
	for (int i = 0; i < 2; i++) {
		cbor_writer_init(&w, out, sizeof out);
		manifest_encode(&one, &w);
		assert_false(w.overflow);
		assert_int_equal(manifest_decode((struct slice){out, w.len}, &got), REASON_OK);
		assert_memory_equal(&got, &one, sizeof one);
		one.has_since = true;
		one.since = 40;
	}
}

static void
refused(void **unused)
{
	static const struct {
		const char *hex;
		enum reason reason;
	} cases[] = {
		{HEAD "87" ACME CSV "0102" DIGEST "03f6", REASON_OK},
		{HEAD "87" ACME CSV "0102" DIGEST "0303", REASON_OK},
		{HEAD "87" ACME CSV "0102" DIGEST "0304",
		 REASON_CLAIM_INVALID}, /* changed since what was yet to come */
		{HEAD "87"
		      "60" CSV "0102" DIGEST "03f6",
		 REASON_CLAIM_INVALID}, /* of nobody */
		{HEAD "87" ACME "60"
		      "0102" DIGEST "03f6",
		 REASON_CLAIM_INVALID},
		{HEAD "87"
		      "6100" CSV "0102" DIGEST "03f6",
		 REASON_TEXT_INVALID},
		{HEAD "87"
		      "61ff" CSV "0102" DIGEST "03f6",
		 REASON_TEXT_INVALID},
		{HEAD "87"
		      "4461636d65" CSV "0102" DIGEST "03f6",
		 REASON_MALFORMED}, /* bytes instead of a text */
		{HEAD "87" ACME "7820"
		      "6161616161616161616161616161616161616161616161616161616161616161"
		      "0102" DIGEST "03f6",
		 REASON_LIMIT_EXCEEDED}, /* a byte too long */
		{HEAD "87" ACME CSV "2002" DIGEST "03f6", REASON_MALFORMED}, /* less than no rows */
		{HEAD "87" ACME CSV "011b0020000000000000" DIGEST "03f6", REASON_CLAIM_INVALID}, /* 2^53 bytes */
		{HEAD "87" ACME CSV "01024100"
		      "03f6",
		 REASON_CLAIM_INVALID}, /* no digest */
		{HEAD "87" ACME CSV "0102" DIGEST "f6f6", REASON_MALFORMED}, /* no position */
		{HEAD "87" ACME CSV "0102" DIGEST "03f5", REASON_MALFORMED},
		{HEAD "86" ACME CSV "0102" DIGEST "03", REASON_CLAIM_INVALID},
		{HEAD "88" ACME CSV "0102" DIGEST "03f600", REASON_CLAIM_INVALID},
		{HEAD "87" ACME CSV "0102" DIGEST "03f600", REASON_TRAILING_BYTES},
		{HEAD "87" ACME CSV "180102" DIGEST "03f6", REASON_NON_CANONICAL},
		{HEAD "f6", REASON_MALFORMED},
		{"a2061a6ab0c100190109" PROFILE, REASON_CLAIM_MISSING},
		{"a0", REASON_CLAIM_MISSING},
		{"80", REASON_MALFORMED},
		{"", REASON_TRUNCATED},
	};
	uint8_t bytes[512];
	struct manifest got;

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		enum reason reason = manifest_decode(unhex(cases[i].hex, bytes), &got);

		if (reason != cases[i].reason)
			fail_msg("%s: %s", cases[i].hex, reason_name(reason));
	}
}

static void
tallied(void **unused)
{
	static const uint8_t text[] = "abc";
	struct slice pieces[] = {{text, 1}, {NULL, 0}, {text + 1, 2}};
	uint8_t whole[DIGEST_SIZE], counted[DIGEST_SIZE];
	struct tally *tally = tally_new();
	uint64_t size;

	(void)unused;
	assert_non_null(tally);
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
		tally_add(tally, pieces[i]);
	assert_true(tally_end(tally, counted, &size));
	sha256((struct slice){text, 3}, whole);
	assert_memory_equal(counted, whole, DIGEST_SIZE);
	assert_int_equal(size, 3);
	tally_free(tally);
	tally_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(refused),
					   cmocka_unit_test(tallied)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
