#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emitter/publish.h"

#define DEVICES 10000

/* Of devices that all lost their broker at once, about as many come back in each tenth of the time as in any other, and none after it: not all at once,
   nor late, nor at the end. A tenth has 1000 +- 30 of them; each bound is more than eight times that away. */
static void
assert_spread(const struct publish_settings *settings, unsigned attempts, int64_t most)
{
	unsigned tenths[10] = {0};
	for (size_t i = 0; i < DEVICES; i++) {
		int64_t wait = publish_wait(settings, attempts);
		assert_in_range(wait, 0, most);
		tenths[wait * 10 / (most + 1)]++;
	}
	for (size_t i = 0; i < 10; i++)
		assert_in_range(tenths[i], 750, 1250);
}

static void
test_the_time_doubles(void **unused)
{
	(void)unused;
	const struct publish_settings settings = {.backoff_min = 1000, .backoff_max = 120000, .interval = 300};
	int64_t most = 1000;
	for (unsigned attempts = 0; attempts < 7; attempts++, most *= 2)
		assert_spread(&settings, attempts, most);
	assert_spread(&settings, 7, 120000);
	assert_spread(&settings, 1000000, 120000);
}

static void
test_no_longer_than_an_interval(void **unused)
{
	(void)unused;
	const struct publish_settings settings = {.backoff_min = 1000, .backoff_max = 120000, .interval = 5};
	assert_spread(&settings, 2, 4000);
	assert_spread(&settings, 3, 5000);
	assert_spread(&settings, 20, 5000);
}

/* Nothing overflows, and a least that is above the most is the most. */
static void
test_the_settings_ends(void **unused)
{
	(void)unused;
	assert_spread(&(const struct publish_settings){.backoff_min = 3600000, .backoff_max = 1000, .interval = 300}, 0,
		      1000);
	assert_spread(
		&(const struct publish_settings){.backoff_min = 1000, .backoff_max = 86400000, .interval = UINT32_MAX},
		UINT32_MAX, 86400000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_time_doubles),
		cmocka_unit_test(test_no_longer_than_an_interval),
		cmocka_unit_test(test_the_settings_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
