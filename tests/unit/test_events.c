#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/events.h"
#include "schema/report.h"
#include "tests/unit/bytes.h"

#define VECTORS_HERE "tests/vectors/"

static uint8_t bytes[128 * 1024];

static enum reason
judge(struct slice section)
{
	struct cbor_reader r;

	cbor_reader_init(&r, section);
	(void)events_check(&r);
	return cbor_reader_end(&r);
}

static void
sections_are_checked(void **unused)
{
	static const struct {
		const char *hex;
		enum reason reason;
	} cases[] = {
		{"8185058261616162010101", REASON_OK},
		{"81850582f66162010101", REASON_OK}, /* a part that is not known */
		{"818505f6010101", REASON_OK}, /* others */
		{"81850a80010101", REASON_OK}, /* no parts */
		{"8285058261616162010101850582616161630101"
		 "01",
		 REASON_OK},
		{"82850582616161620101018505f6010101", REASON_OK}, /* others last */
		{"8185190fa08161610101"
		 "01",
		 REASON_OK}, /* a kind of later */
		{"8185190fa080010101", REASON_OK},
		{"80", REASON_CLAIM_INVALID}, /* nothing is told by absence */
		{"a0", REASON_MALFORMED},
		{"f6", REASON_MALFORMED},
		{"8180", REASON_CLAIM_INVALID},
		{"81840582616161620101", REASON_CLAIM_INVALID},
		{"818605826161616201010101", REASON_CLAIM_INVALID},
		{"81850582616161620101", REASON_TRUNCATED},
		{"9f85058261616162010101ff", REASON_NON_CANONICAL},
		{"819f058261616162010101ff", REASON_NON_CANONICAL},
		{"8185009f61616162ff010101", REASON_CLAIM_INVALID}, /* kind 0 */
		{"8185208261616162010101", REASON_MALFORMED},
		{"81851a00010000816161010101", REASON_CLAIM_INVALID}, /* kind 65536 */
		{"818518058261616162010101", REASON_NON_CANONICAL},
		{"818505816161010101", REASON_CLAIM_INVALID}, /* a part too few */
		{"81850583616161626163010101", REASON_CLAIM_INVALID},
		{"81850a816161010101", REASON_CLAIM_INVALID},
		{"8185190fa08561616161616161616161010101", REASON_LIMIT_EXCEEDED}, /* five parts */
		{"81850582606162010101", REASON_CLAIM_INVALID}, /* empty is not known */
		{"818505824161"
		 "6162010101",
		 REASON_MALFORMED}, /* bytes */
		{"8185058261006162010101", REASON_TEXT_INVALID},
		{"8185058261ff6162010101", REASON_TEXT_INVALID},
		{"8185056161010101", REASON_MALFORMED}, /* a text for a subject */
		{"8185058261616162020101", REASON_CLAIM_INVALID}, /* the last before the first */
		{"818505826161616220"
		 "0101",
		 REASON_MALFORMED},
		{"81850582616161621b0000003afff441801b0000003afff4418001", REASON_CLAIM_INVALID}, /* the year 10000 */
		{"8185058261616162010100", REASON_CLAIM_INVALID}, /* none happened */
		{"818505826161616201011b0020000000000000", REASON_CLAIM_INVALID}, /* 2^53 */
		{"82850582616161620101018505826161616201010"
		 "2",
		 REASON_DUPLICATE_KEY}, /* one kind and subject, other counts */
		{"828505f601010185"
		 "0582616161620101"
		 "01",
		 REASON_NON_CANONICAL}, /* others first */
		{"8285058261616163010101850582616161620101"
		 "01",
		 REASON_NON_CANONICAL},
		{"82850a8001010185058261616162010101", REASON_NON_CANONICAL},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		enum reason got = judge(unhex(cases[i].hex, bytes));

		if (got != cases[i].reason)
			fail_msg("%s: %s, not %s", cases[i].hex, reason_name(got), reason_name(cases[i].reason));
	}
}

/* `n` events of one kind, in order, each with a path of `len` bytes. */
static struct slice
many(size_t n, size_t len)
{
	struct cbor_writer w;
	char path[LIMIT_EVENT_TEXT + 2];

	cbor_writer_init(&w, bytes, sizeof bytes);
	cbor_write_array(&w, n);
	memset(path, 'x', sizeof path);
	for (size_t i = 0; i < n; i++) {
		struct event event = {.kind = EVENT_FILE,
				      .parts_len = 2,
				      .parts = {{(uint8_t *)path, len}, text("written")},
				      .first = 1,
				      .last = 1,
				      .count = 1};
		char number[24];

		snprintf(number, sizeof number, "%05zu", i);
		memcpy(path, number, 5);
		event_encode(&event, &w);
	}
	assert_false(w.overflow);
	return (struct slice){bytes, w.len};
}

static void
many_are_too_many(void **unused)
{
	(void)unused;
	assert_int_equal(judge(many(LIMIT_EVENTS, 5)), REASON_OK);
	assert_int_equal(judge(many(LIMIT_EVENTS + 1, 5)), REASON_LIMIT_EXCEEDED);
	assert_int_equal(judge(many(1, LIMIT_EVENT_TEXT)), REASON_OK);
	assert_int_equal(judge(many(1, LIMIT_EVENT_TEXT + 1)), REASON_LIMIT_EXCEEDED);
	assert_int_equal(judge(many(230, LIMIT_EVENT_TEXT)), REASON_OK);
	assert_int_equal(judge(many(250, LIMIT_EVENT_TEXT)), REASON_LIMIT_EXCEEDED); /* 64 KiB */
}

static void
every_kind_has_its_parts(void **unused)
{
	size_t kinds = 0, n;

	(void)unused;
	for (unsigned kind = 0; kind < 1000; kind++) {
		const struct event_part *parts = event_parts(kind, &n);

		if (!event_row(kind)) {
			assert_int_equal(n, 0);
			continue;
		}
		kinds++;
		assert_true(n <= EVENT_PARTS_MAX);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(parts[i].personal, strcmp(parts[i].name, "account") == 0 ||
								    strcmp(parts[i].name, "target") == 0 ||
								    (kind <= EVENT_LOGIN_FAILED && i == 2));
	}
	assert_int_equal(kinds, 15);
}

/* What independent code made from the CDDL: tests/vectors/make_known_answer.py. */
static void
known_events(void **unused)
{
	static uint8_t message[4096];
	json_t *known = json_load_file(VECTORS_HERE "known.json", 0, NULL), *told, *event;
	FILE *file = fopen(VECTORS_HERE "known-events.cbor", "rb");
	struct cose_sign1 sign1;
	struct report report;
	struct cbor_reader r;
	struct cbor_writer w;
	size_t len, n;

	(void)unused;
	assert_non_null(file);
	len = fread(message, 1, sizeof message, file);
	fclose(file);
	assert_int_equal(cose_decode((struct slice){message, len}, &sign1), REASON_OK);
	assert_int_equal(report_decode(sign1.payload, &report), REASON_OK);
	assert_true(report_has_sections(&report) && report.has_sections_prev && report.state.at == NULL);
	len = strlen(json_string_value(json_object_get(known, "events_section"))) / 2;
	assert_int_equal(report.events.len, len);
	assert_memory_equal(report.events.at,
			    unhex(json_string_value(json_object_get(known, "events_section")), bytes).at, len);

	/* Each comes out again as it was. */
	cbor_reader_init(&r, report.events);
	cbor_writer_init(&w, bytes, sizeof bytes);
	n = cbor_read_array(&r, LIMIT_EVENTS);
	cbor_write_array(&w, n);
	for (size_t i = 0; i < n; i++) {
		struct event one;

		event_decode(&r, &one);
		event_encode(&one, &w);
	}
	assert_int_equal(w.len, len);
	assert_memory_equal(bytes, report.events.at, len);

	told = report_json(&report);
	assert_int_equal(json_array_size(json_object_get(told, "events")), 7);
	event = json_array_get(json_object_get(told, "events"), 0);
	assert_string_equal(json_string_value(json_object_get(event, "kind")), "login-failed");
	assert_string_equal(json_string_value(json_object_get(event, "account")), "root");
	assert_string_equal(json_string_value(json_object_get(event, "address")), "192.0.2.7");
	assert_string_equal(json_string_value(json_object_get(event, "last")), "2026-09-21T14:14:02Z");
	assert_int_equal(json_integer_value(json_object_get(event, "count")), 17);
	assert_null(json_object_get(json_array_get(json_object_get(told, "events"), 1), "account"));
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(told, "events"), 2), "others")));
	event = json_array_get(json_object_get(told, "events"), 6);
	assert_string_equal(json_string_value(json_object_get(event, "kind")), "4000");
	assert_true(json_is_null(json_array_get(json_object_get(event, "subject"), 1)));
	json_decref(told);
	json_decref(known);
}

static void
keys_are_kind_and_subject(void **unused)
{
	struct event event = {.kind = EVENT_FILE,
			      .parts_len = 2,
			      .parts = {text("/etc/hosts"), text("written")},
			      .first = 1,
			      .last = 2,
			      .count = 3};
	uint8_t one[64], other[64];
	size_t len = event_key(&event, one, sizeof one);

	(void)unused;
	assert_true(len > 20);
	event.count = 4;
	assert_int_equal(event_key(&event, other, sizeof other), len);
	assert_memory_equal(one, other, len);
	assert_int_equal(event_key(&event, other, len - 1), 0);
	event.others = true;
	assert_int_equal(event_key(&event, other, sizeof other), 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_are_checked),      cmocka_unit_test(many_are_too_many),
		cmocka_unit_test(every_kind_has_its_parts),  cmocka_unit_test(known_events),
		cmocka_unit_test(keys_are_kind_and_subject),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
