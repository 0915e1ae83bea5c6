#include "collector/ledger.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The first range that ends at seq or later; missing_len if none does. */
static size_t
range_at(const struct ledger *l, uint64_t seq)
{
	size_t low = 0, high = l->missing_len;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (l->missing[middle].last < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

enum ledger_place
ledger_place(const struct ledger *l, uint64_t epoch, uint64_t seq)
{
	size_t i;

	if (!l->started || l->epoch != epoch)
		return PLACE_EPOCH;
	if (seq > l->hi)
		return PLACE_ABOVE;
	i = range_at(l, seq);
	return i < l->missing_len && l->missing[i].first <= seq ? PLACE_MISSING : PLACE_TAKEN;
}

/* Room for one more range. */
static int
reserve(struct ledger *l)
{
	struct seq_range *grown;
	size_t size;

	if (l->missing_len < l->missing_size)
		return 0;
	if (l->missing_len >= LEDGER_GAPS)
		return -1;
	size = l->missing_size == 0 ? 4 : 2 * l->missing_size;
	grown = realloc(l->missing, size * sizeof *grown);
	if (grown == NULL)
		return -1;
	l->missing = grown;
	l->missing_size = size;
	return 0;
}

static void
remove_ranges(struct ledger *l, size_t from, size_t to)
{
	memmove(l->missing + from, l->missing + to, (l->missing_len - to) * sizeof *l->missing);
	l->missing_len -= to - from;
	if (l->missing_len == 0) {
		/* A healthy device owns no memory here. */
		free(l->missing);
		l->missing = NULL;
		l->missing_size = 0;
	}
}

/* Takes [first, last] out of the middle of range i. */
static int
split_range(struct ledger *l, size_t i, uint64_t first, uint64_t last)
{
	if (reserve(l) < 0)
		return -1;
	memmove(l->missing + i + 1, l->missing + i, (l->missing_len - i) * sizeof *l->missing);
	l->missing_len++;
	l->missing[i].last = first - 1;
	l->missing[i + 1].first = last + 1;
	return 0;
}

int64_t
ledger_drop(struct ledger *l, struct seq_range out)
{
	size_t i = range_at(l, out.first), end;
	uint64_t n = 0;

	if (out.first > out.last || i == l->missing_len)
		return 0;
	if (l->missing[i].first < out.first && l->missing[i].last > out.last) {
		if (split_range(l, i, out.first, out.last) < 0)
			return -1;
		return (int64_t)(out.last - out.first + 1);
	}
	if (l->missing[i].first < out.first) {
		n += l->missing[i].last - out.first + 1;
		l->missing[i].last = out.first - 1;
		i++;
	}
	for (end = i; end < l->missing_len && l->missing[end].last <= out.last; end++)
		n += l->missing[end].last - l->missing[end].first + 1;
	if (end < l->missing_len && l->missing[end].first <= out.last) {
		n += out.last - l->missing[end].first + 1;
		l->missing[end].first = out.last + 1;
	}
	remove_ranges(l, i, end);
	return (int64_t)n;
}

int
ledger_add(struct ledger *l, uint64_t seq)
{
	assert(seq >= 1 && seq <= (uint64_t)LIMIT_SEQ);
	if (seq <= l->hi)
		return ledger_drop(l, (struct seq_range){seq, seq}) < 0 ? -1 : 0;
	if (seq > l->hi + 1) {
		if (reserve(l) < 0)
			return -1;
		l->missing[l->missing_len++] = (struct seq_range){l->hi + 1, seq - 1};
	}
	l->hi = seq;
	return 0;
}

static int
append_drop(struct ledger_drops *drops, struct ledger_drop drop)
{
	if (drops->len == drops->size) {
		size_t size = drops->size == 0 ? 4 : 2 * drops->size;
		struct ledger_drop *grown = realloc(drops->at, size * sizeof *grown);

		if (grown == NULL)
			return -1;
		drops->at = grown;
		drops->size = size;
	}
	drops->at[drops->len++] = drop;
	return 0;
}

/* The missing parts of what is declared: the rest of it is here, or was dropped before. */
static int
note_drops(const struct ledger *l, const struct dropped *declared, uint64_t by, struct ledger_drops *drops)
{
	struct seq_range whole = declared->range;

	for (size_t i = range_at(l, whole.first); i < l->missing_len && l->missing[i].first <= whole.last; i++) {
		struct seq_range part = l->missing[i];

		if (part.first < whole.first)
			part.first = whole.first;
		if (part.last > whole.last)
			part.last = whole.last;
		if (append_drop(drops, (struct ledger_drop){part, declared->cause, by}) < 0)
			return -1;
	}
	return 0;
}

static int
take_each(struct ledger *l, const struct report *report, struct ledger_drops *drops)
{
	if (ledger_add(l, report->seq) < 0)
		return -1;
	for (size_t i = 0; i < report->dropped_len; i++)
		if (note_drops(l, &report->dropped[i], report->seq, drops) < 0 ||
		    ledger_drop(l, report->dropped[i].range) < 0)
			return -1;
	return 0;
}

int
ledger_take(struct ledger *l, const struct report *report, struct ledger_drops *drops)
{
	size_t before = drops->len;
	struct ledger trial;

	if (report->dropped_len == 0)
		return ledger_add(l, report->seq);
	if (ledger_copy(&trial, l) < 0)
		return -1;
	if (take_each(&trial, report, drops) < 0) {
		drops->len = before;
		ledger_free(&trial);
		return -1;
	}
	ledger_free(l);
	*l = trial;
	return 0;
}

void
ledger_start_epoch(struct ledger *l, uint64_t epoch)
{
	ledger_free(l);
	l->started = true;
	l->epoch = epoch;
	l->hi = 0;
	l->has_head = false;
	l->has_sections_head = false;
}

int
ledger_copy(struct ledger *to, const struct ledger *from)
{
	struct seq_range *missing = NULL;

	if (from->missing_len > 0) {
		missing = malloc(from->missing_len * sizeof *missing);
		if (missing == NULL)
			return -1;
		memcpy(missing, from->missing, from->missing_len * sizeof *missing);
	}
	*to = *from;
	to->missing = missing;
	to->missing_size = from->missing_len;
	return 0;
}

void
ledger_free(struct ledger *l)
{
	free(l->missing);
	l->missing = NULL;
	l->missing_len = l->missing_size = 0;
}
