#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "collector/quota.h"

#define NOW INT64_C(1000000)

static const uint8_t hash[DIGEST_SIZE] = {1, 2, 3};

static struct quotas *
of(struct quota_limits limits)
{
	struct quotas *q = quotas_new(10);

	assert_non_null(q);
	quotas_learn(q, hash, 7, &limits, NOW);
	return q;
}

/* How many go through at once, and what the first one beyond hears. */
static int
ask_until_refused(struct quotas *q, int64_t token, int64_t now, enum quota *what, int64_t *wait)
{
	int n = 0;

	while (n < 10000 && (*what = quotas_ask(q, token, now, wait)) == QUOTA_NONE)
		n++;
	return n;
}

static void
test_requests(void **state)
{
	struct quotas *q = of((struct quota_limits){.requests = 5});
	enum quota what;
	int64_t wait;

	(void)state;
	assert_int_equal(ask_until_refused(q, 7, NOW, &what, &wait), 50);
	assert_int_equal(what, QUOTA_REQUESTS);
	assert_int_equal(wait, 200);
	/* What is refused costs nothing. */
	assert_int_equal(quotas_ask(q, 7, NOW + 199, &wait), QUOTA_REQUESTS);
	assert_int_equal(wait, 1);
	assert_int_equal(ask_until_refused(q, 7, NOW + 1000, &what, &wait), 5);
	/* However long nobody asked, and when the clock stands or goes back. */
	assert_int_equal(ask_until_refused(q, 7, NOW + INT64_C(100000) * 86400000, &what, &wait), 50);
	assert_int_equal(ask_until_refused(q, 7, NOW, &what, &wait), 0);
	quotas_free(q);
}

static void
test_bytes(void **state)
{
	struct quotas *q = of((struct quota_limits){.bytes = 1000});
	int64_t wait;

	(void)state;
	assert_int_equal(quotas_spend(q, 7, 10000, NOW), 0);
	assert_int_equal(quotas_ask(q, 7, NOW, &wait), QUOTA_NONE);
	assert_int_equal(quotas_spend(q, 7, 3000, NOW), 3000);
	assert_int_equal(quotas_ask(q, 7, NOW, &wait), QUOTA_BYTES);
	assert_int_equal(wait, 3000);
	assert_int_equal(quotas_ask(q, 7, NOW + 2999, &wait), QUOTA_BYTES);
	assert_int_equal(wait, 1);
	assert_int_equal(quotas_ask(q, 7, NOW + 3000, &wait), QUOTA_NONE);
	/* The most that there may be, of an answer of the largest size. */
	quotas_learn(q, hash, 7, &(struct quota_limits){.bytes = INT64_C(1) << 36}, NOW);
	assert_int_equal(quotas_spend(q, 7, 1 << 24, NOW + INT64_C(100) * 86400000), 0);
	quotas_free(q);
}

static void
test_exports(void **state)
{
	struct quotas *q = of((struct quota_limits){.exports = 2});
	int64_t wait;

	(void)state;
	assert_true(quotas_enter(q, 7));
	assert_true(quotas_enter(q, 7));
	assert_false(quotas_enter(q, 7));
	quotas_leave(q, 7);
	assert_true(quotas_enter(q, 7));
	assert_int_equal(quotas_ask(q, 7, NOW, &wait), QUOTA_NONE);
	quotas_free(q);
}

static void
test_who(void **state)
{
	struct quotas *q = of((struct quota_limits){.requests = 1});
	const uint8_t session[DIGEST_SIZE] = {9}, other[DIGEST_SIZE] = {1, 2, 4};
	enum quota what;
	int64_t wait;

	(void)state;
	assert_int_equal(quotas_find(q, hash, NOW + 59999), 7);
	assert_int_equal(quotas_find(q, hash, NOW + 60000), 0);
	assert_int_equal(quotas_find(q, session, NOW), 0);
	assert_int_equal(quotas_find(q, other, NOW), 0);
	/* A session counts for its token; another token does not. */
	quotas_learn(q, session, 7, &(struct quota_limits){.requests = 1}, NOW);
	quotas_learn(q, other, 8, &(struct quota_limits){.requests = 1}, NOW);
	assert_int_equal(ask_until_refused(q, 7, NOW, &what, &wait), 10);
	assert_int_equal(quotas_find(q, session, NOW), 7);
	assert_int_equal(ask_until_refused(q, 8, NOW, &what, &wait), 10);
	/* Nothing known, no limit: the database refuses who is nobody. */
	assert_int_equal(quotas_ask(q, 9, NOW, &wait), QUOTA_NONE);
	assert_true(quotas_enter(q, 9));
	quotas_leave(q, 9);
	quotas_free(q);
}

/* However many there are, who has an export open keeps its account. */
static void
test_many(void **state)
{
	struct quotas *q = of((struct quota_limits){.exports = 1});

	(void)state;
	assert_true(quotas_enter(q, 7));
	for (int64_t token = 8; token < 100000; token++) {
		uint8_t one[DIGEST_SIZE] = {0};

		memcpy(one, &token, sizeof token);
		quotas_learn(q, one, token, &(struct quota_limits){.exports = 1}, NOW + token);
		assert_int_equal(quotas_find(q, one, NOW + token), token);
	}
	assert_false(quotas_enter(q, 7));
	quotas_free(q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests), cmocka_unit_test(test_bytes), cmocka_unit_test(test_exports),
		cmocka_unit_test(test_who),      cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
