#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "collector/budget.h"

static struct ueid
device(unsigned n)
{
	struct ueid ueid = {{1}};

	memcpy(ueid.bytes + 1, &n, sizeof n);
	return ueid;
}

static bool
allows(struct budget *b, unsigned n, int64_t now)
{
	struct ueid ueid = device(n);
	char topic[128];

	topic_print_report(&ueid, topic, sizeof topic);
	return budget_allows(b, (struct slice){(const uint8_t *)topic, strlen(topic)}, now);
}

static void
refuse(struct budget *b, unsigned n, int times, int64_t now)
{
	struct ueid ueid = device(n);

	for (int i = 0; i < times; i++)
		budget_refused(b, &ueid, now);
}

static void
test_of_one_device_so_many_are_refused_and_no_more(void **state)
{
	struct budget *b = budget_new(5);

	(void)state;
	refuse(b, 7, 5 * BUDGET_BURST - 1, 1000);
	assert_true(allows(b, 7, 1000));
	refuse(b, 7, 1, 1000);
	assert_false(allows(b, 7, 1000));
	assert_true(allows(b, 8, 1000));
	budget_free(b);
}

static void
test_it_is_read_again_when_half_of_it_is_back(void **state)
{
	struct budget *b = budget_new(5);

	(void)state;
	refuse(b, 7, 1000, 1000);
	assert_false(allows(b, 7, 1000 + BUDGET_BURST * 500 - 1));
	assert_true(allows(b, 7, 1000 + BUDGET_BURST * 500));
	refuse(b, 7, 5 * BUDGET_BURST / 2, 1000 + BUDGET_BURST * 500);
	assert_false(allows(b, 7, 1000 + BUDGET_BURST * 500));
	budget_free(b);
}

static void
test_refusals_now_and_then_are_never_too_many(void **state)
{
	struct budget *b = budget_new(5);

	(void)state;
	for (int64_t second = 0; second < 1000; second++) {
		refuse(b, 7, 5, second * 1000);
		assert_true(allows(b, 7, second * 1000));
	}
	budget_free(b);
}

static void
test_who_shares_a_place_neither_frees_nor_harms(void **state)
{
	struct budget *b = budget_new(5);

	(void)state;
	refuse(b, 7, 1000, 1000);
	refuse(b, 7 + 1024, 1000, 1000);
	assert_false(allows(b, 7, 1000));
	assert_true(allows(b, 7 + 1024, 1000));
	/* When the first is heard again the place is free for the other. */
	assert_true(allows(b, 7, 1000 + BUDGET_BURST * 1000));
	refuse(b, 7 + 1024, 1000, 1000 + BUDGET_BURST * 1000);
	assert_false(allows(b, 7 + 1024, 1000 + BUDGET_BURST * 1000));
	assert_true(allows(b, 7, 1000 + BUDGET_BURST * 1000));
	budget_free(b);
}

static void
test_what_is_no_topic_is_for_others_to_refuse(void **state)
{
	struct budget *b = budget_new(5);

	(void)state;
	refuse(b, 7, 1000, 1000);
	assert_true(budget_allows(b, (struct slice){(const uint8_t *)"elsewhere", 9}, 1000));
	budget_free(b);
}

static void
test_without_a_rate_any_number_is_read(void **state)
{
	struct budget *b = budget_new(0);

	(void)state;
	refuse(b, 7, 100000, 1000);
	assert_true(allows(b, 7, 1000));
	budget_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_one_device_so_many_are_refused_and_no_more),
		cmocka_unit_test(test_it_is_read_again_when_half_of_it_is_back),
		cmocka_unit_test(test_refusals_now_and_then_are_never_too_many),
		cmocka_unit_test(test_who_shares_a_place_neither_frees_nor_harms),
		cmocka_unit_test(test_what_is_no_topic_is_for_others_to_refuse),
		cmocka_unit_test(test_without_a_rate_any_number_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
