/*
 * Judging a batch: what a device, its key and its ledger are by now decides, whatever verification saw.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/judge.h"

#define MAX 32
#define EPOCH UINT64_C(0x1122334455667788)

static const uint8_t kid[KID_SIZE] = "kidkidki";

static struct {
	struct judge judge;
	struct device device;
	struct device_keys *keys;
	struct message messages[MAX], *list[MAX];
	size_t n;
} t;

static int
set_up(void **unused)
{
	(void)unused;
	memset(&t, 0, sizeof t);
	t.keys = calloc(1, sizeof *t.keys + sizeof t.keys->at[0]);
	if (t.keys == NULL || judge_init(&t.judge, MAX) < 0)
		return -1;
	t.keys->len = 1;
	memcpy(t.keys->at[0].kid, kid, KID_SIZE);
	t.keys->at[0].not_before = 1000;
	t.device.device_id = 7;
	t.device.keys = t.keys;
	t.device.lifecycle = LIFECYCLE_ACTIVE;
	ledger_start_epoch(&t.device.ledger, EPOCH);
	for (uint64_t seq = 1; seq <= 10; seq++)
		if (ledger_add(&t.device.ledger, seq) < 0)
			return -1;
	return 0;
}

static int
tear_down(void **unused)
{
	(void)unused;
	judge_free(&t.judge);
	ledger_free(&t.device.ledger);
	free(t.keys);
	return 0;
}

/* One more in the batch; `variant` tells apart what was signed under one number. */
static struct message *
add(uint64_t epoch, uint64_t seq, uint8_t variant)
{
	struct message *m = &t.messages[t.n];

	t.list[t.n++] = m;
	m->device = &t.device;
	m->cose.kid = (struct slice){kid, KID_SIZE};
	m->report.epoch = epoch;
	m->report.seq = seq;
	m->report.interval = 60;
	m->received_us = (int64_t)t.n;
	memset(m->tbs, variant, DIGEST_SIZE);
	memset(m->sha256, variant, DIGEST_SIZE);
	return m;
}

static void
declare(struct message *m, uint64_t first, uint64_t last, enum drop_cause cause)
{
	m->report.dropped[m->report.dropped_len++] = (struct dropped){{first, last}, cause};
}

static struct docket *
begin(void)
{
	assert_int_equal(judge_begin(&t.judge, t.list, t.n), 0);
	assert_int_equal(t.judge.dockets_n, 1);
	return &t.judge.dockets[0];
}

static void
run(void)
{
	begin();
	assert_int_equal(judge_run(&t.judge), 0);
}

static void
test_a_clock_that_went_back_is_suspect(void **unused)
{
	static const struct {
		int64_t last, iat;
		bool suspect;
	} rows[] = {
		{100000, 100000, false},
		{100000, 100000 - 300, false}, /* set by a little */
		{100000, 100000 - 301, true},
		{100000, 0, true},
		{100000 + 300, 0, true},
		{100000 + 301, 100000 - 301, false}, /* it was ahead, and is right again */
		{LIMIT_IAT, 100000, false},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct message *m = add(EPOCH, 11, 1);

		m->received_us = INT64_C(100000) * 1000000;
		m->report.iat = (uint64_t)rows[i].iat;
		t.device.ledger.last_iat = rows[i].last;
		run();
		assert_int_equal(m->verdict, LEDGER_NEW);
		assert_int_equal((m->flags & REPORT_CLOCK_SUSPECT) != 0, rows[i].suspect);
		t.n = 0;
		memset(t.messages, 0, sizeof t.messages);
	}
}

static void
test_standing_is_judged_again(void **unused)
{
	static const struct {
		enum lifecycle lifecycle;
		enum reason reason;
	} gone[] = {{LIFECYCLE_RETIRED, REASON_DEVICE_RETIRED},
		    {LIFECYCLE_REVOKED, REASON_DEVICE_REVOKED},
		    {LIFECYCLE_DELETED, REASON_DEVICE_DELETED},
		    {LIFECYCLE_TRANSFERRED, REASON_DEVICE_RETIRED}};
	struct message *m = add(EPOCH, 11, 1);

	(void)unused;
	for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
		t.device.lifecycle = gone[i].lifecycle;
		run();
		assert_int_equal(m->reason, gone[i].reason);
	}
	t.device.lifecycle = LIFECYCLE_ACTIVE;
	t.keys->at[0].status = KEY_REVOKED;
	run();
	assert_int_equal(m->reason, REASON_KEY_REVOKED);
	t.keys->at[0].status = KEY_ACTIVE;
	m->cose.kid = (struct slice){(const uint8_t *)"otherkid", KID_SIZE};
	run();
	assert_int_equal(m->reason, REASON_KEY_REVOKED);
	/* It may have come back, too. */
	m->cose.kid = (struct slice){kid, KID_SIZE};
	run();
	assert_int_equal(m->reason, REASON_OK);
	assert_int_equal(m->verdict, LEDGER_NEW);
}

/* The hot row stands at 10 of EPOCH. */
static void
test_a_key_that_has_a_successor(void **unused)
{
	static const struct {
		uint64_t epoch, seq, superseded_epoch, superseded_seq;
		enum reason reason;
	} cases[] = {
		{EPOCH, 11, EPOCH, 12, REASON_OK},
		{EPOCH, 11, EPOCH, 11, REASON_KEY_RETIRED},
		{EPOCH, 12, EPOCH, 11, REASON_KEY_RETIRED},
		{EPOCH, 11, 0, 0, REASON_KEY_RETIRED},
		{EPOCH, 11, EPOCH + 1, 1, REASON_KEY_RETIRED}, /* of an epoch that was left: only what it lacks */
		{EPOCH, 10, EPOCH + 1, 1, REASON_OK},
		{EPOCH + 2, 1, EPOCH + 1, 1, REASON_KEY_RETIRED},
	};
	struct message *m = add(EPOCH, 11, 1);

	(void)unused;
	t.keys->at[0].status = KEY_RETIRED;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		m->report.epoch = cases[i].epoch;
		m->report.seq = cases[i].seq;
		t.keys->at[0].superseded_epoch = cases[i].superseded_epoch;
		t.keys->at[0].superseded_seq = cases[i].superseded_seq;
		run();
		assert_int_equal(m->reason, cases[i].reason);
	}
}

static void
test_a_leap_is_refused(void **unused)
{
	struct message *far = add(EPOCH, 10 + JUDGE_LEAP_MAX + 1, 1), *farthest = add(EPOCH, (uint64_t)LIMIT_SEQ, 2),
		       *next = add(EPOCH, 11, 3), *reach = add(EPOCH, 11 + JUDGE_LEAP_MAX, 4);

	(void)unused;
	run();
	assert_int_equal(far->reason, REASON_SEQ_LEAP);
	assert_int_equal(farthest->reason, REASON_SEQ_LEAP);
	assert_int_equal(next->reason, REASON_OK);
	assert_int_equal(reach->reason, REASON_OK);
	assert_int_equal(t.judge.dockets[0].current->ledger.hi, 11 + JUDGE_LEAP_MAX);
}

/* Nobody knows what came before: a database may have been begun anew. */
static void
test_an_epoch_begins_anywhere(void **unused)
{
	struct message *m = add(EPOCH + 1, UINT64_C(1) << 40, 1);

	(void)unused;
	begin()->reprovision = true;
	assert_int_equal(judge_run(&t.judge), 0);
	assert_int_equal(m->reason, REASON_OK);
}

static void
test_what_was_said_skipped_is_a_fork(void **unused)
{
	struct message *declares = add(EPOCH, 15, 1), *clone = add(EPOCH, 12, 2), *again = add(EPOCH, 12, 2),
		       *other = add(EPOCH, 12, 3), *stored = add(EPOCH, 5, 4);

	(void)unused;
	declare(declares, 11, 14, DROP_SKIPPED);
	run();
	assert_int_equal(declares->verdict, LEDGER_NEW);
	/* The database, which knows nothing of them yet, is asked for those without a twin. */
	assert_int_equal(t.judge.asked_n, 3);
	assert_ptr_equal(t.judge.asked[0], clone);
	judge_settle(&t.judge, clone, TAKEN_GONE);
	judge_settle(&t.judge, other, TAKEN_GONE);
	judge_settle(&t.judge, stored, TAKEN_GONE);
	assert_int_equal(clone->verdict, LEDGER_FORK);
	assert_int_equal(again->verdict, LEDGER_DUPLICATE);
	assert_int_equal(other->verdict, LEDGER_FORK);
	assert_int_equal(stored->verdict, LEDGER_DUPLICATE);
	assert_true(t.judge.dockets[0].fork);
	assert_int_equal(t.judge.dockets[0].stored, 3);
}

static void
test_what_was_said_lost_is_stored(void **unused)
{
	struct message *found = add(EPOCH, 3, 1), *other = add(EPOCH, 3, 2), *clone = add(EPOCH, 4, 3);

	(void)unused;
	run();
	assert_int_equal(t.judge.asked_n, 3);
	judge_settle(&t.judge, found, TAKEN_OVERWRITTEN);
	assert_int_equal(found->verdict, LEDGER_LATE);
	assert_true(found->flags & REPORT_LATE);
	assert_false(t.judge.dockets[0].fork);
	judge_settle(&t.judge, other, TAKEN_OVERWRITTEN);
	assert_int_equal(other->verdict, LEDGER_FORK);
	judge_settle(&t.judge, clone, TAKEN_SKIPPED);
	assert_int_equal(clone->verdict, LEDGER_FORK);
	assert_int_equal(t.judge.dockets[0].current->late, 1);
	assert_int_equal(t.judge.dockets[0].current->forks, 2);
}

static void
test_unvouched_epochs_are_few(void **unused)
{
	struct docket *d;

	(void)unused;
	for (uint64_t i = 1; i <= 4; i++)
		add(EPOCH + i, 1, (uint8_t)i);
	add(EPOCH + 1, 2, 9);
	add(EPOCH, 11, 10);
	d = begin();
	d->vouched_until = 1000;
	d->unvouched = JUDGE_EPOCHS_MAX - 2;
	assert_int_equal(judge_run(&t.judge), 0);
	for (size_t i = 0; i < t.n; i++)
		assert_int_equal(t.messages[i].reason, i == 2 || i == 3 ? REASON_EPOCH_FULL : REASON_OK);
	assert_int_equal(t.messages[4].verdict, LEDGER_SECOND_EPOCH);
	/* One that the operator vouches for does not count. */
	d = begin();
	d->unvouched = JUDGE_EPOCHS_MAX;
	d->vouched_until = 1000;
	d->reprovision = true;
	assert_int_equal(judge_run(&t.judge), 0);
	assert_int_equal(t.messages[0].reason, REASON_OK);
	assert_int_equal(t.messages[1].reason, REASON_EPOCH_FULL);
}

/* A batch is judged again when its transaction fails: what one attempt refused or counted is gone with it. */
static void
test_an_attempt_leaves_nothing_behind(void **unused)
{
	struct ledger *l = &t.device.ledger;
	struct message *m;

	(void)unused;
	for (uint64_t i = 1; i <= LEDGER_GAPS; i++)
		assert_int_equal(ledger_add(l, 10 + 4 * i), 0);
	l->has_head = true;
	m = add(EPOCH, l->hi + 1, 1);
	m->report.has_prev = true;
	m->report.prev[0] = 0xff;
	declare(m, 12, 12, DROP_SKIPPED);
	run();
	assert_int_equal(m->reason, REASON_GAPS_FULL);
	assert_int_equal(m->flags & REPORT_CHAIN_BREAK, 0);
	assert_int_equal(t.judge.dockets[0].current->chain_breaks, 0);
	assert_int_equal(t.judge.dockets[0].current->drops.len, 0);
	assert_int_equal(ledger_drop(l, (struct seq_range){15, 17}), 3);
	for (int again = 0; again < 2; again++) {
		run();
		assert_int_equal(m->reason, REASON_OK);
		assert_int_equal(m->flags & REPORT_CHAIN_BREAK, REPORT_CHAIN_BREAK);
		assert_int_equal(t.judge.dockets[0].current->chain_breaks, 1);
		assert_int_equal(t.judge.dockets[0].current->drops.len, 1);
	}
}

#define BATCH_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BATCH_TEST(test_a_clock_that_went_back_is_suspect), BATCH_TEST(test_standing_is_judged_again),
		BATCH_TEST(test_a_key_that_has_a_successor),        BATCH_TEST(test_a_leap_is_refused),
		BATCH_TEST(test_an_epoch_begins_anywhere),          BATCH_TEST(test_what_was_said_skipped_is_a_fork),
		BATCH_TEST(test_what_was_said_lost_is_stored),      BATCH_TEST(test_unvouched_epochs_are_few),
		BATCH_TEST(test_an_attempt_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
