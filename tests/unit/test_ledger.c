/*
 * The ledger against a model that is obviously right: one mark for each sequence number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/ledger.h"

#define SEQS 160
#define CASES 20000
#define EPOCH UINT64_C(0x1122334455667788)

enum mark { NEVER, HERE, MISSING, DROPPED };

struct model {
	uint64_t hi;
	enum mark marks[SEQS + 1];
};

static uint64_t seed, state;

/* xorshift64: the same cases for the same seed everywhere. */
static uint64_t
random_below(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

static void
model_add(struct model *m, uint64_t seq)
{
	for (uint64_t s = m->hi + 1; s < seq; s++)
		m->marks[s] = MISSING;
	m->marks[seq] = HERE;
	if (seq > m->hi)
		m->hi = seq;
}

static int64_t
model_drop(struct model *m, struct seq_range r)
{
	int64_t n = 0;

	for (uint64_t s = r.first; s <= r.last && s <= m->hi; s++)
		if (m->marks[s] == MISSING) {
			m->marks[s] = DROPPED;
			n++;
		}
	return n;
}

static enum ledger_place
model_place(const struct model *m, uint64_t seq)
{
	if (seq > m->hi)
		return PLACE_ABOVE;
	return m->marks[seq] == MISSING ? PLACE_MISSING : PLACE_TAKEN;
}

/* Every number has its place, and the ranges are just the model's runs, none touching the next. */
static void
assert_same(const struct ledger *l, const struct model *m)
{
	size_t runs = 0;

	assert_int_equal(l->hi, m->hi);
	for (uint64_t s = 1; s <= SEQS; s++) {
		assert_int_equal(ledger_place(l, EPOCH, s), model_place(m, s));
		if (m->marks[s] == MISSING && (s == 1 || m->marks[s - 1] != MISSING)) {
			assert_true(runs < l->missing_len);
			assert_int_equal(l->missing[runs++].first, s);
		}
		if (m->marks[s] == MISSING && (s == SEQS || m->marks[s + 1] != MISSING))
			assert_int_equal(l->missing[runs - 1].last, s);
	}
	assert_int_equal(l->missing_len, runs);
	if (runs == 0)
		assert_null(l->missing);
}

static void
random_step(struct ledger *l, struct model *m, uint64_t reach)
{
	uint64_t a = 1 + random_below(SEQS), b = a + random_below(reach);
	struct seq_range r = {a, b < SEQS ? b : SEQS};

	if (random_below(4) == 0) {
		assert_int_equal(ledger_drop(l, r), model_drop(m, r));
		return;
	}
	/* Mostly near the top, as devices are; else anywhere, and often a repetition. */
	if (random_below(3) > 0 && m->hi + reach <= SEQS)
		a = m->hi + 1 + random_below(reach);
	if (ledger_place(l, EPOCH, a) == PLACE_TAKEN)
		return;
	assert_int_equal(ledger_add(l, a), 0);
	model_add(m, a);
}

static void
test_random_steps(void **unused)
{
	(void)unused;
	for (int c = 0; c < CASES; c++) {
		struct ledger l = {0};
		struct model m = {0};
		uint64_t reach = 1 + random_below(12), steps = 1 + random_below(60);

		ledger_start_epoch(&l, EPOCH);
		for (uint64_t i = 0; i < steps; i++) {
			random_step(&l, &m, reach);
			if (i + 5 > steps)
				assert_same(&l, &m);
		}
		ledger_free(&l);
	}
}

/* All of 1..n in any order, some twice: nothing is missing at the end, and nothing counts twice. */
static void
test_any_order_completes(void **unused)
{
	uint64_t order[SEQS];

	(void)unused;
	for (int c = 0; c < 2000; c++) {
		struct ledger l = {0};
		size_t n = 1 + random_below(SEQS), taken = 0;

		ledger_start_epoch(&l, EPOCH);
		for (size_t i = 0; i < n; i++)
			order[i] = i + 1;
		for (size_t i = n - 1; i > 0; i--) {
			size_t j = random_below(i + 1);
			uint64_t swap = order[i];

			order[i] = order[j];
			order[j] = swap;
		}
		for (size_t i = 0; i < n; i++) {
			uint64_t again = order[random_below(i + 1)];

			assert_int_not_equal(ledger_place(&l, EPOCH, order[i]), PLACE_TAKEN);
			assert_int_equal(ledger_add(&l, order[i]), 0);
			taken++;
			assert_int_equal(ledger_place(&l, EPOCH, again), PLACE_TAKEN);
		}
		assert_int_equal(taken, n);
		assert_int_equal(l.hi, n);
		assert_int_equal(l.missing_len, 0);
		assert_null(l.missing);
	}
}

static void
test_place_needs_the_epoch(void **unused)
{
	struct ledger l = {0};

	(void)unused;
	assert_int_equal(ledger_place(&l, 0, 1), PLACE_EPOCH);
	assert_int_equal(ledger_place(&l, EPOCH, 1), PLACE_EPOCH);
	ledger_start_epoch(&l, EPOCH);
	assert_int_equal(ledger_add(&l, 5), 0);
	assert_int_equal(ledger_place(&l, EPOCH + 1, 5), PLACE_EPOCH);
	assert_int_equal(ledger_place(&l, EPOCH + 1, 6), PLACE_EPOCH);
	assert_int_equal(ledger_place(&l, EPOCH, 5), PLACE_TAKEN);
	assert_int_equal(ledger_place(&l, EPOCH, 4), PLACE_MISSING);
	assert_int_equal(ledger_place(&l, EPOCH, 6), PLACE_ABOVE);
	ledger_free(&l);
}

static void
test_new_epoch_forgets_the_old_one(void **unused)
{
	struct ledger l = {.facts_known = true};

	(void)unused;
	ledger_start_epoch(&l, EPOCH);
	assert_int_equal(ledger_add(&l, 9), 0);
	l.has_head = l.has_sections_head = true;
	ledger_start_epoch(&l, 7);
	assert_int_equal(l.hi, 0);
	assert_int_equal(l.missing_len, 0);
	assert_false(l.has_head);
	assert_false(l.has_sections_head);
	assert_true(l.facts_known);
	assert_int_equal(ledger_place(&l, 7, 1), PLACE_ABOVE);
	assert_int_equal(ledger_place(&l, EPOCH, 9), PLACE_EPOCH);
	ledger_free(&l);
}

static void
test_drop_counts_only_what_was_missing(void **unused)
{
	struct ledger l = {0};

	(void)unused;
	ledger_start_epoch(&l, EPOCH);
	assert_int_equal(ledger_drop(&l, (struct seq_range){1, 100}), 0);
	assert_int_equal(ledger_add(&l, 10), 0);
	assert_int_equal(ledger_drop(&l, (struct seq_range){8, 2}), 0);
	assert_int_equal(ledger_drop(&l, (struct seq_range){10, 10}), 0);
	assert_int_equal(ledger_drop(&l, (struct seq_range){11, 5000}), 0);
	assert_int_equal(ledger_drop(&l, (struct seq_range){8, 5000}), 2);
	assert_int_equal(ledger_drop(&l, (struct seq_range){8, 5000}), 0);
	assert_int_equal(ledger_drop(&l, (struct seq_range){3, 3}), 1);
	assert_int_equal(l.missing_len, 2);
	assert_int_equal(ledger_drop(&l, (struct seq_range){0, UINT64_MAX}), 6);
	assert_int_equal(l.missing_len, 0);
	assert_int_equal(ledger_place(&l, EPOCH, 11), PLACE_ABOVE);
	ledger_free(&l);
}

static void
test_the_largest_numbers(void **unused)
{
	struct ledger l = {0};
	uint64_t top = (uint64_t)LIMIT_SEQ;

	(void)unused;
	ledger_start_epoch(&l, UINT64_MAX);
	assert_int_equal(ledger_add(&l, top), 0);
	assert_int_equal(ledger_place(&l, UINT64_MAX, top), PLACE_TAKEN);
	assert_int_equal(ledger_place(&l, UINT64_MAX, top - 1), PLACE_MISSING);
	assert_int_equal(ledger_drop(&l, (struct seq_range){1, top - 1}), top - 1);
	assert_int_equal(l.missing_len, 0);
	ledger_free(&l);
}

/* 2, 4, 6 ... leave one number missing each. */
static void
fill_with_gaps(struct ledger *l)
{
	ledger_start_epoch(l, EPOCH);
	for (uint64_t i = 1; i < LEDGER_GAPS; i++)
		assert_int_equal(ledger_add(l, 2 * i), 0);
	assert_int_equal(ledger_add(l, 2 * LEDGER_GAPS + 8), 0);
	assert_int_equal(l->missing_len, LEDGER_GAPS);
}

static void
assert_untouched(const struct ledger *l, const struct ledger *before)
{
	assert_int_equal(l->hi, before->hi);
	assert_int_equal(l->missing_len, before->missing_len);
	assert_memory_equal(l->missing, before->missing, before->missing_len * sizeof *l->missing);
}

static void
test_bound_refuses_and_changes_nothing(void **unused)
{
	struct ledger l = {0}, before;
	uint64_t wide = 2 * LEDGER_GAPS;

	(void)unused;
	fill_with_gaps(&l);
	assert_int_equal(ledger_copy(&before, &l), 0);
	assert_int_equal(ledger_add(&l, l.hi + 2), -1);
	assert_untouched(&l, &before);
	assert_int_equal(ledger_add(&l, wide + 3), -1);
	assert_untouched(&l, &before);
	assert_int_equal(ledger_drop(&l, (struct seq_range){wide + 2, wide + 3}), -1);
	assert_untouched(&l, &before);
	ledger_free(&before);
	ledger_free(&l);
}

static void
test_bound_lets_gaps_be_filled(void **unused)
{
	struct ledger l = {0};
	uint64_t hi;

	(void)unused;
	fill_with_gaps(&l);
	hi = l.hi;
	assert_int_equal(ledger_add(&l, hi + 1), 0);
	assert_int_equal(ledger_add(&l, hi - 1), 0);
	assert_int_equal(ledger_add(&l, hi + 3), -1);
	assert_int_equal(ledger_add(&l, 1), 0);
	assert_int_equal(ledger_add(&l, hi + 3), 0);
	assert_int_equal(ledger_drop(&l, (struct seq_range){1, hi}), LEDGER_GAPS + 6);
	assert_int_equal(l.missing_len, 1);
	ledger_free(&l);
}

static void
test_take_is_all_or_nothing(void **unused)
{
	struct ledger_drops drops = {0};
	static struct report report;
	struct ledger l = {0}, before;
	uint64_t wide = 2 * LEDGER_GAPS;

	(void)unused;
	fill_with_gaps(&l);
	assert_int_equal(ledger_copy(&before, &l), 0);
	report.seq = l.hi + 1;
	report.dropped[0].range = (struct seq_range){1, 1};
	report.dropped[1].range = (struct seq_range){wide, wide};
	report.dropped[2].range = (struct seq_range){wide + 3, wide + 3};
	report.dropped_len = 3;
	/* One range goes, two more are made. */
	assert_int_equal(ledger_take(&l, &report, &drops), -1);
	assert_untouched(&l, &before);
	assert_int_equal(drops.len, 0);
	report.dropped_len = 2;
	assert_int_equal(ledger_take(&l, &report, &drops), 0);
	assert_int_equal(l.hi, before.hi + 1);
	assert_int_equal(l.missing_len, LEDGER_GAPS);
	assert_int_equal(ledger_place(&l, EPOCH, wide), PLACE_TAKEN);
	report.seq = l.hi + 2;
	report.dropped_len = 0;
	assert_int_equal(ledger_take(&l, &report, &drops), -1);
	assert_int_equal(drops.len, 2);
	free(drops.at);
	ledger_free(&before);
	ledger_free(&l);
}

/* What a start declares: the numbers between the last one used and its own first. */
static void
test_declared_skip_leaves_no_gap(void **unused)
{
	struct ledger_drops drops = {0};
	static struct report report;
	struct ledger l = {0};

	(void)unused;
	ledger_start_epoch(&l, EPOCH);
	assert_int_equal(ledger_add(&l, 1), 0);
	report.seq = 100;
	report.dropped[0] = (struct dropped){{2, 99}, DROP_SKIPPED};
	report.dropped_len = 1;
	assert_int_equal(ledger_take(&l, &report, &drops), 0);
	assert_int_equal(l.missing_len, 0);
	assert_null(l.missing);
	assert_int_equal(ledger_place(&l, EPOCH, 50), PLACE_TAKEN);
	assert_int_equal(drops.len, 1);
	free(drops.at);
	ledger_free(&l);
}

static void
assert_drop(const struct ledger_drop *drop, uint64_t first, uint64_t last, enum drop_cause cause, uint64_t by)
{
	assert_int_equal(drop->range.first, first);
	assert_int_equal(drop->range.last, last);
	assert_int_equal(drop->cause, cause);
	assert_int_equal(drop->declared_by, by);
}

/* A device may declare what it likes: dropped is only what was missing, and only once. */
static void
test_what_is_here_was_not_dropped(void **unused)
{
	static struct report report;
	struct ledger_drops drops = {0};
	struct ledger l = {0};

	(void)unused;
	ledger_start_epoch(&l, EPOCH);
	for (uint64_t seq = 1; seq <= 9; seq += 4)
		assert_int_equal(ledger_add(&l, seq), 0);
	report.seq = 13;
	report.dropped[0] = (struct dropped){{1, 6}, DROP_OVERWRITTEN};
	report.dropped[1] = (struct dropped){{3, 7}, DROP_SKIPPED};
	report.dropped[2] = (struct dropped){{12, 12}, DROP_SKIPPED};
	report.dropped[3] = (struct dropped){{9, 9}, DROP_SKIPPED};
	report.dropped_len = 4;
	assert_int_equal(ledger_take(&l, &report, &drops), 0);
	assert_int_equal(drops.len, 4);
	assert_drop(&drops.at[0], 2, 4, DROP_OVERWRITTEN, 13);
	assert_drop(&drops.at[1], 6, 6, DROP_OVERWRITTEN, 13);
	assert_drop(&drops.at[2], 7, 7, DROP_SKIPPED, 13);
	assert_drop(&drops.at[3], 12, 12, DROP_SKIPPED, 13);
	report.seq = 14;
	assert_int_equal(ledger_take(&l, &report, &drops), 0);
	assert_int_equal(drops.len, 4);
	free(drops.at);
	ledger_free(&l);
}

static void
test_copies_are_apart(void **unused)
{
	struct ledger l = {0}, copy;

	(void)unused;
	ledger_start_epoch(&l, EPOCH);
	assert_int_equal(ledger_add(&l, 10), 0);
	assert_int_equal(ledger_copy(&copy, &l), 0);
	assert_int_equal(ledger_add(&copy, 5), 0);
	assert_int_equal(ledger_place(&l, EPOCH, 5), PLACE_MISSING);
	assert_int_equal(ledger_place(&copy, EPOCH, 5), PLACE_TAKEN);
	ledger_free(&copy);
	ledger_free(&copy);
	ledger_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_steps),
		cmocka_unit_test(test_any_order_completes),
		cmocka_unit_test(test_place_needs_the_epoch),
		cmocka_unit_test(test_new_epoch_forgets_the_old_one),
		cmocka_unit_test(test_drop_counts_only_what_was_missing),
		cmocka_unit_test(test_the_largest_numbers),
		cmocka_unit_test(test_bound_refuses_and_changes_nothing),
		cmocka_unit_test(test_bound_lets_gaps_be_filled),
		cmocka_unit_test(test_take_is_all_or_nothing),
		cmocka_unit_test(test_declared_skip_leaves_no_gap),
		cmocka_unit_test(test_what_is_here_was_not_dropped),
		cmocka_unit_test(test_copies_are_apart),
	};
	const char *given = getenv("FLEETSTATE_TEST_SEED");

	seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2 + 1;
	state = seed | 1;
	printf("# FLEETSTATE_TEST_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
