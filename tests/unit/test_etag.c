#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "collector/etag.h"

static void
tags_are_compared_weakly(void **state)
{
	static const char *const listed[] = {"\"a,b\"",          "W/\"a,b\"",     "*", " *\t", "\"x\", \"a,b\"",
					     "\"x\",W/\"a,b\" ", "\"\" , \"a,b\""};
	static const char *const others[] = {"",        "\"a\"", "\"b\"",    "a,b",        "\"a,b", "w/\"a,b\"",
					     "\"A,b\"", "x, *",  "\"a,b \"", "W/ \"a,b\"", "W/",    "W/W/\"a,b\""};

	(void)state;
	for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
		if (!etag_is_listed(listed[i], "W/\"a,b\""))
			fail_msg("%s does not name it", listed[i]);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (etag_is_listed(others[i], "\"a,b\""))
			fail_msg("%s names it", others[i]);
	assert_false(etag_is_listed(NULL, "\"a,b\""));
}

static void
lists_are_as_the_standard_has_them(void **state)
{
	static const char *const good[] = {
		"*",      " * ", "\"\"", "\"!\"", "W/\"1\"", "\"1\",\"2\"", " ,\t, \"1\" ,, W/\"2\",", "\"\xc3\xa9\"",
		"\"1,2\""};
	static const char *const bad[] = {"",          " ",        ",",        "1",           "\"",
					  "\"1",       "1\"",      "\"1\"2",   "\"1\" \"2\"", "\"1\"\"2\"",
					  "\"1\";q=1", "w/\"1\"",  "W/1",      "W /\"1\"",    "W\"1\"",
					  "*, \"1\"",  "\"1\", *", "**",       "\"1 2\"",     "\"1\t\"",
					  "\"\x7f\"",  "\"1\", x", "x, \"1\"", "\"1\", \"2"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!etag_list_ok(good[i]))
			fail_msg("%s is refused", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (etag_list_ok(bad[i]))
			fail_msg("%s is taken", bad[i]);
}

static void
what_a_write_is_held_to(void **state)
{
	static const struct {
		const char *match, *none_match;
		int64_t revision;
		bool permits;
	} cases[] = {
		{NULL, NULL, 7, true},
		{"*", NULL, 7, true},
		{"\"7\"", NULL, 7, true},
		{"\"7.0123abcd\"", NULL, 7, true},
		{"\"6\", \"7\"", NULL, 7, true},
		{"W/\"7\", \"7\"", NULL, 7, true},
		{NULL, "*", 0, true},
		{NULL, "\"7\"", 0, true},
		{NULL, "\"6\", W/\"8.ab\"", 7, true},
		{NULL, "\"70\"", 7, true},
		{"\"7\"", "\"6\"", 7, true},
		{"*", NULL, 0, false},
		{"\"0\"", NULL, 0, false},
		{"\"7\"", NULL, 0, false},
		{"\"6\"", NULL, 7, false},
		{"\"70\"", NULL, 7, false},
		{"\"7\"", NULL, 70, false},
		{"\"07\"", NULL, 7, false},
		{"\"7-1\"", NULL, 7, false},
		{"\" 7\"", NULL, 7, false},
		{"\"\"", NULL, 7, false},
		{"\"x\"", NULL, 7, false},
		{"\"-7\"", NULL, 7, false},
		{"W/\"7\"", NULL, 7, false},
		{"W/\"7\", \"6\"", NULL, 7, false},
		{"\"18446744073709551623\"", NULL, 7, false},
		{NULL, "*", 7, false},
		{NULL, "\"7\"", 7, false},
		{NULL, "W/\"7\"", 7, false},
		{NULL, "\"6\", \"7.ab\"", 7, false},
		{"\"7\"", "\"7\"", 7, false},
		{"\"6\"", "\"6\"", 7, false},
		{"*", "*", 7, false},
		{"*", "*", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (etag_permits(cases[i].match, cases[i].none_match, cases[i].revision) != cases[i].permits)
			fail_msg("case %zu", i);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags_are_compared_weakly),
		cmocka_unit_test(lists_are_as_the_standard_has_them),
		cmocka_unit_test(what_a_write_is_held_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
