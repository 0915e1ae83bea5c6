/* Events as CloudEvents and as syslog messages: what they say, and that no text of a device's can make them say something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/code_point.h"
#include "collector/event_kind.h"
#include "collector/format_cloudevents.h"
#include "collector/format_event.h"
#include "collector/format_rfc5424.h"

#define SLICE(text) ((struct slice){(const uint8_t *)(text), strlen(text)})

static const uint8_t ueid[17] = {1, 0xab, [16] = 0xff};

static struct event
make(const char *type, const char *data)
{
	struct event e = {.position = 42,
			  .id = 7,
			  .time_us = INT64_C(1764144000123456),
			  .tenant = SLICE("acme"),
			  .type = SLICE(type),
			  .ueid = {ueid, sizeof ueid},
			  .data = SLICE(data)};

	event_read(&e);
	return e;
}

static char *
syslog_of(const char *type, const char *data, const char *host)
{
	struct event e = make(type, data);
	struct draft d = {0};

	format_rfc5424(&d, &e, host, NULL);
	draft_add(&d, "", 1);
	assert_false(d.failed);
	assert_true(d.len - 1 <= SYSLOG_MESSAGE_MAX);
	event_clear(&e);
	return d.at;
}

static void
a_cloudevent(void **state)
{
	struct event e = make("device.posture", "{\"posture\": \"degraded\"}");
	struct draft d = {0};

	(void)state;
	format_cloudevent(&d, &e);
	draft_add(&d, "", 1);
	assert_string_equal(
		d.at,
		"{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"urn:fleetstate:acme\",\"type\":\"device.posture\","
		"\"subject\":\"01ab0000000000000000000000000000ff\",\"time\":\"2025-11-26T08:00:00.123456Z\","
		"\"tenant\":\"acme\","
		"\"severity\":\"high\",\"sequence\":\"0000000000000000042\",\"datacontenttype\":\"application/json\","
		"\"data\":{\"posture\": \"degraded\"}}");
	draft_free(&d);
	event_clear(&e);
}

static void
a_batch_is_an_array(void **state)
{
	struct event e[2] = {make("a\"b\\c\n", "{}"), make("x", "{}")};
	struct draft d = {0};
	json_t *json;

	(void)state;
	e[1].ueid = (struct slice){NULL, 0};
	for (size_t n = 0; n <= 2; n++) {
		draft_empty(&d);
		event_format_all(event_format("cloudevents"), &d, e, n);
		json = json_loadb(d.at, d.len, JSON_REJECT_DUPLICATES, NULL);
		assert_int_equal(json_array_size(json), n);
		if (n == 2) {
			assert_string_equal(json_string_value(json_object_get(json_array_get(json, 0), "type")),
					    "a\"b\\c\n");
			assert_null(json_object_get(json_array_get(json, 1), "subject"));
		}
		json_decref(json);
	}
	draft_free(&d);
	event_clear(&e[0]);
	event_clear(&e[1]);
}

static void
a_syslog_message(void **state)
{
	char *text =
		syslog_of("device.posture", "{\"posture\": \"untrusted\", \"reasons\": [\"fork\", \"key\"], \"n\": 5}",
			  "col.example");

	(void)state;
	assert_string_equal(text, "<130>1 2025-11-26T08:00:00.123456Z col.example fleetstate - device.posture "
				  "[fleetstate@32473 id=\"7\" position=\"42\" severity=\"critical\" tenant=\"acme\" "
				  "type=\"device.posture\""
				  " ueid=\"01ab0000000000000000000000000000ff\"]"
				  "[data@32473 posture=\"untrusted\" reasons=\"fork\" reasons=\"key\" n=\"5\"]"
				  " \xef\xbb\xbf"
				  "device.posture 01ab0000000000000000000000000000ff {\"posture\": \"untrusted\", "
				  "\"reasons\": [\"fork\", \"key\"], \"n\": 5}");
	free(text);
}

static void
value_of(const char *json, const char *written)
{
	char data[512], expected[600], *text;

	snprintf(data, sizeof data, "{\"v\": %s}", json);
	snprintf(expected, sizeof expected, "[data@32473 v=\"%s\"]", written);
	text = syslog_of("x", data, "h");
	if (strstr(text, expected) == NULL)
		fail_msg("%s: not %s", text, expected);
	for (const char *at = text; *at != '\0'; at++)
		assert_true((unsigned char)*at >= ' ' && *at != 0x7f);
	free(text);
}

static void
hostile_text_stays_a_value(void **state)
{
	(void)state;
	value_of("\"quote \\\" bracket ] backslash \\\\\"", "quote \\\" bracket \\] backslash \\\\");
	value_of("\"a\\nb\\r\\u0000c\\u001b\"", "a\\\\u000ab\\\\u000d\\\\u0000c\\\\u001b");
	value_of("\"\\u007f\\u0085\\u009f\\u2028\\u2029\\u202e\\u2066\"",
		 "\\\\u007f\\\\u0085\\\\u009f\\\\u2028\\\\u2029\\\\u202e\\\\u2066");
	value_of("\"\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80\"", "\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80");
	value_of("\"]\\\"] <13>1 - - - - -\"", "\\]\\\"\\] <13>1 - - - - -");
	value_of("{\"a\": [1, \"]\"]}", "{\\\"a\\\":[1,\\\"\\]\\\"\\]}");
	value_of("true", "true");
	value_of("null", "null");
	value_of("[]", "[\\]");
}

static void
names_are_names(void **state)
{
	char *text = syslog_of("type with\nspace",
			       "{\"a b=c]d\\\"e\\n\": 1, \"\": 2, \"0123456789012345678901234567890123456789\": 3}",
			       "ho st\n\xff");

	(void)state;
	assert_non_null(strstr(text, "Z ho_st__ fleetstate - type_with_space ["));
	assert_non_null(strstr(text, " a_b_c_d_e_=\"1\" -=\"2\" 01234567890123456789012345678901=\"3\"]"));
	free(text);
	text = syslog_of("x", "{}", "");
	assert_non_null(strstr(text, "Z - fleetstate - x [fleetstate@32473 "));
	assert_null(strstr(text, "data@32473"));
	free(text);
}

/* The database gives no such bytes; a format takes them all the same. */
static void
bytes_that_are_no_utf8(void **state)
{
	static const char *const bad[] = {
		"\xff", "\xc3", "\xe4\xbd", "\xc0\x8a", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x8a", "\x80"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char data[64], *text;

		snprintf(data, sizeof data, "{\"v\": \"%s\"}", bad[i]);
		text = syslog_of("x", data, "h");
		assert_non_null(strstr(text, "[data@32473 json=\"{\\\"v\\\": \\\"\xef\xbf\xbd"));
		assert_null(strchr(text, '\n'));
		assert_null(strstr(text, bad[i]) == NULL ? NULL : strchr(bad[i], '\xff'));
		free(text);
	}
}

static void
characters_are_no_bytes(void **state)
{
	static const struct {
		const char *text;
		size_t n;
	} cases[] = {{"", 0}, {"abc", 3}, {"\xc3\xa4", 1}, {"a\xcc\x88", 2}, {"\xe4\xbd\xa0\xf0\x9f\x98\x80.", 3}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(code_points(cases[i].text, strlen(cases[i].text)), cases[i].n);
	assert_int_equal(code_points("\xc3\xa4z", 2), 1);
}

static void
long_events_are_cut_and_say_so(void **state)
{
	char *data = malloc(200000), *text;
	int at = sprintf(data, "{");

	(void)state;
	at += sprintf(data + at, "\"long\": \"%03000d\"", 0);
	for (int i = 0; i < 1000; i++)
		at += sprintf(data + at,
			      ", \"k%d\": \"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\\n\\n\\n\\n\\n\\n\\n\\n\"", i);
	strcpy(data + at, "}");
	text = syslog_of("x", data, "h");
	assert_non_null(strstr(text, " truncated=\"1\"] \xef\xbb\xbf"));
	free(text);
	at = sprintf(data, "{\"v\": [\"a\"");
	for (int i = 0; i < 20000; i++)
		at += sprintf(data + at, ",\"%d\"", i);
	strcpy(data + at, "]}");
	text = syslog_of("x", data, "h");
	assert_non_null(strstr(text, " truncated=\"1\"]"));
	free(text);
	free(data);
}

static void
severities(void **state)
{
	static const struct {
		const char *type, *data;
		enum severity severity;
	} cases[] = {
		{"device.fork", "{}", SEVERITY_CRITICAL},
		{"device.posture", "{\"posture\": \"untrusted\"}", SEVERITY_CRITICAL},
		{"device.posture", "{\"posture\": \"degraded\"}", SEVERITY_HIGH},
		{"device.posture", "{\"posture\": \"silent\"}", SEVERITY_MEDIUM},
		{"device.posture", "{\"posture\": \"operational\"}", SEVERITY_INFO},
		{"device.refused", "{\"n\": 3}", SEVERITY_MEDIUM},
		{"device.state", "{}", SEVERITY_INFO},
		{"alert.opened", "{\"severity\": \"low\"}", SEVERITY_LOW},
		{"device.fork", "{\"severity\": \"info\"}", SEVERITY_INFO},
		{"device.fork", "{\"severity\": 5}", SEVERITY_CRITICAL},
		{"device.posture", "not json", SEVERITY_INFO},
		{"", "[]", SEVERITY_INFO},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct event e = make(cases[i].type, cases[i].data);

		assert_int_equal(e.severity, cases[i].severity);
		event_clear(&e);
	}
}

static void
wishes(void **state)
{
	struct event e = make("alert.opened", "{\"severity\": \"medium\"}");

	(void)state;
	assert_true(event_wanted(&e, "", SEVERITY_INFO));
	assert_true(event_wanted(&e, "device.fork,alert.*", SEVERITY_MEDIUM));
	assert_true(event_wanted(&e, "alert.opened", SEVERITY_INFO));
	assert_false(event_wanted(&e, "", SEVERITY_HIGH));
	assert_false(event_wanted(&e, "alert", SEVERITY_INFO));
	assert_false(event_wanted(&e, "alert.open,device.*", SEVERITY_INFO));
	assert_false(event_wanted(&e, "alert.opened.*", SEVERITY_INFO));
	event_clear(&e);
}

static void
words_for_types(void **state)
{
	static const char *const good[] = {"device.fork", "device.second-epoch", "alert.*",
					   "device.*",    "device.event.*",      "ledger.*",
					   "test",        "device.event.77",     "device.event.18446744073709551615"};
	static const char *const bad[] = {
		"device.event.184467440737095516150",
		"",
		"*",
		".*",
		"*.*",
		"none",
		"none.*",
		"device",
		"device.",
		"device*",
		"devic.*",
		"device.**",
		"device.*.fork",
		"device.fork.*",
		"device.forks",
		"device.for",
		"device.f*",
		"Device.fork",
		"DEVICE.*",
		"device.event.0",
		"device.event.7.*",
		"device.event.7x",
		"device.fork ",
		" device.fork",
		"{device.fork}",
		"alert.\"*",
		"device.fork,test",
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(event_word_is(SLICE(good[i])));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(event_word_is(SLICE(bad[i])));
	for (const char *left = event_words; *left != '\0';) {
		size_t len = strcspn(++left, " ");

		assert_true(event_word_is((struct slice){(const uint8_t *)left, len}));
		left += len;
	}
}

static void
types_that_there_are(void **state)
{
	static const char *const good[] = {"device.posture", "device.event.login", "device.event.77", "alert.opened",
					   "test"};
	static const char *const bad[] = {"",
					  "*",
					  "none",
					  "device",
					  "device.",
					  "device.*",
					  "device.event.*",
					  "device.event.",
					  "device.event.0",
					  "device.event.07",
					  "device.event.7x",
					  "device.event.unheard-of",
					  "Device.posture",
					  "device.posture ",
					  "device.posturer",
					  "device.postur",
					  "alert.7"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(event_type_is(SLICE(good[i])));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (event_type_is(SLICE(bad[i])))
			fail_msg("%s is one", bad[i]);
}

static void
times(void **state)
{
	char text[EVENT_TIME_SIZE];

	(void)state;
	event_time(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
	event_time(INT64_C(253402300799999999), text);
	assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
	event_time(INT64_MAX, text);
	assert_int_equal(strlen(text), EVENT_TIME_SIZE - 1);
}

static char *
written(const char *format, const char *type, const char *data)
{
	struct event e = make(type, data);
	struct draft d = {0};

	event_format(format)->write(&d, &e);
	draft_add(&d, "", 1);
	assert_false(d.failed);
	event_clear(&e);
	return d.at;
}

static void
the_same_in_every_format(void **state)
{
	static const struct {
		const char *format, *text;
	} rows[] = {
		{"native",
		 "{\"position\":42,\"id\":7,\"time\":\"2025-11-26T08:00:00.123Z\",\"type\":\"device.posture\","
		 "\"tenant\":"
		 "\"acme\",\"ueid\":\"01ab0000000000000000000000000000ff\",\"data\":{\"posture\": \"degraded\"}}"},
		{"cef", "CEF:0|fleetstate|fleetstate|" FLEETSTATE_VERSION
			"|device.posture|A device's posture changed: degraded|8|"
			"rt=1764144000123 externalId=7 deviceExternalId=01ab0000000000000000000000000000ff "
			"cat=host,configuration cs1Label=tenant cs1=acme cn1Label=position cn1=42 msg={\"posture\": "
			"\"degraded\"}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *text = written(rows[i].format, "device.posture", "{\"posture\": \"degraded\"}");

		assert_string_equal(text, rows[i].text);
		free(text);
	}
	assert_null(event_format("leef"));
	assert_null(event_format(""));
}

static void
cef_escapes(void **state)
{
	char *text = written("cef", "a|b\\c\n", "{\"title\": \"x|y\\\\z\\n=\", \"by\": \"a=b\\\\c|d\\n\\r\\u2028\"}");

	(void)state;
	assert_non_null(strstr(text, "|a\\|b\\\\c\\\\u000a|Something happened: x\\|y\\\\z\\\\u000a=|1|rt="));
	assert_non_null(strstr(text, " suser=a\\=b\\\\c|d\\n\\r\\\\u2028 msg={"));
	assert_null(strchr(text, '\n'));
	free(text);
}

/* The data is the first 1,023 bytes of what it is, and no character is cut in two. */
static void
cef_is_cut(void **state)
{
	char data[4000] = "{\"v\": \"", *text, *msg;

	(void)state;
	for (int i = 0; i < 1200; i++)
		strcat(data, "\xc3\xa4");
	strcat(data, "\"}");
	text = written("cef", "x", data);
	msg = strstr(text, " msg=") + 5;
	assert_in_range(strlen(msg), 1000, 1023);
	assert_int_equal((strlen(msg) - strlen("{\"v\": \"")) % 2, 0);
	free(text);
}

static void
kinds(void **state)
{
	(void)state;
	assert_string_equal(event_kind(SLICE("device.posture"))->title, "A device's posture changed");
	assert_string_equal(event_kind(SLICE("device.event.unheard-of"))->title, "Something happened on a device");
	assert_string_equal(event_kind(SLICE("device.posturer"))->title, "Something about a device changed");
	assert_string_equal(event_kind(SLICE("alert"))->title, "Something happened");
	assert_string_equal(event_kind(SLICE(""))->title, "Something happened");
}

/* What a format can't get into one syslog message is told of without its data. */
static void
syslog_of_other_formats(void **state)
{
	static const char *const names[] = {"native", "ocsf", "ecs", "cloudevents", "cef"};
	char *data = malloc(30000);

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		for (int size = 10; size <= 20000; size *= 10) {
			struct event e;
			struct draft d = {0};
			json_t *json;

			sprintf(data, "{\"v\": \"%0*d\"}", size, 0);
			e = make("device.state", data);
			format_rfc5424(&d, &e, "h", event_format(names[i]));
			assert_true(d.len <= SYSLOG_MESSAGE_MAX);
			draft_add(&d, "", 1);
			assert_false(d.failed);
			event_clear(&e);
			if (event_format(names[i])->json) {
				assert_int_equal(strstr(d.at, "truncated") != NULL, size >= 10000);
				json = json_loads(strstr(d.at, "] {") + 2, 0, NULL);
				assert_non_null(json);
				json_decref(json);
			} else {
				assert_non_null(strstr(d.at, "] CEF:0|"));
			}
			draft_free(&d);
		}
	free(data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cloudevent),
		cmocka_unit_test(a_batch_is_an_array),
		cmocka_unit_test(a_syslog_message),
		cmocka_unit_test(hostile_text_stays_a_value),
		cmocka_unit_test(names_are_names),
		cmocka_unit_test(bytes_that_are_no_utf8),
		cmocka_unit_test(characters_are_no_bytes),
		cmocka_unit_test(long_events_are_cut_and_say_so),
		cmocka_unit_test(severities),
		cmocka_unit_test(wishes),
		cmocka_unit_test(the_same_in_every_format),
		cmocka_unit_test(cef_escapes),
		cmocka_unit_test(cef_is_cut),
		cmocka_unit_test(kinds),
		cmocka_unit_test(syslog_of_other_formats),
		cmocka_unit_test(words_for_types),
		cmocka_unit_test(types_that_there_are),
		cmocka_unit_test(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
