#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collector/version_range.h"

static struct slice
text(const char *s)
{
	return (struct slice){(const uint8_t *)s, strlen(s)};
}

static void
parse(const char *range, struct version_range *out)
{
	const char *why;
	size_t where;

	if (!version_range_parse(range, out, &where, &why))
		fail_msg("%s: at %zu: %s", range, where, why);
}

/* Texts with spaces between. */
static void
expect(const char *range, const char *type, const char *versions, bool in)
{
	struct version_range parsed;
	char copy[256], *rest = NULL;

	parse(range, &parsed);
	snprintf(copy, sizeof copy, "%s", versions);
	for (char *v = strtok_r(copy, " ", &rest); v != NULL; v = strtok_r(NULL, " ", &rest))
		if (version_range_has(&parsed, text(type), text(v)) != in)
			fail_msg("%s %s %s", range, in ? "lacks" : "has", v);
}

static void
each_kind_has_its_own_order(void **state)
{
	(void)state;
	expect("vers:deb/<3.0.11-1~deb12u2", "dpkg", "3.0.11-1~deb12u1 3.0.9-1 3.0.11-1~deb12u1+b1", true);
	expect("vers:deb/<3.0.11-1~deb12u2", "dpkg", "3.0.11-1~deb12u2 3.0.11-1 1:1.0-1", false);
	expect("vers:opkg/<2.0", "opkg", "2.0~rc1", true);
	expect("vers:rpm/<2.0", "rpm", "1.9 2.0~rc1", true);
	expect("vers:rpm/<2.0", "rpm", "2.0 1:0.1", false);
	expect("vers:apk/<1.2.3-r4", "apk", "1.2.3-r3 1.2.3_rc1-r9", true);
	expect("vers:alpine/<1.2.3-r4", "apk", "1.2.3-r4 1.2.4_rc1", false);
	expect("vers:semver/>=1.0.0-rc.1|<1.0.0", "firmware", "1.0.0-rc.1 1.0.0-rc.11", true);
	expect("vers:semver/>=1.0.0-rc.1|<1.0.0", "image", "1.0.0 1.0.0-beta.3", false);
}

static void
ranges_have_what_lies_in_them(void **state)
{
	(void)state;
	expect("vers:deb/*", "dpkg", "0 1 9999:1", true);
	expect("vers:deb/1.2", "dpkg", "1.2", true);
	expect("vers:deb/=1.2|=1.4", "dpkg", "1.2 1.4", true);
	expect("vers:deb/=1.2|=1.4", "dpkg", "1.1 1.3 1.5", false);
	expect("vers:deb/!=1.2", "dpkg", "1.1 1.3", true);
	expect("vers:deb/!=1.2", "dpkg", "1.2", false);
	expect("vers:deb/>=1|<2|>3", "dpkg", "1 1.9 3.1 4", true);
	expect("vers:deb/>3|<2|>=1", "dpkg", "1 1.9 3.1 4", true);
	expect("vers:deb/>=1|<2|>3", "dpkg", "0.9 2 2.5 3", false);
	expect("vers:deb/>=1|!=1.5|<=2", "dpkg", "1 1.4 1.6 2", true);
	expect("vers:deb/>=1|!=1.5|<=2", "dpkg", "1.5 0.9 2.1", false);
	expect("vers:deb/<1|=2", "dpkg", "0.9 2", true);
	expect("vers:deb/<1|=2", "dpkg", "1 1.9 2.1", false);
	expect("vers:deb/<1%3a2%7E1", "dpkg", "1:1 1:2~0", true);
	expect("vers:deb/>1", "dpkg", "1", false);
}

static void
another_kind_is_never_in_it(void **state)
{
	(void)state;
	expect("vers:deb/*", "opkg", "1", false);
	expect("vers:deb/*", "rpm", "1", false);
	expect("vers:deb/*", "dpk", "1", false);
	expect("vers:deb/*", "", "1", false);
	expect("vers:semver/*", "dpkg", "1", false);
}

static void
what_is_no_range_is_refused_where_it_is_wrong(void **state)
{
	static const struct {
		const char *text;
		size_t where;
	} bad[] = {
		{"", 0},
		{"vers", 0},
		{"vers:", 0},
		{"vers:deb", 0},
		{"vers:Deb/1", 0},
		{"vers:pypi/1", 0},
		{"VERS:deb/1", 0},
		{"vers:deb/", 9},
		{"vers:deb/<", 9},
		{"vers:deb/<1|", 12},
		{"vers:deb/|<1", 9},
		{"vers:deb/<1||>2", 12},
		{"vers:deb/**", 9},
		{"vers:deb/*|1", 9},
		{"vers:deb/<<1", 9},
		{"vers:deb/==1", 9},
		{"vers:deb/< 1", 9},
		{"vers:deb/<1%", 9},
		{"vers:deb/<1%4", 9},
		{"vers:deb/<1%zz", 9},
		{"vers:deb/<1%00", 9},
		{"vers:deb/<1%20", 9},
		{"vers:deb/<1|>1", 12},
		{"vers:deb/<1.0|<01.0", 14},
		{"vers:deb/<1|<2", 0},
		{"vers:deb/>1|>2", 0},
		{"vers:deb/>1|!=2|>=3", 0},
	};
	struct version_range range;
	char many[1024] = "vers:deb/", *at = many + strlen(many);
	const char *why;
	size_t where;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (version_range_parse(bad[i].text, &range, &where, &why))
			fail_msg("%s is taken", bad[i].text);
		if (where != bad[i].where)
			fail_msg("%s: at %zu: %s", bad[i].text, where, why);
	}
	for (int i = 0; i < VERSION_RANGE_CONSTRAINTS; i++)
		at += sprintf(at, "%s!=%d", i > 0 ? "|" : "", i);
	parse(many, &range);
	strcpy(at, "|!=99");
	assert_false(version_range_parse(many, &range, &where, &why));
	memset(many, '1', sizeof many - 1);
	memcpy(many, "vers:deb/", 9);
	many[9 + LIMIT_VERSION] = '\0';
	parse(many, &range);
	many[9 + LIMIT_VERSION] = '1';
	many[9 + LIMIT_VERSION + 1] = '\0';
	assert_false(version_range_parse(many, &range, &where, &why));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_its_own_order),
		cmocka_unit_test(ranges_have_what_lies_in_them),
		cmocka_unit_test(another_kind_is_never_in_it),
		cmocka_unit_test(what_is_no_range_is_refused_where_it_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
