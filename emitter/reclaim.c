#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emitter/shelf.h"
#include "schema/log.h"

/* Whether a record may go, in the order in which they go. The newest always stays: the next report refers to it. */
static bool
is_receipted(const struct spool *s, uint64_t seq, unsigned flags)
{
	(void)flags;
	return !shelf_is_pending(s, seq);
}

static bool
is_quiet(const struct spool *s, uint64_t seq, unsigned flags)
{
	return is_receipted(s, seq, flags) || (flags & (SPOOL_SECTIONS | SPOOL_DECLARES)) == 0;
}

static bool
is_any(const struct spool *s, uint64_t seq, unsigned flags)
{
	(void)s;
	(void)seq;
	(void)flags;
	return true;
}

typedef bool may_go(const struct spool *, uint64_t seq, unsigned flags);

/* What is given up without a receipt is declared; that is durable before the record is gone. */
static int
drop_entries(struct spool *s, const struct segment *g, may_go *goes, uint64_t newest, size_t *dropped)
{
	*dropped = 0;
	for (size_t i = 0; i < g->len; i++) {
		uint64_t seq = g->first + g->entries[i].seq;
		if (seq == newest || !goes(s, seq, g->entries[i].flags) || !shelf_is_pending(s, seq))
			continue;
		if (book_drop(&s->book, (struct seq_range){seq, seq}, DROP_OVERWRITTEN) != 0)
			return -1;
		book_undeclare(&s->book, seq);
		++*dropped;
	}
	return *dropped > 0 ? book_save(&s->book) : 0;
}

/* Copies the records that stay into a new file of the same name. `kept` has room for all of the segment's entries. */
static int
rewrite_segment(struct spool *s, struct segment *g, may_go *goes, uint64_t newest, struct segment *kept)
{
	char name[NAME_SIZE];
	segment_name(g->first, name);
	uint8_t *old = NULL, *new = NULL;
	size_t len = 0, at = SEGMENT_HEAD;
	int rc = -1;
	if (segment_load(s->dir, g->first, &old, &len) != 0)
		return -1;
	new = malloc(len + SEGMENT_HEAD);
	if (new == NULL)
		goto out;
	segment_head(s->epoch, new);
	for (size_t i = 0; i < g->len; i++) {
		const struct entry *e = &g->entries[i];
		struct spool_record record;
		uint64_t seq = g->first + e->seq;
		bool goes_now = seq != newest && goes(s, seq, e->flags);
		if (goes_now || !record_parse((struct slice){old, len}, e->offset, &record))
			continue;
		memcpy(new + at, old + e->offset, RECORD_HEAD + e->len);
		if (shelf_add_entry(kept, &record, at) != 0)
			goto out;
		at += RECORD_HEAD + e->len;
	}
	kept->size = (uint32_t)at;
	rc = durable_write(s->dir, name, (struct slice){new, at}, true);
out:
	free(old);
	free(new);
	return rc;
}

static int
remove_segment(struct spool *s, struct segment *g)
{
	char name[NAME_SIZE];
	segment_name(g->first, name);
	if (unlinkat(s->dir, name, 0) != 0 && errno != ENOENT)
		return -1;
	(void)fsync(s->dir);
	if (g == shelf_newest(s))
		shelf_close_active(s);
	s->bytes -= g->size;
	free(g->entries);
	size_t after = s->len - (size_t)(g - s->segments) - 1;
	memmove(g, g + 1, after * sizeof *g);
	s->len--;
	return 0;
}

static int
replace_segment(struct spool *s, struct segment *g, may_go *goes, uint64_t newest)
{
	struct segment kept = {.first = g->first};
	if (rewrite_segment(s, g, goes, newest, &kept) != 0) {
		free(kept.entries);
		return -1;
	}
	if (g == shelf_newest(s))
		shelf_close_active(s);
	s->bytes -= g->size - kept.size;
	free(g->entries);
	*g = kept;
	return 0;
}

/* Frees what may go of one segment; when nothing stays, the file. On failure all of it is still there, so none of it is given up either. */
static int
reclaim(struct spool *s, struct segment *g, may_go *goes, size_t stays)
{
	uint64_t newest = shelf_newest_seq(s);
	size_t dropped = 0;
	struct book before;
	if (book_copy(&before, &s->book) != 0)
		return -1;
	int rc = drop_entries(s, g, goes, newest, &dropped);
	bool saved = rc == 0 && dropped > 0;
	if (rc == 0)
		rc = stays == 0 ? remove_segment(s, g) : replace_segment(s, g, goes, newest);
	if (rc == 0) {
		s->dropped += dropped;
		book_free(&before);
		return 0;
	}
	int why = errno;
	book_free(&s->book);
	s->book = before;
	/* If this fails the file says "given up" of what is sent all the same: after a crash it is declared, and the collector knows better. */
	if (saved && book_save(&s->book) != 0)
		log_warning("the spool's account is not saved error=\"%s\"", strerror(errno));
	errno = why;
	return -1;
}

/* How many of a segment's records stay. */
static size_t
count_stays(const struct spool *s, const struct segment *g, may_go *goes, uint64_t newest)
{
	size_t stays = 0;
	for (size_t i = 0; i < g->len; i++) {
		uint64_t seq = g->first + g->entries[i].seq;
		stays += seq == newest || !goes(s, seq, g->entries[i].flags);
	}
	return stays;
}

/* The oldest segment that has something of this kind. `whole`: only one that goes as a whole, which takes no room to do. 0; 1: nothing of this kind;
   -1 with errno. */
static int
reclaim_oldest(struct spool *s, may_go *goes, bool whole)
{
	uint64_t newest = shelf_newest_seq(s);
	for (size_t i = 0; i < s->len; i++) {
		struct segment *g = &s->segments[i];
		size_t stays = count_stays(s, g, goes, newest);
		if (stays == 0 || (!whole && stays < g->len))
			return reclaim(s, g, goes, stays);
	}
	return 1;
}

static bool
is_none(const struct spool *s, uint64_t seq, unsigned flags)
{
	(void)s;
	(void)seq;
	(void)flags;
	return false;
}

int
shelf_rewrite(struct spool *s, struct segment *g)
{
	return replace_segment(s, g, is_none, 0);
}

bool
shelf_disk_is_full(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

int
shelf_make_room(struct spool *s, size_t need)
{
	static may_go *const order[] = {is_receipted, is_quiet, is_any};
	if (need > s->limit / 2) {
		errno = EFBIG;
		return -1;
	}
	/* The newest stays because the next refers to it: it must not be one that the power can still take. */
	if (s->bytes + need > s->limit && spool_sync(s) != 0)
		return -1;
	for (size_t kind = 0; s->bytes + need > s->limit;) {
		int rc = reclaim_oldest(s, order[kind], false);
		if (rc > 0 && ++kind == sizeof order / sizeof *order) {
			errno = ENOSPC;
			return -1;
		}
		/* What stays of a file can't be written anew: another file may go as it is. */
		if (rc < 0 && (!shelf_disk_is_full(errno) || reclaim_oldest(s, order[kind], true) != 0))
			return -1;
	}
	return 0;
}

int
shelf_free_disk(struct spool *s)
{
	return spool_sync(s) == 0 ? reclaim_oldest(s, is_receipted, true) : -1;
}
