#include "collector/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "collector/clock.h"

#define PERIOD_MS 250 /* at most so long does a numbered event wait for its readers */
#define TENANTS_MAX 1024 /* no more can wait than there are connections */

/* The last event of each tenant that somebody waits for. */
struct tops {
	size_t n;
	int32_t tenants[TENANTS_MAX];
	int64_t at[TENANTS_MAX];
};

struct feed {
	struct query_pool *pool;
	void (*wake)(void *, struct waiter *);
	void *context;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* somebody waits where nobody did, or it is to stop */
	bool stop;
	struct waiter *first;
	struct tops tops;
};

static size_t
find(const struct tops *tops, int32_t tenant)
{
	size_t i = 0;

	while (i < tops->n && tops->tenants[i] != tenant)
		i++;
	return i;
}

/* Under the lock: whose tops are to be asked for. */
static void
collect_tenants(struct feed *f)
{
	struct tops *tops = &f->tops;

	tops->n = 0;
	for (const struct waiter *w = f->first; w != NULL && tops->n < TENANTS_MAX; w = w->next) {
		if (find(tops, w->tenant_id) < tops->n)
			continue;
		tops->tenants[tops->n] = w->tenant_id;
		tops->at[tops->n++] = 0;
	}
}

/* Under the lock. */
static bool
is_over(const struct feed *f, const struct waiter *w, int64_t now)
{
	size_t i = find(&f->tops, w->tenant_id);

	return f->stop || now >= w->until_ms || (i < f->tops.n && f->tops.at[i] > w->after);
}

/* Under the lock: takes out those whose wait is over. */
static struct waiter *
take_woken(struct feed *f, int64_t now)
{
	struct waiter *woken = NULL;

	for (struct waiter **link = &f->first; *link != NULL;) {
		struct waiter *w = *link;

		if (!is_over(f, w, now)) {
			link = &w->next;
			continue;
		}
		*link = w->next;
		w->next = woken;
		woken = w;
	}
	return woken;
}

static void
wake_all(struct feed *f, struct waiter *woken)
{
	while (woken != NULL) {
		struct waiter *w = woken;

		woken = w->next; /* before it is another's */
		f->wake(f->context, w);
	}
}

/* Under the lock. Until somebody waits and the period since `last` is over. */
static void
pause_between(struct feed *f, int64_t last)
{
	while (!f->stop && (f->first == NULL || clock_ms() < last + PERIOD_MS)) {
		struct timespec end = {(last + PERIOD_MS) / 1000, (last + PERIOD_MS) % 1000 * 1000000};

		if (f->first == NULL)
			pthread_cond_wait(&f->changed, &f->lock);
		else
			pthread_cond_timedwait(&f->changed, &f->lock, &end);
	}
}

static void *
run(void *argument)
{
	struct feed *f = argument;
	int64_t last = 0;
	struct waiter *woken;
	bool stop;

	do {
		pthread_mutex_lock(&f->lock);
		pause_between(f, last);
		collect_tenants(f);
		stop = f->stop;
		pthread_mutex_unlock(&f->lock);
		last = clock_ms();
		/* Without an answer they wait on, each until its time is over. */
		if (!stop)
			query_event_tops(f->pool, f->tops.tenants, f->tops.n, f->tops.at);
		pthread_mutex_lock(&f->lock);
		woken = take_woken(f, clock_ms());
		stop = f->stop;
		pthread_mutex_unlock(&f->lock);
		wake_all(f, woken);
	} while (!stop);
	return NULL;
}

struct feed *
feed_start(struct query_pool *pool, void (*wake)(void *, struct waiter *), void *context)
{
	struct feed *f = calloc(1, sizeof *f);
	pthread_condattr_t attributes;

	if (f == NULL)
		return NULL;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&f->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&f->lock, NULL);
	f->pool = pool;
	f->wake = wake;
	f->context = context;
	if (pthread_create(&f->thread, NULL, run, f) == 0)
		return f;
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f);
	return NULL;
}

void
feed_wait(struct feed *f, struct waiter *w)
{
	pthread_mutex_lock(&f->lock);
	w->next = f->first;
	f->first = w;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

void
feed_stop(struct feed *f)
{
	if (f == NULL)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
