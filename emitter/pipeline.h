/*
 * One device: report -> sign -> spool -> publish, and the collector's receipts back. Any number of them run in one loop, each on its own state
 * directory; nothing here blocks but the disk.
 */
#ifndef FLEETSTATE_PIPELINE_H
#define FLEETSTATE_PIPELINE_H

#include "emitter/collect.h"
#include "emitter/events.h"
#include "emitter/journal.h"
#include "emitter/publish.h"
#include "emitter/receipt_trust.h"
#include "emitter/receipts.h"

struct pipeline_settings {
	const char *state_dir;
	size_t spool_size;
	uint32_t spool_sync;	/* seconds within which reports are made durable together; 0: each at once */
	const char *sign_key, *sign_certificate;
	uint32_t interval;	/* seconds */
	struct publish_settings publish;
	struct receipt_trust *trust;	/* may be shared */
	struct journal *journal;	/* NULL: none; may be shared */
	uint8_t boot_id[BOOT_ID_SIZE];
};

struct pipeline;

/* Opens state and spool, and declares what an unclean stop left. `settings` is copied, what it points to must outlive the pipeline; the next report is
   due at once, or `delay_ms` later. All times are milliseconds of the monotonic clock. NULL and `error` on failure. */
struct pipeline *pipeline_open(const struct pipeline_settings *, int64_t now, int64_t delay_ms, char *error) WARN_UNUSED;
/* Publishes what it can within `wait_ms`, disconnects, and stops cleanly. */
void pipeline_close(struct pipeline *, unsigned wait_ms);

int pipeline_fd(const struct pipeline *);	/* readable when pipeline_tick has something to do; changes with pipeline_reload */
/* Takes in events, connects, publishes. Returns when to call again if nothing happens before: the next report's time at the latest. */
int64_t pipeline_tick(struct pipeline *, int64_t now);
bool pipeline_due(const struct pipeline *, int64_t now);	/* time to observe and to call pipeline_report */
/* Takes one observation through the stages. `wall` is the time of day in seconds. 0, or -1 after logging and counting what failed; the next report
   is due an interval later either way. */
int pipeline_report(struct pipeline *, const struct facts *, const struct inventory *, int64_t now, uint64_t wall) WARN_UNUSED;
/* Other settings for interval, broker and receipts; identity, state and spool stay. 0, or -1 and `error`: then the old ones hold. */
int pipeline_reload(struct pipeline *, const struct pipeline_settings *, char *error) WARN_UNUSED;

/* What happened meanwhile: whoever watches adds to it, and the next report tells it. With the directory that the state lies in. */
struct events *pipeline_events(struct pipeline *);
int pipeline_dir(const struct pipeline *);
/* Something happened: the next report comes within `delay_ms`, but not sooner after the last one than half a minute or the interval. */
void pipeline_hasten(struct pipeline *, int64_t now, int64_t delay_ms);

struct pipeline_status {
	struct ueid ueid;
	uint64_t epoch, seq;	/* seq: the last one used */
	uint64_t acked;		/* the highest that the broker took over, in this run */
	uint64_t up_to, receipt_iat;	/* of the last receipt taken; 0: none */
	bool connected;
	struct spool_stats spool;
	uint64_t ahead;	/* the first number that a receipt accounted for before we had used it; 0: none */
	bool undeclared;	/* drops that no report has declared yet */
	int64_t running_s;	/* seconds */
	uint64_t clock_behind;	/* seconds that the clock was before a time that is over, at the last report; 0: it was not */
	const char *lost_why;	/* why there is no connection; "": not tried yet, or there is one */
	uint64_t counters[COUNTERS];
};
void pipeline_status(const struct pipeline *, struct pipeline_status *);
bool pipeline_receipted(const struct pipeline *, uint64_t seq);

#endif
