#include "collector/answer.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/counters.h"
#include "schema/log.h"
#include "schema/receipt.h"

#define QUEUE_MAX 4096 /* receipts that wait for their signature */
#define GAPS_MAX 4096 /* devices with a gap that are watched */
#define GAP_SECONDS 10 /* a gap is younger when reports merely overtook each other */
#define GAP_WAIT_MAX 3600
#define ASKED_SIZE 1024 /* who was asked for a chain lately; a power of two */
#define ASK_SECONDS 10
#define PACE_FROM 25 /* percent of the queue */

struct item {
	struct item *next;
	struct receipt receipt;
};

/* A device with missing reports: told of them when they are late, ever more rarely. */
struct gap {
	struct gap *next;
	int64_t due, wait; /* seconds */
	struct receipt receipt;
};

struct answer {
	struct subscribe *subscribe;
	struct cose_key *key;
	struct slice chain[LIMIT_CHAIN_CERTS];
	size_t chain_len;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stop;
	struct item *first, **end;
	size_t n;
	struct gap *gaps[GAPS_MAX]; /* by a hash of the ueid */
	size_t gaps_n;
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

/* Under the lock. */
static void
enqueue(struct answer *a, const struct receipt *receipt)
{
	struct item *item = a->n < QUEUE_MAX ? malloc(sizeof *item) : NULL;

	if (item == NULL) {
		counter_add(COUNTER_RECEIPTS_DROPPED, 1);
		return;
	}
	item->receipt = *receipt;
	item->next = NULL;
	*a->end = item;
	a->end = &item->next;
	a->n++;
	pthread_cond_signal(&a->work);
}

/* Gaps. */

static struct gap **
find_gap(struct answer *a, const struct ueid *ueid)
{
	struct gap **link = &a->gaps[hash(ueid) % GAPS_MAX];

	while (*link != NULL && memcmp(&(*link)->receipt.ueid, ueid, sizeof *ueid) != 0)
		link = &(*link)->next;
	return link;
}

static void
remove_gap(struct answer *a, struct gap **link)
{
	struct gap *gap = *link;

	*link = gap->next;
	free(gap);
	a->gaps_n--;
}

static void
note_gap(struct answer *a, const struct receipt *receipt)
{
	struct gap **link = find_gap(a, &receipt->ueid);

	if (receipt->missing_len == 0) {
		if (*link != NULL)
			remove_gap(a, link);
		return;
	}
	if (*link == NULL) {
		struct gap *gap = a->gaps_n < GAPS_MAX ? calloc(1, sizeof *gap) : NULL;

		if (gap == NULL)
			return;
		gap->wait = GAP_SECONDS;
		gap->due = seconds(CLOCK_MONOTONIC) + gap->wait + 1;
		*link = gap;
		a->gaps_n++;
	}
	(*link)->receipt = *receipt;
}

static void
tell_gaps(struct answer *a)
{
	int64_t now = seconds(CLOCK_MONOTONIC);

	for (size_t i = 0; i < GAPS_MAX; i++)
		for (struct gap *gap = a->gaps[i]; gap != NULL; gap = gap->next) {
			if (gap->due > now)
				continue;
			enqueue(a, &gap->receipt);
			gap->wait = gap->wait * 2 > GAP_WAIT_MAX ? GAP_WAIT_MAX : gap->wait * 2;
			gap->due = now + gap->wait;
		}
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

	give_account(r, l);
	r->ueid = d->device->ueid;
	r->wants = d->device->lifecycle == LIFECYCLE_PENDING || d->stored == 0 ? 0 : wants_of(l);
	r->pace_ms = pace_of(load);
	note_gap(a, r);
	if (asks(d, l->epoch) || !told_too_early(r))
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

/* One receipt for each device that sent something which is refused for good; few, so a search through the rest of the batch will do. */
static void
answer_refused(struct answer *a, struct message **messages, size_t n, size_t from)
{
	const struct message *m = messages[from];
	struct receipt r = {.ueid = m->ueid};

	for (size_t i = 0; i < from; i++)
		if (is_refused_for_good(messages[i]) && memcmp(&messages[i]->ueid, &m->ueid, sizeof m->ueid) == 0)
			return;
	for (size_t i = from; i < n; i++)
		if (is_refused_for_good(messages[i]) && memcmp(&messages[i]->ueid, &m->ueid, sizeof m->ueid) == 0)
			add_refused(&r, messages[i]);
	if (m->device != NULL && m->device->ledger.started)
		give_account(&r, &m->device->ledger);
	else
		r.epoch = claimed_epoch(m);
	enqueue(a, &r);
}

void
answer_batch(struct answer *a, const struct judge *j, struct message **messages, size_t n, unsigned load)
{
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < j->dockets_n; i++)
		answer_docket(a, &j->dockets[i], load);
	for (size_t i = 0; i < n; i++)
		if (is_refused_for_good(messages[i]))
			answer_refused(a, messages, n, i);
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

/* Signing. */

static void
publish(struct answer *a, struct receipt *r)
{
	uint8_t payload[LIMIT_RECEIPT], message[LIMIT_RECEIPT + LIMIT_CHAIN];
	struct cbor_writer w;
	size_t len;

	r->iat = (uint64_t)seconds(CLOCK_REALTIME);
	cbor_writer_init(&w, payload, sizeof payload);
	receipt_encode(r, &w);
	len = w.overflow ? 0
			 : cose_sign(a->key, a->chain, a->chain_len, (struct slice){payload, w.len}, message,
				     sizeof message);
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
		tell_gaps(a);
	}
	item = a->first;
	if (item != NULL) {
		a->first = item->next;
		if (a->first == NULL)
			a->end = &a->first;
		a->n--;
	}
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

/* The signer's chain, leaf first. */
static int
load_chain(struct answer *a, const char *file)
{
	FILE *in = fopen(file, "re");
	X509 *certificate;

	if (in == NULL)
		return -1;
	while (a->chain_len < LIMIT_CHAIN_CERTS && (certificate = PEM_read_X509(in, NULL, NULL, NULL)) != NULL) {
		uint8_t *der = NULL;
		int len = i2d_X509(certificate, &der);

		X509_free(certificate);
		if (len <= 0)
			break;
		a->chain[a->chain_len++] = (struct slice){der, (size_t)len};
	}
	fclose(in);
	return a->chain_len > 0 ? 0 : -1;
}

static void
answer_free(struct answer *a)
{
	for (struct item *item = a->first, *next; item != NULL; item = next) {
		next = item->next;
		free(item);
	}
	for (size_t i = 0; i < GAPS_MAX; i++)
		while (a->gaps[i] != NULL)
			remove_gap(a, &a->gaps[i]);
	for (size_t i = 0; i < a->chain_len; i++)
		OPENSSL_free((void *)(uintptr_t)a->chain[i].at);
	cose_key_free(a->key);
	pthread_cond_destroy(&a->work);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

struct answer *
answer_start(const struct settings *settings, struct subscribe *subscribe)
{
	struct answer *a = calloc(1, sizeof *a);
	pthread_condattr_t attributes;
	char error[256] = "";

	if (a == NULL)
		return NULL;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&a->work, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&a->lock, NULL);
	a->end = &a->first;
	a->subscribe = subscribe;
	a->key = cose_key_open(settings->receipt_key, error);
	if (a->key == NULL)
		log_error("answer: receipt_key: %s", error);
	else if (load_chain(a, settings->receipt_certificate) < 0)
		log_error("answer: no certificate in %s", settings->receipt_certificate);
	else if (pthread_create(&a->thread, NULL, run, a) == 0)
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
