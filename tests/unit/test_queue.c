/*
 * The queue's bounds in time, and what it owns when it ends. Run under the address sanitizer it also shows that nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/clock.h"
#include "collector/queue.h"

#define TOPIC "fleetstate/1/0/01000102030405060708090a0b0c0d0e0f/report"
#define BATCH 8

static const struct slice topic = {(const uint8_t *)TOPIC, sizeof TOPIC - 1};
static const struct slice payload = {(const uint8_t *)"report", 6};

static void
set_clock(int64_t apart_s)
{
	clock_compare(clock_now_us() + apart_s * 1000000, clock_steady_us());
}

static struct message *
pass(struct queue *q, bool detached, bool news)
{
	struct message *run[BATCH], *m;
	size_t n;

	assert_int_equal(queue_put(q, 0, topic, &payload, 1, 0), 1);
	assert_true(queue_take(q, 0, 0, run, BATCH, &n));
	assert_int_equal(n, 1);
	m = run[0];
	m->reason = REASON_OK;
	m->report.state = news ? payload : (struct slice){NULL, 0};
	if (detached) {
		m = queue_detach(q, m);
		assert_non_null(m);
		queue_return(q, m);
	} else {
		queue_finish(q, run, 1);
	}
	return m;
}

static void
test_a_batch_is_not_waited_for_for_ever(void **unused)
{
	struct queue *q = queue_new(BATCH, 4096, 1);
	struct message *batch[BATCH];
	size_t n = 1;

	(void)unused;
	set_clock(0);
	assert_true(queue_batch(q, 10, 0, 0, batch, BATCH, &n));
	assert_int_equal(n, 0);
	queue_release(q);
	assert_int_equal(queue_oldest(q), INT64_MAX);
	pass(q, false, false);
	assert_in_range(queue_oldest(q), clock_now_us() - 5000000, clock_now_us());
	pass(q, true, false);
	while (queue_batch(q, 10, 0, 0, batch, BATCH, &n) && n == 0)
		queue_release(q);
	assert_true(n > 0);
	queue_release(q);
	queue_close(q);
	while (queue_batch(q, 10, 0, 0, batch, BATCH, &n))
		queue_release(q);
	assert_int_equal(n, 0);
	assert_int_equal(queue_of_shard(q, 0), 0);
	queue_free(q);
}

static void
test_what_came_back_is_freed(void **unused)
{
	struct queue *q = queue_new(BATCH, 4096, 1);

	(void)unused;
	set_clock(0);
	pass(q, true, false);
	pass(q, false, false);
	pass(q, true, false);
	queue_free(q);
}

/* Those that came together: as many as find room, the first of them, each by itself from then on. */
static void
test_what_came_together_is_taken_as_far_as_there_is_room(void **unused)
{
	static const struct slice reports[] = {
		{(const uint8_t *)"one", 3}, {(const uint8_t *)"second", 6}, {NULL, 0}, {(const uint8_t *)"4", 1}};
	struct queue *q = queue_new(BATCH, 4096, 1);
	struct message *run[BATCH], *batch[BATCH];
	int64_t before = 0;
	size_t n;

	(void)unused;
	set_clock(0);
	assert_int_equal(queue_put(q, 5, topic, reports, 4, 0), 4);
	assert_int_equal(queue_of_shard(q, 5), 4);
	assert_true(queue_take(q, 0, 0, run, BATCH, &n));
	assert_int_equal(n, 4);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(run[i]->bytes.len, reports[i].len);
		assert_true(run[i]->bytes.at != reports[i].at);
		assert_true(reports[i].len == 0 || memcmp(run[i]->bytes.at, reports[i].at, reports[i].len) == 0);
		assert_true(run[i]->received_us > before);
		before = run[i]->received_us;
	}
	assert_int_equal(queue_put(q, 5, topic, reports, 4, 0), 4);
	assert_int_equal(queue_put(q, 5, topic, reports, 4, 0), 0);
	queue_finish(q, run, n);
	assert_true(queue_batch(q, 0, 0, 0, batch, 3, &n));
	assert_int_equal(n, 3);
	queue_release(q);
	assert_int_equal(queue_put(q, 5, topic, reports, 4, 0), 3);
	queue_free(q);
}

static void
test_nothing_is_taken_by_a_wrong_clock(void **unused)
{
	static const int64_t wrong[] = {-61, 61, -3600, INT64_C(400000000)};
	struct queue *q = queue_new(BATCH, 4096, 1);
	char why[128] = "";

	(void)unused;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		set_clock(wrong[i]);
		assert_int_equal(queue_put(q, 0, topic, &payload, 1, 0), 0);
		assert_false(clock_ready(NULL, why));
		assert_non_null(strstr(why, "of the database's"));
	}
	set_clock(59);
	assert_true(clock_ready(NULL, why));
	assert_int_equal(queue_put(q, 0, topic, &payload, 1, 0), 1);
	set_clock(-59);
	assert_int_equal(queue_put(q, 0, topic, &payload, 1, 0), 1);
	queue_free(q);
}

/* Before anybody compared it. */
static void
test_an_unknown_clock_is_a_wrong_one(void **unused)
{
	char why[128] = "";

	(void)unused;
	assert_false(clock_is_right());
	assert_false(clock_ready(NULL, why));
	assert_string_equal(why, "not compared with the database's yet");
}

static long
elapsed_ms(int64_t since_us)
{
	return (long)((clock_steady_us() - since_us) / 1000);
}

/* A quiet one waits for company, one that says something new does not, wherever it came from; nor does the next when it is gone. */
static void
test_news_does_not_wait_for_a_batch(void **unused)
{
	struct queue *q = queue_new(BATCH, 4096, 1);
	struct message *batch[BATCH];
	int64_t begun = clock_steady_us();
	size_t n;

	(void)unused;
	set_clock(0);
	for (int detached = 0; detached < 2; detached++) {
		pass(q, false, false);
		pass(q, detached == 1, true);
		assert_true(queue_batch(q, 60000, 60000, 1, batch, BATCH, &n));
		assert_int_equal(n, 2);
		queue_release(q);
	}
	assert_true(elapsed_ms(begun) < 60000);
	pass(q, false, false);
	begun = clock_steady_us();
	assert_true(queue_batch(q, 60000, 50, 1, batch, BATCH, &n));
	assert_int_equal(n, 1);
	assert_true(elapsed_ms(begun) >= 50);
	queue_release(q);
	queue_free(q);
}

/* Nor when what it says is refused: nobody gets our transactions small with that. */
static void
test_a_refused_report_is_no_news(void **unused)
{
	struct queue *q = queue_new(BATCH, 4096, 1);
	struct message *run[BATCH], *batch[BATCH];
	int64_t begun;
	size_t n;

	(void)unused;
	set_clock(0);
	assert_int_equal(queue_put(q, 0, topic, &payload, 1, 0), 1);
	assert_true(queue_take(q, 0, 0, run, BATCH, &n));
	run[0]->report.state = payload;
	run[0]->reason = REASON_BAD_SIGNATURE;
	queue_finish(q, run, n);
	begun = clock_steady_us();
	assert_true(queue_batch(q, 60000, 50, 1, batch, BATCH, &n));
	assert_true(elapsed_ms(begun) >= 50);
	queue_release(q);
	queue_free(q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_unknown_clock_is_a_wrong_one),
		cmocka_unit_test(test_a_batch_is_not_waited_for_for_ever),
		cmocka_unit_test(test_what_came_back_is_freed),
		cmocka_unit_test(test_news_does_not_wait_for_a_batch),
		cmocka_unit_test(test_a_refused_report_is_no_news),
		cmocka_unit_test(test_what_came_together_is_taken_as_far_as_there_is_room),
		cmocka_unit_test(test_nothing_is_taken_by_a_wrong_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
