#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

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
and_strongly(void **state)
{
	static const char *const matched[] = {"\"a,b\"", "*", " *\t", "\"x\", \"a,b\"", "W/\"a,b\", \"a,b\""};
	static const char *const others[] = {"",        "W/\"a,b\"",       "\"a\"",      "a,b", "\"a,b",
					     "\"A,b\"", "\"x\",W/\"a,b\"", "*, \"a,b\"", "**"};

	(void)state;
	for (size_t i = 0; i < sizeof matched / sizeof *matched; i++)
		if (!etag_is_matched(matched[i], "\"a,b\""))
			fail_msg("%s does not name it", matched[i]);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (etag_is_matched(others[i], "\"a,b\""))
			fail_msg("%s names it", others[i]);
	assert_false(etag_is_matched(NULL, "\"a,b\"") || etag_is_matched("\"a,b\"", "W/\"a,b\"") ||
		     etag_is_matched("W/\"a,b\"", "W/\"a,b\"") || etag_is_matched("\"a,b\"", NULL));
	assert_true(etag_is_matched("*", "W/\"a,b\"") && etag_is_matched("*", NULL));
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
		{"\"6\", \"7\"", NULL, 7, true},
		{"W/\"7\", \"7\"", NULL, 7, true},
		{NULL, "*", 0, true},
		{NULL, "\"7\"", 0, true},
		{NULL, "\"6\", W/\"8\"", 7, true},
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
		{NULL, "\"6\", \"7\"", 7, false},
		{"\"7\"", "\"7\"", 7, false},
		{"\"6\"", "\"6\"", 7, false},
		{"*", "*", 7, false},
		{"*", "*", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (etag_permits(cases[i].match, cases[i].none_match, cases[i].revision, 0) != cases[i].permits)
			fail_msg("case %zu", i);
}

/* Of the digest only the form is looked at. */
static void
a_tag_is_one_that_was_given(void **state)
{
	static const char *const good[] = {"\"7.0123abcd\"", "\"7.00000000\"", "\"7.ffffffff\"",
					   "\"7\", \"7.0123abcd\""};
	static const char *const bad[] = {"\"7\"",           "\"7.\"",           "\"7.x\"",
					  "\"7.0123abc\"",   "\"7.0123abcde\"",  "\"7.0123ABCD\"",
					  "\"7.0123abcg\"",  "\"7.0123abc,\"",   "\"7,0123abcd\"",
					  "\"70123abcd\"",   "\"7..0123abcd\"",  "\"7.0123.bcd\"",
					  "\"70.0123abcd\"", "\"07.0123abcd\"",  "\"7.0123abcd-gzip\"",
					  "\"6.0123abcd\"",  "W/\"7.0123abcd\"", "\"7.0123ab\xc3\xa9\""};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_true(etag_permits(good[i], NULL, 7, 8));
		assert_false(etag_permits(NULL, good[i], 7, 8));
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (etag_permits(bad[i], NULL, 7, 8))
			fail_msg("%s is taken", bad[i]);
		assert_true(bad[i][0] == 'W' || etag_permits(NULL, bad[i], 7, 8));
	}
	assert_false(etag_permits("\"7.0123abcd\"", NULL, 7, 0));
	assert_false(etag_permits("\"7.\"", NULL, 7, 0));
	assert_false(etag_permits("\"0.0123abcd\"", NULL, 0, 8));
}

#define SECRET 32
#define HEX 65
#define FEW 8192 /* bytes of a body, with more than which it is a long one */
#define ZEROS 80 /* five blocks of GCM */

static void
make_key(uint8_t first, struct etag_key *key)
{
	uint8_t secret[SECRET];

	for (size_t i = 0; i < sizeof secret; i++)
		secret[i] = (uint8_t)(first + i);
	assert_int_equal(etag_key_derive((struct slice){secret, sizeof secret}, key), 0);
}

static void
hash(const struct etag_key *key, const void *body, size_t len, char hex[HEX])
{
	assert_int_equal(etag_hash(key, (struct slice){body, len}, 32, hex), 0);
}

/* The values are Python's: SHA-256 over half of an HMAC and the body, or the tag of AES-GCM with the other half. */
static void
a_hash_is_the_same_whoever_makes_it(void **state)
{
	static char many[70000];
	const struct {
		const char *body;
		size_t len;
		const char *hex;
	} rows[] = {
		{NULL, 0, "e854442b7d8d9899293b7daf49ff7661426233e1b48c662663002686ed2d28c1"},
		{"fleetstate", 10, "457b7efe39c346afed6d0851a4dc38bf78dccd593a18077e0c98d72eef824f00"},
		{many, FEW, "3f29d1c4fadedcae602703024c8616f3dcf3671971dff5e56fa2c98ae18967f5"},
		{many, FEW + 1, "1589f12bfa9a87436f79540f0fe1ae7b718fd440a6cd5b90ca0d774a178be959"},
		{many, sizeof many, "38ba0be9201b09e2a409ae9dc624a2096dab1fef395262e2e7e07576dd16167a"},
	};
	struct etag_key key;
	char hex[HEX];

	(void)state;
	memset(many, 'x', sizeof many);
	make_key(0, &key);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		hash(&key, rows[i].body, rows[i].len, hex);
		assert_string_equal(hex, rows[i].hex);
	}
	assert_int_equal(etag_hash(&key, (struct slice){(const uint8_t *)many, sizeof many}, 8, hex), 0);
	assert_int_equal(strlen(hex), 16);
	assert_memory_equal(hex, rows[4].hex, 16);
}

static void
a_body_with_another_bit_has_another_hash(void **state)
{
	static const size_t sizes[] = {300, FEW + 300};
	static uint8_t body[FEW + 300];
	char was[HEX], is[HEX];
	struct etag_key key;

	(void)state;
	memset(body, 'x', sizeof body);
	make_key(0, &key);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		hash(&key, body, sizes[i], was);
		for (size_t bit = 0; bit < 8 * sizes[i]; bit++) {
			body[bit / 8] ^= (uint8_t)(1 << bit % 8);
			hash(&key, body, sizes[i], is);
			assert_string_not_equal(is, was);
			body[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		hash(&key, body, sizes[i], is);
		assert_string_equal(is, was);
	}
}

/* Of GCM the last block is filled up with zeros. */
static void
more_zeros_are_another_body(void **state)
{
	static const uint8_t zeros[FEW + ZEROS];
	static char all[2 * ZEROS][HEX];
	struct etag_key key;

	(void)state;
	make_key(0, &key);
	for (size_t i = 0; i < 2 * ZEROS; i++) {
		hash(&key, zeros, i < ZEROS ? i : FEW + i - ZEROS, all[i]);
		for (size_t before = 0; before < i; before++)
			assert_string_not_equal(all[before], all[i]);
	}
}

static void
the_same_blocks_in_another_order_are_another_body(void **state)
{
	static const char *const ends[] = {"0123456789abcdefFEDCBA9876543210", "FEDCBA98765432100123456789abcdef",
					   "0123456789abcdef0123456789abcdef", "FEDCBA9876543210FEDCBA9876543210"};
	static char body[FEW + 32], all[4][HEX];
	struct etag_key key;

	(void)state;
	make_key(0, &key);
	for (size_t i = 0; i < 4; i++) {
		memcpy(body + FEW, ends[i], 32);
		hash(&key, body, sizeof body, all[i]);
		for (size_t before = 0; before < i; before++)
			assert_string_not_equal(all[before], all[i]);
	}
}

static void
another_secret_makes_another_hash(void **state)
{
	static const size_t sizes[] = {10, FEW + 10};
	static uint8_t body[FEW + 10];
	struct etag_key key, other;
	char was[HEX], is[HEX];

	(void)state;
	make_key(0, &key);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		hash(&key, body, sizes[i], was);
		for (uint8_t first = 1; first != 0; first++) {
			make_key(first, &other);
			hash(&other, body, sizes[i], is);
			assert_string_not_equal(is, was);
		}
	}
}

static void
either_half_of_the_key_counts(void **state)
{
	static uint8_t body[FEW + 10];
	struct etag_key key, mac, cover;
	char was[HEX], is[HEX];

	(void)state;
	make_key(0, &key);
	hash(&key, body, sizeof body, was);
	for (size_t bit = 0; bit < 8 * ETAG_HALF; bit++) {
		mac = cover = key;
		mac.mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
		hash(&mac, body, sizeof body, is);
		assert_string_not_equal(is, was);
		cover.cover[bit / 8] ^= (uint8_t)(1 << bit % 8);
		hash(&cover, body, sizeof body, is);
		assert_string_not_equal(is, was);
	}
}

/* More than it can say the length of; nothing of it is read. */
static void
what_is_too_long_has_none(void **state)
{
	struct etag_key key;
	char hex[HEX];

	(void)state;
	make_key(0, &key);
	assert_int_equal(etag_hash(&key, (struct slice){(const uint8_t *)"", (size_t)INT_MAX + 1}, 32, hex), -1);
	assert_int_equal(etag_hash(&key, (struct slice){(const uint8_t *)"", SIZE_MAX}, 32, hex), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags_are_compared_weakly),
		cmocka_unit_test(and_strongly),
		cmocka_unit_test(lists_are_as_the_standard_has_them),
		cmocka_unit_test(what_a_write_is_held_to),
		cmocka_unit_test(a_tag_is_one_that_was_given),
		cmocka_unit_test(a_hash_is_the_same_whoever_makes_it),
		cmocka_unit_test(a_body_with_another_bit_has_another_hash),
		cmocka_unit_test(more_zeros_are_another_body),
		cmocka_unit_test(the_same_blocks_in_another_order_are_another_body),
		cmocka_unit_test(another_secret_makes_another_hash),
		cmocka_unit_test(either_half_of_the_key_counts),
		cmocka_unit_test(what_is_too_long_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
