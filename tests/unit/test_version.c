/* Which version is newer: each ecosystem's documented order, and for any texts an order that contradicts itself nowhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schema/version.h"
#include "tests/unit/bytes.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int
sign(int n)
{
	return (n > 0) - (n < 0);
}

static void
expect(enum version_order order, const char *a, const char *b, int sense)
{
	int got = sign(version_compare(order, text(a), text(b))), back = sign(version_compare(order, text(b), text(a)));

	if (got != sense || back != -sense)
		fail_msg("%s: %s against %s is %d, back %d, should be %d", version_order_name(order), a, b, got, back,
			 sense);
}

/* Each is older than all that follow. */
static void
expect_rising(enum version_order order, const char *const *versions, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i; j < n; j++)
			expect(order, versions[i], versions[j], i < j ? -1 : 0);
}

static void
debian_order(void **state)
{
	static const char *const rising[] = {
		"~~",
		"~~a",
		"~",
		"~1",
		"",
		"1.0~~",
		"1.0~rc1-1",
		"1.0~rc2-1",
		"1.0-0",
		"1.0-1",
		"1.0-1+b1",
		"1.0-1.1",
		"1.0-2",
		"1.0-10",
		"1.0+dfsg-1",
		"1.0.1-1",
		"1.1-1",
		"1.a-1",
		"1.ab-1",
		"1.+-1",
		"2-1~bpo12+1",
		"2-1",
		"9",
		"10",
		"99999999999999999999998",
		"99999999999999999999999",
		"1:0",
		"1:0.1",
		"2:0",
		"10:0",
	};
	static const char *const same[][2] = {{"1.0", "1.00"}, {"0:1.0", "1.0"}, {"1.0", "1.0-0"},
					      {"1.0-", "1.0"}, {"a", "a0"},      {"00:1", "1"}};

	(void)state;
	expect_rising(VERSION_DEBIAN, rising, COUNT(rising));
	for (size_t i = 0; i < COUNT(same); i++)
		expect(VERSION_DEBIAN, same[i][0], same[i][1], 0);
}

static void
rpm_order(void **state)
{
	static const char *const rising[] = {
		"1.0~rc1-1",
		"1.0~rc1^git1-1",
		"1.0",
		"1.0-1",
		"1.0-1.fc38",
		"1.0-2",
		"1.0^20200101-1",
		"1.0^20200102-1",
		"1.0.a",
		"1.0.1-1",
		"1.0.10",
		"2a",
		"2.0",
		"10",
		"99999999999999999999998",
		"99999999999999999999999",
		"1:0.1",
		"1:1",
		"10:0",
	};
	static const char *const same[][2] = {
		{"1.0", "1_0"}, {"1.0", "1.00"}, {"0:1", "1"}, {"1..0", "1.0"}, {"1.", "1"}};

	(void)state;
	expect_rising(VERSION_RPM, rising, COUNT(rising));
	for (size_t i = 0; i < COUNT(same); i++)
		expect(VERSION_RPM, same[i][0], same[i][1], 0);
}

static void
apk_order(void **state)
{
	static const char *const rising[] = {
		"0",
		"0.1_alpha",
		"0.1_alpha1",
		"0.1_alpha2",
		"0.1_beta",
		"0.1_pre1",
		"0.1_rc1",
		"0.1_rc1-r1",
		"0.1",
		"0.1-r0",
		"0.1-r1",
		"0.1-r10",
		"0.1~1f",
		"0.1_cvs1",
		"0.1_svn1",
		"0.1_git20200101",
		"0.1_git20200102",
		"0.1_hg1",
		"0.1_p1",
		"0.1_p1-r1",
		"0.1_p10",
		"0.1a",
		"0.1a-r3",
		"0.1b",
		"0.1.0",
		"0.1.05",
		"0.1.1",
		"0.1.9",
		"0.1.10",
		"0.2",
		"1",
		"1.2.3",
		"10",
		"10.1",
	};
	static const char *const not_versions[] = {"",    "x",       "1.", "1..2", "1_zeta", "1-1",
						   "1-r", "1-r1-r2", "1A", "1ab",  "1~",     "1 "};

	(void)state;
	expect_rising(VERSION_APK, rising, COUNT(rising));
	for (size_t i = 0; i < COUNT(not_versions); i++) {
		expect(VERSION_APK, not_versions[i], not_versions[i], 0);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(version_compare(VERSION_APK, text(not_versions[i]), text(not_versions[j])),
					     0);
	}
}

/* The first seven are those of the specification's 11.4. */
static void
semantic_order(void **state)
{
	static const char *const rising[] = {
		"1.0.0-alpha",
		"1.0.0-alpha.1",
		"1.0.0-alpha.beta",
		"1.0.0-beta",
		"1.0.0-beta.2",
		"1.0.0-beta.11",
		"1.0.0-rc.1",
		"1.0.0",
		"1.0.1",
		"1.9.0",
		"1.10.0",
		"2.0.0-0",
		"2.0.0",
		"99999999999999999999998.0.0",
		"99999999999999999999999.0.0",
	};
	static const char *const same[][2] = {
		{"1.0.0+a", "1.0.0+b"}, {"1.0.0", "1.0.0+x-y"}, {"v1.2.3", "1.2.3"}, {"1", "1.0.0"}};

	(void)state;
	expect_rising(VERSION_SEMVER, rising, COUNT(rising));
	for (size_t i = 0; i < COUNT(same); i++)
		expect(VERSION_SEMVER, same[i][0], same[i][1], 0);
}

/* Any three texts out of few characters: if a <= b <= c, then a <= c. */
static void
no_contradiction(void **state)
{
	static const char alphabet[] = "0019a~^.-_r:p+";
	uint32_t seed = 12345;
	char made[3][8];

	(void)state;
	for (unsigned order = 0; order < VERSION_ORDERS; order++) {
		for (unsigned round = 0; round < 200000; round++) {
			int ab, bc, ac;

			for (size_t i = 0; i < 3; i++) {
				size_t len = (seed = seed * 1664525 + 1013904223) >> 29;

				for (size_t j = 0; j < len; j++)
					made[i][j] = alphabet[((seed = seed * 1664525 + 1013904223) >> 16) %
							      (sizeof alphabet - 1)];
				made[i][len] = '\0';
			}
			ab = sign(version_compare((enum version_order)order, text(made[0]), text(made[1])));
			bc = sign(version_compare((enum version_order)order, text(made[1]), text(made[2])));
			ac = sign(version_compare((enum version_order)order, text(made[0]), text(made[2])));
			if (ab <= 0 && bc <= 0 && ac != (ab < bc ? ab : bc))
				fail_msg("%s: \"%s\" %d \"%s\" %d \"%s\" but %d",
					 version_order_name((enum version_order)order), made[0], ab, made[1], bc,
					 made[2], ac);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(debian_order),   cmocka_unit_test(rpm_order),        cmocka_unit_test(apk_order),
		cmocka_unit_test(semantic_order), cmocka_unit_test(no_contradiction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
