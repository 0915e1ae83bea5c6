#include "collector/workers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/verify.h"
#include "schema/log.h"

#define KEYS_CACHED 32768 /* ready keys of a worker, about 1 KiB each */
#define RETRY_MS 200
#define IDLE_MS 1000
#define PARK_LOOK_MS 100
#define PARK_DEVICE 16 /* waiting reports of one device: more come again when its certificate is here */
#define PARK_SHARE 4 /* waiting reports take at most this part of the queue's bytes */

struct parked {
	struct parked *next;
	struct message *message;
	unsigned shard;
	size_t bytes;
};

struct worker {
	struct workers *all;
	unsigned index;
	pthread_t thread;
	struct database *db;
	struct key_cache *cache;
	struct parked *first, **end;
};

struct workers {
	struct queue *queue;
	struct keyring *keyring;
	struct answer *answer;
	struct budget *budget;
	pthread_rwlock_t anchors_lock;
	struct anchors *anchors;
	int64_t park_us;
	size_t park_max, park_bytes_max;
	_Atomic size_t parked, parked_bytes;
	atomic_bool draining[SHARDS], give_up;
	bool joined;
	unsigned n;
	struct worker worker[];
};

static void
nap(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* Devices. */

static size_t
find_devices(struct worker *w, struct message **run, size_t n, struct ueid *missing)
{
	size_t missed = 0;

	for (size_t i = 0; i < n; i++) {
		/* A refusal is counted for the device that the topic names, so it is looked up as well. */
		if (run[i]->reason == REASON_TOPIC_MALFORMED)
			continue;
		run[i]->device = keyring_find(w->all->keyring, &run[i]->ueid);
		if (run[i]->device == NULL)
			missing[missed++] = run[i]->ueid;
	}
	return missed;
}

/* From memory, else from the database: in one statement for the whole run, and for as long as it takes. False: given up. */
static bool
look_up(struct worker *w, struct message **run, size_t n)
{
	struct ueid missing[VERIFY_RUN];
	size_t missed = find_devices(w, run, n, missing);

	if (missed == 0)
		return true;
	database_recheck(w->db);
	while (keyring_load(w->all->keyring, w->db, missing, missed) < 0) {
		if (atomic_load(&w->all->give_up))
			return false;
		nap(RETRY_MS);
	}
	counter_add(COUNTER_KEYRING_LOADS, 1);
	counter_set(COUNTER_KEYRING_DEVICES, (int64_t)keyring_count(w->all->keyring));
	find_devices(w, run, n, missing);
	return true;
}

/* Waiting for a key. */

/* A device is always the same worker's. */
static size_t
parked_of(const struct worker *w, const struct ueid *ueid)
{
	size_t n = 0;

	for (const struct parked *p = w->first; p != NULL; p = p->next)
		n += memcmp(&p->message->ueid, ueid, sizeof *ueid) == 0;
	return n;
}

static bool
may_park(const struct worker *w, const struct message *m)
{
	struct workers *all = w->all;

	return atomic_load(&all->parked) < all->park_max &&
	       atomic_load(&all->parked_bytes) + m->bytes.len <= all->park_bytes_max &&
	       parked_of(w, &m->ueid) < PARK_DEVICE;
}

static void
note_parked(struct workers *all, int64_t n, int64_t bytes)
{
	all->parked += (size_t)n;
	all->parked_bytes += (size_t)bytes;
	counter_set(COUNTER_PARKED, (int64_t)atomic_load(&all->parked));
}

/* Takes the message out of the queue's order. False: no room, and it is refused. */
static bool
park(struct worker *w, struct message *m)
{
	struct parked *p = may_park(w, m) ? calloc(1, sizeof *p) : NULL;

	answer_want_chain(w->all->answer, m);
	if (p != NULL)
		p->message = queue_detach(w->all->queue, m);
	if (p == NULL || p->message == NULL) {
		free(p);
		counter_add(COUNTER_PARK_FULL, 1);
		m->parked = false;
		m->reason = REASON_UNKNOWN_KEY;
		return false;
	}
	p->shard = ueid_shard(&p->message->ueid);
	p->bytes = p->message->bytes.len;
	*w->end = p;
	w->end = &p->next;
	note_parked(w->all, 1, (int64_t)p->bytes);
	return true;
}

static void
verify_again(struct worker *w, struct message *m)
{
	m->parked = false;
	pthread_rwlock_rdlock(&w->all->anchors_lock);
	verify_message(m, w->cache, w->all->anchors);
	pthread_rwlock_unlock(&w->all->anchors_lock);
}

/* Whether the message need not wait any longer, and where it went. */
static bool
leave_park(struct worker *w, const struct parked *p, int64_t now)
{
	struct message *m = p->message;

	if (atomic_load(&w->all->draining[p->shard])) {
		counter_add(COUNTER_MESSAGES_LEFT, 1);
		queue_discard(w->all->queue, m);
		return true;
	}
	m->device = keyring_find(w->all->keyring, &m->ueid);
	if (m->device != NULL && device_find_key(m->device, m->cose.kid) != NULL)
		verify_again(w, m);
	else if (m->received_us + w->all->park_us <= now)
		m->reason = REASON_UNKNOWN_KEY;
	else
		return false;
	if (m->parked) {
		m->parked = false;
		m->reason = REASON_UNKNOWN_KEY;
	}
	queue_return(w->all->queue, m);
	return true;
}

static void
look_after_parked(struct worker *w, int64_t now)
{
	struct parked **link = &w->first;

	while (*link != NULL) {
		struct parked *p = *link;

		if (!leave_park(w, p, now)) {
			link = &p->next;
			continue;
		}
		*link = p->next;
		note_parked(w->all, -1, -(int64_t)p->bytes);
		free(p);
	}
	w->end = link;
}

/* Verifying. */

static void
finish_run(struct worker *w, struct message **run, size_t n)
{
	struct message *finished[VERIFY_RUN];
	size_t finished_n = 0, verified = 0;
	int64_t now = clock_ms();

	pthread_rwlock_rdlock(&w->all->anchors_lock);
	verify_run(run, n, w->cache, w->all->anchors);
	pthread_rwlock_unlock(&w->all->anchors_lock);
	for (size_t i = 0; i < n; i++) {
		verified += run[i]->reason == REASON_OK && !run[i]->parked;
		if (run[i]->reason != REASON_OK && run[i]->reason != REASON_TOPIC_MALFORMED)
			budget_refused(w->all->budget, &run[i]->ueid, now);
	}
	counter_add(COUNTER_VERIFIED, (int64_t)verified);
	for (size_t i = 0; i < n; i++)
		if (!run[i]->parked || !park(w, run[i]))
			finished[finished_n++] = run[i];
	queue_finish(w->all->queue, finished, finished_n);
}

/* Nobody can say whose these are, and the program ends: the devices send them again. */
static void
leave_run(struct worker *w, struct message **run, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct message *m = queue_detach(w->all->queue, run[i]);

		counter_add(COUNTER_MESSAGES_LEFT, 1);
		if (m != NULL)
			queue_discard(w->all->queue, m);
	}
}

static void *
work(void *argument)
{
	struct worker *w = argument;
	struct message *run[VERIFY_RUN];
	size_t n;

	while (queue_take(w->all->queue, w->index, w->first != NULL ? PARK_LOOK_MS : IDLE_MS, run, VERIFY_RUN, &n)) {
		if (n > 0 && look_up(w, run, n))
			finish_run(w, run, n);
		else if (n > 0)
			leave_run(w, run, n);
		if (w->first != NULL)
			look_after_parked(w, clock_now_us());
	}
	look_after_parked(w, INT64_MAX);
	return NULL;
}

void
workers_set_anchors(struct workers *all, struct anchors *anchors)
{
	struct anchors *former;

	pthread_rwlock_wrlock(&all->anchors_lock);
	former = all->anchors;
	all->anchors = anchors;
	pthread_rwlock_unlock(&all->anchors_lock);
	anchors_free(former);
}

void
workers_drain(struct workers *all, unsigned shard, bool on)
{
	atomic_store(&all->draining[shard], on);
}

void
workers_give_up(struct workers *all)
{
	atomic_store(&all->give_up, true);
}

static int
start_worker(struct workers *all, unsigned index, const struct settings *settings)
{
	struct worker *w = &all->worker[index];

	w->all = all;
	w->index = index;
	w->end = &w->first;
	w->db = database_new(settings->database, NULL, 0);
	w->cache = key_cache_new(KEYS_CACHED);
	all->n++;
	if (w->db == NULL || w->cache == NULL)
		return -1;
	return pthread_create(&w->thread, NULL, work, w) == 0 ? 0 : -1;
}

struct workers *
workers_start(const struct settings *settings, struct queue *queue, struct keyring *keyring, struct answer *answer,
	      struct budget *budget, struct anchors *anchors)
{
	unsigned n = (unsigned)settings->workers;
	struct workers *all = calloc(1, sizeof *all + n * sizeof all->worker[0]);

	if (all == NULL)
		return NULL;
	all->queue = queue;
	all->keyring = keyring;
	all->answer = answer;
	all->budget = budget;
	all->anchors = anchors;
	all->park_us = settings->park_seconds * 1000000;
	all->park_max = (size_t)settings->park_max;
	all->park_bytes_max = (size_t)settings->queue_bytes / PARK_SHARE;
	pthread_rwlock_init(&all->anchors_lock, NULL);
	for (unsigned i = 0; i < n; i++)
		if (start_worker(all, i, settings) < 0) {
			log_error("workers: no thread");
			abort();
		}
	return all;
}

void
workers_join(struct workers *all)
{
	if (all->joined)
		return;
	queue_close(all->queue);
	for (unsigned i = 0; i < all->n; i++)
		pthread_join(all->worker[i].thread, NULL);
	all->joined = true;
}

void
workers_free(struct workers *all)
{
	if (all == NULL)
		return;
	workers_join(all);
	for (unsigned i = 0; i < all->n; i++) {
		database_free(all->worker[i].db);
		key_cache_free(all->worker[i].cache);
	}
	anchors_free(all->anchors);
	pthread_rwlock_destroy(&all->anchors_lock);
	free(all);
}
