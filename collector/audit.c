#include "collector/audit.h"

#include <stdio.h>
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

/* By the recorded time of reception. A renewal moves the beginning that is kept with the key, so only the end can be held against an older report; and a
   revocation is heard of a moment after it was written. */
static enum reason
judge_time(const struct audit_row *row, const struct device_key *key)
{
	int64_t received = row->received_us / 1000000;

	if (key->revoked_at != 0 && received - key->revoked_at > AUDIT_REVOKED_GRACE)
		return REASON_KEY_REVOKED;
	if (key->superseded_seq != 0 && row->epoch == key->superseded_epoch && row->seq >= key->superseded_seq)
		return REASON_KEY_RETIRED;
	return received - key->not_after > VERIFY_GRACE ? REASON_CERTIFICATE_EXPIRED : REASON_OK;
}

static const char *
check_signature(struct audit *a, const struct cose_sign1 *cose, const struct audit_row *row, enum finding *finding)
{
	const struct device_key *key = device_find_key(a->device, cose->kid);
	struct cose_key *ready = key == NULL ? NULL : key_cache_get(a->cache, key);
	enum reason reason = ready == NULL ? REASON_UNKNOWN_KEY : cose_verify(cose, ready, NULL);

	*finding = FINDING_BAD_SIGNATURE;
	if (reason != REASON_OK)
		return reason_name(reason);
	*finding = FINDING_KEY_OUT_OF_TIME;
	reason = judge_time(row, key);
	return reason == REASON_OK ? NULL : reason_name(reason);
}

static bool
is_in_place(const struct audit *a, const struct audit_row *row, const struct report *report)
{
	return memcmp(&report->ueid, &a->device->ueid, sizeof report->ueid) == 0 && report->epoch == row->epoch &&
	       report->seq == row->seq && (int64_t)report->iat == row->issued_us / 1000000;
}

/*
 * Of a backlog only the newest signature was verified (verify.h). A quiet report whose own does not fit is the device's all the same where the one
 * directly after it, good by itself or so vouched for, signed its digest with the same key; that one is the next row.
 */
enum proof { PROOF_NONE, PROOF_PENDING, PROOF_GOOD };

static bool
may_be_vouched_for(const struct audit *a, const struct audit_row *row, const struct cose_sign1 *cose,
		   struct report *report)
{
	const struct device_key *key = device_find_key(a->device, cose->kid);

	return key != NULL && (row->flags & REPORT_FORK) == 0 && judge_time(row, key) == REASON_OK &&
	       report_decode(cose->payload, report) == REASON_OK && !report_has_sections(report) &&
	       is_in_place(a, row, report);
}

static void
settle_doubt(struct audit *a, bool vouched)
{
	if (a->doubt.n > 0 && !vouched)
		tell(a, FINDING_BAD_SIGNATURE, a->doubt.epoch, a->doubt.seq - a->doubt.n + 1, a->doubt.seq,
		     reason_name(REASON_BAD_SIGNATURE));
	a->doubt.n = 0;
}

/* The rows in doubt, now that the next one is known. */
static void
vouch(struct audit *a, const struct audit_row *row, const struct cose_sign1 *cose, const struct report *report,
      enum proof proof)
{
	bool named = a->doubt.n > 0 && proof != PROOF_NONE && row->epoch == a->doubt.epoch &&
		     row->seq == a->doubt.seq + 1 && cose->kid.len == KID_SIZE &&
		     memcmp(cose->kid.at, a->doubt.kid, KID_SIZE) == 0 && report->has_prev &&
		     memcmp(report->prev, a->sha256, DIGEST_SIZE) == 0;

	if (!named || proof == PROOF_GOOD)
		settle_doubt(a, named);
	if (proof != PROOF_PENDING)
		return;
	a->doubt.n++;
	a->doubt.epoch = row->epoch;
	a->doubt.seq = row->seq;
	memcpy(a->doubt.kid, cose->kid.at, KID_SIZE);
}

/* Whether the bytes are a report that this device signed and that is stored where it belongs. */
static enum proof
check_report(struct audit *a, const struct audit_row *row, struct cose_sign1 *cose, struct report *report)
{
	uint8_t digest[DIGEST_SIZE];
	enum finding finding;
	enum reason reason;
	const char *why;

	sha256(row->message, digest);
	if (memcmp(digest, row->sha256, DIGEST_SIZE) != 0)
		tell(a, FINDING_ALTERED, row->epoch, row->seq, row->seq, NULL);
	reason = cose_decode(row->message, cose);
	if (reason == REASON_OK && (why = check_signature(a, cose, row, &finding)) != NULL) {
		if (why == reason_name(REASON_BAD_SIGNATURE) && may_be_vouched_for(a, row, cose, report))
			return PROOF_PENDING;
		tell(a, finding, row->epoch, row->seq, row->seq, why);
		return PROOF_NONE;
	}
	if (reason == REASON_OK)
		reason = report_decode(cose->payload, report);
	if (reason != REASON_OK) {
		tell(a, FINDING_UNREADABLE, row->epoch, row->seq, row->seq, reason_name(reason));
		return PROOF_NONE;
	}
	if (is_in_place(a, row, report))
		return PROOF_GOOD;
	tell(a, FINDING_MISPLACED, row->epoch, row->seq, row->seq, NULL);
	return PROOF_NONE;
}

/* What lies between them. */

/* The highest number that retention took. */
static uint64_t
horizon(const struct audit_epoch *e)
{
	uint64_t quiet = e->expired[EXPIRED_QUIET].seq, full = e->expired[EXPIRED_SECTIONS].seq;

	return quiet > full ? quiet : full;
}

/* Numbers that nothing else accounts for. Retention took so many of them in all, and none above its horizon. What came before `since` is not looked
   at: those that came after a report of before then, or at the beginning of an epoch that is older. */
static void
miss(struct audit *a, enum finding finding, uint64_t first, uint64_t last)
{
	const struct audit_epoch *e = a->epoch;
	bool old = a->any ? a->received_us < a->since_us : e->first_seen_us < a->since_us;
	uint64_t end = horizon(e);

	if (first <= last && first <= end) {
		end = end < last ? end : last;
		a->gone += end - first + 1;
		first = end + 1;
	}
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

/* The digest of the message with this number, as far as it is known. */
static const uint8_t *
digest_of(const struct audit *a, uint64_t seq)
{
	if (a->any && a->seq == seq)
		return a->sha256;
	for (int i = 0; i < EXPIRED_KINDS; i++)
		if (seq > 0 && a->epoch->expired[i].seq == seq)
			return a->epoch->expired[i].sha256;
	/* The last before a transfer is with the former tenant, the chain goes on from there. */
	for (size_t i = 0; i < a->epoch->excused_len; i++)
		if (a->epoch->excused[i].last == seq && a->epoch->ends[i].len == DIGEST_SIZE)
			return a->epoch->ends[i].at;
	return NULL;
}

static bool
is_excused(const struct audit_epoch *e, uint64_t first, uint64_t last)
{
	for (size_t i = 0; i < e->excused_len; i++)
		if (e->excused[i].first <= last && e->excused[i].last >= first)
			return true;
	return false;
}

/* The last one with sections before this, if it is sure which one that was. */
static const uint8_t *
digest_of_full(const struct audit *a, uint64_t seq)
{
	const struct audit_expired *x = &a->epoch->expired[EXPIRED_SECTIONS];
	bool expired = x->seq > a->full;
	uint64_t full = expired ? x->seq : a->full;

	if (a->since_us != INT64_MIN || full == 0 || full >= seq || is_excused(a->epoch, full + 1, seq - 1))
		return NULL;
	return expired ? x->sha256 : a->full_sha256;
}

/* Where retention took the quiet reports before one with sections, the chain goes on from the last one that had some. */
static void
follow(struct audit *a, const struct audit_row *row, const struct report *report)
{
	bool full = report_has_sections(report);
	const uint8_t *before = digest_of(a, row->seq - 1), *full_before = NULL;
	bool right = before == NULL || (report->has_prev && memcmp(report->prev, before, DIGEST_SIZE) == 0);

	if (full && before == NULL && (full_before = digest_of_full(a, row->seq)) != NULL)
		right = report->has_sections_prev && memcmp(report->sections_prev, full_before, DIGEST_SIZE) == 0;
	if (!right && !(row->flags & REPORT_CHAIN_BREAK))
		tell(a, FINDING_CHAIN, row->epoch, row->seq, row->seq, full_before == NULL ? NULL : "with sections");
	if (full) {
		a->full = row->seq;
		sha256(row->message, a->full_sha256);
	}
}

static uint64_t
expired_in(const struct audit_epoch *e)
{
	return e->expired[EXPIRED_QUIET].n + e->expired[EXPIRED_SECTIONS].n;
}

/* Retention says how many it took, so that nobody can hide behind it. */
static void
settle_expired(struct audit *a)
{
	const struct audit_epoch *e = a->epoch;
	uint64_t n = expired_in(e);
	char detail[96];

	if (a->gone <= n || a->since_us != INT64_MIN)
		return;
	snprintf(detail, sizeof detail, "%llu of these, and retention took %llu", (unsigned long long)a->gone,
		 (unsigned long long)n);
	tell(a, FINDING_MISSING, e->epoch, 1, horizon(e), detail);
}

static void
end_epoch(struct audit *a)
{
	const struct audit_epoch *e = a->epoch;
	uint64_t next = a->any ? a->seq + 1 : 1;
	const uint8_t *last;

	if (e == NULL)
		return;
	a->expired += expired_in(e);
	if (!e->vouched)
		return;
	account_for(a, FINDING_TAIL, next, e->hi);
	settle_expired(a);
	last = digest_of(a, e->hi);
	if (a->any && a->seq > e->hi)
		tell(a, FINDING_TAIL, e->epoch, a->seq, a->seq, "another head");
	else if (last != NULL && e->has_head && memcmp(e->head, last, DIGEST_SIZE) != 0)
		tell(a, FINDING_TAIL, e->epoch, e->hi, e->hi, "another head");
}

static void
begin_epoch(struct audit *a, const struct audit_epoch *e)
{
	a->epoch = e;
	a->any = false;
	a->full = 0;
	a->gone = 0;
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
		begin_epoch(a, e);
		if (e->epoch == epoch)
			return true;
	}
	return false;
}

void
audit_row(struct audit *a, const struct audit_row *row)
{
	struct cose_sign1 cose;
	struct report report;
	enum proof proof;
	bool fork = row->flags & REPORT_FORK;

	a->reports++;
	proof = check_report(a, row, &cose, &report);
	if (!fork)
		vouch(a, row, &cose, &report, proof);
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
	if (proof == PROOF_GOOD)
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

	settle_doubt(a, false);
	end_epoch(a);
	for (const struct audit_epoch *e = a->epoch == NULL ? a->epochs : a->epoch + 1; e < end; e++) {
		begin_epoch(a, e);
		end_epoch(a);
	}
}
