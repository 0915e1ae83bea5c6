#include "emitter/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "emitter/compose.h"
#include "emitter/courier.h"
#include "emitter/quarantine.h"
#include "emitter/time_floor.h"
#include "schema/log.h"

#define WANT_MS 5000 /* between two reports that receipts asked for, or the interval when that is less */
#define NONCE_MS 1000 /* likewise, when the second answers a challenge: somebody waits for it */
#define HASTEN_MS 30000 /* between two reports of which the second was brought forward by events */
#define AHEAD_MS 3600000 /* between two warnings of receipts ahead */
#define CLOCK_STEP 5 /* seconds: so far back a clock may be set that is kept right */

struct pipeline {
	struct pipeline_settings settings;
	int dir;
	struct signer *signer;
	struct spool *spool;
	struct events *events;
	struct publisher *publisher;
	struct composer composer;

	int64_t opened_at, report_at, reported_at;

	struct courier courier;
	int64_t sync_at; /* when the spool is synced next; INT64_MAX: all is durable */
	bool lost_told, behind_told;
	char lost_why[96];
	struct time_floor floor;
	uint64_t clock_behind; /* seconds, at the last report */
	int64_t ahead_told; /* when receipts ahead were last logged; 0: never */
	unsigned failing; /* a bit for each stage whose failure was logged and is not over */
	uint64_t counters[COUNTERS];
};

/* One report on its way. */
struct job {
	const struct facts *facts;
	const struct inventory *inventory;
	int64_t now;
	uint64_t wall;
	bool with_chain;
	struct composed composed;
	struct slice message; /* allocated */
	uint8_t digest[DIGEST_SIZE];
};

static int64_t
earliest(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- the stages ---- */

/* Until a receipt covers a report that brought this certificate, each brings it: also a renewed one of the same key. */
static bool
wants_chain(const struct pipeline *p)
{
	return memcmp(spool_leaf(p->spool), signer_leaf(p->signer), DIGEST_SIZE) != 0 ||
	       (p->composer.wants & WANT_CHAIN) != 0;
}

/* The clock, or where it is wrong beyond doubt the floor. */
static uint64_t
time_of_report(struct pipeline *p, const struct job *job)
{
	uint64_t floor = time_floor_at(&p->floor, job->now);
	p->clock_behind = job->wall + CLOCK_STEP < floor ? floor - job->wall : 0;
	if (p->clock_behind > 0 && !p->behind_told)
		log_warning("the clock is wrong: it is before a time that is over, which reports bear instead "
			    "behind_s=%" PRIu64,
			    p->clock_behind);
	p->behind_told = p->clock_behind > 0;
	return p->clock_behind > 0 ? floor : job->wall;
}

static int
stage_report(struct pipeline *p, struct job *job)
{
	if (compose(&p->composer, job->facts, job->inventory, p->settings.interval, job->now, time_of_report(p, job),
		    &job->composed) != 0) {
		errno = ENOMEM;
		return -1;
	}
	job->composed.report.has_clock = p->clock_behind > 0;
	job->composed.report.clock = job->wall;
	job->composed.report.events = events_section(p->events);
	job->composed.report.receipt = job->composed.report.receipt || job->composed.report.events.at != NULL;
	spool_declare(p->spool, &job->composed.report);
	job->with_chain = wants_chain(p);
	if (job->composed.report.dropped_len > 0 || job->with_chain)
		job->composed.report.receipt = true;
	return 0;
}

/* A number that was taken for a message which is not in the spool is never used again: it is declared. Skipped is only what was not signed: a
   signed report of such a number is evidence of another holder of the key, and must not be ours. */
static void
burn(struct pipeline *p, uint64_t seq, enum drop_cause cause)
{
	if (seq != 0 && spool_drop(p->spool, (struct seq_range){seq, seq}, cause) != 0)
		log_debug("dropped number not saved yet seq=%" PRIu64, seq);
}

static int
stage_sign(struct pipeline *p, struct job *job)
{
	job->message = signer_sign(p->signer, &job->composed.report, job->with_chain);
	if (job->message.at != NULL)
		return 0;
	int why = errno;
	p->counters[COUNTER_SIGN_FAILED]++;
	burn(p, job->composed.report.seq, DROP_SKIPPED);
	errno = why;
	return -1;
}

static void
write_journal(struct pipeline *p, uint64_t seq, const uint8_t digest[DIGEST_SIZE])
{
	if (p->settings.journal == NULL)
		return;
	const struct ueid *ueid = signer_ueid(p->signer);
	if (journal_add(p->settings.journal, ueid, signer_epoch(p->signer), seq, digest) != 0) {
		p->counters[COUNTER_JOURNAL_FAILED]++;
		log_error("can't write the journal seq=%" PRIu64 " error=\"%s\"", seq, strerror(errno));
	}
}

/* Before the report is durable, so that a crash in between finds out from the spool whether it was. */
static void
save_events(struct pipeline *p, uint64_t seq)
{
	if (events_save(p->events, seq) != 0)
		log_error("events not saved: a crash now would tell them twice seq=%" PRIu64 " error=\"%s\"", seq,
			  strerror(errno));
}

static int
stage_spool(struct pipeline *p, struct job *job)
{
	const struct report *report = &job->composed.report;
	if (report->events.at != NULL)
		save_events(p, report->seq);
	unsigned flags = (report_has_sections(report) ? SPOOL_SECTIONS : 0) |
			 (report->dropped_len > 0 ? SPOOL_DECLARES : 0) | (job->with_chain ? SPOOL_CHAIN : 0);
	if (spool_append(p->spool, report->seq, flags, job->message) != 0) {
		int why = errno;
		p->counters[COUNTER_SPOOL_FAILED]++;
		burn(p, report->seq, DROP_OVERWRITTEN);
		errno = why;
		return -1;
	}
	if (spool_durable(p->spool) < report->seq && p->sync_at == INT64_MAX)
		p->sync_at = job->now + (int64_t)p->settings.spool_sync * 1000;
	sha256(job->message, job->digest);
	signer_commit(p->signer, report, job->digest);
	if (report->events.at != NULL)
		events_told(p->events);
	spool_declared(p->spool, report);
	composer_told(&p->composer, &job->composed, job->with_chain, job->now);
	p->counters[COUNTER_REPORTS]++;
	p->counters[COUNTER_SECTIONS] += report_has_sections(report);
	write_journal(p, report->seq, job->digest);
	return 0;
}

static void
publish_pending(struct pipeline *p, int64_t now)
{
	p->counters[COUNTER_SENT] += courier_send(&p->courier, p->publisher, p->settings.interval, now);
}

static int
stage_publish(struct pipeline *p, struct job *job)
{
	publish_pending(p, job->now);
	return 0;
}

static const struct stage {
	const char *name;
	int (*run)(struct pipeline *, struct job *);
} stages[] = {
	{"report", stage_report},
	{"sign", stage_sign},
	{"spool", stage_spool},
	{"publish", stage_publish},
};

#define STAGES (sizeof stages / sizeof *stages)

/* A stage that goes on failing is logged once, and once more when it works again. */
static int
run_stage(struct pipeline *p, size_t i, struct job *job)
{
	unsigned bit = 1U << i;
	if (stages[i].run(p, job) == 0) {
		if (p->failing & bit)
			log_info("stage works again stage=%s", stages[i].name);
		p->failing &= ~bit;
		return 0;
	}
	if (!(p->failing & bit))
		log_error("report not made: observed again next time stage=%s error=\"%s\"", stages[i].name,
			  strerror(errno));
	p->failing |= bit;
	return -1;
}

int
pipeline_report(struct pipeline *p, const struct facts *facts, const struct inventory *inventory, int64_t now,
		uint64_t wall)
{
	struct job job = {.facts = facts, .inventory = inventory, .now = now, .wall = wall};
	int rc = 0;
	p->reported_at = now;
	p->report_at = now + (int64_t)p->settings.interval * 1000;
	for (size_t i = 0; i < STAGES && rc == 0; i++)
		rc = run_stage(p, i, &job);
	composed_free(&job.composed);
	free((void *)(uintptr_t)job.message.at);
	return rc;
}

struct events *
pipeline_events(struct pipeline *p)
{
	return p->events;
}

int
pipeline_dir(const struct pipeline *p)
{
	return p->dir;
}

void
pipeline_hasten(struct pipeline *p, int64_t now, int64_t delay_ms)
{
	int64_t interval = (int64_t)p->settings.interval * 1000;
	int64_t at = now + delay_ms, least = p->reported_at + (interval < HASTEN_MS ? interval : HASTEN_MS);
	if (at < least)
		at = least;
	p->report_at = earliest(p->report_at, at);
}

bool
pipeline_due(const struct pipeline *p, int64_t now)
{
	return now >= p->report_at;
}

/* ---- receipts ---- */

/* A report that was refused for good is put where people find it, and its number is declared as given up: it was signed, it will not be sent again,
   and nobody is to ask for it. */
static void
put_aside(struct pipeline *p, uint64_t seq, struct slice message, struct slice reason)
{
	p->counters[COUNTER_REFUSED]++;
	log_warning("report refused for good seq=%" PRIu64 " reason=\"%.*s\"", seq, (int)reason.len,
		    (const char *)reason.at);
	if (quarantine_keep(p->dir, seq, reason, message) != 0)
		log_error("refused report not kept seq=%" PRIu64 " error=\"%s\"", seq, strerror(errno));
	if (spool_drop(p->spool, (struct seq_range){seq, seq}, DROP_OVERWRITTEN) != 0)
		log_error("dropped number not saved seq=%" PRIu64 " error=\"%s\"", seq, strerror(errno));
}

static void
take_refusals(struct pipeline *p, const struct receipt *receipt)
{
	struct spool_record record = {0};
	while (receipt->refused_len > 0 && spool_next(p->spool, record.seq, &record)) {
		struct slice message = spool_read(p->spool, record.seq);
		uint8_t digest[DIGEST_SIZE];
		if (message.at == NULL)
			continue;
		sha256(message, digest);
		for (size_t i = 0; i < receipt->refused_len; i++)
			if (memcmp(digest, receipt->refused[i].digest, DIGEST_SIZE) == 0) {
				put_aside(p, record.seq, message, receipt->refused[i].reason);
				break;
			}
	}
}

static void
take_account(struct pipeline *p, const struct receipt *receipt)
{
	struct account account = receipts_account(receipt);
	uint8_t leaf[DIGEST_SIZE];
	if (receipts_leaf(&account, p->spool, leaf))
		spool_set_leaf(p->spool, leaf);
	if (spool_settle(p->spool, &account) != 0)
		log_error("receipt not saved: what it covers may be sent again error=\"%s\"", strerror(errno));
}

/* What was asked for comes at once, but not more often than the collector can mean it. */
static void
hurry_report(struct pipeline *p, int64_t now)
{
	int64_t least = earliest((int64_t)p->settings.interval * 1000, p->composer.nonce_len > 0 ? NONCE_MS : WANT_MS);
	int64_t at = p->reported_at + least;
	if (at < now)
		at = now;
	if (at < p->report_at)
		p->report_at = at;
}

static void
take_receipt(struct pipeline *p, const struct receipt *receipt, int64_t now)
{
	take_refusals(p, receipt);
	take_account(p, receipt);
	time_floor_raise(&p->floor, receipt->iat, now);
	courier_heard(&p->courier, receipt->pace_ms);
	if (composer_heard(&p->composer, receipt, now) || spool_has_drops(p->spool))
		hurry_report(p, now);
}

/* The collector has reports that we did not make: it is told in the next one, and people hourly. */
static void
note_ahead(struct pipeline *p, const struct receipt *receipt, int64_t now)
{
	if (p->ahead_told == 0 || now - p->ahead_told >= AHEAD_MS) {
		log_warning("a receipt accounts for reports that this device did not make: another one signs with its "
			    "key, or an old state was put back up_to=%" PRIu64 " used=%" PRIu64,
			    receipt->up_to, signer_seq(p->signer));
		p->ahead_told = now;
	}
	if (spool_ahead(p->spool) == 0)
		hurry_report(p, now);
	if (spool_note_ahead(p->spool, receipt->up_to) != 0)
		log_error("receipt ahead not saved error=\"%s\"", strerror(errno));
}

static void
handle_message(struct pipeline *p, struct slice message, int64_t now)
{
	struct receipt *receipt = malloc(sizeof *receipt);
	if (receipt == NULL)
		return;
	enum reason reason = receipt_trust_check(p->settings.trust, message, receipt);
	enum counter what = COUNTER_RECEIPTS_UNTRUSTED;
	if (reason == REASON_OK)
		what = receipts_judge(receipt, signer_ueid(p->signer), signer_epoch(p->signer), signer_seq(p->signer),
				      p->spool);
	p->counters[what]++;
	if (what == COUNTER_RECEIPTS)
		take_receipt(p, receipt, now);
	else if (what == COUNTER_RECEIPTS_AHEAD)
		note_ahead(p, receipt, now);
	else
		log_debug("receipt not taken what=%s reason=%s", counter_name(what), reason_name(reason));
	free(receipt);
}

/* ---- events and time ---- */

static void
handle_connected(struct pipeline *p, int64_t now)
{
	char name[UEID_HEX];
	ueid_print(signer_ueid(p->signer), name);
	log_info("connected ueid=%s broker=%s", name, p->settings.publish.broker);
	p->counters[COUNTER_CONNECTED]++;
	p->lost_told = false;
	p->lost_why[0] = '\0';
	courier_connected(&p->courier, now);
}

static void
handle_lost(struct pipeline *p, const char *why)
{
	p->counters[COUNTER_LOST]++;
	if (!p->lost_told)
		log_warning("not connected broker=%s why=\"%s\"%s", p->settings.publish.broker, why,
			    p->clock_behind > 0 && strncmp(why, "TLS", 3) == 0
				    ? " clock=\"before the broker's certificate\""
				    : "");
	snprintf(p->lost_why, sizeof p->lost_why, "%s", why);
	p->lost_told = true;
}

static void
handle_event(struct pipeline *p, const struct publish_event *event, int64_t now)
{
	switch (event->kind) {
	case PUBLISH_CONNECTED:
		handle_connected(p, now);
		break;
	case PUBLISH_LOST:
		handle_lost(p, event->text);
		break;
	case PUBLISH_ACKED:
		p->counters[COUNTER_ACKED] += event->reports;
		courier_acked(&p->courier, event->seq);
		break;
	case PUBLISH_REFUSED:
		p->counters[COUNTER_NOT_ACKED] += event->reports;
		courier_not_acked(&p->courier, event->first);
		log_warning("the broker refuses a report seq=%" PRIu64 " why=\"%s\"", event->seq, event->text);
		break;
	case PUBLISH_MESSAGE:
		handle_message(p, event->message, now);
		break;
	}
}

static void
sync_spool(struct pipeline *p, int64_t now)
{
	p->sync_at = INT64_MAX;
	if (spool_sync(p->spool) == 0)
		return;
	log_error("the spool is not synced: reports wait error=\"%s\"", strerror(errno));
	p->sync_at = now + (int64_t)p->settings.spool_sync * 1000;
}

int64_t
pipeline_tick(struct pipeline *p, int64_t now)
{
	struct publish_event event;
	while (publisher_take(p->publisher, &event)) {
		handle_event(p, &event, now);
		publish_event_free(&event);
	}
	p->counters[COUNTER_RECEIPTS_DROPPED] += publisher_take_overruns(p->publisher);
	if (now >= p->sync_at)
		sync_spool(p, now);
	int64_t next = earliest(earliest(p->report_at, p->sync_at), publisher_tick(p->publisher, now));
	publish_pending(p, now);
	if (!publisher_connected(p->publisher))
		return next;
	next = earliest(next, courier_due(&p->courier, now));
	return next > now ? next : now + 1;
}

int
pipeline_fd(const struct pipeline *p)
{
	return publisher_fd(p->publisher);
}

/* ---- opening and closing ---- */

/* After a crash between the spool and the journal, the journal is behind by what the spool has. */
static int
recover_journal(struct pipeline *p, char *error)
{
	if (p->settings.journal == NULL)
		return 0;
	const struct ueid *ueid = signer_ueid(p->signer);
	uint64_t epoch = signer_epoch(p->signer);
	struct spool_record record = {.seq = journal_last(p->settings.journal, ueid, epoch)};
	while (spool_next_any(p->spool, record.seq, &record)) {
		struct slice message = spool_read(p->spool, record.seq);
		uint8_t digest[DIGEST_SIZE];
		if (message.at == NULL)
			continue;
		sha256(message, digest);
		if (journal_add(p->settings.journal, ueid, epoch, record.seq, digest) != 0) {
			snprintf(error, ERROR_SIZE, "can't write the journal: %s", strerror(errno));
			return -1;
		}
	}
	return 0;
}

static int
start_signer(struct pipeline *p, char *error)
{
	struct link newest = spool_newest(p->spool, 0), sections = spool_newest(p->spool, SPOOL_SECTIONS);
	struct seq_range skipped;
	if (signer_start(p->signer, &newest, &sections, &skipped, error) != 0)
		return -1;
	if (skipped.first == 0)
		return 0;
	log_warning("the last run did not stop cleanly: numbers skipped first=%" PRIu64 " last=%" PRIu64, skipped.first,
		    skipped.last);
	if (spool_drop(p->spool, skipped, DROP_SKIPPED) == 0)
		return 0;
	snprintf(error, ERROR_SIZE, "can't save the skipped numbers: %s", strerror(errno));
	return -1;
}

struct pipeline *
pipeline_open(const struct pipeline_settings *settings, int64_t now, int64_t delay_ms, char *error)
{
	struct pipeline *p = calloc(1, sizeof *p);
	if (p == NULL) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return NULL;
	}
	p->settings = *settings;
	p->opened_at = now;
	p->report_at = now + delay_ms;
	p->reported_at = now - (int64_t)LIMIT_INTERVAL * 1000;
	time_floor_init(&p->floor, now);
	p->sync_at = INT64_MAX;
	const struct pipeline_settings *s = &p->settings;
	if ((p->dir = durable_directory(AT_FDCWD, s->state_dir, error)) < 0 ||
	    durable_lock(p->dir, s->state_dir, error) != 0 ||
	    !(p->signer = signer_open(p->dir, s->sign_key, s->sign_certificate, s->boot_id, error)) ||
	    !(p->spool = spool_open(p->dir, "spool", signer_epoch(p->signer), s->spool_size, error)) ||
	    !(p->events = events_open(p->dir, spool_newest(p->spool, 0).seq, error)) ||
	    recover_journal(p, error) != 0 || start_signer(p, error) != 0 ||
	    !(p->publisher = publisher_new(&p->settings.publish, signer_ueid(p->signer), error))) {
		pipeline_close(p, 0);
		return NULL;
	}
	courier_init(&p->courier, p->spool, now);
	time_floor_raise(&p->floor, signer_not_before(p->signer), now);
	time_floor_raise(&p->floor, spool_account(p->spool)->iat, now);
	if (s->spool_sync > 0)
		spool_group(p->spool);
	return p;
}

/* Goes on publishing until all is handed over and acknowledged, or the time is over. */
static void
drain(struct pipeline *p, unsigned wait_ms)
{
	int64_t now = monotonic_ms(), until = now + wait_ms;
	uint64_t last = signer_seq(p->signer);
	while (now < until && publisher_connected(p->publisher) && p->courier.acked < last) {
		struct pollfd fd = {.fd = pipeline_fd(p), .events = POLLIN};
		int64_t next = earliest(pipeline_tick(p, now), until);
		if (p->courier.acked < last)
			(void)poll(&fd, 1, next > now ? (int)(next - now) : 1);
		now = monotonic_ms();
	}
}

void
pipeline_close(struct pipeline *p, unsigned wait_ms)
{
	if (p == NULL)
		return;
	if (p->publisher != NULL && p->counters[COUNTER_REPORTS] > 0) {
		sync_spool(p, monotonic_ms());
		drain(p, wait_ms);
	}
	/* Only what was opened whole may call itself clean: a failed start leaves the numbers as they are. */
	if (p->publisher != NULL && signer_stop(p->signer) != 0)
		log_warning("state not saved: the next start skips some numbers error=\"%s\"", strerror(errno));
	if (p->publisher != NULL && events_unsaved(p->events) && events_save(p->events, 0) != 0)
		log_warning("events not saved error=\"%s\"", strerror(errno));
	publisher_free(p->publisher, wait_ms);
	events_free(p->events);
	spool_close(p->spool);
	signer_free(p->signer);
	if (p->dir >= 0)
		close(p->dir);
	free(p);
}

int
pipeline_reload(struct pipeline *p, const struct pipeline_settings *settings, char *error)
{
	struct pipeline_settings *changed = &p->settings, before = p->settings;
	changed->publish = settings->publish;
	struct publisher *publisher = publisher_new(&changed->publish, signer_ueid(p->signer), error);
	if (publisher == NULL) {
		*changed = before;
		return -1;
	}
	changed->interval = settings->interval;
	changed->trust = settings->trust;
	struct publisher *old = p->publisher;
	p->publisher = publisher;
	publisher_free(old, 500);
	int64_t next = p->reported_at + (int64_t)changed->interval * 1000;
	p->report_at = earliest(p->report_at, next);
	return 0;
}

void
pipeline_status(const struct pipeline *p, struct pipeline_status *out)
{
	const struct account *account = spool_account(p->spool);
	*out = (struct pipeline_status){
		.ueid = *signer_ueid(p->signer),
		.epoch = signer_epoch(p->signer),
		.seq = signer_seq(p->signer),
		.acked = p->courier.acked,
		.up_to = account->up_to,
		.receipt_iat = account->iat,
		.connected = publisher_connected(p->publisher),
		.ahead = spool_ahead(p->spool),
		.undeclared = spool_has_drops(p->spool),
		.running_s = (monotonic_ms() - p->opened_at) / 1000,
		.clock_behind = p->clock_behind,
		.lost_why = p->lost_why,
	};
	spool_stats(p->spool, &out->spool);
	memcpy(out->counters, p->counters, sizeof out->counters);
}

bool
pipeline_receipted(const struct pipeline *p, uint64_t seq)
{
	return account_covers(spool_account(p->spool), seq);
}
