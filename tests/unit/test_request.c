/* What arrives from strangers before the database is asked: targets, tokens, cursors. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collector/cursor.h"
#include "collector/request.h"
#include "collector/words.h"

static void
parses(void **state)
{
	struct request r = {0};

	(void)state;
	assert_int_equal(request_parse("/v1/devices/a%2Fb/%c3%a9?q=a+b%2B&x=", &r), PROBLEM_NONE);
	assert_int_equal(r.segments_len, 4);
	assert_string_equal(r.segments[2], "a/b");
	assert_string_equal(r.segments[3], "\xc3\xa9");
	assert_string_equal(request_parameter(&r, "q"), "a b+");
	assert_string_equal(request_parameter(&r, "x"), "");
	assert_null(request_parameter(&r, "y"));
	assert_int_equal(request_parse("/", &r), PROBLEM_NONE);
	assert_int_equal(r.segments_len, 1);
	assert_string_equal(r.segments[0], "");
	assert_int_equal(request_parse("/?", &r), PROBLEM_NONE);
	assert_int_equal(r.parameters_len, 0);
}

static void
refuses(void **state)
{
	static const struct {
		const char *target;
		enum problem problem;
	} rows[] = {
		{"", PROBLEM_BAD_TARGET},
		{"*", PROBLEM_BAD_TARGET},
		{"http://x/", PROBLEM_BAD_TARGET},
		{"/%", PROBLEM_BAD_TARGET},
		{"/%4", PROBLEM_BAD_TARGET},
		{"/%4g", PROBLEM_BAD_TARGET},
		{"/%7f", PROBLEM_BAD_TARGET},
		{"/\xff", PROBLEM_BAD_TARGET},
		{"/%c0%af", PROBLEM_BAD_TARGET},
		{"/%ed%a0%80", PROBLEM_BAD_TARGET},
		{"/%f4%90%80%80", PROBLEM_BAD_TARGET},
		{"/?a", PROBLEM_BAD_TARGET},
		{"/?a=1&a=2", PROBLEM_BAD_TARGET},
		{"/?a=1&%61=2", PROBLEM_BAD_TARGET},
		{"/1/2/3/4/5/6/7/8", PROBLEM_NONE},
		{"/1/2/3/4/5/6/7/8/9", PROBLEM_NOT_FOUND},
		{"/?a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&k=&l=&m=&n=&o=&p=", PROBLEM_NONE},
		{"/?a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&k=&l=&m=&n=&o=&p=&q=&r=&s=&t=&u=&v=&w=&x=&y=", PROBLEM_BAD_TARGET},
	};
	char longest[REQUEST_TARGET + 2];
	struct request r = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (request_parse(rows[i].target, &r) != rows[i].problem)
			fail_msg("%s", rows[i].target);
	memset(longest, '/', sizeof longest);
	memset(longest + 1, 'a', sizeof longest - 1);
	longest[REQUEST_TARGET + 1] = '\0';
	assert_int_equal(request_parse(longest, &r), PROBLEM_TARGET_TOO_LONG);
	longest[REQUEST_TARGET] = '\0';
	assert_int_equal(request_parse(longest, &r), PROBLEM_NONE);
}

static void
refuses_and_says_where(void **state)
{
	static const struct {
		const char *target, *fault;
		size_t position;
	} rows[] = {
		{"x", "The path begins with /.", 0},
		{"/%00", "Segment 1 of the path, from character 1 on: it is a control character.", 1},
		{"/v1/%c3%a9%7f/x", "Segment 2 of the path, from character 2 on: it is a control character.", 2},
		{"/v1/x/a%", "Segment 3 of the path, from character 2 on: two hexadecimal digits follow %.", 2},
		{"/?q=%00", "q, from character 1 on: it is a control character.", 1},
		{"/?x=&&q=a+b%0a&y=%00", "q, from character 4 on: it is a control character.", 4},
		{"/?q=%c3%a9%e4%bd%a0%ff", "q, from character 3 on: it is no UTF-8.", 3},
		{"/?q=a%ed%a0%80", "q, from character 2 on: it is no UTF-8.", 2},
		{"/?q=a%c0%80", "q, from character 2 on: it is no UTF-8.", 2},
		{"/?q=a%e4%bd", "q, from character 2 on: it is no UTF-8.", 2},
		{"/?q=\xff", "q, from character 1 on: it is no UTF-8.", 1},
		{"/?q=%ff%zz", "q, from character 1 on: it is no UTF-8.", 1},
		{"/?q=%c3%a9%zz", "q, from character 2 on: two hexadecimal digits follow %.", 2},
		{"/?q=ab%4", "q, from character 3 on: two hexadecimal digits follow %.", 3},
		{"/?%c3%a9=%00", "\xc3\xa9, from character 1 on: it is a control character.", 1},
		{"/?a=1&%00=2", "The name of parameter 2, from character 1 on: it is a control character.", 1},
		{"/?a=1&b%ff", "The name of parameter 2, from character 2 on: it is no UTF-8.", 2},
		{"/?=%00", "Parameter 1, from character 1 on: it is a control character.", 1},
		{"/?a=&xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=%00",
		 "Parameter 2, from character 1 on: it is a control character.", 1},
		{"/?a=1&q", "q has no = behind it.", 0},
		{"/?a=1&q=&%61=2", "a is there twice.", 0},
		{"/?a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&k=&l=&m=&n=&o=&p=&q=&r=&s=&t=&u=&v=&w=&x=&y=",
		 "More than 24 parameters.", 0},
	};
	struct request r = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(request_parse(rows[i].target, &r), PROBLEM_BAD_TARGET);
		assert_string_equal(r.fault.text, rows[i].fault);
		assert_int_equal(r.fault.position, rows[i].position);
	}
	/* U+FFFD is a character like any other, and nothing of before stays. */
	assert_int_equal(request_parse("/?q=%ef%bf%bd", &r), PROBLEM_NONE);
	assert_string_equal(r.fault.text, "");
	assert_int_equal(r.fault.position, 0);
}

static void
what_the_audit_log_has(void **state)
{
	static const char *const rows[] = {
		"/v1/fleet",
		"/v1/fleet",
		"/v1/devices?cursor=x",
		"/v1/devices",
		"/v1/devices?cursor=x&q=1",
		"/v1/devices?q=1",
		"/v1/devices?q=1&cursor=x",
		"/v1/devices?q=1",
		"/v1/devices?q=1&cursor=x&limit=2",
		"/v1/devices?q=1&limit=2",
		"/v1/events?after=7&cursor=8&after=9&wait=3",
		"/v1/events?wait=3",
		"/v1/devices?xcursor=x",
		"/v1/devices?xcursor=x",
		"/?",
		"/?",
		"/?&&",
		"/?&&",
		"/\n\xff\x7f \"",
		"/????\"",
		"",
		"",
		"/v1/devices/fst_AbCdEf-_gHiJkLmNoP/state",
		"/v1/devices/fst_AbCdEf/state",
		"/v1/fleet?q=fst_AbCdEf",
		"/v1/fleet?q=fst_AbCdEf",
		"/v1/fleet?token=fst_AbCdEfgh&q=fss_AbCdEfghi",
		"/v1/fleet?token=fst_AbCdEf&q=fss_AbCdEf",
		"/fst_fst_fst_fst_",
		"/fst_fst_fs",
		"/v1/fleet?jwt=eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln&limit=1",
		"/v1/fleet?jwt=eyJhbGciOi&limit=1",
	};
	char noted[NOTED_SIZE], longest[2 * NOTED_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i += 2) {
		request_note(rows[i], noted);
		assert_string_equal(noted, rows[i + 1]);
	}
	for (size_t n = NOTED_SIZE - 4; n < NOTED_SIZE + 4; n++) {
		memset(longest, 'a', sizeof longest);
		memcpy(longest + n, "?q=1&r=2", 9);
		request_note(longest, noted);
		assert_true(strlen(noted) < NOTED_SIZE && strncmp(noted, longest, strlen(noted)) == 0);
	}
}

static void
base64url_has_one_spelling(void **state)
{
	/* RFC 4648 10, without padding. */
	static const char *const rows[] = {"",     "",     "f",      "Zg",    "fo",      "Zm8",    "foo",
					   "Zm9v", "foob", "Zm9vYg", "fooba", "Zm9vYmE", "foobar", "Zm9vYmFy"};
	char text[16];
	uint8_t bytes[16];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i += 2) {
		size_t len = strlen(rows[i]);

		base64url_encode((const uint8_t *)rows[i], len, text);
		assert_string_equal(text, rows[i + 1]);
		assert_true(base64url_decode(text, bytes, len));
		assert_memory_equal(bytes, rows[i], len);
		assert_false(base64url_decode(text, bytes, len + 1));
		assert_false(len > 0 && base64url_decode(text, bytes, len - 1));
	}
	assert_false(base64url_decode("Zh", bytes, 1)); /* bits that mean nothing */
	assert_false(base64url_decode("Zg=", bytes, 1));
	assert_false(base64url_decode("Zg==", bytes, 1));
	assert_false(base64url_decode("ZgA", bytes, 1));
	assert_false(base64url_decode("Z", bytes, 0));
	assert_false(base64url_decode("Zm9+", bytes, 3));
	assert_false(base64url_decode("Zm9/", bytes, 3));
}

static void
tokens(void **state)
{
	char token[TOKEN_SIZE], other[TOKEN_SIZE], header[128];
	uint8_t made[DIGEST_SIZE], parsed[DIGEST_SIZE];

	(void)state;
	assert_int_equal(token_make(TOKEN_PREFIX, token, made), 0);
	assert_int_equal(token_make(TOKEN_PREFIX, other, parsed), 0);
	assert_string_not_equal(token, other);
	assert_int_equal(strlen(token), TOKEN_SIZE - 1);
	snprintf(header, sizeof header, "bearer  %s", token);
	assert_true(token_parse(header, parsed));
	assert_memory_equal(made, parsed, DIGEST_SIZE);
	snprintf(header, sizeof header, "Bearer %s ", token);
	assert_false(token_parse(header, parsed));
	snprintf(header, sizeof header, "Bearer %.*s", TOKEN_SIZE - 2, token);
	assert_false(token_parse(header, parsed));
	snprintf(header, sizeof header, "Bearer %s", token + 4);
	assert_false(token_parse(header, parsed));
	assert_false(token_parse("Basic YTpi", parsed));
	assert_false(token_parse("Bearer", parsed));
	assert_false(token_parse("", parsed));
	assert_false(token_parse(NULL, parsed));
}

static struct slice
text_slice(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void
cursors(void **state)
{
	struct cursor in = {7, {INT64_MAX, -1, INT64_MIN}, ""};
	struct slice secret = text_slice("secret"), list = text_slice("list");
	char text[CURSOR_SIZE];
	struct cursor out;

	(void)state;
	cursor_print(&in, secret, list, text);
	assert_true(cursor_parse(text, secret, list, &out));
	assert_memory_equal(&in.keys, &out.keys, sizeof in.keys);
	assert_int_equal(out.tenant_id, 7);
	assert_string_equal(out.text, "");
	assert_false(cursor_parse(text, text_slice("Secret"), list, &out));
	assert_false(cursor_parse(text, secret, text_slice("list2"), &out));
	assert_false(cursor_parse(text, secret, text_slice(""), &out));
	for (size_t i = 0; text[i] != '\0'; i++) {
		char kept = text[i];

		text[i] = kept == 'A' ? 'B' : 'A';
		assert_false(cursor_parse(text, secret, list, &out));
		text[i] = '\0';
		assert_false(cursor_parse(text, secret, list, &out));
		text[i] = kept;
	}
	assert_true(cursor_parse(text, secret, list, &out));
	/* What belongs to the text does not pass for the list's name, however it is cut. */
	strcpy(in.text, "text");
	cursor_print(&in, secret, list, text);
	assert_true(cursor_parse(text, secret, list, &out));
	assert_string_equal(out.text, "text");
	assert_false(cursor_parse(text, secret, text_slice("textlist"), &out));
	memset(in.text, 'x', CURSOR_TEXT);
	cursor_print(&in, secret, list, text);
	assert_true(strlen(text) < CURSOR_SIZE);
	assert_true(cursor_parse(text, secret, list, &out));
	assert_string_equal(out.text, in.text);
	text[strlen(text) - 1] = '\0';
	assert_false(cursor_parse(text, secret, list, &out));
}

static void
counts(void **state)
{
	static const char *const bad[] = {
		"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "9007199254740992", "00000000000000001"};
	int64_t n = 7;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_false(count_parse(bad[i], COUNT_MAX, &n));
		assert_true(number_parse(bad[i]) == 0);
	}
	assert_false(count_parse("61", 60, &n) || count_parse("060", 60, &n));
	assert_int_equal(n, 7);
	assert_true(count_parse("60", 60, &n) && n == 60);
	assert_true(count_parse("0", 60, &n) && n == 0);
	assert_true(count_parse("9007199254740991", COUNT_MAX, &n) && n == COUNT_MAX);
	assert_true(number_parse("9007199254740991") == htobe64(COUNT_MAX));
	assert_true(number_parse("0") == 0 && number_parse("01") == 0);
}

static void
labels(void **state)
{
	(void)state;
	assert_true(label_fault("site") == 0 && label_fault("site:") == 0 && label_fault("site:bonn") == 0 &&
		    label_fault("site:a:b") == 0);
	assert_true(label_fault("") == 1 && label_fault(":") == 1 && label_fault(":bonn") == 1 &&
		    label_fault("=") == 1 && label_fault(":=") == 1);
	assert_true(label_fault("site=bonn") == 5 && label_fault("site=") == 5 && label_fault("site:bonn=") == 10 &&
		    label_fault("\xc3\xa4=b") == 2);
}

static void
words(void **state)
{
	static const char list[] = " one two  three ";

	(void)state;
	assert_true(words_have(list, "one", 3) && words_have(list, "two", 3) && words_have(list, "three", 5));
	assert_false(words_have(list, "on", 2) || words_have(list, "ones", 4) || words_have(list, "", 0));
	assert_false(words_have("", "", 0) || words_have("", "one", 3) || words_have(" ", "one", 3));
	assert_true(word_is((struct slice){(const uint8_t *)"ones", 3}, "one"));
	assert_false(word_is((struct slice){(const uint8_t *)"one", 3}, "ones") ||
		     word_is((struct slice){NULL, 0}, "one"));
}

static void
lists_with_commas(void **state)
{
	static const struct {
		const char *list;
		const char *words[4];
	} rows[] = {
		{NULL, {NULL}},
		{"", {"", NULL}},
		{",", {"", "", NULL}},
		{"a", {"a", NULL}},
		{"a,", {"a", "", NULL}},
		{",a", {"", "a", NULL}},
		{"a b,,c", {"a b", "", "c", NULL}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *list = rows[i].list;
		json_t *array = words_array(list);
		struct slice word;
		size_t n = 0;

		for (; words_next(&list, &word); n++) {
			assert_true(rows[i].words[n] != NULL && word_is(word, rows[i].words[n]));
			assert_string_equal(json_string_value(json_array_get(array, n)), rows[i].words[n]);
		}
		assert_null(rows[i].words[n]);
		assert_int_equal(json_array_size(array), n);
		json_decref(array);
	}
}

static void
some_of_the_words(void **state)
{
	static const struct {
		const char *target;
		int position; /* 0: it is good */
	} rows[] = {
		{"/", 0},         {"/?of=one", 0},      {"/?of=two,one,two", 0}, {"/?of=", 1},          {"/?of=,", 1},
		{"/?of=one,", 5}, {"/?of=one,,two", 5}, {"/?of=one,tw", 5},      {"/?of=one%20two", 1}, {"/?of=One", 1},
		{"/?of=*", 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct response response = {0};
		struct request r = {0};
		char said[64];

		assert_int_equal(request_parse(rows[i].target, &r), PROBLEM_NONE);
		assert_int_equal(request_words(&r, &response, "of", " one two"), rows[i].position == 0 ? 0 : -1);
		assert_int_equal(response.status, rows[i].position == 0 ? 0 : 400);
		response_append(&response, "", 1);
		snprintf(said, sizeof said, "of, from character %d on: it is some of these, ", rows[i].position);
		assert_true(rows[i].position == 0 || strstr((const char *)response.body, said) != NULL);
		assert_true(rows[i].position == 0 || strstr((const char *)response.body, ": one two.") != NULL);
		response_free(&response);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(refuses_and_says_where),
		cmocka_unit_test(what_the_audit_log_has),
		cmocka_unit_test(base64url_has_one_spelling),
		cmocka_unit_test(tokens),
		cmocka_unit_test(counts),
		cmocka_unit_test(labels),
		cmocka_unit_test(words),
		cmocka_unit_test(lists_with_commas),
		cmocka_unit_test(some_of_the_words),
		cmocka_unit_test(cursors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
