#include "collector/admit.h"

#include <stdlib.h>

#include "collector/counters.h"
#include "collector/enrol.h"

/* Of a batch: whom to read into memory, and whom to read anew. */
struct arrivals {
	struct ueid *strangers, *known;
	size_t strangers_n, known_n;
};

/* A key that is new, or a certificate for a known one that begins later. */
static bool
wants_enrolment(struct keyring *keyring, struct message *m)
{
	const struct device_key *key;

	if (m->reason != REASON_OK || m->enrolment == NULL)
		return false;
	m->device = keyring_find(keyring, &m->ueid);
	if (m->device == NULL)
		return true;
	key = device_find_key(m->device, (struct slice){m->enrolment->kid, KID_SIZE});
	return key == NULL || key->not_before < m->enrolment->not_before;
}

static void
add_enrolment(struct transaction *t, const struct message *m)
{
	const struct enrolment *e = m->enrolment;
	struct rows *r = transaction_row(t, ENROL_DEVICE);

	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_int(r, e->tenant_id);
	row_int(r, e->hold);
	row_time(r, m->received_us);
	r = transaction_row(t, ENROL_HOT);
	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	r = transaction_row(t, ENROL_KEY);
	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_int(r, e->tenant_id);
	row_bytes(r, e->kid, KID_SIZE);
	row_slice(r, e->spki);
	for (size_t i = 0; i < LIMIT_CHAIN_CERTS; i++)
		row_slice(r, i < e->chain_len ? e->chain[i] : (struct slice){NULL, 0});
	row_time(r, e->not_before * 1000000);
	row_time(r, e->not_after * 1000000);
	row_time(r, m->received_us);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
}

/* What the database made of it: under another tenant a device does not take the key. */
static enum reason
enrolled(const struct message *m)
{
	enum reason gone = lifecycle_reason(m->device->lifecycle);

	if (gone != REASON_OK)
		return gone;
	if (m->enrolment->tenant_id != m->device->tenant_id ||
	    device_find_key(m->device, (struct slice){m->enrolment->kid, KID_SIZE}) == NULL)
		return REASON_UEID_OWNED_ELSEWHERE;
	return REASON_OK;
}

static int
add_arrivals(struct transaction *t, struct keyring *keyring, struct arrivals *a, struct message **messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];

		if (!wants_enrolment(keyring, m))
			continue;
		if (a->known == NULL) {
			a->known = calloc(n, sizeof *a->known);
			a->strangers = calloc(n, sizeof *a->strangers);
			if (a->known == NULL || a->strangers == NULL)
				return -1;
		}
		add_enrolment(t, m);
		if (m->device != NULL)
			a->known[a->known_n++] = m->ueid;
		else
			a->strangers[a->strangers_n++] = m->ueid;
	}
	return 0;
}

static enum outcome
take_in(struct transaction *t, struct keyring *keyring, const struct arrivals *a)
{
	struct database *db = transaction_database(t);
	enum outcome outcome = transaction_run(t, ENROL_DEVICE, ENROL_KEY + 1);

	if (outcome != DONE)
		return outcome == DOUBT ? AGAIN : outcome;
	counter_add(COUNTER_ENROLLED, transaction_affected(t, ENROL_KEY));
	if ((a->strangers_n > 0 && keyring_load(keyring, db, a->strangers, a->strangers_n) < 0) ||
	    (a->known_n > 0 && keyring_reload(keyring, db, a->known, a->known_n) < 0))
		return AGAIN;
	return DONE;
}

static enum outcome
judge_arrivals(struct keyring *keyring, struct message **messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];

		if (m->reason != REASON_OK || m->enrolment == NULL)
			continue;
		m->device = keyring_find(keyring, &m->ueid);
		if (m->device == NULL)
			return AGAIN;
		m->reason = enrolled(m);
	}
	return DONE;
}

enum outcome
admit(struct transaction *t, struct keyring *keyring, struct message **messages, size_t n)
{
	struct arrivals a = {0};
	enum outcome outcome = add_arrivals(t, keyring, &a, messages, n) < 0 ? AGAIN : DONE;

	if (outcome == DONE && a.known != NULL) {
		outcome = take_in(t, keyring, &a);
		if (outcome == DONE)
			outcome = judge_arrivals(keyring, messages, n);
	}
	free(a.strangers);
	free(a.known);
	return outcome;
}
