#include "emitter/courier.h"

#include <stdlib.h>
#include <string.h>

#define PACE_MAX_MS 60000 /* what a receipt may ask for */
#define TOGETHER_MS 1000 /* reports of so long a time go in one message at that pace */

void
courier_init(struct courier *c, struct spool *spool, int64_t now)
{
	*c = (struct courier){.spool = spool, .not_acked = UINT64_MAX};
	repeat_init(&c->repeat, now);
}

/* Of what the broker has taken over, reports with sections go again; the others the collector asks for, should it miss them. */
void
courier_connected(struct courier *c, int64_t now)
{
	if (c->not_acked <= c->acked)
		c->acked = c->not_acked - 1;
	c->published = c->acked;
	c->not_acked = UINT64_MAX;
	repeat_connected(&c->repeat, now);
	c->next_send = 0;
}

void
courier_acked(struct courier *c, uint64_t seq)
{
	if (seq > c->acked)
		c->acked = seq;
}

void
courier_not_acked(struct courier *c, uint64_t first)
{
	if (first != 0 && first < c->not_acked)
		c->not_acked = first;
}

void
courier_heard(struct courier *c, uint32_t pace_ms)
{
	c->pace_ms = pace_ms < PACE_MAX_MS ? pace_ms : PACE_MAX_MS;
	repeat_heard(&c->repeat, c->spool);
}

/* What goes in one message: a report, or several when more than one is due. */
struct parcel {
	struct slice message; /* of the first, where the spool read it to; then in `bytes` */
	uint8_t *bytes; /* LIMIT_SEQUENCE of them, or NULL */
	unsigned reports;
	uint64_t first, last, published; /* the numbers of the first and the last; how far `published` gets with it */
	bool sections; /* one with sections goes for the first time */
};

/* What is due next: first what goes once more. */
static bool
next_record(struct courier *c, uint64_t published, struct spool_record *out, bool *again)
{
	*again = repeat_next(&c->repeat, c->spool, out);
	return *again || (spool_next(c->spool, published, out) && out->seq <= spool_durable(c->spool));
}

/* Whether one of that length goes in the same message. The pace is kept, and no more of it at once than lasts a second. */
static bool
makes_room(const struct courier *c, struct parcel *parcel, size_t len)
{
	uint8_t *bytes = parcel->bytes;
	if (parcel->reports == LIMIT_SEQUENCE_REPORTS || (parcel->reports + 1) * c->pace_ms > TOGETHER_MS ||
	    parcel->message.len > LIMIT_SEQUENCE || len > LIMIT_SEQUENCE - parcel->message.len)
		return false;
	if (bytes == NULL && (bytes = malloc(LIMIT_SEQUENCE)) != NULL)
		memcpy(bytes, parcel->message.at, parcel->message.len);
	if (bytes == NULL)
		return false;
	parcel->message.at = parcel->bytes = bytes;
	return true;
}

static void
add_report(struct parcel *parcel, struct slice report, uint64_t seq)
{
	if (parcel->reports++ == 0) {
		parcel->first = seq;
		parcel->message = report;
	} else {
		memcpy(parcel->bytes + parcel->message.len, report.at, report.len);
		parcel->message.len += report.len;
	}
	parcel->last = seq;
}

/* In the order of their numbers. One that is unreadable is out of the spool now, and passed over. */
static void
gather(struct courier *c, struct parcel *parcel)
{
	for (;;) {
		struct repeat before = c->repeat;
		struct spool_record record;
		bool again;
		if (!next_record(c, parcel->published, &record, &again))
			return;
		if (parcel->reports > 0 && !makes_room(c, parcel, record.len)) {
			c->repeat = before; /* it is the next */
			return;
		}
		struct slice report = spool_read(c->spool, record.seq);
		if (report.at != NULL)
			add_report(parcel, report, record.seq);
		if (again)
			continue;
		parcel->published = record.seq;
		parcel->sections = parcel->sections || (record.flags & SPOOL_SECTIONS) != 0;
	}
}

/* False: nothing is due, or paho would not take it; then it is tried again at the next tick. */
static bool
send_next(struct courier *c, struct publisher *publisher, int64_t now)
{
	struct repeat repeat = c->repeat;
	struct parcel parcel = {.published = c->published};
	gather(c, &parcel);
	bool sent = parcel.reports > 0 &&
		    publisher_send(publisher, parcel.first, parcel.last, parcel.reports, parcel.message) == 0;
	free(parcel.bytes);
	if (!sent && parcel.reports > 0) {
		c->repeat = repeat;
		return false;
	}
	c->published = parcel.published;
	c->sent += parcel.reports;
	if (parcel.sections)
		repeat_await(&c->repeat, now);
	struct spool_record another;
	bool backlog = c->repeat.kind != REPEAT_NONE || spool_next(c->spool, c->published, &another);
	c->next_send = backlog ? now + (int64_t)c->pace_ms * parcel.reports : now;
	return sent;
}

uint64_t
courier_send(struct courier *c, struct publisher *publisher, uint32_t interval, int64_t now)
{
	uint64_t before = c->sent;
	if (publisher_connected(publisher))
		repeat_begin(&c->repeat, c->spool, interval, c->published, now);
	while (publisher_has_room(publisher) && now >= c->next_send && send_next(c, publisher, now))
		continue;
	return c->sent - before;
}

int64_t
courier_due(const struct courier *c, int64_t now)
{
	int64_t repeat = repeat_due(&c->repeat, c->spool);
	return c->next_send > now && c->next_send < repeat ? c->next_send : repeat;
}
