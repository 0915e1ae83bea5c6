/* Topics and ueids: what is taken prints as it came, everything else has its reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schema/cose.h"
#include "schema/reason.h"
#include "schema/topics.h"
#include "tests/unit/bytes.h"

#define UEID "01000102030405060708090a0b0c0d0e0f"
/* sha256 of those 17 bytes begins with 6. */
#define SHARD "6"

static void
test_topics_refused(void **state)
{
	static const struct {
		const char *topic;
		enum reason reason;
	} rows[] = {
		{"", REASON_TOPIC_MALFORMED},
		{"fleetstate", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD, REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/" UEID, REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/" UEID "/", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/" UEID "/receipt", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/" UEID "/reports", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/" UEID "/report/", REASON_TOPIC_MALFORMED},
		{"/fleetstate/1/" SHARD "/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"Fleetstate/1/" SHARD "/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/2/" SHARD "/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/g/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/A/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/02/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/+/" UEID "/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/01000102030405060708090A0B0C0D0E0F/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/02000102030405060708090a0b0c0d0e0f/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/01000102030405060708090a0b0c0d0e0/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/01000102030405060708090a0b0c0d0e0f0/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/" SHARD "/01000102030405060708090a0b0c0d0e0g/report", REASON_TOPIC_MALFORMED},
		{"fleetstate/1/3/" UEID "/report", REASON_WRONG_SHARD},
		{"fleetstate/1/f/" UEID "/report", REASON_WRONG_SHARD},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ueid ueid = {{0}};
		enum reason got = topic_parse_report(text(rows[i].topic), &ueid);

		if (got != rows[i].reason)
			fail_msg("%s: %s", rows[i].topic, reason_name(got));
		/* A wrong shard still says whose it was, a malformed topic nobody's. */
		assert_int_equal(ueid.bytes[0], got == REASON_WRONG_SHARD ? 0x01 : 0);
	}
}

static void
test_topic_with_nul(void **state)
{
	static const char topic[] = "fleetstate/1/" SHARD "/" UEID "/report";
	struct ueid ueid;

	(void)state;
	assert_int_equal(topic_parse_report((struct slice){(const uint8_t *)topic, sizeof topic}, &ueid),
			 REASON_TOPIC_MALFORMED);
	assert_int_equal(topic_parse_report((struct slice){NULL, 0}, &ueid), REASON_TOPIC_MALFORMED);
}

static void
test_report_topic_round_trip(void **state)
{
	static const char topic[] = "fleetstate/1/" SHARD "/" UEID "/report";
	char printed[128];
	struct ueid ueid;

	(void)state;
	assert_int_equal(topic_parse_report(text(topic), &ueid), REASON_OK);
	topic_print_report(&ueid, printed, sizeof printed);
	assert_string_equal(printed, topic);
	topic_print_receipt(&ueid, printed, sizeof printed);
	assert_string_equal(printed, "fleetstate/1/" UEID "/receipt");
}

static void
test_shard_is_first_digit_of_digest(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 64; n++) {
		struct ueid ueid = {{0x01, (uint8_t)n}};
		uint8_t digest[DIGEST_SIZE];
		char hex[2 * DIGEST_SIZE + 1], shard[2];

		sha256((struct slice){ueid.bytes, UEID_SIZE}, digest);
		hex_print(digest, sizeof digest, hex);
		snprintf(shard, sizeof shard, "%x", ueid_shard(&ueid));
		assert_int_equal(shard[0], hex[0]);
	}
}

static void
test_hex_refused(void **state)
{
	static const char *const rows[] = {"", "0", "00", "000", "00000", "0g00", "0 00", "00AA", "0x00", "-100"};
	uint8_t out[2] = {0xee, 0xee};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_false(hex_parse(text(rows[i]), out, sizeof out));
	/* Nothing is written on a refusal. */
	assert_int_equal(out[0], 0xee);
	assert_int_equal(out[1], 0xee);
	assert_true(hex_parse(text("0aff"), out, sizeof out));
	assert_int_equal(out[0], 0x0a);
	assert_int_equal(out[1], 0xff);
}

/* Each byte there is, in each place of two. */
static void
test_hex_digits(void **state)
{
	static const char good[] = "0123456789abcdef";

	(void)state;
	for (unsigned c = 0; c <= UINT8_MAX; c++) {
		const char *at = c == 0 ? NULL : strchr(good, (int)c);
		uint8_t high[] = {(uint8_t)c, '3'}, low[] = {'3', (uint8_t)c}, out = 0;

		assert_true(hex_parse((struct slice){high, 2}, &out, 1) == (at != NULL));
		assert_true(at == NULL || out == ((at - good) << 4 | 3));
		assert_true(hex_parse((struct slice){low, 2}, &out, 1) == (at != NULL));
		assert_true(at == NULL || out == (3 << 4 | (at - good)));
	}
}

static void
test_reasons_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < REASONS; i++) {
		assert_true(strlen(reason_name((enum reason)i)) > 1);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(reason_name((enum reason)i), reason_name((enum reason)j));
	}
	assert_string_equal(reason_name((enum reason)REASONS), "unknown");
	assert_string_equal(reason_name((enum reason) - 1), "unknown");
	assert_string_equal(reason_name(REASON_BAD_SIGNATURE), "bad-signature");
	assert_true(reason_is("bad-signature") && reason_is("unstorable"));
	assert_false(reason_is("ok") || reason_is("unknown") || reason_is("") || reason_is("bad") ||
		     reason_is("bad-signature ") || reason_is("Bad-signature") ||
		     reason_is("bad-signature,unstorable"));
	assert_true(reason_permanent(REASON_BAD_SIGNATURE));
	/* Whatever may be undone is not: the device would throw its evidence away. */
	static const enum reason undone[] = {
		REASON_UNKNOWN_KEY,
		REASON_KEY_REVOKED,
		REASON_KEY_RETIRED,
		REASON_CERTIFICATE_REVOKED,
		REASON_CERTIFICATE_MALFORMED,
		REASON_CERTIFICATE_UNTRUSTED,
		REASON_CERTIFICATE_EXPIRED,
		REASON_CERTIFICATE_NOT_YET_VALID,
		REASON_CERTIFICATE_USAGE,
		REASON_CERTIFICATE_NAME,
		REASON_ALGORITHM_UNKNOWN,
		REASON_PROFILE_UNKNOWN,
		REASON_DEVICE_RETIRED,
		REASON_UEID_OWNED_ELSEWHERE,
		REASON_PENDING_FULL,
		REASON_GAPS_FULL,
		REASON_SEQ_LEAP,
		REASON_EPOCH_FULL,
	};
	for (size_t i = 0; i < sizeof undone / sizeof *undone; i++)
		assert_false(reason_permanent(undone[i]));
	assert_false(reason_permanent(REASON_OK));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_topics_refused),
		cmocka_unit_test(test_topic_with_nul),
		cmocka_unit_test(test_report_topic_round_trip),
		cmocka_unit_test(test_shard_is_first_digit_of_digest),
		cmocka_unit_test(test_hex_refused),
		cmocka_unit_test(test_hex_digits),
		cmocka_unit_test(test_reasons_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
