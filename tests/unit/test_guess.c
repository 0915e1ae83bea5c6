/* Where a request comes from, and how long who guesses has to wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "collector/guess.h"
#include "collector/source.h"

static void
the_nth_from_the_end(void **state)
{
	static const struct {
		const char *forwarded;
		int64_t proxies;
		const char *source;
	} rows[] = {
		{"198.51.100.7", 0, "192.0.2.1"}, /* nobody vouches for it */
		{NULL, 1, "192.0.2.1"},
		{"", 1, "192.0.2.1"},
		{"198.51.100.7", 1, "198.51.100.7"},
		{"1.1.1.1, 198.51.100.7", 1, "198.51.100.7"},
		{"1.1.1.1,2.2.2.2 ,\t198.51.100.7 ", 2, "2.2.2.2"},
		{"1.1.1.1,2.2.2.2,198.51.100.7", 3, "1.1.1.1"},
		{"1.1.1.1,2.2.2.2,198.51.100.7", 4, "192.0.2.1"},
		{"198.51.100.7:443", 1, "198.51.100.7"},
		{"2001:DB8::7", 1, "2001:db8::7"},
		{"[2001:db8::7]:443", 1, "2001:db8::7"},
		{"[2001:db8::7]", 1, "2001:db8::7"},
		{"::ffff:198.51.100.7", 1, "198.51.100.7"},
		{"[2001:db8::7", 1, "192.0.2.1"},
		{"unknown", 1, "192.0.2.1"},
		{"198.51.100", 1, "192.0.2.1"},
		{"198.51.100.7,", 1, "192.0.2.1"},
		{",", 2, "192.0.2.1"},
		{":", 1, "192.0.2.1"},
		{"[", 1, "192.0.2.1"},
		{"[]", 1, "192.0.2.1"},
		{"\"198.51.100.7\"", 1, "192.0.2.1"},
		{"2001:db8::7%eth0", 1, "192.0.2.1"},
		{"1111111111111111111111111111111111111111111111111111111111", 1, "192.0.2.1"},
	};
	struct sockaddr_in peer = {.sin_family = AF_INET};
	char source[SOURCE_SIZE];

	(void)state;
	inet_pton(AF_INET, "192.0.2.1", &peer.sin_addr);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct forwarded forwarded = {.len = 0};

		if (rows[i].forwarded != NULL)
			forwarded_add(&forwarded, rows[i].forwarded);
		source_find((const struct sockaddr *)&peer, &forwarded, rows[i].proxies, source);
		if (strcmp(source, rows[i].source) != 0)
			fail_msg("%s: %s", rows[i].forwarded, source);
	}
	source_find(NULL, &(struct forwarded){.len = 0}, 0, source);
	assert_string_equal(source, "-");
}

/* Proxies may add lines; of what is too much the end counts. */
static void
forwarded_lines(void **state)
{
	struct forwarded forwarded = {.len = 0};
	char line[2 * FORWARDED_SIZE], source[SOURCE_SIZE];

	(void)state;
	forwarded_add(&forwarded, "");
	assert_int_equal(forwarded.len, 0);
	forwarded_add(&forwarded, "1.1.1.1");
	forwarded_add(&forwarded, "2.2.2.2, 3.3.3.3");
	assert_string_equal(forwarded.text, "1.1.1.1,2.2.2.2, 3.3.3.3");
	source_find(NULL, &forwarded, 2, source);
	assert_string_equal(source, "2.2.2.2");
	memset(line, 'x', sizeof line);
	strcpy(line + sizeof line - sizeof ",4.4.4.4", ",4.4.4.4");
	forwarded_add(&forwarded, line);
	assert_true(forwarded.len < FORWARDED_SIZE && strlen(forwarded.text) == forwarded.len);
	source_find(NULL, &forwarded, 1, source);
	assert_string_equal(source, "4.4.4.4");
	forwarded_add(&forwarded, "5.5.5.5");
	assert_string_equal(forwarded.text, "5.5.5.5");
	for (size_t len = FORWARDED_SIZE - 12; len < FORWARDED_SIZE + 4; len++) {
		forwarded.len = 0;
		line[0] = 'x';
		forwarded_add(&forwarded, line + sizeof line - len);
		forwarded_add(&forwarded, "6.6.6.6");
		assert_true(strlen(forwarded.text) == forwarded.len);
	}
}

static void
a_network_is_one(void **state)
{
	static const char *const rows[] = {
		"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "192.0.2.1", "192.0.2.1", "-", "-"};
	char network[SOURCE_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i += 2) {
		source_network(rows[i], network);
		assert_string_equal(network, rows[i + 1]);
	}
}

static void
it_takes_longer_each_time(void **state)
{
	const struct guess_limits limits = {3, 4, 60};
	struct guesses *g = guesses_new(&limits);
	static const int64_t delays[] = {0, 0, 0, 250, 500, 1000, 2000, 4000, 4000};
	char hint[16];

	(void)state;
	assert_non_null(g);
	for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
		snprintf(hint, sizeof hint, "fst_%zu", i);
		assert_int_equal(guesses_failed(g, "2001:db8::1", hint, 1000), delays[i]);
	}
	assert_int_equal(guesses_failed(g, "2001:db8::ffff:1", "fst_x", 1000), 4000); /* the same network */
	assert_int_equal(guesses_failed(g, "2001:db8:0:1::1", "fst_y", 1000), 0);
	/* From everywhere at one token. */
	for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
		snprintf(hint, sizeof hint, "192.0.2.%zu", i);
		assert_int_equal(guesses_failed(g, hint, "fst_abcdef", 2000), delays[i]);
	}
	/* Forgotten, though not too early. */
	assert_int_equal(guesses_failed(g, "2001:db8::1", "fst_z1", 61000), 4000);
	assert_int_equal(guesses_failed(g, "2001:db8::1", "fst_z2", 61000 + 60001), 0);
	guesses_free(g);
}

static void
strangers_do_not_push_out_who_guesses_on(void **state)
{
	const struct guess_limits limits = {1, 4, 3600};
	struct guesses *g = guesses_new(&limits);
	int64_t delay = 0;
	char source[32];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		snprintf(source, sizeof source, "10.%d.%d.%d", i >> 16 & 255, i >> 8 & 255, i & 255);
		assert_int_equal(guesses_failed(g, source, source, i), 0);
		if (i % 100 == 0)
			delay = guesses_failed(g, "192.0.2.1", source, i);
	}
	assert_int_equal(delay, 4000);
	guesses_free(g);
}

static void
it_can_be_off(void **state)
{
	const struct guess_limits limits = {0, 4, 60};
	struct guesses *g = guesses_new(&limits);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(guesses_failed(g, "192.0.2.1", "fst_", 1), 0);
	guesses_free(g);
	guesses_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_nth_from_the_end),
		cmocka_unit_test(forwarded_lines),
		cmocka_unit_test(a_network_is_one),
		cmocka_unit_test(it_takes_longer_each_time),
		cmocka_unit_test(strangers_do_not_push_out_who_guesses_on),
		cmocka_unit_test(it_can_be_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
