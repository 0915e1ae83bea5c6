#include "emitter/account.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BOOK_FILE "account"
#define BOOK_VERSION 2
#define BOOK_MAX (4 * 1024 * 1024) /* 100,000 drops */
#define DROPS_MAX 200000

static void
write_book(const struct book *b, struct cbor_writer *w)
{
	const struct account *a = &b->account;
	cbor_write_array(w, 9);
	cbor_write_uint(w, BOOK_VERSION);
	cbor_write_uint(w, a->iat);
	cbor_write_uint(w, a->up_to);
	cbor_write_uint(w, b->newest_iat);
	cbor_write_uint(w, b->highest);
	cbor_write_bytes(w, (struct slice){b->leaf, DIGEST_SIZE});
	cbor_write_uint(w, b->ahead);
	cbor_write_array(w, 2 * a->missing_len);
	for (size_t i = 0; i < a->missing_len; i++) {
		cbor_write_uint(w, a->missing[i].first);
		cbor_write_uint(w, a->missing[i].last);
	}
	cbor_write_array(w, 4 * b->drops_len);
	for (size_t i = 0; i < b->drops_len; i++) {
		cbor_write_uint(w, b->drops[i].range.first);
		cbor_write_uint(w, b->drops[i].range.last);
		cbor_write_uint(w, (uint64_t)b->drops[i].cause);
		cbor_write_uint(w, b->drops[i].declared);
	}
}

static struct seq_range
read_range(struct cbor_reader *r)
{
	struct seq_range range;
	range.first = cbor_read_uint_max(r, 1, LIMIT_SEQ);
	range.last = cbor_read_uint_max(r, range.first, LIMIT_SEQ);
	return range;
}

static int
read_book(struct book *b, struct slice file)
{
	struct account *a = &b->account;
	struct cbor_reader r;
	cbor_reader_init(&r, file);
	if (cbor_read_array(&r, 9) != 9)
		cbor_fail(&r, REASON_MALFORMED);
	(void)cbor_read_uint_max(&r, BOOK_VERSION, BOOK_VERSION);
	a->iat = cbor_read_uint(&r);
	a->up_to = cbor_read_uint(&r);
	b->newest_iat = cbor_read_uint(&r);
	b->highest = cbor_read_uint(&r);
	cbor_read_bytes_exact(&r, b->leaf, DIGEST_SIZE);
	b->ahead = cbor_read_uint(&r);
	a->missing_len = cbor_read_array(&r, 2 * LIMIT_RECEIPT_MISSING) / 2;
	for (size_t i = 0; i < a->missing_len; i++)
		a->missing[i] = read_range(&r);
	b->drops_size = b->drops_len = cbor_read_array(&r, 4 * DROPS_MAX) / 4;
	b->drops = calloc(b->drops_size + 1, sizeof *b->drops);
	if (b->drops == NULL)
		return -1;
	for (size_t i = 0; i < b->drops_len; i++) {
		b->drops[i].range = read_range(&r);
		b->drops[i].cause = (enum drop_cause)cbor_read_uint_max(&r, DROP_SKIPPED, DROP_OVERWRITTEN);
		b->drops[i].declared = cbor_read_uint(&r);
	}
	return cbor_reader_end(&r) == REASON_OK ? 0 : -1;
}

int
book_load(struct book *b, int dir, char *error)
{
	*b = (struct book){.dir = dir};
	uint8_t *buffer = malloc(BOOK_MAX);
	if (buffer == NULL) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return -1;
	}
	int rc = 0;
	ssize_t len = durable_read(dir, BOOK_FILE, buffer, BOOK_MAX);
	if (len < 0 && errno != ENOENT) {
		snprintf(error, ERROR_SIZE, "can't read the spool's account: %s", strerror(errno));
		rc = -1;
	} else if (len >= 0 && read_book(b, (struct slice){buffer, (size_t)len}) != 0) {
		snprintf(error, ERROR_SIZE,
			 "the spool's account is damaged: remove it, and what was receipted is sent again");
		rc = -1;
	}
	free(buffer);
	return rc;
}

void
book_free(struct book *b)
{
	free(b->drops);
	b->drops = NULL;
	b->drops_len = b->drops_size = 0;
}

int
book_copy(struct book *to, const struct book *from)
{
	struct drop *drops = calloc(from->drops_len + 1, sizeof *drops);
	if (drops == NULL)
		return -1;
	if (from->drops_len > 0)
		memcpy(drops, from->drops, from->drops_len * sizeof *drops);
	*to = *from;
	to->drops = drops;
	to->drops_size = from->drops_len + 1;
	return 0;
}

int
book_save(const struct book *b)
{
	struct cbor_writer w;
	cbor_writer_init(&w, NULL, 0);
	write_book(b, &w);
	size_t len = w.len;
	uint8_t *buffer = malloc(len);
	if (buffer == NULL)
		return -1;
	cbor_writer_init(&w, buffer, len);
	write_book(b, &w);
	int rc = durable_write(b->dir, BOOK_FILE, (struct slice){buffer, len}, true);
	int why = errno;
	free(buffer);
	errno = why;
	return rc;
}

bool
account_misses(const struct account *a, uint64_t seq)
{
	for (size_t i = 0; i < a->missing_len; i++)
		if (seq >= a->missing[i].first && seq <= a->missing[i].last)
			return true;
	return false;
}

bool
account_covers(const struct account *a, uint64_t seq)
{
	return seq <= a->up_to && !account_misses(a, seq);
}

/* The first drop that ends at `seq` or after it. */
static size_t
drop_at(const struct book *b, uint64_t seq)
{
	size_t low = 0, high = b->drops_len;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (b->drops[middle].range.last < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
book_dropped(const struct book *b, uint64_t seq)
{
	size_t i = drop_at(b, seq);
	return i < b->drops_len && b->drops[i].range.first <= seq;
}

static int
insert_drop(struct book *b, size_t at, struct seq_range range, enum drop_cause cause)
{
	struct drop *before = at > 0 ? &b->drops[at - 1] : NULL;
	if (before != NULL && before->range.last + 1 == range.first && before->cause == cause &&
	    before->declared == 0) {
		before->range.last = range.last;
		return 0;
	}
	if (b->drops_len == b->drops_size) {
		size_t size = b->drops_size * 2 + 8;
		struct drop *more = reallocarray(b->drops, size, sizeof *more);
		if (more == NULL)
			return -1;
		b->drops = more;
		b->drops_size = size;
	}
	memmove(&b->drops[at + 1], &b->drops[at], (b->drops_len - at) * sizeof *b->drops);
	b->drops[at] = (struct drop){range, cause, 0};
	b->drops_len++;
	return 0;
}

int
book_drop(struct book *b, struct seq_range range, enum drop_cause cause)
{
	for (uint64_t from = range.first; from <= range.last;) {
		size_t i = drop_at(b, from);
		bool known = i < b->drops_len && b->drops[i].range.first <= from;
		if (known) {
			from = b->drops[i].range.last + 1;
			continue;
		}
		uint64_t last = range.last;
		if (i < b->drops_len && b->drops[i].range.first <= last)
			last = b->drops[i].range.first - 1;
		if (insert_drop(b, i, (struct seq_range){from, last}, cause) != 0)
			return -1;
		from = last + 1;
	}
	return 0;
}

void
book_undeclare(struct book *b, uint64_t seq)
{
	for (size_t i = 0; i < b->drops_len; i++)
		if (b->drops[i].declared == seq)
			b->drops[i].declared = 0;
}

void
book_settle(struct book *b, const struct account *account)
{
	b->account = *account;
	b->newest_iat = account->iat > b->newest_iat ? account->iat : b->newest_iat;
	b->highest = account->up_to > b->highest ? account->up_to : b->highest;
	size_t kept = 0;
	for (size_t i = 0; i < b->drops_len; i++) {
		uint64_t declared = b->drops[i].declared;
		if (declared == 0 || !account_covers(account, declared))
			b->drops[kept++] = b->drops[i];
	}
	b->drops_len = kept;
}

void
book_declare(const struct book *b, struct report *report)
{
	report->dropped_len = 0;
	for (size_t i = 0; i < b->drops_len && report->dropped_len < LIMIT_DROPPED; i++)
		if (b->drops[i].declared == 0)
			report->dropped[report->dropped_len++] = (struct dropped){b->drops[i].range, b->drops[i].cause};
}

/* A drop that grew since it was copied keeps its undeclared part. */
void
book_declared(struct book *b, const struct report *report)
{
	for (size_t i = 0; i < report->dropped_len; i++) {
		const struct seq_range *range = &report->dropped[i].range;
		size_t at = drop_at(b, range->first);
		if (at < b->drops_len && b->drops[at].range.first == range->first &&
		    b->drops[at].range.last == range->last)
			b->drops[at].declared = report->seq;
	}
}

bool
book_undeclared(const struct book *b)
{
	for (size_t i = 0; i < b->drops_len; i++)
		if (b->drops[i].declared == 0)
			return true;
	return false;
}
