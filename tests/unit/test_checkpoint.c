#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/checkpoint.h"
#include "tests/unit/bytes.h"

#define PROFILE "5369fe8cc694cda0f2b09f9db5d6e3f7d2fa8459"
#define DIGEST "5820000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define WITH_AUDIT "a4061a6ab0c100190109" PROFILE "3a000100178401f602" DIGEST "3a00010018"
#define HEAD "a3061a6ab0c100190109" PROFILE "3a00010017"

static void
there_and_back(void **unused)
{
	struct checkpoint one = {.iat = 1790000000, .number = 7, .has_previous = true, .devices = 3}, got;
	uint8_t out[256];
	struct cbor_writer w;

	(void)unused;
	memset(one.previous, 0x11, DIGEST_SIZE);
	memset(one.root, 0x22, DIGEST_SIZE);
	cbor_writer_init(&w, out, sizeof out);
	checkpoint_encode(&one, &w);
	assert_false(w.overflow);
	assert_int_equal(checkpoint_decode((struct slice){out, w.len}, &got), REASON_OK);
	assert_memory_equal(&got, &one, sizeof one);
	one.has_audit = true;
	one.audit_number = 9;
	memset(one.audit_hash, 0x33, DIGEST_SIZE);
	cbor_writer_init(&w, out, sizeof out);
	checkpoint_encode(&one, &w);
	assert_int_equal(checkpoint_decode((struct slice){out, w.len}, &got), REASON_OK);
	assert_memory_equal(&got, &one, sizeof one);
}

static void
refused(void **unused)
{
	static const struct {
		const char *hex;
		enum reason reason;
	} cases[] = {
		{HEAD "8401f602" DIGEST, REASON_OK},
		{HEAD "8402" DIGEST "02" DIGEST, REASON_OK},
		{HEAD "8400f602" DIGEST, REASON_CLAIM_INVALID}, /* numbers begin at 1 */
		{HEAD "8401" DIGEST "02" DIGEST, REASON_CLAIM_INVALID}, /* nothing is before the first */
		{HEAD "8402f602" DIGEST, REASON_CLAIM_INVALID}, /* something is before the second */
		{HEAD "8301f602", REASON_CLAIM_INVALID},
		{HEAD "8501f602" DIGEST "00", REASON_CLAIM_INVALID},
		{HEAD "8401f620" DIGEST, REASON_MALFORMED}, /* less than no devices */
		{HEAD "8401f6024100", REASON_CLAIM_INVALID}, /* no root */
		{HEAD "8401f602" DIGEST "00", REASON_TRAILING_BYTES},
		{HEAD "841801f602" DIGEST, REASON_NON_CANONICAL},
		{WITH_AUDIT "8201" DIGEST, REASON_OK},
		{WITH_AUDIT "8200" DIGEST, REASON_CLAIM_INVALID}, /* entries begin at 1 */
		{WITH_AUDIT "820141ff", REASON_CLAIM_INVALID},
		{WITH_AUDIT "8101", REASON_CLAIM_INVALID},
		{WITH_AUDIT "f6", REASON_MALFORMED},
		{"a2061a6ab0c100190109" PROFILE, REASON_CLAIM_MISSING},
		{"a0", REASON_CLAIM_MISSING},
		{"80", REASON_MALFORMED},
		{"", REASON_TRUNCATED},
	};
	uint8_t bytes[512];
	struct checkpoint got;

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		enum reason reason = checkpoint_decode(unhex(cases[i].hex, bytes), &got);

		if (reason != cases[i].reason)
			fail_msg("%s: %s", cases[i].hex, reason_name(reason));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(refused)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
