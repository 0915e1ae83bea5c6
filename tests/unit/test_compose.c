#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emitter/compose.h"

#define INTERVAL 2
#define HOUR_MS INT64_C(3600000)

/* Makes the next report of a device whose state never changes. Whether it wants a receipt. */
static bool
report(struct composer *c, struct facts *facts, int64_t now)
{
	struct inventory inventory = {0};
	struct composed composed;
	assert_int_equal(compose(c, facts, &inventory, INTERVAL, now, 1800000000, &composed), 0);
	bool receipt = composed.report.receipt;
	composer_told(c, &composed, false, now);
	composed_free(&composed);
	return receipt;
}

static void
hear(struct composer *c, int64_t now)
{
	struct receipt receipt = {0};
	assert_false(composer_heard(c, &receipt, now));
}

static void
test_wants_a_receipt_until_the_first(void **unused)
{
	(void)unused;
	struct facts *facts = facts_new();
	struct composer c = {0};
	for (int64_t now = 0; now < 5; now++)
		assert_true(report(&c, facts, now));
	hear(&c, 5);
	assert_false(report(&c, facts, 6));
	facts_free(facts);
}

static void
test_wants_one_hourly_and_after_as_many_reports_as_may_be_sent_again(void **unused)
{
	(void)unused;
	struct facts *facts = facts_new();
	struct composer c = {0};
	(void)report(&c, facts, 0);
	hear(&c, 0);
	for (int64_t n = 1; n < 64; n++)
		assert_false(report(&c, facts, n * 1000));
	assert_true(report(&c, facts, 64000));
	/* Nobody answers: it is not each report that asks. */
	for (int64_t n = 1; n < 64; n++)
		assert_false(report(&c, facts, 64000 + n));
	assert_true(report(&c, facts, 65000));
	hear(&c, 66000);
	assert_false(report(&c, facts, 66000 + HOUR_MS - 1));
	assert_true(report(&c, facts, 66000 + HOUR_MS));
	facts_free(facts);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wants_a_receipt_until_the_first),
		cmocka_unit_test(test_wants_one_hourly_and_after_as_many_reports_as_may_be_sent_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
