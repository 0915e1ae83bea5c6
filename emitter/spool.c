#include "emitter/shelf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema/log.h"

#define BUFFER_KEPT (16 * 1024) /* of the reading buffer between calls */

/* ---- the index ---- */

int
shelf_add_entry(struct segment *g, const struct spool_record *record, size_t offset)
{
	if (g->len == g->room) {
		size_t room = g->room * 2 + 16;
		struct entry *more = reallocarray(g->entries, room, sizeof *more);
		if (more == NULL)
			return -1;
		g->entries = more;
		g->room = room;
	}
	g->entries[g->len++] = (struct entry){(uint32_t)(record->seq - g->first), (uint32_t)offset,
					      (uint32_t)record->len, record->flags};
	return 0;
}

static struct segment *
spool_add_segment(struct spool *s, uint64_t first)
{
	if (s->len == s->room) {
		size_t room = s->room * 2 + 8;
		struct segment *more = reallocarray(s->segments, room, sizeof *more);
		if (more == NULL)
			return NULL;
		s->segments = more;
		s->room = room;
	}
	s->segments[s->len] = (struct segment){.first = first, .size = SEGMENT_HEAD};
	return &s->segments[s->len++];
}

struct segment *
shelf_newest(struct spool *s)
{
	return s->len > 0 ? &s->segments[s->len - 1] : NULL;
}

/* Finds the first entry above `after`; *segment and *index say where. */
static bool
index_after(const struct spool *s, uint64_t after, size_t *segment, size_t *index)
{
	size_t low = 0, high = s->len; /* the last segment that may hold after + 1 */
	while (low + 1 < high) {
		size_t middle = low + (high - low) / 2;
		if (s->segments[middle].first <= after + 1)
			low = middle;
		else
			high = middle;
	}
	for (size_t i = low; i < s->len; i++) {
		const struct segment *g = &s->segments[i];
		size_t from = 0, to = g->len;
		while (from < to) {
			size_t middle = from + (to - from) / 2;
			if (g->first + g->entries[middle].seq <= after)
				from = middle + 1;
			else
				to = middle;
		}
		if (from < g->len) {
			*segment = i;
			*index = from;
			return true;
		}
	}
	return false;
}

bool
spool_next_any(struct spool *s, uint64_t after, struct spool_record *out)
{
	size_t i, j;
	if (!index_after(s, after, &i, &j))
		return false;
	const struct entry *e = &s->segments[i].entries[j];
	*out = (struct spool_record){s->segments[i].first + e->seq, e->flags, e->len};
	return true;
}

bool
shelf_is_pending(const struct spool *s, uint64_t seq)
{
	return !account_covers(&s->book.account, seq) && !book_dropped(&s->book, seq);
}

bool
spool_next(struct spool *s, uint64_t after, struct spool_record *out)
{
	const struct account *a = &s->book.account;
	if (a->missing_len == 0 && after < a->up_to)
		after = a->up_to;
	while (spool_next_any(s, after, out)) {
		if (shelf_is_pending(s, out->seq))
			return true;
		after = out->seq;
	}
	return false;
}

uint64_t
shelf_newest_seq(const struct spool *s)
{
	for (size_t i = s->len; i-- > 0;)
		if (s->segments[i].len > 0)
			return s->segments[i].first + s->segments[i].entries[s->segments[i].len - 1].seq;
	return 0;
}

/* ---- opening ---- */

/* Indexes the sound records, passing over damaged bytes. Returns where the last sound one ends. */
static size_t
scan(struct spool *s, struct segment *g, struct slice file)
{
	size_t end = SEGMENT_HEAD;
	uint64_t newest = shelf_newest_seq(s);
	bool sound = true;
	for (size_t at = SEGMENT_HEAD; at < file.len;) {
		struct spool_record record;
		bool fits = record_parse(file, at, &record) && record.seq > newest && record.seq >= g->first &&
			    record.seq - g->first <= UINT32_MAX;
		if (!fits || shelf_add_entry(g, &record, at) != 0) {
			s->damaged += sound;
			sound = false;
			at++;
			continue;
		}
		sound = true;
		newest = record.seq;
		at += RECORD_HEAD + record.len;
		end = at;
	}
	return end;
}

/* A torn tail of the last segment never counted as durable, so nothing of it was published. */
static int
open_segment(struct spool *s, uint64_t first, bool last, char *error)
{
	char name[NAME_SIZE];
	segment_name(first, name);
	uint8_t *bytes = NULL;
	size_t len = 0;
	if (segment_load(s->dir, first, &bytes, &len) != 0) {
		snprintf(error, ERROR_SIZE, "can't read the spool's segment %s: %s", name, strerror(errno));
		return -1;
	}
	int rc = -1;
	uint64_t epoch = 0;
	bool headed = segment_parse((struct slice){bytes, len}, &epoch);
	if (headed && epoch != s->epoch) {
		snprintf(error, ERROR_SIZE, "the spool holds reports of another epoch (%s): move them away", name);
		goto out;
	}
	struct segment *g = spool_add_segment(s, first);
	if (g == NULL) {
		snprintf(error, ERROR_SIZE, "out of memory");
		goto out;
	}
	size_t end = len > SEGMENT_HEAD ? scan(s, g, (struct slice){bytes, len}) : len;
	g->size = (uint32_t)len;
	/* Only the last can be torn by a crash. Where the head itself is unsound nothing is appended. */
	if (!headed)
		g->sealed = true;
	else if (last && end < len) {
		if (segment_truncate(s->dir, first, end) == 0)
			g->size = (uint32_t)end;
		else
			g->sealed = true;
	}
	s->bytes += g->size;
	/* What a crash of ours left may lie in memory alone. */
	rc = last ? segment_sync(s->dir, first) : 0;
	if (rc != 0)
		snprintf(error, ERROR_SIZE, "can't sync the spool's segment %s: %s", name, strerror(errno));
out:
	free(bytes);
	return rc;
}

static int
open_segments(struct spool *s, char *error)
{
	uint64_t *names = NULL;
	size_t len = 0;
	int rc = segment_list(s->dir, &names, &len);
	if (rc != 0)
		snprintf(error, ERROR_SIZE, "can't list the spool: %s", strerror(errno));
	for (size_t i = 0; rc == 0 && i < len; i++)
		rc = open_segment(s, names[i], i + 1 == len, error);
	free(names);
	return rc;
}

struct spool *
spool_open(int at, const char *name, uint64_t epoch, size_t limit, char *error)
{
	struct spool *s = calloc(1, sizeof *s);
	if (s == NULL) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return NULL;
	}
	s->active = -1;
	s->epoch = epoch;
	s->limit = limit;
	/* Room is made by the segment: a small spool has small ones, so that not much goes at a time. */
	s->segment_size = limit / 16 < SEGMENT_SIZE ? limit / 16 : SEGMENT_SIZE;
	s->dir = durable_directory(at, name, error);
	if (s->dir >= 0)
		durable_sweep(s->dir);
	if (s->dir < 0 || book_load(&s->book, s->dir, error) != 0 || open_segments(s, error) != 0) {
		spool_close(s);
		return NULL;
	}
	s->durable = shelf_newest_seq(s);
	return s;
}

void
spool_close(struct spool *s)
{
	if (s == NULL)
		return;
	if (spool_sync(s) != 0)
		log_warning("the spool is not synced: what was not published may be lost error=\"%s\"",
			    strerror(errno));
	shelf_close_active(s);
	if (s->dir >= 0)
		close(s->dir);
	for (size_t i = 0; i < s->len; i++)
		free(s->segments[i].entries);
	free(s->segments);
	book_free(&s->book);
	free(s->buffer);
	free(s);
}

/* ---- appending and reading ---- */

void
shelf_close_active(struct spool *s)
{
	if (s->active >= 0)
		close(s->active);
	s->active = -1;
}

static int
create_segment(struct spool *s, uint64_t first)
{
	char name[NAME_SIZE];
	segment_name(first, name);
	int fd = openat(s->dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	uint8_t head[SEGMENT_HEAD];
	segment_head(s->epoch, head);
	if (write_all_at(fd, (struct slice){head, sizeof head}, 0) != 0 || fsync(fd) != 0 || fsync(s->dir) != 0 ||
	    spool_add_segment(s, first) == NULL) {
		int why = errno;
		close(fd);
		(void)unlinkat(s->dir, name, 0);
		errno = why;
		return -1;
	}
	s->bytes += SEGMENT_HEAD;
	s->active = fd;
	return 0;
}

/* Has the newest segment open for appending, beginning another when it is full or was sealed. */
static int
open_active(struct spool *s, uint64_t seq, size_t need)
{
	struct segment *g = shelf_newest(s);
	bool fresh = g == NULL || g->sealed || seq - g->first > UINT32_MAX ||
		     (g->len > 0 && g->size + need > s->segment_size);
	if (!fresh && s->active >= 0)
		return 0;
	if (fresh && spool_sync(s) != 0)
		return -1;
	shelf_close_active(s);
	if (fresh)
		return create_segment(s, seq);
	char name[NAME_SIZE];
	segment_name(g->first, name);
	s->active = openat(s->dir, name, O_RDWR | O_CLOEXEC);
	return s->active >= 0 ? 0 : -1;
}

static int
append_record(struct spool *s, const struct spool_record *record, struct slice message)
{
	struct segment *g = shelf_newest(s);
	uint8_t head[RECORD_HEAD];
	record_head(head, record->seq, record->flags, message);
	off_t at = (off_t)g->size;
	if (write_all_at(s->active, (struct slice){head, sizeof head}, at) == 0 &&
	    write_all_at(s->active, message, at + RECORD_HEAD) == 0 && (s->grouped || fdatasync(s->active) == 0) &&
	    shelf_add_entry(g, record, g->size) == 0) {
		s->unsynced = s->grouped;
		s->durable = s->grouped ? s->durable : record->seq;
		g->size += (uint32_t)(RECORD_HEAD + message.len);
		s->bytes += RECORD_HEAD + message.len;
		return 0;
	}
	/* What reached the disk is unknown, so nothing is put behind it. */
	int why = errno;
	if (ftruncate(s->active, at) != 0 || fdatasync(s->active) != 0) {
		g->sealed = true;
		if (s->unsynced)
			shelf_close_active(s); /* so that the group's records are written anew, as spool_sync says */
	}
	errno = why;
	return -1;
}

static int
append(struct spool *s, const struct spool_record *record, struct slice message)
{
	if (open_active(s, record->seq, RECORD_HEAD + message.len) != 0)
		return -1;
	return append_record(s, record, message);
}

int
spool_append(struct spool *s, uint64_t seq, unsigned flags, struct slice message)
{
	struct spool_record record = {seq, flags, message.len};
	if (message.len > LIMIT_MESSAGE) {
		errno = EFBIG;
		return -1;
	}
	if (shelf_make_room(s, RECORD_HEAD + message.len + SEGMENT_HEAD) != 0)
		return -1;
	int rc = append(s, &record, message);
	for (size_t files = s->len; rc != 0 && shelf_disk_is_full(errno) && files > 0; files--) {
		int why = errno;
		if (shelf_free_disk(s) != 0) {
			errno = why;
			return -1;
		}
		rc = append(s, &record, message);
	}
	return rc;
}

void
spool_group(struct spool *s)
{
	s->grouped = true;
}

/* After a sync that failed the kernel may hold for written what is not, so that to ask again proves nothing: then all of it is written anew. */
int
spool_sync(struct spool *s)
{
	struct segment *g = shelf_newest(s);
	if (!s->unsynced)
		return 0;
	if (g != NULL && (s->active < 0 || fdatasync(s->active) != 0) && shelf_rewrite(s, g) != 0)
		return -1;
	s->unsynced = false;
	s->durable = shelf_newest_seq(s);
	return 0;
}

uint64_t
spool_durable(const struct spool *s)
{
	return s->durable;
}

static int
read_entry(const struct spool *s, const struct segment *g, const struct entry *e, uint8_t *out)
{
	char name[NAME_SIZE];
	segment_name(g->first, name);
	int fd = openat(s->dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int rc = read_all_at(fd, out, RECORD_HEAD + e->len, (off_t)e->offset);
	close(fd);
	return rc;
}

struct slice
spool_read(struct spool *s, uint64_t seq)
{
	struct slice none = {NULL, 0};
	size_t i, j;
	if (seq == 0 || !index_after(s, seq - 1, &i, &j))
		return none;
	struct segment *g = &s->segments[i];
	struct entry *e = &g->entries[j];
	if (g->first + e->seq != seq)
		return none;
	size_t len = RECORD_HEAD + e->len;
	bool fits = len <= s->buffer_size && (s->buffer_size <= BUFFER_KEPT || len > BUFFER_KEPT);
	if (!fits) {
		free(s->buffer);
		s->buffer_size = len > BUFFER_KEPT ? len : BUFFER_KEPT;
		s->buffer = malloc(s->buffer_size);
	}
	if (s->buffer == NULL) {
		s->buffer_size = 0;
		return none;
	}
	struct spool_record record;
	if (read_entry(s, g, e, s->buffer) == 0 && record_parse((struct slice){s->buffer, len}, 0, &record) &&
	    record.seq == seq)
		return (struct slice){s->buffer + RECORD_HEAD, record.len};
	/* Unreadable: out of the index, so that it is asked for no more, and declared when the collector misses it. */
	s->damaged++;
	memmove(e, e + 1, (g->len - j - 1) * sizeof *e);
	g->len--;
	return none;
}

struct link
spool_newest(struct spool *s, unsigned flags)
{
	for (size_t i = s->len; i-- > 0;)
		for (size_t j = s->segments[i].len; j-- > 0;) {
			const struct entry *e = &s->segments[i].entries[j];
			if ((e->flags & flags) != flags)
				continue;
			struct link link = {s->segments[i].first + e->seq, {0}};
			struct slice message = spool_read(s, link.seq);
			if (message.at == NULL)
				continue;
			sha256(message, link.digest);
			return link;
		}
	return (struct link){0, {0}};
}

/* ---- the account ---- */

const struct account *
spool_account(const struct spool *s)
{
	return &s->book.account;
}

/* In the same second the order is not known, but nothing goes back. */
bool
spool_is_later(const struct spool *s, uint64_t iat, uint64_t up_to)
{
	const struct book *b = &s->book;
	return iat > b->newest_iat || up_to > b->highest || (iat == b->newest_iat && up_to == b->highest);
}

const uint8_t *
spool_leaf(const struct spool *s)
{
	return s->book.leaf;
}

void
spool_set_leaf(struct spool *s, const uint8_t digest[DIGEST_SIZE])
{
	memcpy(s->book.leaf, digest, DIGEST_SIZE);
}

int
spool_note_ahead(struct spool *s, uint64_t seq)
{
	if (s->book.ahead != 0)
		return 0;
	s->book.ahead = seq;
	return book_save(&s->book);
}

uint64_t
spool_ahead(const struct spool *s)
{
	return s->book.ahead;
}

/* Of a range that the collector misses, what is not here any more. */
static int
drop_absent(struct spool *s, struct seq_range range, uint64_t newest)
{
	if (range.last > newest)
		range.last = newest;
	for (uint64_t from = range.first; from <= range.last;) {
		struct spool_record record = {0};
		bool here = spool_next_any(s, from - 1, &record) && record.seq <= range.last;
		uint64_t end = here ? record.seq - 1 : range.last;
		if (end >= from && book_drop(&s->book, (struct seq_range){from, end}, DROP_OVERWRITTEN) != 0)
			return -1;
		from = here ? record.seq + 1 : end + 1;
	}
	return 0;
}

int
spool_settle(struct spool *s, const struct account *account)
{
	uint64_t newest = shelf_newest_seq(s);
	book_settle(&s->book, account);
	for (size_t i = 0; i < account->missing_len; i++)
		if (drop_absent(s, account->missing[i], newest) != 0)
			return -1;
	return book_save(&s->book);
}

int
spool_drop(struct spool *s, struct seq_range range, enum drop_cause cause)
{
	for (struct spool_record r = {range.first - 1, 0, 0}; spool_next_any(s, r.seq, &r) && r.seq <= range.last;)
		book_undeclare(&s->book, r.seq);
	return book_drop(&s->book, range, cause) == 0 ? book_save(&s->book) : -1;
}

void
spool_declare(struct spool *s, struct report *report)
{
	book_declare(&s->book, report);
}

void
spool_declared(struct spool *s, const struct report *report)
{
	book_declared(&s->book, report);
}

bool
spool_has_drops(const struct spool *s)
{
	return book_undeclared(&s->book);
}

bool
spool_is_dropped(const struct spool *s, uint64_t seq)
{
	return book_dropped(&s->book, seq);
}

void
spool_stats(const struct spool *s, struct spool_stats *out)
{
	*out = (struct spool_stats){.bytes = s->bytes, .dropped = s->dropped, .damaged = s->damaged};
	for (size_t i = 0; i < s->len; i++) {
		out->records += s->segments[i].len;
		for (size_t j = 0; j < s->segments[i].len; j++)
			out->pending += shelf_is_pending(s, s->segments[i].first + s->segments[i].entries[j].seq);
	}
}
