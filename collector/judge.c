#include "collector/judge.h"

#include <stdlib.h>
#include <string.h>

#include "collector/enrol.h"
#include "collector/verify.h"

#define AWAY_MIN_US INT64_C(500000)

struct order {
	int64_t device_id;
	size_t index;
	struct message *message;
};

struct judge_pool {
	size_t max;
	struct order *order;
	struct message **sorted;
	struct account *accounts; /* a device's current one, and at most one more a message */
	size_t accounts_n, accounts_max;
};

static const struct ledger nothing;

int
judge_init(struct judge *j, size_t max)
{
	struct judge_pool *p = calloc(1, sizeof *p);

	memset(j, 0, sizeof *j);
	if (p == NULL)
		return -1;
	j->pool = p;
	p->max = max;
	p->accounts_max = 3 * max;
	p->order = calloc(max, sizeof *p->order);
	p->sorted = calloc(max, sizeof *p->sorted);
	p->accounts = calloc(p->accounts_max, sizeof *p->accounts);
	j->dockets = calloc(max, sizeof *j->dockets);
	j->asked = calloc(max, sizeof *j->asked);
	if (p->order == NULL || p->sorted == NULL || p->accounts == NULL || j->dockets == NULL || j->asked == NULL) {
		judge_free(j);
		return -1;
	}
	return 0;
}

void
judge_free(struct judge *j)
{
	if (j->pool != NULL) {
		judge_end(j);
		free(j->pool->order);
		free(j->pool->sorted);
		free(j->pool->accounts);
		free(j->pool);
	}
	free(j->dockets);
	free(j->asked);
	memset(j, 0, sizeof *j);
}

static int
compare(const void *left, const void *right)
{
	const struct order *a = left, *b = right;

	if (a->device_id != b->device_id)
		return a->device_id < b->device_id ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static size_t
sort(struct judge_pool *p, struct message **messages, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];

		if (m->judged)
			m->reason = REASON_OK;
		m->judged = false;
		if (m->reason != REASON_OK || m->device == NULL)
			continue;
		m->flags &= REPORT_CLOCK_SUSPECT | REPORT_GRACE;
		p->order[kept++] = (struct order){m->device->device_id, i, m};
	}
	qsort(p->order, kept, sizeof *p->order, compare);
	for (size_t i = 0; i < kept; i++)
		p->sorted[i] = p->order[i].message;
	return kept;
}

/* Takes the next account from the pool, at the end of the device's list. NULL when the pool is used up, which a batch can't. */
static struct account *
open_account(struct judge *j, struct docket *d)
{
	struct judge_pool *p = j->pool;
	struct account *a, **end = &d->accounts;

	if (p->accounts_n == p->accounts_max)
		return NULL;
	a = &p->accounts[p->accounts_n++];
	memset(a, 0, sizeof *a);
	a->before = &nothing;
	a->vouched = true;
	while (*end != NULL)
		end = &(*end)->next;
	*end = a;
	return a;
}

static int
open_current(struct judge *j, struct docket *d)
{
	struct account *a;

	if (!d->device->ledger.started)
		return 0;
	a = open_account(j, d);
	if (a == NULL || ledger_copy(&a->ledger, &d->device->ledger) < 0)
		return -1;
	a->before = &d->device->ledger;
	d->current = a;
	for (size_t i = 0; i < d->n; i++)
		d->other_epochs |= d->messages[i]->report.epoch != a->ledger.epoch;
	return 0;
}

int
judge_begin(struct judge *j, struct message **messages, size_t n)
{
	struct judge_pool *p = j->pool;
	size_t kept = sort(p, messages, n);

	judge_end(j);
	for (size_t i = 0, next; i < kept; i = next) {
		struct docket *d = &j->dockets[j->dockets_n++];

		next = i + 1;
		while (next < kept && p->sorted[next]->device == p->sorted[i]->device)
			next++;
		memset(d, 0, sizeof *d);
		d->device = p->sorted[i]->device;
		d->messages = p->sorted + i;
		d->n = next - i;
		d->allowance = INT64_MAX;
		if (open_current(j, d) < 0)
			return -1;
	}
	return 0;
}

int
judge_add_epoch(struct judge *j, struct docket *d, const struct ledger *ledger, bool vouched)
{
	struct account *a = open_account(j, d);

	if (a == NULL || ledger_copy(&a->stored, ledger) < 0 || ledger_copy(&a->ledger, ledger) < 0)
		return -1;
	a->before = &a->stored;
	a->vouched = vouched;
	return 0;
}

/* The first epoch of a device is vouched for by its enrolment. A later one needs a certificate that began after that of all earlier ones, or the
   operator's word; anything else is a second device under one key. */
static bool
is_vouched(const struct docket *d, const struct device_key *key)
{
	return d->current == NULL || d->reprovision || (key != NULL && key->not_before > d->vouched_until);
}

/* An epoch nobody has seen yet. */
static struct account *
begin_epoch(struct judge *j, struct docket *d, const struct message *m)
{
	const struct device_key *key = device_find_key(d->device, m->cose.kid);
	struct account *a = open_account(j, d);

	if (a == NULL)
		return NULL;
	a->vouched = is_vouched(d, key);
	d->unvouched += !a->vouched;
	if (d->current == NULL ? ledger_copy(&a->ledger, &d->device->ledger) < 0 : false)
		return NULL;
	if (d->current != NULL && a->vouched) {
		if (ledger_copy(&a->ledger, &d->current->ledger) < 0)
			return NULL;
		d->current->left = d->current->changed = true;
	}
	ledger_start_epoch(&a->ledger, m->report.epoch);
	a->fresh = a->changed = true;
	a->first_seen_us = m->received_us;
	a->certified = key == NULL ? 0 : key->not_before;
	if (a->vouched) {
		d->current = a;
		d->reprovision = false;
		if (key != NULL && key->not_before > d->vouched_until)
			d->vouched_until = key->not_before;
	}
	return a;
}

static struct account *
find_account(struct docket *d, const struct message *m)
{
	for (struct account *a = d->accounts; a != NULL; a = a->next)
		if (a->ledger.epoch == m->report.epoch)
			return a;
	return NULL;
}

/* Whether all of (hi, seq) is declared, by this very report, never to have been made. */
static bool
is_next(const struct ledger *l, const struct report *r)
{
	uint64_t expected = l->hi + 1;

	for (size_t i = 0; i < r->dropped_len && expected < r->seq; i++)
		if (r->dropped[i].cause == DROP_SKIPPED && r->dropped[i].range.first <= expected &&
		    r->dropped[i].range.last >= expected)
			expected = r->dropped[i].range.last + 1;
	return expected == r->seq;
}

/* Only a direct successor of what we hold can break the chain: otherwise its predecessor is not here to compare with. */
static bool
breaks_chain(const struct ledger *l, const struct report *r)
{
	if (!is_next(l, r))
		return false;
	if (l->hi == 0)
		return r->has_prev;
	return l->has_head && (!r->has_prev || memcmp(r->prev, l->head, DIGEST_SIZE) != 0);
}

static bool
has_state(const struct message *m)
{
	return m->report.state.at != NULL;
}

static void
learn_facts(struct ledger *l, const struct message *m)
{
	bool same = memcmp(l->facts, m->report.facts, FACTS_SIZE) == 0;

	l->facts_known = has_state(m) || (l->facts_known && same);
	memcpy(l->facts, m->report.facts, FACTS_SIZE);
	if (has_state(m))
		l->inventory_known = m->inventory_stored;
}

/* A clock that was ahead and is right again goes back too. */
static bool
clock_went_back(const struct ledger *l, const struct message *m)
{
	return l->last_iat - (int64_t)m->report.iat > VERIFY_CLOCK_AHEAD &&
	       l->last_iat - m->received_us / 1000000 <= VERIFY_CLOCK_AHEAD;
}

static int
take_new(struct account *a, struct message *m)
{
	struct ledger *l = &a->ledger;
	bool went_back = clock_went_back(l, m);
	bool breaks = breaks_chain(l, &m->report);

	if (ledger_take(l, &m->report, &a->drops) < 0)
		return -1;
	if (breaks) {
		m->flags |= REPORT_CHAIN_BREAK;
		a->chain_breaks++;
	}
	l->has_head = true;
	memcpy(l->head, m->sha256, DIGEST_SIZE);
	if (report_has_sections(&m->report)) {
		l->has_sections_head = true;
		memcpy(l->sections_head, m->sha256, DIGEST_SIZE);
	}
	if (went_back)
		m->flags |= REPORT_CLOCK_SUSPECT;
	l->last_iat = (int64_t)m->report.iat;
	l->interval = m->report.interval;
	learn_facts(l, m);
	m->verdict = LEDGER_NEW;
	return 0;
}

static void
note_late(struct account *a, struct message *m)
{
	if (has_state(m) && memcmp(a->ledger.facts, m->report.facts, FACTS_SIZE) == 0) {
		a->ledger.facts_known = true;
		a->ledger.inventory_known = m->inventory_stored;
	}
	a->late++;
	m->flags |= REPORT_LATE;
	m->verdict = LEDGER_LATE;
}

static int
take_late(struct account *a, struct message *m)
{
	if (ledger_take(&a->ledger, &m->report, &a->drops) < 0)
		return -1;
	note_late(a, m);
	return 0;
}

static void
note_fork(struct docket *d, struct account *a, struct message *m)
{
	m->verdict = LEDGER_FORK;
	m->flags |= REPORT_FORK;
	a->forks++;
	a->changed = true;
	d->fork = true;
	d->stored++;
}

/* By a report that comes before it in this batch. */
static enum taken
taken_by_twin(const struct docket *d, const struct message *m)
{
	enum taken taken = TAKEN_GONE;

	for (size_t i = 0; i < d->n && d->messages[i] != m; i++) {
		const struct message *twin = d->messages[i];

		if (twin->reason != REASON_OK || twin->report.epoch != m->report.epoch ||
		    twin->report.seq != m->report.seq)
			continue;
		if (memcmp(twin->tbs, m->tbs, DIGEST_SIZE) == 0)
			return TAKEN_SAME;
		if (message_is_stored(twin))
			taken = TAKEN_OTHER;
	}
	return taken;
}

/* The number is taken. A twin in this batch answers at once; otherwise what is stored does. */
static void
take_taken(struct judge *j, struct docket *d, struct account *a, struct message *m)
{
	enum taken taken = taken_by_twin(d, m);

	if (taken == TAKEN_OTHER) {
		note_fork(d, a, m);
		return;
	}
	m->verdict = LEDGER_DUPLICATE;
	if (taken == TAKEN_SAME)
		a->duplicates++;
	else
		j->asked[j->asked_n++] = m;
}

static void
note_away(struct docket *d, const struct message *m)
{
	const struct ledger *l = &d->device->ledger;

	if (l->last_seen_us != 0 && m->received_us - l->last_seen_us > (int64_t)l->interval * 1000000 + AWAY_MIN_US)
		d->was_away = true;
}

/* New numbers of an epoch that the device left: its state directory is gone, and with it whatever could sign them. */
static bool
is_left_behind(const struct docket *d, const struct account *a, const struct message *m)
{
	return a != d->current && d->current != NULL && m->verdict == LEDGER_NEW;
}

static void
note_stored(struct docket *d, struct account *a, struct message *m)
{
	if (!a->vouched || is_left_behind(d, a, m)) {
		m->flags |= REPORT_SECOND_EPOCH;
		m->verdict = LEDGER_SECOND_EPOCH;
		d->second_epoch = true;
	}
	if (has_state(m) && a == d->current && (a->state == NULL || a->state->report.seq < m->report.seq))
		a->state = m;
	a->changed = true;
	d->stored++;
	d->allowance--;
}

/* An epoch that is stored already had its certificate noted when the key was enrolled, even if the report that brought it was lost since. */
static void
note_certificate(const struct docket *d, struct account *a, const struct message *m)
{
	const struct device_key *key = device_find_key(d->device, m->cose.kid);

	if ((a->fresh || m->enrolment != NULL) && key != NULL && key->not_before > a->certified)
		a->certified = key->not_before;
}

/* By what the ledger was when this was judged: another attempt may find it otherwise. */
static void
refuse(struct message *m, enum reason reason)
{
	m->reason = reason;
	m->judged = true;
}

/* What changed since the message was verified. */
static enum reason
judge_standing(const struct docket *d, const struct message *m)
{
	const struct device_key *key = device_find_key(d->device, m->cose.kid);

	enum reason gone = lifecycle_reason(d->device->lifecycle);

	if (gone != REASON_OK)
		return gone;
	if (key == NULL || key->status == KEY_REVOKED)
		return REASON_KEY_REVOKED;
	return d->allowance > 0 ? REASON_OK : REASON_PENDING_FULL;
}

/* A key that has a successor is good below the number that the successor began at, and for what an earlier epoch still lacks. */
static bool
is_superseded(const struct device_key *key, const struct account *a, const struct message *m)
{
	if (key->status != KEY_RETIRED)
		return false;
	if (key->superseded_seq == 0)
		return true;
	if (m->report.epoch == key->superseded_epoch)
		return m->report.seq >= key->superseded_seq;
	return a == NULL || m->report.seq > a->ledger.hi;
}

/* `a` is NULL for an epoch that would be new. Where one begins is the device's to say; within it no device and no spool leaves so many out. */
static enum reason
judge_place(const struct docket *d, const struct account *a, const struct message *m)
{
	if (is_superseded(device_find_key(d->device, m->cose.kid), a, m))
		return REASON_KEY_RETIRED;
	if (a == NULL && d->unvouched >= JUDGE_EPOCHS_MAX && !is_vouched(d, device_find_key(d->device, m->cose.kid)))
		return REASON_EPOCH_FULL;
	if (a != NULL && a->ledger.hi > 0 && m->report.seq > a->ledger.hi + JUDGE_LEAP_MAX)
		return REASON_SEQ_LEAP;
	return REASON_OK;
}

static int
place_message(struct judge *j, struct docket *d, struct account *a, struct message *m)
{
	enum ledger_place place = ledger_place(&a->ledger, m->report.epoch, m->report.seq);

	note_certificate(d, a, m);
	note_away(d, m);
	if (place == PLACE_TAKEN) {
		take_taken(j, d, a, m);
		return 0;
	}
	if ((place == PLACE_ABOVE ? take_new(a, m) : take_late(a, m)) < 0)
		return -1;
	note_stored(d, a, m);
	return 0;
}

static int
judge_message(struct judge *j, struct docket *d, struct message *m)
{
	struct account *a = find_account(d, m);
	enum reason reason = judge_standing(d, m);

	if (d->device->lifecycle == LIFECYCLE_PENDING)
		m->flags |= REPORT_PENDING;
	if (reason == REASON_OK)
		reason = judge_place(d, a, m);
	if (reason != REASON_OK) {
		refuse(m, reason);
		return 0;
	}
	if (a == NULL && (a = begin_epoch(j, d, m)) == NULL)
		return -1;
	if (place_message(j, d, a, m) < 0)
		refuse(m, REASON_GAPS_FULL);
	return 0;
}

static void
note_seen(struct docket *d)
{
	if (d->current == NULL)
		return;
	for (size_t i = 0; i < d->n; i++)
		if (d->messages[i]->received_us > d->current->ledger.last_seen_us)
			d->current->ledger.last_seen_us = d->messages[i]->received_us;
}

int
judge_run(struct judge *j)
{
	for (size_t i = 0; i < j->dockets_n; i++) {
		struct docket *d = &j->dockets[i];

		for (size_t k = 0; k < d->n; k++)
			if (judge_message(j, d, d->messages[k]) < 0)
				return -1;
		note_seen(d);
	}
	return 0;
}

static struct docket *
docket_of(struct judge *j, const struct message *m)
{
	size_t low = 0, high = j->dockets_n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (j->dockets[middle].device->device_id < m->device->device_id)
			low = middle + 1;
		else
			high = middle;
	}
	return &j->dockets[low];
}

/* What an earlier report of this batch declared of a number that was missing until then. */
static enum taken
taken_by_drop(const struct account *a, uint64_t seq)
{
	for (size_t i = 0; i < a->drops.len; i++)
		if (a->drops.at[i].range.first <= seq && seq <= a->drops.at[i].range.last)
			return a->drops.at[i].cause == DROP_SKIPPED ? TAKEN_SKIPPED : TAKEN_OVERWRITTEN;
	return TAKEN_GONE;
}

/* What was declared never made was made by another; what was declared lost is found. */
void
judge_settle(struct judge *j, struct message *m, enum taken taken)
{
	struct docket *d = docket_of(j, m);
	struct account *a = find_account(d, m);

	if (taken == TAKEN_GONE)
		taken = taken_by_drop(a, m->report.seq);
	if (taken == TAKEN_OVERWRITTEN && taken_by_twin(d, m) == TAKEN_OTHER)
		taken = TAKEN_OTHER;
	switch (taken) {
	case TAKEN_GONE:
	case TAKEN_SAME:
		a->duplicates++;
		break;
	case TAKEN_OTHER:
	case TAKEN_SKIPPED:
		note_fork(d, a, m);
		break;
	case TAKEN_OVERWRITTEN:
		note_late(a, m);
		note_stored(d, a, m);
		break;
	}
}

void
judge_commit(struct judge *j)
{
	for (size_t i = 0; i < j->dockets_n; i++) {
		struct docket *d = &j->dockets[i];

		if (d->stored == 0 || d->current == NULL)
			continue;
		ledger_free(&d->device->ledger);
		d->device->ledger = d->current->ledger;
		d->device->ledger.rev++;
		memset(&d->current->ledger, 0, sizeof d->current->ledger);
	}
}

void
judge_end(struct judge *j)
{
	for (size_t i = 0; i < j->pool->accounts_n; i++) {
		ledger_free(&j->pool->accounts[i].ledger);
		ledger_free(&j->pool->accounts[i].stored);
		free(j->pool->accounts[i].drops.at);
	}
	j->pool->accounts_n = 0;
	j->dockets_n = 0;
	j->asked_n = 0;
}

bool
message_is_stored(const struct message *m)
{
	return m->reason == REASON_OK && m->verdict != LEDGER_DUPLICATE;
}
