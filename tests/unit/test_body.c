/* What a body of JSON may be, what a time is, and that no cell of a table is taken for a formula. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/body.h"
#include "collector/csv.h"
#include "collector/request.h"

static void
content_types(void **state)
{
	static const char *const good[] = {"application/json", "Application/JSON", "application/json ; charset=utf-8",
					   "application/json;charset=\"UTF-8\""};
	static const char *const bad[] = {"",
					  "json",
					  "text/json",
					  "application/jsonp",
					  "application/json; charset=latin1",
					  "application/json; charset=utf-8; x=y",
					  "application/json;",
					  "application/json, text/plain",
					  "application/problem+json",
					  "application/json; boundary=x"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(body_is_json(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (body_is_json(bad[i]))
			fail_msg("%s", bad[i]);
	assert_false(body_is_json(NULL));
}

/* The problem that a body gives; PROBLEM_NONE if it is good. */
static enum problem
parse(const char *text, size_t len, size_t piece)
{
	static const struct member members[] = {
		{"text", MEMBER_TEXT, true, 4},  {"number", MEMBER_NUMBER, false, 0},
		{"flag", MEMBER_FLAG, false, 0}, {"object", MEMBER_OBJECT, false, 0},
		{"list", MEMBER_LIST, false, 2},
	};
	struct response response = {0};
	struct body body = {0};
	enum problem problem;

	for (size_t at = 0; at < len; at += piece)
		assert_int_equal(body_add(&body, text + at, len - at < piece ? len - at : piece), 0);
	if (body_parse(&body, &response) == 0)
		(void)!body_check(body.json, &response, members, sizeof members / sizeof *members);
	problem = response.problem;
	response_free(&response);
	body_free(&body);
	return problem;
}

static void
bodies(void **state)
{
	static const char *const good[] = {
		"{\"text\":\"\"}",
		" {\"text\":\"abcd\",\"number\":-1,\"flag\":false,\"object\":{},\"list\":[1,2]} ",
	};
	static const char *const bad[] = {
		"",
		"{",
		"{}",
		"[]",
		"null",
		"{\"text\":\"abcde\"}",
		"{\"text\":1}",
		"{\"text\":null}",
		"{\"text\":\"\",\"number\":1.0}",
		"{\"text\":\"\",\"number\":9223372036854775808}",
		"{\"text\":\"\",\"flag\":0}",
		"{\"text\":\"\",\"object\":[]}",
		"{\"text\":\"\",\"list\":{}}",
		"{\"text\":\"\",\"list\":[1,2,3]}",
		"{\"text\":\"\",\"more\":1}",
		"{\"text\":\"\",\"text\":\"\"}",
		"{\"text\":\"\\u0000\"}",
		"{\"text\":\"\xff\"}",
		"{\"text\":\"\"}{}",
		"{\"text\":\"\"} x",
	};

	(void)state;
	for (size_t piece = 1; piece < 100; piece += 6) {
		for (size_t i = 0; i < sizeof good / sizeof *good; i++)
			assert_int_equal(parse(good[i], strlen(good[i]), piece), PROBLEM_NONE);
		for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
			if (parse(bad[i], strlen(bad[i]), piece) != PROBLEM_BAD_BODY)
				fail_msg("%s", bad[i]);
	}
}

static void
bounds(void **state)
{
	char *text = malloc(BODY_MAX + 1);
	struct body body = {0};

	(void)state;
	assert_non_null(text);
	memset(text, ' ', BODY_MAX + 1);
	memcpy(text, "{\"text\":\"\"}", 11);
	assert_int_equal(parse(text, BODY_MAX, 4096), PROBLEM_NONE);
	assert_int_equal(parse(text, BODY_MAX + 1, 4096), PROBLEM_CONTENT_TOO_LARGE);
	for (size_t n = 0; n + BODY_MAX <= BODY_READ * BODY_MAX; n += BODY_MAX)
		assert_int_equal(body_add(&body, text, BODY_MAX), 0);
	assert_int_equal(body_add(&body, text, 1), -1);
	body_free(&body);
	free(text);
}

static void
times(void **state)
{
	static const char *const good[] = {"2026-01-01T00:00:00Z", "2026-01-01t00:00:00z",
					   "2026-01-01T00:00:00.5+01:00", "2026-01-01T00:00:00.123456789Z",
					   "2026-01-01T00:00:00-00:00"};
	static const char *const bad[] = {"",
					  "now",
					  "infinity",
					  "2026-01-01",
					  "2026-01-01T00:00:00",
					  "2026-01-01 00:00:00Z",
					  "2026-1-1T00:00:00Z",
					  "2026-01-01T00:00Z",
					  "2026-01-01T00:00:00.Z",
					  "2026-01-01T00:00:00+1:00",
					  "2026-01-01T00:00:00+01:00x",
					  "2026-01-01T00:00:00Zx",
					  " 2026-01-01T00:00:00Z",
					  "2026-01-01T00:00:00.00000000000000000000000Z",
					  "+2026-01-01T00:00:00Z",
					  "0000-01-01T00:00:00Z",
					  "2026-00-01T00:00:00Z",
					  "2026-13-01T00:00:00Z",
					  "2026-01-00T00:00:00Z",
					  "2026-04-31T00:00:00Z",
					  "2026-02-29T00:00:00Z",
					  "2100-02-29T00:00:00Z",
					  "2026-01-01T24:00:00Z",
					  "2026-01-01T00:60:00Z",
					  "2026-01-01T00:00:61Z",
					  "2026-01-01T00:00:00+16:00",
					  "2026-01-01T00:00:00-01:60"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(is_time(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (is_time(bad[i]))
			fail_msg("%s", bad[i]);
}

static void
cells(void **state)
{
	static const struct {
		const char *json, *row;
	} rows[] = {
		{"{\"a\":\"x\",\"b\":1}", "\"x\",\"1\"\r\n"},
		{"{\"a\":\"=1\",\"b\":-1}", "\"'=1\",\"-1\"\r\n"},
		{"{\"a\":\"+1\",\"b\":\"-1\"}", "\"'+1\",\"'-1\"\r\n"},
		{"{\"a\":\"@x\",\"b\":\"\\t=1\"}", "\"'@x\",\"'\t=1\"\r\n"},
		{"{\"a\":\" =1\",\"b\":\"\\r\"}", "\"' =1\",\"'\r\"\r\n"},
		{"{\"a\":\"a\\\"b,c\\nd\",\"b\":null}", "\"a\"\"b,c\nd\",\"\"\r\n"},
		{"{\"a\":[\"x\",\"=y\"],\"b\":true}", "\"x '=y\",\"true\"\r\n"},
		{"{\"c\":1}", "\"\",\"\"\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct response response = {0};

		csv_row(&response, (struct slice){(const uint8_t *)rows[i].json, strlen(rows[i].json)}, "a b");
		assert_int_equal(response.len, strlen(rows[i].row));
		assert_memory_equal(response.body, rows[i].row, response.len);
		response_free(&response);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_types), cmocka_unit_test(bodies), cmocka_unit_test(bounds),
		cmocka_unit_test(times),         cmocka_unit_test(cells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
