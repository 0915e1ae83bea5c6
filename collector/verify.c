#include "collector/verify.h"

#include <string.h>

/* Whose key, and what is known of it: from the keyring, or from the chain in the message. */
struct signer {
	struct device_key enrolled; /* made of the chain */
	const struct device_key *key;
};

static int64_t
received_s(const struct message *m)
{
	return m->received_us / 1000000;
}

static enum reason
read_envelope(struct message *m)
{
	sha256(m->bytes, m->sha256);
	return cose_decode(m->bytes, &m->cose);
}

/* Whose device it is, if it is known. */
static int32_t
tenant_of(const struct message *m)
{
	return m->device == NULL ? 0 : m->device->tenant_id;
}

static enum reason
find_signer(struct message *m, const struct anchors *anchors, struct signer *signer)
{
	enum reason reason;

	m->parked = false;
	signer->key = m->device == NULL ? NULL : device_find_key(m->device, m->cose.kid);
	if (signer->key != NULL)
		return REASON_OK;
	m->parked = m->cose.chain_len == 0;
	if (m->parked)
		return REASON_OK;
	reason = enrol_chain(anchors, m->cose.chain, m->cose.chain_len, &m->ueid, m->cose.kid, received_s(m),
			     tenant_of(m), &m->enrolment);
	if (reason != REASON_OK)
		return reason;
	signer->enrolled = (struct device_key){.status = KEY_ACTIVE,
					       .not_before = m->enrolment->not_before,
					       .not_after = m->enrolment->not_after,
					       .spki = m->enrolment->spki};
	memcpy(signer->enrolled.kid, m->enrolment->kid, KID_SIZE);
	signer->key = &signer->enrolled;
	return REASON_OK;
}

static enum reason
check_signature(struct message *m, struct key_cache *cache, const struct device_key *key)
{
	struct cose_key *ready = key_cache_get(cache, key);

	return ready == NULL ? REASON_UNKNOWN_KEY : cose_verify(&m->cose, ready, m->tbs);
}

/* A known key may come with a certificate that begins later than ours: a renewal. A chain that is no good is passed over, as the key is. */
static void
look_for_renewal(struct message *m, const struct anchors *anchors, struct signer *signer)
{
	const struct cose_sign1 *cose = &m->cose;

	if (m->enrolment != NULL || cose->chain_len == 0 ||
	    !certificate_begins_after(cose->chain[0], signer->key->not_before))
		return;
	if (enrol_chain(anchors, cose->chain, cose->chain_len, &m->ueid, cose->kid, received_s(m), tenant_of(m),
			&m->enrolment) != REASON_OK)
		return;
	signer->enrolled = *signer->key;
	signer->enrolled.not_before = m->enrolment->not_before;
	signer->enrolled.not_after = m->enrolment->not_after;
	signer->key = &signer->enrolled;
}

static enum reason
judge_device(struct message *m)
{
	if (m->device == NULL)
		return REASON_OK;
	if (m->enrolment != NULL && m->enrolment->tenant_id != m->device->tenant_id)
		return REASON_UEID_OWNED_ELSEWHERE;
	return lifecycle_reason(m->device->lifecycle);
}

static enum reason
judge_key(struct message *m, const struct device_key *key)
{
	int64_t now = received_s(m);

	if (key->status == KEY_REVOKED)
		return REASON_KEY_REVOKED;
	/* Where its successor's numbers are known, the ledger's side judges. */
	if (key->status == KEY_RETIRED && key->superseded_seq == 0)
		return REASON_KEY_RETIRED;
	if (now < key->not_before)
		return REASON_CERTIFICATE_NOT_YET_VALID;
	if (now <= key->not_after)
		return REASON_OK;
	if (now - key->not_after > VERIFY_GRACE)
		return REASON_CERTIFICATE_EXPIRED;
	m->flags |= REPORT_GRACE;
	return REASON_OK;
}

static enum reason
read_report(struct message *m)
{
	enum reason reason = report_decode(m->cose.payload, &m->report);

	if (reason != REASON_OK)
		return reason;
	return memcmp(&m->report.ueid, &m->ueid, sizeof m->ueid) == 0 ? REASON_OK : REASON_FOREIGN_TOPIC;
}

static void
flag_report(struct message *m)
{
	int64_t iat = (int64_t)m->report.iat;

	if (m->report.has_clock || iat < VERIFY_CLOCK_LEAST || iat - received_s(m) > VERIFY_CLOCK_AHEAD)
		m->flags |= REPORT_CLOCK_SUSPECT;
	if (m->device != NULL ? m->device->lifecycle == LIFECYCLE_PENDING : m->enrolment != NULL && m->enrolment->hold)
		m->flags |= REPORT_PENDING;
}

static bool
same_bytes(struct slice a, struct slice b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* Whether one that is verified names these very bytes, signature and all, as what the same key signed before it. Only of a key that we have: what
   comes with a chain is looked at by itself. */
static bool
is_named(const struct message *m, const struct message *by)
{
	return by != NULL && by->reason == REASON_OK && !by->parked && by->enrolment == NULL && m->device != NULL &&
	       by->device == m->device && m->cose.chain_len == 0 && device_find_key(m->device, m->cose.kid) != NULL &&
	       by->cose.alg == m->cose.alg && same_bytes(by->cose.kid, m->cose.kid) && by->report.has_prev &&
	       memcmp(by->report.prev, m->sha256, DIGEST_SIZE) == 0;
}

/* That is enough for a quiet report that stands directly before it. Evidence with sections outlives the quiet reports around it, so its own signature
   has to be good. */
static bool
is_vouched_for(const struct message *m, const struct message *by)
{
	return !report_has_sections(&m->report) && by->report.epoch == m->report.epoch && m->report.seq < UINT64_MAX &&
	       by->report.seq == m->report.seq + 1;
}

/* `by`: the device's next message, if it was looked at before this one. */
static enum reason
verify(struct message *m, const struct message *by, struct key_cache *cache, const struct anchors *anchors)
{
	struct signer signer = {0};
	enum reason reason;
	bool named;

	if ((reason = read_envelope(m)) != REASON_OK)
		return reason;
	if ((reason = find_signer(m, anchors, &signer)) != REASON_OK || m->parked)
		return reason;
	named = is_named(m, by);
	if (named)
		cose_tbs_digest(&m->cose, m->tbs);
	else if ((reason = check_signature(m, cache, signer.key)) != REASON_OK)
		return reason;
	look_for_renewal(m, anchors, &signer);
	if ((reason = judge_device(m)) != REASON_OK)
		return reason;
	if ((reason = judge_key(m, signer.key)) != REASON_OK)
		return reason;
	if ((reason = read_report(m)) != REASON_OK)
		return reason;
	if (named && !is_vouched_for(m, by) && (reason = check_signature(m, cache, signer.key)) != REASON_OK)
		return reason;
	flag_report(m);
	return REASON_OK;
}

static void
verify_one(struct message *message, const struct message *by, struct key_cache *cache, const struct anchors *anchors)
{
	message->reason = verify(message, by, cache, anchors);
	if (message->reason != REASON_OK) {
		enrolment_free(message->enrolment);
		message->enrolment = NULL;
	}
}

void
verify_message(struct message *message, struct key_cache *cache, const struct anchors *anchors)
{
	verify_one(message, NULL, cache, anchors);
}

/* Some of the device's random bytes, side by side for all of a run: most are of different devices, and each message is far from the next. */
static uint64_t
short_name(const struct ueid *ueid)
{
	uint64_t name;

	memcpy(&name, ueid->bytes + UEID_SIZE - sizeof name, sizeof name);
	return name;
}

/* The device's next one. */
static const struct message *
next_of(struct message *const *run, const uint64_t *names, size_t n, size_t i)
{
	for (size_t k = i + 1; k < n; k++)
		if (names[k] == names[i] && memcmp(&run[k]->ueid, &run[i]->ueid, sizeof run[i]->ueid) == 0)
			return run[k];
	return NULL;
}

void
verify_run(struct message **run, size_t n, struct key_cache *cache, const struct anchors *anchors)
{
	uint64_t names[VERIFY_RUN];

	for (size_t i = n; i-- > 0;) {
		names[i] = short_name(&run[i]->ueid);
		if (run[i]->reason == REASON_OK)
			verify_one(run[i], next_of(run, names, n, i), cache, anchors);
	}
}
