#include "collector/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/admit.h"
#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/learn.h"
#include "collector/record.h"
#include "collector/transaction.h"
#include "schema/log.h"

#define RETRY_MS 200
#define STUCK_MAX 10 /* tries of what the database says no to, before it is halved */
#define RELOADS_MAX 1024
/* What goes into one transaction: a message may unfold to many rows, so messages alone do not bound it. */
#define BATCH_BYTES (4u << 20)
#define BATCH_COMPONENTS 40000

struct store {
	struct transaction *transaction;
	struct keyring *keyring;
	store_committed *committed;
	void *context;
	struct judge judge;
	struct sampler sampler;
	size_t batch_max;
	int64_t pending_max;
	struct ueid *ueids; /* of a batch */
	bool in_doubt; /* whether what the judge holds was committed is not known */
	atomic_bool give_up;
	pthread_mutex_t reload_lock;
	struct ueid reloads[RELOADS_MAX];
	size_t reloads_n;
	bool reload_all; /* from the first on */
	bool reloading_all; /* the store stage's: from reload_place on */
	size_t reload_place;
};

static void
count_message(const struct message *m, int64_t now_us)
{
	static const enum counter by_verdict[] = {[LEDGER_NEW] = COUNTER_STORED,
						  [LEDGER_LATE] = COUNTER_LATE,
						  [LEDGER_DUPLICATE] = COUNTER_DUPLICATES,
						  [LEDGER_FORK] = COUNTER_FORKS,
						  [LEDGER_SECOND_EPOCH] = COUNTER_SECOND_EPOCHS};

	if (m->reason != REASON_OK) {
		counter_refused(m->reason);
		return;
	}
	counter_took(now_us > m->received_us ? now_us - m->received_us : 0);
	counter_add(by_verdict[m->verdict], 1);
	if (m->verdict != LEDGER_DUPLICATE && m->verdict != LEDGER_NEW)
		counter_add(COUNTER_STORED, 1);
	if (m->flags & REPORT_CHAIN_BREAK)
		counter_add(COUNTER_CHAIN_BREAKS, 1);
}

/* The batch. */

static enum outcome
judge_batch(struct store *s, struct message **messages, size_t n)
{
	struct transaction *t = s->transaction;
	enum outcome outcome = admit(t, s->keyring, messages, n);

	if (outcome != DONE)
		return outcome;
	if (judge_begin(&s->judge, messages, n) < 0)
		return AGAIN;
	outcome = learn(t, &s->judge, messages, n, s->pending_max);
	if (outcome != DONE)
		return outcome;
	if (judge_run(&s->judge) < 0)
		return AGAIN;
	return learn_taken(t, &s->judge);
}

static enum outcome
write_batch(struct store *s, struct message **messages, size_t n)
{
	struct transaction *t = s->transaction;
	enum outcome outcome = judge_batch(s, messages, n);

	if (outcome != DONE)
		return outcome;
	if (record(t, &s->judge, messages, n, &s->sampler) < 0)
		return AGAIN;
	return transaction_writes(t, MOVE_HOT, WRITES) ? transaction_run(t, MOVE_HOT, WRITES) : DONE;
}

/* What the last attempt left open, if it did. AGAIN: there is nothing, or it came to nothing. */
static enum outcome
resolve(struct store *s)
{
	enum fate fate;

	if (!s->in_doubt)
		return AGAIN;
	fate = transaction_fate(s->transaction);
	if (fate == FATE_UNKNOWN)
		return DOUBT;
	s->in_doubt = false;
	return fate == FATE_COMMITTED ? DONE : AGAIN;
}

static void count_nonces(const struct store *, struct message **, size_t n);

static enum outcome
attempt(struct store *s, struct message **messages, size_t n)
{
	int64_t begun = clock_us(CLOCK_MONOTONIC), now;
	enum outcome outcome;

	if (transaction_connect(s->transaction) < 0)
		return AGAIN;
	outcome = resolve(s);
	if (outcome == AGAIN) {
		transaction_empty(s->transaction);
		outcome = write_batch(s, messages, n);
	}
	if (outcome == DOUBT)
		s->in_doubt = true;
	if (outcome != DONE)
		return outcome;
	judge_commit(&s->judge);
	now = clock_us(CLOCK_REALTIME); /* as received_us */
	for (size_t i = 0; i < n; i++)
		count_message(messages[i], now);
	if (n > 0)
		counter_set(COUNTER_COMMIT_LAG_US, now - messages[0]->received_us);
	count_nonces(s, messages, n);
	counter_add(COUNTER_BATCHES, 1);
	counter_add(COUNTER_STORE_US, clock_us(CLOCK_MONOTONIC) - begun);
	s->committed(s->context, &s->judge, messages, n);
	return DONE;
}

static bool
has_nonce(const struct message *m)
{
	return m->reason == REASON_OK && m->report.nonce.at != NULL && m->verdict <= LEDGER_LATE;
}

/* What the transaction says of them; of one whose COMMIT was in doubt nothing is known but that it is in. */
static void
count_nonces(const struct store *s, struct message **messages, size_t n)
{
	int64_t nonces = 0, answered;

	for (size_t i = 0; i < n; i++)
		nonces += has_nonce(messages[i]);
	if (nonces == 0)
		return;
	answered = transaction_affected(s->transaction, ANSWER_CHALLENGE);
	counter_add(COUNTER_CHALLENGES_ANSWERED, answered);
	counter_add(COUNTER_NONCES_STRAY, nonces - answered);
}

static void
read_anew(struct store *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->judge.dockets_n; i++)
		s->ueids[n++] = s->judge.dockets[i].device->ueid;
	if (n > 0 && keyring_reload(s->keyring, transaction_database(s->transaction), s->ueids, n) < 0)
		log_warning("store: could not read %zu devices anew", n);
}

static int store_range(struct store *, struct message **, size_t);

static int
store_halves(struct store *s, struct message **messages, size_t n)
{
	counter_add(COUNTER_BATCH_SPLITS, 1);
	if (store_range(s, messages, n / 2) < 0)
		return -1;
	return store_range(s, messages + n / 2, n - n / 2);
}

static int
refuse_row(struct store *s, struct message *m)
{
	if (m->reason != REASON_OK) {
		log_error("store: not even the refusal of a message can be stored");
		counter_refused(m->reason);
		return 0;
	}
	m->reason = REASON_UNSTORABLE;
	return store_range(s, &m, 1);
}

/* Neither stored nor refused: without a receipt its device keeps it and sends it again. Meanwhile it holds up nobody. */
static int
leave(void)
{
	counter_add(COUNTER_MESSAGES_LEFT, 1);
	log_error("store: a message is left to its device: the database does not take it now");
	return 0;
}

static void
wait_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static int
store_range(struct store *s, struct message **messages, size_t n)
{
	for (unsigned stuck = 0;;) {
		enum outcome outcome = attempt(s, messages, n);

		if (outcome == DONE)
			return 0;
		if (outcome == DATA)
			return n > 1 ? store_halves(s, messages, n) : refuse_row(s, messages[0]);
		if (outcome == LARGE && n > 1)
			return store_halves(s, messages, n);
		if (atomic_load(&s->give_up))
			return -1;
		if ((outcome == STUCK || outcome == MOVED) && ++stuck > STUCK_MAX)
			return n > 1 ? store_halves(s, messages, n) : leave();
		if (outcome == MOVED)
			read_anew(s);
		if (outcome != MOVED || stuck > 1)
			wait_ms(RETRY_MS);
		counter_add(COUNTER_BATCH_RETRIES, 1);
	}
}

/* Empties the list. */
static size_t
take_reloads(struct store *s, struct ueid *ueids)
{
	size_t n;

	pthread_mutex_lock(&s->reload_lock);
	n = s->reloads_n;
	memcpy(ueids, s->reloads, n * sizeof *ueids);
	s->reloads_n = 0;
	if (s->reload_all) {
		s->reload_all = false;
		s->reloading_all = true;
		s->reload_place = 0;
	}
	pthread_mutex_unlock(&s->reload_lock);
	return n;
}

/* In parts, so that reports do not wait for it. One that fails is tried again the next time. */
static bool
reload_part(struct store *s)
{
	int more = transaction_connect(s->transaction) < 0
			   ? -1
			   : keyring_reload_some(s->keyring, transaction_database(s->transaction), &s->reload_place);

	if (more >= 0)
		s->reloading_all = more == 1;
	return more == 1;
}

bool
store_reload_now(struct store *s)
{
	struct ueid ueids[RELOADS_MAX];
	size_t n = take_reloads(s, ueids);

	if (n > 0 && (transaction_connect(s->transaction) < 0 ||
		      keyring_reload(s->keyring, transaction_database(s->transaction), ueids, n) < 0)) {
		for (size_t i = 0; i < n; i++)
			store_reload(s, &ueids[i]);
		return false;
	}
	counter_add(COUNTER_RELOADS, (int64_t)n);
	return s->reloading_all && reload_part(s);
}

/* As many as go into one transaction; at least one. */
static size_t
portion(const struct store *s, struct message **messages, size_t n)
{
	size_t bytes = 0, components = 0, i;

	for (i = 0; i < n && i < s->batch_max; i++) {
		const struct message *m = messages[i];

		bytes += m->bytes.len;
		if (m->reason == REASON_OK && m->report.inventory.at != NULL)
			components += m->report.components;
		if (i > 0 && (bytes > BATCH_BYTES || components > BATCH_COMPONENTS))
			break;
	}
	return i;
}

int
store_batch(struct store *s, struct message **messages, size_t n)
{
	while (n > 0) {
		size_t part = portion(s, messages, n);
		int rc = store_range(s, messages, part);

		judge_end(&s->judge);
		s->in_doubt = false;
		if (rc < 0)
			return -1;
		messages += part;
		n -= part;
	}
	return 0;
}

void
store_reload(struct store *s, const struct ueid *ueid)
{
	pthread_mutex_lock(&s->reload_lock);
	if (s->reloads_n < RELOADS_MAX)
		s->reloads[s->reloads_n++] = *ueid;
	else
		s->reload_all = true;
	pthread_mutex_unlock(&s->reload_lock);
}

void
store_reload_all(struct store *s)
{
	pthread_mutex_lock(&s->reload_lock);
	s->reload_all = true;
	pthread_mutex_unlock(&s->reload_lock);
}

void
store_give_up(struct store *s)
{
	atomic_store(&s->give_up, true);
	transaction_give_up(s->transaction);
}

struct store *
store_new(const struct settings *settings, struct keyring *keyring, store_committed *committed, void *context)
{
	struct store *s = calloc(1, sizeof *s);
	size_t max = (size_t)settings->batch_max;

	if (s == NULL)
		return NULL;
	pthread_mutex_init(&s->reload_lock, NULL);
	s->keyring = keyring;
	s->committed = committed;
	s->context = context;
	s->batch_max = max;
	s->pending_max = settings->pending_max;
	s->transaction = transaction_new(settings->database);
	s->ueids = calloc(max, sizeof *s->ueids);
	if (s->transaction == NULL || s->ueids == NULL || judge_init(&s->judge, max) < 0) {
		store_free(s);
		return NULL;
	}
	return s;
}

void
store_free(struct store *s)
{
	if (s == NULL)
		return;
	judge_free(&s->judge);
	transaction_free(s->transaction);
	free(s->ueids);
	pthread_mutex_destroy(&s->reload_lock);
	free(s);
}
