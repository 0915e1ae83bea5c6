#include "collector/audit.h"

#include <string.h>

#include "collector/verify.h"

static const struct {
	const char *name, *help;
} findings[FINDINGS] = {
#define FINDING(symbol, name, help) {name, help},
#include "collector/audit_findings.def"
#undef FINDING
};

const char *
finding_name(enum finding finding)
{
	return findings[finding].name;
}

const char *
finding_help(enum finding finding)
{
	return findings[finding].help;
}

static void
tell(struct audit *a, enum finding finding, uint64_t epoch, uint64_t first, uint64_t last, const char *detail)
{
	a->tell(a->context, finding, epoch, first, last, detail);
}

/* One report by itself. */

static const char *
check_signature(struct audit *a, const struct cose_sign1 *cose, const struct audit_row *row, enum finding *finding)
{
	const struct device_key *key = device_find_key(a->device, cose->kid);
	struct cose_key *ready = key == NULL ? NULL : key_cache_get(a->cache, key);
	enum reason reason = ready == NULL ? REASON_UNKNOWN_KEY : cose_verify(cose, ready, NULL);

	*finding = FINDING_BAD_SIGNATURE;
	if (reason != REASON_OK)
		return reason_name(reason);
	/* A renewal moves the beginning that is kept with the key, so only the end can be held against an older report. */
	*finding = FINDING_KEY_OUT_OF_TIME;
	return row->received_us / 1000000 - key->not_after > VERIFY_GRACE ? reason_name(REASON_CERTIFICATE_EXPIRED)
									  : NULL;
}

static bool
is_in_place(const struct audit *a, const struct audit_row *row, const struct report *report)
{
	return memcmp(&report->ueid, &a->device->ueid, sizeof report->ueid) == 0 && report->epoch == row->epoch &&
	       report->seq == row->seq && (int64_t)report->iat == row->issued_us / 1000000;
}

/* Whether the bytes are a report that this device signed and that is stored where it belongs. */
static bool
check_report(struct audit *a, const struct audit_row *row, struct report *report)
{
	uint8_t digest[DIGEST_SIZE];
	struct cose_sign1 cose;
	enum finding finding;
	enum reason reason;
	const char *why;

	sha256(row->message, digest);
	if (memcmp(digest, row->sha256, DIGEST_SIZE) != 0)
		tell(a, FINDING_ALTERED, row->epoch, row->seq, row->seq, NULL);
	reason = cose_decode(row->message, &cose);
	if (reason == REASON_OK && (why = check_signature(a, &cose, row, &finding)) != NULL) {
		tell(a, finding, row->epoch, row->seq, row->seq, why);
		return false;
	}
	if (reason == REASON_OK)
		reason = report_decode(cose.payload, report);
	if (reason != REASON_OK) {
		tell(a, FINDING_UNREADABLE, row->epoch, row->seq, row->seq, reason_name(reason));
		return false;
	}
	if (is_in_place(a, row, report))
		return true;
	tell(a, FINDING_MISPLACED, row->epoch, row->seq, row->seq, NULL);
	return false;
}

/* What lies between them. */

/* Numbers that nothing accounts for, unless retention may have dropped them: those that came after a report of before `kept_us`, or at the
   beginning of an epoch that is older. */
static void
miss(struct audit *a, enum finding finding, uint64_t first, uint64_t last)
{
	const struct audit_epoch *e = a->epoch;
	bool old = a->any ? a->received_us < a->kept_us : e->first_seen_us < a->kept_us;

	if (first <= last && !old)
		tell(a, finding, e->epoch, first, last, NULL);
}

/* All of first to last that the ledger does not excuse. */
static void
account_for(struct audit *a, enum finding finding, uint64_t first, uint64_t last)
{
	const struct audit_epoch *e = a->epoch;

	for (size_t i = 0; i < e->excused_len && first <= last; i++) {
		const struct seq_range *r = &e->excused[i];

		if (r->last < first)
			continue;
		if (r->first > last)
			break;
		if (r->first > first)
			miss(a, finding, first, r->first - 1);
		first = r->last + 1;
	}
	miss(a, finding, first, last);
}

static bool
is_missing(const struct audit_epoch *e, uint64_t seq)
{
	for (size_t i = 0; i < e->excused_len; i++)
		if (!e->dropped[i] && e->excused[i].first <= seq && seq <= e->excused[i].last)
			return true;
	return false;
}

static void
follow(struct audit *a, const struct audit_row *row, const struct report *report)
{
	bool next = a->any && row->seq == a->seq + 1;
	bool right = report->has_prev && memcmp(report->prev, a->sha256, DIGEST_SIZE) == 0;

	if (next && !right && !(row->flags & REPORT_CHAIN_BREAK))
		tell(a, FINDING_CHAIN, row->epoch, row->seq, row->seq, NULL);
}

static void
end_epoch(struct audit *a)
{
	const struct audit_epoch *e = a->epoch;
	uint64_t next = a->any ? a->seq + 1 : 1;
	bool last;

	if (e == NULL || !e->vouched)
		return;
	account_for(a, FINDING_TAIL, next, e->hi);
	last = a->any && a->seq == e->hi;
	if (a->any && (a->seq > e->hi || (last && e->has_head && memcmp(e->head, a->sha256, DIGEST_SIZE) != 0)))
		tell(a, FINDING_TAIL, e->epoch, a->seq, a->seq, "another head");
}

/* Epochs without rows on the way are ended too. */
static bool
enter_epoch(struct audit *a, uint64_t epoch)
{
	const struct audit_epoch *end = a->epochs + a->epochs_len;

	if (a->epoch != NULL && a->epoch->epoch == epoch)
		return true;
	for (const struct audit_epoch *e = a->epoch == NULL ? a->epochs : a->epoch + 1; e < end; e++) {
		if ((int64_t)e->epoch > (int64_t)epoch)
			break;
		end_epoch(a);
		a->epoch = e;
		a->any = false;
		if (e->epoch == epoch)
			return true;
	}
	return false;
}

void
audit_row(struct audit *a, const struct audit_row *row)
{
	struct report report;
	bool good, fork = row->flags & REPORT_FORK;

	a->reports++;
	good = check_report(a, row, &report);
	if (!enter_epoch(a, row->epoch)) {
		tell(a, FINDING_NO_LEDGER, row->epoch, row->seq, row->seq, NULL);
		return;
	}
	if (fork)
		return;
	if (a->any && row->seq == a->seq) {
		tell(a, FINDING_DOUBLE, row->epoch, row->seq, row->seq, NULL);
		return;
	}
	account_for(a, FINDING_MISSING, a->any ? a->seq + 1 : 1, row->seq - 1);
	if (is_missing(a->epoch, row->seq))
		tell(a, FINDING_NOT_MISSING, row->epoch, row->seq, row->seq, NULL);
	if (good)
		follow(a, row, &report);
	a->any = true;
	a->seq = row->seq;
	a->received_us = row->received_us;
	/* The chain hangs on what the bytes are, not on what is written beside them. */
	sha256(row->message, a->sha256);
}

void
audit_end(struct audit *a)
{
	const struct audit_epoch *end = a->epochs + a->epochs_len;

	end_epoch(a);
	for (const struct audit_epoch *e = a->epoch == NULL ? a->epochs : a->epoch + 1; e < end; e++) {
		a->epoch = e;
		a->any = false;
		end_epoch(a);
	}
}
