#include "collector/answer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/gaps.h"
#include "collector/seal.h"
#include "schema/log.h"
#include "schema/receipt.h"

#define QUEUE_MAX 4096 /* receipts that wait for their signature */
#define GAPS_MAX 4096 /* devices with a gap that are watched */
#define REFUSALS_MAX (QUEUE_MAX / 2) /* of these: strangers bring them about */
#define ASKED_SIZE 1024 /* who was asked for a chain lately; a power of two */
#define ASK_SECONDS 10
#define RENEW_BEFORE                                                                                                   \
	(30 * 86400) /* seconds before a certificate's end: from then on its device is asked for a later one */
#define RENEW_SECONDS 3600 /* but not sooner again */
#define PACE_FROM 25 /* percent of the queue */

struct item {
	struct item *next;
	struct receipt receipt;
	uint8_t nonce[LIMIT_NONCE]; /* what the receipt's points to */
};

struct answer {
	struct subscribe *subscribe;
	struct seal *seal;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stop;
	struct item *first, **end;
	size_t n, refusals_n;
	struct gaps *gaps;
	struct {
		struct ueid ueid;
		int64_t when;
	} asked[ASKED_SIZE];
};

static int64_t
seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec;
}

static uint32_t
hash(const struct ueid *ueid)
{
	uint32_t n;

	memcpy(&n, ueid->bytes + 1, sizeof n);
	return n;
}

static bool
has_room(const struct answer *a, const struct receipt *receipt)
{
	return a->n < QUEUE_MAX && (receipt->refused_len == 0 || a->refusals_n < REFUSALS_MAX);
}

/* Under the lock. */
static void
enqueue(struct answer *a, const struct receipt *receipt)
{
	struct item *item = has_room(a, receipt) ? malloc(sizeof *item) : NULL;

	if (item == NULL) {
		counter_add(COUNTER_RECEIPTS_DROPPED, 1);
		return;
	}
	item->receipt = *receipt;
	if (receipt->nonce.at != NULL) {
		memcpy(item->nonce, receipt->nonce.at, receipt->nonce.len);
		item->receipt.nonce.at = item->nonce;
	}
	item->next = NULL;
	*a->end = item;
	a->end = &item->next;
	a->n++;
	a->refusals_n += receipt->refused_len > 0;
	pthread_cond_signal(&a->work);
}

/* Under the lock. Takes the item at the link out of the queue. */
static struct item *
dequeue(struct answer *a, struct item **link)
{
	struct item *item = *link;

	*link = item->next;
	if (*link == NULL)
		a->end = link;
	a->n--;
	a->refusals_n -= item->receipt.refused_len > 0;
	return item;
}

static void
enqueue_gap(void *context, const struct receipt *receipt)
{
	enqueue(context, receipt);
}

/* Composing. */

/* All that stands in the ledger. What does not fit is named as one range: then some are sent again that are here, and none is forgotten. */
static void
give_account(struct receipt *r, const struct ledger *l)
{
	size_t n = l->missing_len;

	r->epoch = l->epoch;
	r->up_to = l->hi;
	r->has_digest = l->has_head && l->hi > 0;
	if (r->has_digest)
		memcpy(r->digest, l->head, DIGEST_SIZE);
	r->missing_len = n < LIMIT_RECEIPT_MISSING ? n : LIMIT_RECEIPT_MISSING;
	if (n == 0)
		return;
	memcpy(r->missing, l->missing, r->missing_len * sizeof r->missing[0]);
	r->missing[r->missing_len - 1].last = l->missing[n - 1].last;
}

static unsigned
wants_of(const struct ledger *l)
{
	if (!l->facts_known)
		return WANT_STATE;
	return l->inventory_known ? 0 : WANT_INVENTORY;
}

/* A certificate whose time is over, or soon will be: a later one may be there, and comes only with a chain. */
static bool
wants_later_certificate(const struct docket *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct message *m = d->messages[i];
		const struct device_key *key = m->reason == REASON_OK ? device_find_key(d->device, m->cose.kid) : NULL;

		if (key != NULL && m->received_us / 1000000 > key->not_after - RENEW_BEFORE)
			return true;
	}
	return false;
}

static unsigned
wants_chain(const struct docket *d)
{
	int64_t now = seconds(CLOCK_MONOTONIC), *wanted = &d->device->chain_wanted;

	if ((*wanted != 0 && now - *wanted < RENEW_SECONDS) || !wants_later_certificate(d))
		return 0;
	*wanted = now;
	return WANT_CHAIN;
}

/* Up to ten milliseconds between reports for each percent the queue is fuller than it should be. */
static uint32_t
pace_of(unsigned load)
{
	return load <= PACE_FROM ? 0 : (load - PACE_FROM) * 10;
}

static void
add_refused(struct receipt *r, const struct message *m)
{
	const char *name = reason_name(m->reason);

	if (r->refused_len == LIMIT_RECEIPT_REFUSED)
		return;
	sha256(m->bytes, r->refused[r->refused_len].digest);
	r->refused[r->refused_len++].reason = (struct slice){(const uint8_t *)name, strlen(name)};
}

/* What a message that can't be verified says of itself, only to address the answer: the device takes no receipt for another epoch. 0: it does not
   say. */
static uint64_t
claimed_epoch(const struct message *m)
{
	struct cose_sign1 cose;
	struct report report;

	if (cose_decode(m->bytes, &cose) != REASON_OK || report_decode(cose.payload, &report) != REASON_OK)
		return 0;
	return report.epoch;
}

static bool
asks(const struct docket *d, uint64_t epoch)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->messages[i]->reason == REASON_OK && d->messages[i]->report.receipt &&
		    d->messages[i]->report.epoch == epoch)
			return true;
	return false;
}

static bool
told_too_early(const struct receipt *r)
{
	return r->wants == 0 && r->refused_len == 0;
}

static void
answer_current(struct answer *a, const struct docket *d, struct receipt *r, unsigned load)
{
	/* After the commit the device's own ledger is the one that counts. */
	const struct ledger *l = &d->device->ledger;
	bool later;

	give_account(r, l);
	r->ueid = d->device->ueid;
	r->wants = d->device->lifecycle == LIFECYCLE_PENDING || d->stored == 0 ? 0 : wants_of(l);
	r->pace_ms = pace_of(load);
	later = gaps_note(a->gaps, r, seconds(CLOCK_MONOTONIC));
	r->wants |= wants_chain(d);
	if (!later || asks(d, l->epoch) || !told_too_early(r))
		enqueue(a, r);
}

/* An epoch that is not the device's current one: its reports want to leave their spool too. */
static void
answer_other(struct answer *a, const struct docket *d, const struct account *account, unsigned load)
{
	struct receipt r = {.ueid = d->device->ueid, .pace_ms = pace_of(load)};

	if (!asks(d, account->ledger.epoch))
		return;
	give_account(&r, &account->ledger);
	enqueue(a, &r);
}

static void
answer_docket(struct answer *a, const struct docket *d, unsigned load)
{
	struct receipt r = {0};

	if (d->device->ledger.started)
		answer_current(a, d, &r, load);
	for (const struct account *account = d->accounts; account != NULL; account = account->next)
		if (account != d->current && account->ledger.epoch != d->device->ledger.epoch)
			answer_other(a, d, account, load);
}

static bool
is_refused_for_good(const struct message *m)
{
	return m->reason != REASON_OK && m->reason != REASON_TOPIC_MALFORMED && reason_permanent(m->reason);
}

static bool
has_ledger(const struct message *m)
{
	return m->device != NULL && m->device->ledger.started;
}

/* The report's own epoch: its device takes no receipt for another one. The ledger's if the report does not say. */
static void
address_refused(struct message **messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];

		if (!is_refused_for_good(m))
			continue;
		m->answered_epoch = claimed_epoch(m);
		if (m->answered_epoch == 0 && has_ledger(m))
			m->answered_epoch = m->device->ledger.epoch;
	}
}

static bool
same_refused(const struct message *a, const struct message *b)
{
	return is_refused_for_good(b) && memcmp(&a->ueid, &b->ueid, sizeof a->ueid) == 0 &&
	       a->answered_epoch == b->answered_epoch;
}

/* One receipt for each device's epoch in which something is refused for good; few, so a search through the rest of the batch will do. */
static void
answer_refused(struct answer *a, struct message **messages, size_t n, size_t from)
{
	const struct message *m = messages[from];
	struct receipt r = {.ueid = m->ueid, .epoch = m->answered_epoch};

	for (size_t i = 0; i < from; i++)
		if (same_refused(m, messages[i]))
			return;
	for (size_t i = from; i < n; i++)
		if (same_refused(m, messages[i]))
			add_refused(&r, messages[i]);
	if (has_ledger(m) && m->device->ledger.epoch == m->answered_epoch)
		give_account(&r, &m->device->ledger);
	enqueue(a, &r);
}

void
answer_batch(struct answer *a, const struct judge *j, struct message **messages, size_t n, unsigned load)
{
	address_refused(messages, n);
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < j->dockets_n; i++)
		answer_docket(a, &j->dockets[i], load);
	for (size_t i = 0; i < n; i++)
		if (is_refused_for_good(messages[i]))
			answer_refused(a, messages, n, i);
	pthread_mutex_unlock(&a->lock);
}

void
answer_forget_shard(struct answer *a, unsigned shard)
{
	pthread_mutex_lock(&a->lock);
	gaps_forget_shard(a->gaps, shard);
	for (struct item **link = &a->first; *link != NULL;)
		if (ueid_shard(&(*link)->receipt.ueid) == shard)
			free(dequeue(a, link));
		else
			link = &(*link)->next;
	pthread_mutex_unlock(&a->lock);
}

void
answer_want_chain(struct answer *a, const struct message *m)
{
	struct receipt r = {.ueid = m->ueid, .epoch = claimed_epoch(m), .wants = WANT_CHAIN};
	size_t at = hash(&m->ueid) % ASKED_SIZE;
	int64_t now = seconds(CLOCK_MONOTONIC);

	pthread_mutex_lock(&a->lock);
	if (memcmp(&a->asked[at].ueid, &m->ueid, sizeof m->ueid) != 0 || a->asked[at].when + ASK_SECONDS <= now) {
		a->asked[at].ueid = m->ueid;
		a->asked[at].when = now;
		enqueue(a, &r);
	}
	pthread_mutex_unlock(&a->lock);
}

void
answer_challenge(struct answer *a, const struct ueid *ueid, const struct ledger *l, struct slice nonce)
{
	struct receipt r = {.ueid = *ueid, .nonce = nonce};

	give_account(&r, l);
	pthread_mutex_lock(&a->lock);
	enqueue(a, &r);
	pthread_mutex_unlock(&a->lock);
}

/* Signing. */

static void
publish(struct answer *a, struct receipt *r)
{
	uint8_t payload[LIMIT_RECEIPT], message[LIMIT_RECEIPT + LIMIT_CHAIN];
	struct cbor_writer w;
	size_t len;

	/* A device that took one from the future would take no other until then. */
	if (!clock_is_right()) {
		counter_add(COUNTER_RECEIPTS_DROPPED, 1);
		return;
	}
	r->iat = (uint64_t)seconds(CLOCK_REALTIME);
	cbor_writer_init(&w, payload, sizeof payload);
	receipt_encode(r, &w);
	len = w.overflow ? 0 : seal_sign(a->seal, (struct slice){payload, w.len}, message, sizeof message);
	if (len > 0 && subscribe_publish(a->subscribe, &r->ueid, (struct slice){message, len}) == 0)
		counter_add(COUNTER_RECEIPTS, 1);
	else
		counter_add(COUNTER_RECEIPTS_DROPPED, 1);
}

/* Waits for work, or for the next second's look at the gaps. NULL at the end, or when there was only that. */
static struct item *
next_item(struct answer *a, int64_t *looked)
{
	struct timespec end;
	struct item *item;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec++;
	pthread_mutex_lock(&a->lock);
	while (a->first == NULL && !a->stop)
		if (pthread_cond_timedwait(&a->work, &a->lock, &end) != 0)
			break;
	if (*looked != seconds(CLOCK_MONOTONIC)) {
		*looked = seconds(CLOCK_MONOTONIC);
		gaps_tell(a->gaps, *looked, enqueue_gap, a);
	}
	item = a->first == NULL ? NULL : dequeue(a, &a->first);
	pthread_mutex_unlock(&a->lock);
	return item;
}

static void *
run(void *argument)
{
	struct answer *a = argument;
	int64_t looked = 0;
	struct item *item;

	do {
		item = next_item(a, &looked);
		if (item != NULL)
			publish(a, &item->receipt);
		free(item);
	} while (item != NULL || !a->stop);
	return NULL;
}

static void
answer_free(struct answer *a)
{
	for (struct item *item = a->first, *next; item != NULL; item = next) {
		next = item->next;
		free(item);
	}
	gaps_free(a->gaps);
	seal_free(a->seal);
	pthread_cond_destroy(&a->work);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

struct answer *
answer_start(const struct settings *settings, struct subscribe *subscribe)
{
	struct answer *a = calloc(1, sizeof *a);
	pthread_condattr_t attributes;

	if (a == NULL)
		return NULL;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&a->work, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&a->lock, NULL);
	a->end = &a->first;
	a->subscribe = subscribe;
	a->gaps = gaps_new(GAPS_MAX);
	a->seal = seal_open(settings);
	if (a->gaps == NULL)
		log_error("answer: no memory");
	else if (a->seal != NULL && pthread_create(&a->thread, NULL, run, a) == 0)
		return a;
	answer_free(a);
	return NULL;
}

void
answer_stop(struct answer *a)
{
	if (a == NULL)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	answer_free(a);
}
