#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/facts.h"
#include "schema/limits.h"
#include "schema/topics.h"
#include "tests/unit/bytes.h"

#define ROOM (2 * LIMIT_STATE)

static uint8_t buffer[ROOM], other[ROOM];

static struct slice
encode(const struct facts *facts, uint8_t *out, bool readings)
{
	struct cbor_writer w;

	cbor_writer_init(&w, out, ROOM);
	if (!readings)
		facts_encode_state(facts, &w);
	else if (!facts_encode_readings(facts, &w))
		return (struct slice){NULL, 0};
	assert_false(w.overflow);
	return (struct slice){out, w.len};
}

static enum reason
check(struct slice section, bool readings)
{
	struct cbor_reader r;

	cbor_reader_init(&r, section);
	if (readings)
		facts_check_readings(&r);
	else
		facts_check_state(&r);
	return cbor_reader_end(&r);
}

static void
assert_hex(struct slice got, const char *hex)
{
	struct slice wanted = unhex(hex, other);

	assert_int_equal(got.len, wanted.len);
	assert_memory_equal(got.at, wanted.at, wanted.len);
}

static void
assert_json(struct slice state, struct slice readings, const char *wanted)
{
	json_t *got = facts_json(state, readings);
	char *dumped = got ? json_dumps(got, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	assert_non_null(dumped);
	assert_string_equal(dumped, wanted);
	free(dumped);
	json_decref(got);
}

static const struct slice absent;

static void
table_is_in_order(void **unused)
{
	(void)unused;
	for (int i = 0; i < FACTS; i++) {
		const struct fact_row *row = fact_row((enum fact)i);
		const struct fact_row *before = i > 0 ? fact_row((enum fact)(i - 1)) : NULL;

		assert_in_range(row->key, 1, 255);
		assert_in_range(row->topic_key, 1, 255);
		assert_in_range(strlen(row->topic) + strlen(row->name), 2, 60); /* "unknown" names it as topic.name */
		if (before && before->topic_key == row->topic_key)
			assert_true(before->key < row->key);
		else if (before)
			assert_true(before->topic_key < row->topic_key);
		for (int j = 0; j < i; j++) {
			const struct fact_row *earlier = fact_row((enum fact)j);

			assert_false(strcmp(earlier->topic, row->topic) == 0 && strcmp(earlier->name, row->name) == 0);
		}
	}
}

static void
nothing_known(void **unused)
{
	struct facts *facts = facts_new();

	(void)unused;
	assert_hex(encode(facts, buffer, false), "a0");
	assert_null(encode(facts, buffer, true).at);
	assert_int_equal(check(encode(facts, buffer, false), false), REASON_OK);
	assert_json(encode(facts, buffer, false), absent, "{}");
	assert_false(facts_has(facts, FACT_BOOT_SECURE));
	assert_null(facts_text(facts, FACT_OS_ID));
	facts_free(facts);
	facts_free(NULL);
}

static void
each_type(void **unused)
{
	struct facts *facts = facts_new();
	const struct fact_field row[] = {{.kind = FIELD_TEXT, .bytes = text("eth0")},
					 {.kind = FIELD_BYTES, .bytes = text("\x02\xab\xcd\xef\x7f\x01")},
					 {.kind = FIELD_BOOL, .flag = true},
					 {.kind = FIELD_ABSENT}};
	const struct fact_field socket[] = {{.kind = FIELD_TEXT, .bytes = text("tcp")},
					    {.kind = FIELD_BYTES, .bytes = {(const uint8_t[]){192, 0, 2, 1}, 4}},
					    {.kind = FIELD_UINT, .number = 443},
					    {.kind = FIELD_TEXT, .bytes = {NULL, 0}}};

	(void)unused;
	facts_set_number(facts, FACT_CLOCK_OFFSET, -0.25);
	facts_set_uint(facts, FACT_OS_UPTIME, 86400);
	facts_set_text(facts, FACT_DEVICE_SERIAL, "SN-1");
	facts_set_uint(facts, FACT_HARDWARE_MEMORY, UINT64_C(4294967296));
	facts_set_bool(facts, FACT_BOOT_SECURE, false);
	facts_begin_list(facts, FACT_BOOT_RISKS);
	facts_add_text(facts, FACT_BOOT_RISKS, "init=/bin/sh");
	facts_begin_list(facts, FACT_INTERFACES_NETWORK);
	facts_add_row(facts, FACT_INTERFACES_NETWORK, row, 4);
	facts_begin_list(facts, FACT_INTERFACES_SOCKETS);
	facts_add_row(facts, FACT_INTERFACES_SOCKETS, socket, 4);
	facts_begin_list(facts, FACT_PACKAGES_BROKEN);
	facts_unknown(facts, FACT_BOOT_LOCKDOWN, "not mounted");

	assert_hex(encode(facts, buffer, false), "a6"
						 "00a11904046b6e6f74206d6f756e746564"
						 "01a10164534e2d31"
						 "02a1041b0000000100000000"
						 "04a202f406816c696e69743d2f62696e2f7368"
						 "05a10380"
						 "06a20181846465746830"
						 "4602abcdef7f01f5f6"
						 "0281846374637044c00002011901bbf6");
	assert_hex(encode(facts, buffer, true), "a203a1091a0001518007a103f9b400");
	assert_int_equal(check(encode(facts, buffer, false), false), REASON_OK);
	assert_int_equal(check(encode(facts, other, true), true), REASON_OK);
	assert_json(
		encode(facts, buffer, false), encode(facts, other, true),
		"{\"boot\":{\"command_line_risks\":[\"init=/bin/sh\"],\"secure\":false},\"clock\":{\"offset_s\":-0.25},"
		"\"device\":{\"serial\":\"SN-1\"},\"hardware\":{\"memory_bytes\":4294967296},"
		"\"interfaces\":{\"network\":[{\"mac\":\"02:ab:cd:ef:7f:01\",\"name\":\"eth0\",\"up\":true}],"
		"\"sockets\":[{\"address\":\"192.0.2.1\",\"port\":443,\"protocol\":\"tcp\"}]},"
		"\"os\":{\"uptime_s\":86400},\"packages\":{\"broken\":[]},\"unknown\":{\"boot.lockdown\":\"not "
		"mounted\"}}");
	assert_string_equal(facts_text(facts, FACT_DEVICE_SERIAL), "SN-1");
	facts_clear(facts);
	assert_hex(encode(facts, buffer, false), "a0");
	facts_free(facts);
}

static void
the_last_word_counts(void **unused)
{
	struct facts *facts = facts_new();

	(void)unused;
	facts_set_text(facts, FACT_OS_ID, "a long name that goes");
	facts_set_text(facts, FACT_OS_ID, "acme");
	assert_hex(encode(facts, buffer, false), "a103a1016461636d65");
	facts_unknown(facts, FACT_OS_ID, "no");
	assert_hex(encode(facts, buffer, false), "a100a1190301626e6f");
	assert_false(facts_has(facts, FACT_OS_ID));
	assert_null(facts_text(facts, FACT_OS_ID));
	facts_set_text(facts, FACT_OS_ID, "");
	assert_hex(encode(facts, buffer, false), "a103a10160");
	assert_string_equal(facts_text(facts, FACT_OS_ID), "");
	facts_set_uint(facts, FACT_HARDWARE_CPU_COUNT, UINT64_MAX); /* int64 is what travels */
	facts_unknown(facts, FACT_OS_ID, "no");
	assert_hex(encode(facts, buffer, false), "a200a1190301626e6f02a1031b7fffffffffffffff");
	facts_free(facts);
}

static void
order_of_discovery_does_not_matter(void **unused)
{
	static const char *const names[] = {"zz", "a", "mm", "b"};
	struct facts *forth = facts_new(), *back = facts_new();
	struct slice one, two;

	(void)unused;
	facts_begin_list(forth, FACT_PACKAGES_BROKEN);
	facts_begin_list(back, FACT_PACKAGES_BROKEN);
	for (size_t i = 0; i < 4; i++) {
		facts_add_text(forth, FACT_PACKAGES_BROKEN, names[i]);
		facts_add_text(back, FACT_PACKAGES_BROKEN, names[3 - i]);
	}
	facts_set_bool(forth, FACT_BOOT_SECURE, true);
	facts_set_text(forth, FACT_OS_ID, "x");
	facts_set_text(back, FACT_OS_ID, "x");
	facts_set_bool(back, FACT_BOOT_SECURE, true);
	one = encode(forth, buffer, false);
	two = encode(back, other, false);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.at, two.at, one.len);
	assert_hex(one, "a303a101617804a102f505a1038461616162626d6d627a7a");
	facts_free(forth);
	facts_free(back);
}

static void
long_lists_say_so(void **unused)
{
	struct facts *facts = facts_new();
	json_t *document;
	char name[32];

	(void)unused;
	facts_begin_list(facts, FACT_PACKAGES_BROKEN);
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof name, "p%03d", i);
		facts_add_text(facts, FACT_PACKAGES_BROKEN, name);
	}
	assert_int_equal(check(encode(facts, buffer, false), false), REASON_OK);
	document = facts_json(encode(facts, buffer, false), absent);
	assert_int_equal(json_array_size(json_object_get(json_object_get(document, "packages"), "broken")), 512);
	assert_string_equal(json_string_value(json_object_get(json_object_get(document, "unknown"), "packages.broken")),
			    "more than 512");
	json_decref(document);
	facts_free(facts);
}

static void
what_is_unfit_is_replaced(void **unused)
{
	static const struct {
		const char *given, *wanted;
	} rows[] = {
		{"a\nb", "a\xef\xbf\xbd"
			 "b"},
		{"\x7f", "\xef\xbf\xbd"},
		{"\xc2\x85", "\xef\xbf\xbd"}, /* NEL, of C1 */
		{"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
		{"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"x\xe2\x82", "x\xef\xbf\xbd\xef\xbf\xbd"}, /* ends early */
		{"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92",
		 "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92"},
	};
	struct facts *facts = facts_new();

	(void)unused;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		facts_set_text(facts, FACT_OS_NAME, rows[i].given);
		assert_string_equal(facts_text(facts, FACT_OS_NAME), rows[i].wanted);
		facts_unknown(facts, FACT_OS_ID, rows[i].given);
		assert_int_equal(check(encode(facts, buffer, false), false), REASON_OK);
	}
	facts_set_textn(facts, FACT_OS_NAME, (struct slice){(const uint8_t *)"a\0b", 3});
	assert_string_equal(facts_text(facts, FACT_OS_NAME), "a\xef\xbf\xbd"
							     "b");
	facts_free(facts);
}

static void
long_texts_are_cut_between_characters(void **unused)
{
	char given[2 * LIMIT_SENT_TEXT + 2];
	struct facts *facts = facts_new();

	(void)unused;
	given[0] = 'x';
	for (size_t i = 1; i + 1 < sizeof given; i += 2)
		memcpy(given + i, "\xc3\xbc", 2);
	given[sizeof given - 1] = '\0';
	facts_set_text(facts, FACT_OS_NAME, given);
	assert_int_equal(strlen(facts_text(facts, FACT_OS_NAME)), LIMIT_SENT_TEXT - 1);
	facts_set_text(facts, FACT_OS_NAME, given + 1);
	assert_int_equal(strlen(facts_text(facts, FACT_OS_NAME)), LIMIT_SENT_TEXT);
	assert_int_equal(check(encode(facts, buffer, false), false), REASON_OK);
	facts_free(facts);
}

/* Whatever a device has, its state can be sent: all texts at their longest, all lists full. */
static void
the_fullest_state_fits(void **unused)
{
	char longest[LIMIT_TEXT + 1];
	struct facts *facts = facts_new();
	struct slice state;

	(void)unused;
	memset(longest, 'x', LIMIT_TEXT);
	longest[LIMIT_TEXT] = '\0';
	for (int i = 0; i < FACTS; i++) {
		const char *type = fact_row((enum fact)i)->type;

		if (strcmp(type, "TEXT") == 0)
			facts_set_text(facts, (enum fact)i, longest);
		if (strcmp(type, "UINT") == 0)
			facts_set_uint(facts, (enum fact)i, INT64_MAX);
		if (strcmp(type, "BOOL") == 0)
			facts_unknown(facts, (enum fact)i, longest);
		if (strcmp(type, "STATUS") == 0)
			facts_set_status(facts, (enum fact)i, STATUS_DECLARED, longest);
		if (strcmp(type, "TEXTS") != 0)
			continue;
		facts_begin_list(facts, (enum fact)i);
		for (int j = 0; j < LIMIT_SOCKETS; j++)
			facts_add_text(facts, (enum fact)i, longest);
	}
	state = encode(facts, buffer, false);
	assert_in_range(state.len, LIMIT_STATE / 2, LIMIT_STATE);
	assert_int_equal(check(state, false), REASON_OK);
	facts_free(facts);
}

static void
finds_a_text(void **unused)
{
	struct facts *facts = facts_new();
	struct slice found;

	(void)unused;
	facts_set_text(facts, FACT_DEVICE_VENDOR, "acme");
	facts_set_text(facts, FACT_DEVICE_SWVERSION, "3.1.4");
	facts_set_text(facts, FACT_OS_ID, "debian");
	found = facts_find_text(encode(facts, buffer, false), FACT_DEVICE_SWVERSION);
	assert_int_equal(found.len, 5);
	assert_memory_equal(found.at, "3.1.4", 5);
	assert_null(facts_find_text(encode(facts, buffer, false), FACT_DEVICE_SERIAL).at);
	assert_null(facts_find_text(encode(facts, buffer, false), FACT_PACKAGES_MANAGER).at);
	facts_free(facts);
}

/* A newer emitter's topics, facts and reasons are passed over. */
static void
newer_facts_are_ignored(void **unused)
{
	struct slice state = unhex("a4"
				   "00a2190402616e1962706178"
				   "04a202f518fe826161a1626964820102"
				   "18c8a101f9b400"
				   "1903e8a1190100f5",
				   buffer);
	uint8_t readings_bytes[64];
	struct slice readings = unhex("a203a2091818186ef518c8a10118ff", readings_bytes);

	(void)unused;
	assert_int_equal(check(state, false), REASON_OK);
	assert_int_equal(check(readings, true), REASON_OK);
	assert_json(state, readings,
		    "{\"boot\":{\"secure\":true},\"os\":{\"uptime_s\":24},\"unknown\":{\"boot.secure\":\"n\"}}");
}

static void
refused(void **unused)
{
	static const struct {
		const char *hex;
		bool readings;
		enum reason reason;
	} rows[] = {
		{"80", false, REASON_MALFORMED}, /* no map */
		{"a1616101", false, REASON_MALFORMED}, /* a topic's key is a number */
		{"a120a101f5", false, REASON_CLAIM_INVALID}, /* not below zero */
		{"a104a0", false, REASON_CLAIM_INVALID}, /* an empty topic */
		{"a10480", false, REASON_MALFORMED}, /* a topic is a map */
		{"a104a120f5", false, REASON_CLAIM_INVALID}, /* a fact's key below zero */
		{"a204a102f503a1016178", false, REASON_NON_CANONICAL}, /* topics out of order */
		{"a204a102f504a103f5", false, REASON_DUPLICATE_KEY}, /* a topic twice */
		{"a104a203f502f5", false, REASON_NON_CANONICAL}, /* facts out of order */
		{"a104a202f502f5", false, REASON_DUPLICATE_KEY}, /* a fact twice */
		{"bf04a102f5ff", false, REASON_NON_CANONICAL}, /* no definite length */
		{"a11804a102f5", false, REASON_NON_CANONICAL}, /* a key not the shortest */
		{"a104a102f6", false, REASON_MALFORMED}, /* never null */
		{"a104a10201", false, REASON_MALFORMED}, /* BOOL is no number */
		{"a104a102f7", false, REASON_MALFORMED}, /* nor undefined */
		{"a102a10320", false, REASON_MALFORMED}, /* UINT is not below zero */
		{"a102a1031b8000000000000000", false, REASON_CLAIM_INVALID}, /* beyond int64 */
		{"a102a103f93c00", false, REASON_MALFORMED}, /* nor a float */
		{"a103a10101", false, REASON_MALFORMED}, /* TEXT is no number */
		{"a103a1014161", false, REASON_MALFORMED}, /* nor bytes */
		{"a103a10161ff", false, REASON_TEXT_INVALID}, /* UTF-8 */
		{"a103a1016100", false, REASON_TEXT_INVALID}, /* without U+0000 */
		{"a104a1066161", false, REASON_MALFORMED}, /* TEXTS is a list */
		{"a104a1068101", false, REASON_MALFORMED}, /* of texts */
		{"a106a10180", true, REASON_CLAIM_INVALID}, /* not volatile, so not among readings */
		{"a106a1018161610000", false, REASON_MALFORMED}, /* LIST is of rows */
		{"a106a1018183616146020000000001f5", false, REASON_CLAIM_INVALID}, /* a field too few */
		{"a106a1018185616146020000000001f56161f6", false, REASON_CLAIM_INVALID}, /* one too many */
		{"a106a10181846161450200000000f56161", false, REASON_CLAIM_INVALID}, /* a MAC of five bytes */
		{"a106a101818461616161f56161", false, REASON_MALFORMED}, /* a MAC is bytes */
		{"a106a10181840146020000000001f56161", false, REASON_MALFORMED}, /* a name is text */
		{"a106a1018184616146020000000001016161", false, REASON_MALFORMED}, /* up is a truth */
		{"a106a1028184637463704300000016f6", false, REASON_CLAIM_INVALID}, /* an address of three bytes */
		{"a106a10281846374637044000000002061f6", false, REASON_MALFORMED}, /* a port below zero */
		{"a100a0", false, REASON_CLAIM_INVALID}, /* unknown, but nothing */
		{"a10080", false, REASON_MALFORMED}, /* unknown is a map */
		{"a100a1190402f5", false, REASON_MALFORMED}, /* of reasons */
		{"a100a120616e", false, REASON_CLAIM_INVALID}, /* keys below zero */
		{"a100a2190403616e190402616e", false, REASON_NON_CANONICAL},
		{"a100a1190402610a00", false, REASON_TRAILING_BYTES},
		{"a103a1091818", false, REASON_CLAIM_INVALID}, /* volatile, so not in the state */
		{"a118c8a101f6", false, REASON_CLAIM_INVALID}, /* null even where nobody knows the fact */
		{"a118c8a0", false, REASON_CLAIM_INVALID}, /* an empty topic that nobody knows */
		{"a118c8a101fb3ff8000000000000", false, REASON_NON_CANONICAL}, /* a float not the shortest */
		{"a118c8a101f97e00", false, REASON_CLAIM_INVALID}, /* not a number */
		{"a118c8a101818181818101", false, REASON_OK}, /* eight levels with the report itself */
		{"a118c8a10181818181818101", false, REASON_LIMIT_EXCEEDED},
		{"a118c8a1015f4161ff", false, REASON_NON_CANONICAL},
		{"a118c8a101", false, REASON_TRUNCATED},
		{"a104a102", false, REASON_TRUNCATED},
		{"a0", true, REASON_CLAIM_INVALID}, /* no readings: then not at all */
		{"a103a0", true, REASON_CLAIM_INVALID},
		{"a100a1190402616e", true, REASON_CLAIM_INVALID}, /* unknown stands in the state */
		{"a107a103f97c00", true, REASON_CLAIM_INVALID}, /* infinite */
		{"a107a103fa3e800000", true, REASON_NON_CANONICAL}, /* 0.25 in four bytes */
		{"a107a1036161", true, REASON_MALFORMED},
		{"a107a1031bffffffffffffffff", true, REASON_CLAIM_INVALID},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum reason got = check(unhex(rows[i].hex, buffer), rows[i].readings);

		if (got != rows[i].reason)
			fail_msg("%s: %s, not %s", rows[i].hex, reason_name(got), reason_name(rows[i].reason));
	}
}

static void
limits_are_refused_beyond(void **unused)
{
	static const struct {
		size_t text, rows;
		enum reason reason;
	} cases[] = {
		{LIMIT_TEXT, 1, REASON_OK},
		{LIMIT_TEXT + 1, 1, REASON_LIMIT_EXCEEDED},
		{1, LIMIT_SOCKETS, REASON_OK},
		{1, LIMIT_SOCKETS + 1, REASON_LIMIT_EXCEEDED},
	};
	static uint8_t letters[LIMIT_TEXT + 1];

	(void)unused;
	memset(letters, 'x', sizeof letters);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct cbor_writer w;

		cbor_writer_init(&w, buffer, sizeof buffer);
		cbor_write_map(&w, 1);
		cbor_write_uint(&w, 5);
		cbor_write_map(&w, 1);
		cbor_write_uint(&w, 3);
		cbor_write_array(&w, cases[i].rows);
		for (size_t j = 0; j < cases[i].rows; j++)
			cbor_write_text(&w, (struct slice){letters, cases[i].text});
		assert_int_equal(check((struct slice){buffer, w.len}, false), cases[i].reason);
	}
	for (size_t n = LIMIT_UNKNOWN; n <= LIMIT_UNKNOWN + 1; n++) {
		struct cbor_writer w;

		cbor_writer_init(&w, buffer, sizeof buffer);
		cbor_write_map(&w, 1);
		cbor_write_uint(&w, 0);
		cbor_write_map(&w, n);
		for (size_t j = 0; j < n; j++) {
			cbor_write_uint(&w, 1000 + j);
			cbor_write_string(&w, "why");
		}
		assert_int_equal(check((struct slice){buffer, w.len}, false),
				 n > LIMIT_UNKNOWN ? REASON_LIMIT_EXCEEDED : REASON_OK);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_in_order),
		cmocka_unit_test(nothing_known),
		cmocka_unit_test(each_type),
		cmocka_unit_test(the_last_word_counts),
		cmocka_unit_test(order_of_discovery_does_not_matter),
		cmocka_unit_test(long_lists_say_so),
		cmocka_unit_test(what_is_unfit_is_replaced),
		cmocka_unit_test(long_texts_are_cut_between_characters),
		cmocka_unit_test(the_fullest_state_fits),
		cmocka_unit_test(finds_a_text),
		cmocka_unit_test(newer_facts_are_ignored),
		cmocka_unit_test(refused),
		cmocka_unit_test(limits_are_refused_beyond),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
