#include "collector/queue.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/enrol.h"

/* Waking a thread costs as much as verifying half a report, so a worker that was woken waits a moment for company. */
#define GATHER_NS 2000000
#define AHEAD_MAX_US 1000000 /* that a time of reception may be ahead of the clock */

enum slot_state { SLOT_NEW, SLOT_TAKEN, SLOT_FINISHED, SLOT_EMPTY };

struct slot {
	struct message message;
	enum slot_state state;
	unsigned shard, worker;
	struct slot *next; /* of the returned ones */
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t room, finished;
	struct slot *slots;
	size_t size, bytes_max;
	unsigned workers;
	bool closed;
	/* Positions only grow; a slot is at position % size. */
	uint64_t head, tail;
	size_t bytes;
	size_t of_shard[SHARDS];
	int64_t last_us; /* of reception: each message has a microsecond of its own */
	bool put_waits;
	size_t batch_goal; /* the store stage waits for so many finished ones; 0: it does not wait */
	size_t finished_n; /* finished and not yet in a batch */
	size_t news_n; /* of these, with something new */
	struct slot *returned, **returned_end;
	/* The last batch. */
	uint64_t batch_end;
	struct slot *batch_returned;
	struct reader {
		pthread_cond_t work;
		uint64_t at; /* next position to look at */
		size_t pending;
		bool waits;
	} readers[];
};

static struct slot *
slot_at(struct queue *q, uint64_t position)
{
	return &q->slots[position % q->size];
}

static struct slot *
slot_of(struct message *m)
{
	return (struct slot *)((char *)m - offsetof(struct slot, message));
}

static void
init_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
}

struct queue *
queue_new(size_t slots, size_t bytes, unsigned workers)
{
	struct queue *q = calloc(1, sizeof *q + workers * sizeof q->readers[0]);

	if (q == NULL)
		return NULL;
	q->slots = calloc(slots, sizeof *q->slots);
	if (q->slots == NULL) {
		free(q);
		return NULL;
	}
	q->size = slots;
	q->bytes_max = bytes;
	counter_set(COUNTER_QUEUE_LIMIT, (int64_t)bytes);
	q->workers = workers;
	q->returned_end = &q->returned;
	pthread_mutex_init(&q->lock, NULL);
	init_condition(&q->room);
	init_condition(&q->finished);
	for (unsigned w = 0; w < workers; w++)
		init_condition(&q->readers[w].work);
	return q;
}

static void
free_message(struct message *m)
{
	enrolment_free(m->enrolment);
	free((void *)(uintptr_t)m->bytes.at);
	m->enrolment = NULL;
	m->bytes = (struct slice){NULL, 0};
}

void
queue_free(struct queue *q)
{
	if (q == NULL)
		return;
	for (uint64_t p = q->tail; p < q->head; p++)
		free_message(&slot_at(q, p)->message);
	for (struct slot *s = q->returned, *next; s != NULL; s = next) {
		next = s->next;
		free_message(&s->message);
		free(s);
	}
	free(q->slots);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static struct timespec
deadline_in(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

static void
show(const struct queue *q)
{
	counter_set(COUNTER_QUEUE_SLOTS, (int64_t)(q->head - q->tail));
	counter_set(COUNTER_QUEUE_BYTES, (int64_t)q->bytes);
}

/* A message larger than all of the queue still passes when it is alone. */
static bool
has_room(const struct queue *q, size_t len)
{
	return q->head - q->tail < q->size &&
	       (q->bytes == 0 || (len <= q->bytes_max && q->bytes <= q->bytes_max - len));
}

static bool
wait_for_room(struct queue *q, size_t len, const struct timespec *end)
{
	while (!q->closed && !has_room(q, len)) {
		q->put_waits = true;
		if (pthread_cond_timedwait(&q->room, &q->lock, end) != 0)
			break;
	}
	q->put_waits = false;
	return !q->closed && has_room(q, len);
}

/* The same device is always the same worker's. Its random bytes spread well enough. */
static unsigned
worker_of(const struct queue *q, const struct ueid *ueid)
{
	uint32_t n;

	memcpy(&n, ueid->bytes + UEID_SIZE - sizeof n, sizeof n);
	return n % q->workers;
}

/* Its own microsecond, unless the clock was set back: then the order of reception follows the clock. */
static int64_t
time_of_reception(struct queue *q)
{
	int64_t now = clock_now_us();

	if (now <= q->last_us && q->last_us - now < AHEAD_MAX_US)
		now = q->last_us + 1;
	q->last_us = now;
	return now;
}

static void
fill(struct queue *q, struct slot *s, unsigned shard, const struct ueid *ueid, enum reason reason, struct slice bytes)
{
	struct reader *r;

	s->message.ueid = *ueid;
	s->message.bytes = bytes;
	s->message.reason = reason;
	s->message.device = NULL;
	s->message.enrolment = NULL;
	s->message.parked = false;
	s->message.judged = false;
	s->message.flags = 0;
	s->message.received_us = time_of_reception(q);
	s->state = SLOT_NEW;
	s->shard = shard;
	s->worker = worker_of(q, ueid);
	q->bytes += bytes.len;
	q->of_shard[shard]++;
	q->head++;
	r = &q->readers[s->worker];
	r->pending++;
	if (r->waits)
		pthread_cond_signal(&r->work);
	r->waits = false;
}

/* One byte more than allowed is enough to be refused for. */
static struct slice
copy(struct slice report)
{
	size_t len = report.len > LIMIT_MESSAGE ? LIMIT_MESSAGE + 1 : report.len;
	uint8_t *bytes = malloc(len == 0 ? 1 : len);

	if (bytes != NULL && len > 0)
		memcpy(bytes, report.at, len);
	return (struct slice){bytes, len};
}

size_t
queue_put(struct queue *q, unsigned shard, struct slice topic, const struct slice *reports, size_t n, unsigned wait_ms)
{
	struct slice copies[LIMIT_SEQUENCE_REPORTS];
	struct timespec end = deadline_in(wait_ms);
	struct ueid ueid = {{0}};
	enum reason reason = topic_parse_report(topic, &ueid);
	size_t put = 0;

	for (size_t i = 0; i < n; i++)
		copies[i] = copy(reports[i]);
	pthread_mutex_lock(&q->lock);
	while (put < n && copies[put].at != NULL && wait_for_room(q, copies[put].len, &end) && clock_is_right())
		fill(q, slot_at(q, q->head), shard, &ueid, reason, copies[put++]);
	show(q);
	pthread_mutex_unlock(&q->lock);
	for (size_t i = put; i < n; i++)
		free((void *)(uintptr_t)copies[i].at);
	return put;
}

static size_t
collect(struct queue *q, unsigned worker, struct message **run, size_t max)
{
	struct reader *r = &q->readers[worker];
	size_t n = 0;

	if (r->at < q->tail)
		r->at = q->tail;
	for (; r->at < q->head && n < max; r->at++) {
		struct slot *s = slot_at(q, r->at);

		if (s->worker != worker)
			continue;
		s->state = SLOT_TAKEN;
		run[n++] = &s->message;
	}
	r->pending -= n;
	return n;
}

bool
queue_take(struct queue *q, unsigned worker, unsigned wait_ms, struct message **run, size_t max, size_t *n)
{
	struct reader *r = &q->readers[worker];
	struct timespec end = deadline_in(wait_ms);
	bool waited = false, open;

	pthread_mutex_lock(&q->lock);
	while (r->pending == 0 && !q->closed) {
		r->waits = waited = true;
		if (pthread_cond_timedwait(&r->work, &q->lock, &end) != 0)
			break;
	}
	r->waits = false;
	if (waited && r->pending > 0 && r->pending < max && !q->closed) {
		pthread_mutex_unlock(&q->lock);
		nanosleep(&(struct timespec){0, GATHER_NS}, NULL);
		pthread_mutex_lock(&q->lock);
	}
	*n = collect(q, worker, run, max);
	open = *n > 0 || !q->closed;
	pthread_mutex_unlock(&q->lock);
	return open;
}

/* What a device tells is waited for by people; that it is as it was is not. */
static bool
is_news(const struct message *m)
{
	return m->reason == REASON_OK && report_has_sections(&m->report);
}

/* Under the lock: one more is finished. */
static void
count_finished(struct queue *q, const struct slot *s)
{
	q->finished_n++;
	if (s->state != SLOT_EMPTY && is_news(&s->message))
		q->news_n++;
}

static void
wake_store(struct queue *q)
{
	if (q->batch_goal > 0 && (q->finished_n >= q->batch_goal || q->news_n > 0))
		pthread_cond_signal(&q->finished);
}

void
queue_finish(struct queue *q, struct message **run, size_t n)
{
	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < n; i++) {
		struct slot *s = slot_of(run[i]);

		s->state = SLOT_FINISHED;
		count_finished(q, s);
	}
	wake_store(q);
	pthread_mutex_unlock(&q->lock);
}

struct message *
queue_detach(struct queue *q, struct message *m)
{
	struct slot *from = slot_of(m), *to = malloc(sizeof *to);

	if (to == NULL)
		return NULL;
	*to = *from;
	to->next = NULL;
	pthread_mutex_lock(&q->lock);
	from->state = SLOT_EMPTY;
	from->message.bytes = (struct slice){NULL, 0};
	from->message.enrolment = NULL;
	count_finished(q, from);
	wake_store(q);
	pthread_mutex_unlock(&q->lock);
	return &to->message;
}

void
queue_return(struct queue *q, struct message *m)
{
	struct slot *s = slot_of(m);

	pthread_mutex_lock(&q->lock);
	*q->returned_end = s;
	q->returned_end = &s->next;
	count_finished(q, s);
	wake_store(q);
	pthread_mutex_unlock(&q->lock);
}

/* Under the lock: its room is free again. */
static void
forget(struct queue *q, struct slot *s)
{
	q->bytes -= s->message.bytes.len;
	q->of_shard[s->shard]--;
	free_message(&s->message);
}

void
queue_discard(struct queue *q, struct message *m)
{
	pthread_mutex_lock(&q->lock);
	forget(q, slot_of(m));
	if (q->put_waits)
		pthread_cond_signal(&q->room);
	pthread_mutex_unlock(&q->lock);
	free(slot_of(m));
}

static size_t
take_returned(struct queue *q, struct message **batch, size_t max)
{
	size_t n = 0;

	q->batch_returned = NULL;
	while (q->returned != NULL && n < max) {
		struct slot *s = q->returned;

		q->returned = s->next;
		s->next = q->batch_returned;
		q->batch_returned = s;
		q->news_n -= is_news(&s->message);
		batch[n++] = &s->message;
	}
	if (q->returned == NULL)
		q->returned_end = &q->returned;
	return n;
}

static size_t
take_front(struct queue *q, struct message **batch, size_t max)
{
	size_t n = 0;

	for (q->batch_end = q->tail; q->batch_end < q->head && n < max; q->batch_end++) {
		struct slot *s = slot_at(q, q->batch_end);

		if (s->state == SLOT_NEW || s->state == SLOT_TAKEN)
			break;
		if (s->state != SLOT_FINISHED)
			continue;
		q->news_n -= is_news(&s->message);
		batch[n++] = &s->message;
	}
	return n;
}

static bool
front_is_finished(struct queue *q)
{
	struct slot *s = slot_at(q, q->tail);

	if (q->returned != NULL)
		return true;
	return q->head > q->tail && (s->state == SLOT_FINISHED || s->state == SLOT_EMPTY);
}

static bool
nothing_comes(struct queue *q)
{
	return q->closed && q->head == q->tail && q->returned == NULL;
}

static bool
is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* Under the lock: sleeps until the front is finished, and then for the rest of the window or until a batch is full. */
static void
wait_for_batch(struct queue *q, unsigned wait_ms, unsigned window_ms, unsigned news_ms, size_t max)
{
	struct timespec end = deadline_in(wait_ms), soon;
	bool hurry = false;

	q->batch_goal = 1;
	while (!front_is_finished(q) && !nothing_comes(q))
		if (pthread_cond_timedwait(&q->finished, &q->lock, &end) != 0)
			break;
	q->batch_goal = max;
	end = deadline_in(window_ms);
	while (front_is_finished(q) && q->finished_n < max && !q->closed) {
		if (q->news_n > 0 && !hurry) {
			hurry = true;
			soon = deadline_in(news_ms);
			if (is_before(&soon, &end))
				end = soon;
		}
		if (pthread_cond_timedwait(&q->finished, &q->lock, &end) != 0)
			break;
	}
	q->batch_goal = 0;
}

bool
queue_batch(struct queue *q, unsigned wait_ms, unsigned window_ms, unsigned news_ms, struct message **batch, size_t max,
	    size_t *n)
{
	bool more;

	pthread_mutex_lock(&q->lock);
	wait_for_batch(q, wait_ms, window_ms, news_ms, max);
	*n = take_returned(q, batch, max);
	*n += take_front(q, batch + *n, max - *n);
	more = *n > 0 || !nothing_comes(q);
	pthread_mutex_unlock(&q->lock);
	return more;
}

void
queue_release(struct queue *q)
{
	struct slot *returned;

	pthread_mutex_lock(&q->lock);
	for (; q->tail < q->batch_end; q->tail++) {
		struct slot *s = slot_at(q, q->tail);

		q->finished_n--;
		if (s->state == SLOT_FINISHED)
			forget(q, s);
	}
	returned = q->batch_returned;
	q->batch_returned = NULL;
	for (struct slot *s = returned, *next; s != NULL; s = next) {
		next = s->next;
		q->finished_n--;
		forget(q, s);
		free(s);
	}
	show(q);
	if (q->put_waits)
		pthread_cond_signal(&q->room);
	pthread_mutex_unlock(&q->lock);
}

void
queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->room);
	pthread_cond_broadcast(&q->finished);
	for (unsigned w = 0; w < q->workers; w++)
		pthread_cond_broadcast(&q->readers[w].work);
	pthread_mutex_unlock(&q->lock);
}

size_t
queue_of_shard(struct queue *q, unsigned shard)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->of_shard[shard];
	pthread_mutex_unlock(&q->lock);
	return n;
}

unsigned
queue_fill(struct queue *q)
{
	size_t slots, bytes;

	pthread_mutex_lock(&q->lock);
	slots = (size_t)(q->head - q->tail) * 100 / q->size;
	bytes = q->bytes * 100 / q->bytes_max;
	pthread_mutex_unlock(&q->lock);
	return (unsigned)(slots > bytes ? slots : bytes);
}

/* The front is the oldest but for what was returned, which is few. */
int64_t
queue_oldest(struct queue *q)
{
	int64_t oldest = INT64_MAX;

	pthread_mutex_lock(&q->lock);
	if (q->head > q->tail)
		oldest = slot_at(q, q->tail)->message.received_us;
	for (const struct slot *s = q->returned; s != NULL; s = s->next)
		if (s->message.received_us < oldest)
			oldest = s->message.received_us;
	pthread_mutex_unlock(&q->lock);
	return oldest;
}
