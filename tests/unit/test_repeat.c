#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/repeat.h"

#define INTERVAL 60

static char where[64];
static struct spool *spool;
static int dir = -1;

/* Six reports, of which 1 and 4 have sections. */
static int
setup(void **unused)
{
	(void)unused;
	char error[ERROR_SIZE] = "";
	strcpy(where, "/tmp/fleetstate-repeat-XXXXXX");
	assert_non_null(mkdtemp(where));
	dir = open(where, O_RDONLY | O_DIRECTORY);
	spool = spool_open(dir, "spool", 7, 1024 * 1024, error);
	assert_non_null(spool);
	for (uint64_t seq = 1; seq <= 6; seq++) {
		uint8_t byte = (uint8_t)seq;
		unsigned flags = seq % 3 == 1 ? SPOOL_SECTIONS : 0;
		assert_int_equal(spool_append(spool, seq, flags, (struct slice){&byte, 1}), 0);
	}
	return 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	char command[128];
	spool_close(spool);
	close(dir);
	snprintf(command, sizeof command, "rm -rf %s", where);
	return system(command);
}

static void
assert_pass(struct repeat *r, uint64_t published, int64_t now, const uint64_t *seqs)
{
	struct spool_record record;
	repeat_begin(r, spool, INTERVAL, published, now);
	for (; *seqs != 0; seqs++) {
		assert_true(repeat_next(r, spool, &record));
		assert_int_equal(record.seq, *seqs);
	}
	assert_false(repeat_next(r, spool, &record));
}

/* Without receipts each wait is about twice the one before, up to ten intervals: also when what is repeated is all there is. */
static void
ever_more_rarely(void **unused)
{
	(void)unused;
	struct repeat r;
	int64_t now = 1000000, wait = 10000, most = 10 * INTERVAL * 1000;
	repeat_init(&r, now);
	assert_true(repeat_due(&r, spool) == INT64_MAX);
	repeat_await(&r, now);
	for (int i = 0; i < 12; i++) {
		int64_t due = repeat_due(&r, spool);
		assert_in_range((uint64_t)(due - now), (uint64_t)(wait - wait / 4), (uint64_t)(wait + wait / 4));
		assert_pass(&r, 6, due - 1, (const uint64_t[]){0});
		assert_pass(&r, 6, due, (const uint64_t[]){1, 4, 0});
		now = due;
		wait = wait * 2 < most ? wait * 2 : most;
	}
	/* A new one does not wait as long. */
	repeat_await(&r, now);
	assert_true(repeat_due(&r, spool) - now <= 12500);
	/* Where nobody knows what became of them. */
	repeat_connected(&r, now);
	assert_pass(&r, 3, now, (const uint64_t[]){1, 0});
}

static void
until_a_receipt(void **unused)
{
	(void)unused;
	struct repeat r;
	struct account account = {.iat = 1, .up_to = 3};
	repeat_init(&r, 0);
	repeat_await(&r, 0);
	assert_int_equal(spool_settle(spool, &account), 0);
	repeat_heard(&r, spool);
	assert_pass(&r, 6, 20000, (const uint64_t[]){4, 0});
	account.up_to = 4;
	assert_int_equal(spool_settle(spool, &account), 0);
	repeat_heard(&r, spool);
	assert_true(repeat_due(&r, spool) == INT64_MAX);
}

/* What the collector misses comes at once, and not again within five seconds; what was not published yet is not a repeat. */
static void
missing(void **unused)
{
	(void)unused;
	struct repeat r;
	struct account account = {.iat = 1, .up_to = 6, .missing = {{2, 3}, {5, 5}}, .missing_len = 2};
	repeat_init(&r, 0);
	assert_int_equal(spool_settle(spool, &account), 0);
	assert_pass(&r, 4, 0, (const uint64_t[]){2, 3, 0});
	assert_int_equal(repeat_due(&r, spool), 5000);
	assert_pass(&r, 6, 4999, (const uint64_t[]){0});
	assert_pass(&r, 6, 5000, (const uint64_t[]){2, 3, 5, 0});
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ever_more_rarely, setup, teardown),
		cmocka_unit_test_setup_teardown(until_a_receipt, setup, teardown),
		cmocka_unit_test_setup_teardown(missing, setup, teardown),
	};
	return cmocka_run_group_tests_name("repeat", tests, NULL, NULL);
}
