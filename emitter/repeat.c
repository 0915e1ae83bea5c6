#include "emitter/repeat.h"

#include <stdlib.h>

#define REPEAT_MS                                                                                                      \
	10000 /* a report with sections is published again after this, without a receipt; then after twice as long */
#define REPEAT_INTERVALS 10 /* the longest wait between such repeats, or an hour when that is less */
#define REPEAT_MAX_MS 3600000
#define MISSING_MS 5000 /* between two answers to what the collector misses */

static int64_t
with_jitter(int64_t ms)
{
	return ms - ms / 4 + (int64_t)arc4random_uniform((uint32_t)(ms / 2) + 1);
}

/* A collector that refuses for a reason that may be undone answers nothing, so what it refuses is not sent every interval. */
static int64_t
longest_wait(uint32_t interval)
{
	int64_t most = (int64_t)interval * 1000 * REPEAT_INTERVALS;
	if (most < REPEAT_MS)
		return REPEAT_MS;
	return most < REPEAT_MAX_MS ? most : REPEAT_MAX_MS;
}

void
repeat_init(struct repeat *r, int64_t now)
{
	*r = (struct repeat){.missing_at = now - MISSING_MS};
}

void
repeat_connected(struct repeat *r, int64_t now)
{
	r->kind = REPEAT_NONE;
	if (r->sections_at != 0)
		r->sections_at = now;
}

void
repeat_await(struct repeat *r, int64_t now)
{
	int64_t at = now + with_jitter(REPEAT_MS);
	if (r->sections_at != 0 && r->sections_at <= at)
		return;
	r->sections_at = at;
	r->wait = REPEAT_MS;
}

void
repeat_begin(struct repeat *r, struct spool *spool, uint32_t interval, uint64_t published, int64_t now)
{
	if (r->kind != REPEAT_NONE)
		return;
	if (spool_account(spool)->missing_len > 0 && now - r->missing_at >= MISSING_MS) {
		r->missing_at = now;
		r->kind = REPEAT_MISSING;
	} else if (r->sections_at != 0 && now >= r->sections_at) {
		int64_t longest = longest_wait(interval);
		r->wait = r->wait * 2 < longest ? r->wait * 2 : longest;
		r->sections_at = now + with_jitter(r->wait);
		r->kind = REPEAT_SECTIONS;
	}
	r->at = 0;
	r->end = published;
}

bool
repeat_next(struct repeat *r, struct spool *spool, struct spool_record *out)
{
	while (r->kind != REPEAT_NONE) {
		if (!spool_next(spool, r->at, out) || out->seq > r->end) {
			r->kind = REPEAT_NONE;
			return false;
		}
		r->at = out->seq;
		if (r->kind == REPEAT_SECTIONS ? (out->flags & SPOOL_SECTIONS) != 0
					       : account_misses(spool_account(spool), out->seq))
			return true;
	}
	return false;
}

void
repeat_heard(struct repeat *r, struct spool *spool)
{
	for (struct spool_record record = {0}; spool_next(spool, record.seq, &record);)
		if (record.flags & SPOOL_SECTIONS)
			return;
	r->sections_at = 0;
}

int64_t
repeat_due(const struct repeat *r, const struct spool *spool)
{
	int64_t due = r->sections_at != 0 ? r->sections_at : INT64_MAX;
	if (spool_account(spool)->missing_len > 0 && r->missing_at + MISSING_MS < due)
		due = r->missing_at + MISSING_MS;
	return due;
}
