/*
 * Who is told of missing reports, when, and who is forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/gaps.h"
#include "schema/topics.h"

#define MAX 8

static struct {
	size_t n;
	struct receipt last;
} told;

static void
tell(void *context, const struct receipt *receipt)
{
	assert_ptr_equal(context, &told);
	told.n++;
	told.last = *receipt;
}

static size_t
tell_at(struct gaps *g, int64_t now)
{
	told.n = 0;
	gaps_tell(g, now, tell, &told);
	return told.n;
}

static struct receipt
account(uint8_t device, size_t missing)
{
	struct receipt r = {.up_to = 9, .missing_len = missing};

	memset(r.ueid.bytes, device, sizeof r.ueid.bytes);
	r.ueid.bytes[0] = 1;
	r.missing[0] = (struct seq_range){5, 5};
	return r;
}

static void
note(struct gaps *g, uint8_t device, size_t missing, int64_t now)
{
	struct receipt r = account(device, missing);

	assert_true(gaps_note(g, &r, now));
}

static void
test_ever_more_rarely(void **unused)
{
	struct gaps *g = gaps_new(MAX);
	size_t times = 0;

	(void)unused;
	note(g, 1, 1, 100);
	assert_int_equal(tell_at(g, 102), 0);
	assert_int_equal(tell_at(g, 103), 1);
	assert_int_equal(told.last.missing[0].first, 5);
	assert_int_equal(tell_at(g, 106), 0);
	assert_int_equal(tell_at(g, 107), 1);
	for (int64_t now = 108; now < 108 + 86400; now++)
		times += tell_at(g, now);
	assert_in_range(times, 24, 32);
	/* What is no longer missing is not told of. */
	note(g, 1, 0, 90000);
	assert_int_equal(tell_at(g, 200000), 0);
	gaps_free(g);
}

static void
test_a_shard_is_forgotten(void **unused)
{
	struct gaps *g = gaps_new(MAX);
	struct receipt gone = account(1, 1);

	(void)unused;
	for (uint8_t i = 1; i <= MAX; i++)
		note(g, i, 1, 0);
	gaps_forget_shard(g, ueid_shard(&gone.ueid));
	assert_true(tell_at(g, 50) < MAX);
	assert_true(told.n > 0);
	for (unsigned shard = 0; shard < SHARDS; shard++)
		gaps_forget_shard(g, shard);
	assert_int_equal(tell_at(g, 1000), 0);
	gaps_free(g);
}

/* Many with an old gap do not keep out one with a new. */
static void
test_the_one_told_goes(void **unused)
{
	struct gaps *g = gaps_new(MAX);
	bool first = false, last = false;

	(void)unused;
	note(g, 1, 1, 0);
	assert_int_equal(tell_at(g, 50), 1);
	for (uint8_t i = 2; i <= MAX + 1; i++)
		note(g, i, 1, 50);
	for (int64_t now = 51; now < 51 + 10 + 1; now++)
		if (tell_at(g, now) > 0) {
			assert_int_equal(told.n, MAX);
			last = true;
		}
	assert_true(last);
	for (int64_t now = 62; now < 1000; now++)
		if (tell_at(g, now) > 0)
			first |= told.last.ueid.bytes[1] == 1;
	assert_false(first);
	gaps_free(g);
}

/* Nobody goes who was not told: who comes then is told at once. So each gap is told of, whatever there is room for. */
static void
test_whoever_goes_was_told(void **unused)
{
	enum { DEVICES = 20 * MAX };
	struct gaps *g = gaps_new(MAX);
	size_t at_once = 0, later = 0;

	(void)unused;
	for (uint8_t i = 1; i <= DEVICES; i++) {
		struct receipt r = account(i, 1);

		if (!gaps_note(g, &r, i / MAX))
			at_once++;
		if (i % MAX == 0)
			later += tell_at(g, i / MAX);
	}
	assert_true(at_once > 0);
	assert_true(later > 0);
	/* Those that are left, each of which was told or will be. */
	for (int64_t now = 21; now < 25; now++)
		later += tell_at(g, now);
	assert_true(at_once + later >= DEVICES);
	/* One that is here already is no newcomer; one without a gap needs no room. */
	note(g, 200, 1, 30);
	note(g, 200, 1, 30);
	note(g, 201, 0, 30);
	gaps_free(g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ever_more_rarely),
		cmocka_unit_test(test_a_shard_is_forgotten),
		cmocka_unit_test(test_the_one_told_goes),
		cmocka_unit_test(test_whoever_goes_was_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
