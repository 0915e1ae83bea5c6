#include "collector/turns.h"

#include <pthread.h>
#include <stdlib.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/guess.h"
#include "collector/identity.h"
#include "collector/journal.h"
#include "collector/routes.h"

#define LAG_MS 200 /* beyond the window that batches wait for anyway: then reports are held up */
#define YIELD_MS 1000

#define WHOSE 1024 /* a power of two */

struct worker {
	struct turns *turns;
	pthread_t thread;
	uint64_t caller; /* for whom it works, as in the exchange; 0: for nobody */
};

/* The queue is bounded by the connections. A query has its worker until it ends or its time is over; of those that a caller can make slow at will,
   previews of predicates, there are always fewer than workers. What waits for events is held by the feed, by no thread. */
struct turns {
	struct turns_switch connection;
	struct query_pool *pool;
	struct feed *feed;
	struct identity *identity;
	struct guesses *guesses;
	struct journal *journal;
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct {
		uint64_t credential;
		int32_t tenant_id;
	} whose[WHOSE]; /* of those that asked lately */
	struct exchange *first, **last;
	bool stopping; /* nothing is put aside any more */
	bool ending; /* nothing comes into the queue any more */
	size_t streams, streams_most;
	int64_t lag_most_us; /* a batch that waited longer was held up */
	struct worker *workers;
	size_t workers_len;
};

const char *
exchange_client(struct exchange *exchange)
{
	struct slice shown = {NULL, 0};
	const char *fault = link_client(exchange->link, &shown);

	exchange->request.certificate = fault == NULL ? shown : (struct slice){NULL, 0};
	return fault;
}

static bool
enter_stream(struct turns *turns)
{
	bool room;

	pthread_mutex_lock(&turns->lock);
	room = turns->streams < turns->streams_most;
	turns->streams += room;
	counter_set(COUNTER_STREAMS, (int64_t)turns->streams);
	pthread_mutex_unlock(&turns->lock);
	if (!room)
		counter_add(COUNTER_STREAMS_REFUSED, 1);
	return room;
}

static void
leave_stream(struct turns *turns)
{
	pthread_mutex_lock(&turns->lock);
	turns->streams--;
	counter_set(COUNTER_STREAMS, (int64_t)turns->streams);
	pthread_mutex_unlock(&turns->lock);
}

/* Under the lock. */
static void
enqueue(struct turns *turns, struct exchange *exchange)
{
	exchange->next = NULL;
	*turns->last = exchange;
	turns->last = &exchange->next;
	pthread_cond_signal(&turns->filled);
}

/* Under the lock. A tenant that asks with many tokens is one caller. */
static void
find_caller(struct turns *turns, struct exchange *exchange)
{
	size_t place = exchange->credential / 2 % WHOSE;

	exchange->caller = turns->whose[place].credential == exchange->credential
				   ? (uint64_t)turns->whose[place].tenant_id * 2
				   : exchange->credential;
}

/* The operator waits for nobody whom he looks at. */
static void
learn_caller(struct turns *turns, struct exchange *exchange)
{
	size_t place = exchange->credential / 2 % WHOSE;

	if (exchange->request.tenant_id <= 0 || exchange->request.by_operator)
		return;
	pthread_mutex_lock(&turns->lock);
	turns->whose[place].credential = exchange->credential;
	turns->whose[place].tenant_id = exchange->request.tenant_id;
	find_caller(turns, exchange);
	pthread_mutex_unlock(&turns->lock);
}

static void
wait_aside(struct exchange *exchange)
{
	if (exchange->kept_until_ms > 0) {
		exchange->waiter = (struct waiter){.after = INT64_MAX, .until_ms = exchange->kept_until_ms};
		feed_wait(exchange->turns->feed, &exchange->waiter);
		return;
	}
	exchange->waiter.tenant_id = exchange->request.tenant_id;
	exchange->waiter.after = exchange->request.reading.after;
	exchange->waiter.until_ms = exchange->request.reading.until_ms;
	feed_wait(exchange->turns->feed, &exchange->waiter);
}

/* A worker's: its connection is suspended already. False: the server is stopping. */
static bool
keep_waiting(struct turns *turns, struct exchange *exchange)
{
	bool taken;

	pthread_mutex_lock(&turns->lock);
	taken = !turns->stopping;
	if (taken)
		wait_aside(exchange);
	pthread_mutex_unlock(&turns->lock);
	return taken;
}

bool
turns_wait(struct exchange *exchange, bool waits)
{
	struct turns *turns = exchange->turns;
	bool taken;

	pthread_mutex_lock(&turns->lock);
	taken = !turns->stopping;
	if (taken) {
		if (exchange->caller == 0)
			find_caller(turns, exchange);
		/* Before others can see it: they may be done with it at once. */
		peer_wait(link_peer(exchange->link));
		turns->connection.suspend(exchange);
		if (waits)
			wait_aside(exchange);
		else
			enqueue(turns, exchange);
	}
	pthread_mutex_unlock(&turns->lock);
	return taken;
}

/* Under the lock. Of those who wait the one for whom the fewest work, and of these the first: so nobody's many requests keep others from a worker longer
   than one takes. */
static struct exchange *
dequeue(struct turns *turns)
{
	struct exchange **best = NULL, *exchange;
	size_t least = SIZE_MAX;

	for (struct exchange **link = &turns->first; *link != NULL && least > 0; link = &(*link)->next) {
		size_t n = 0;

		for (size_t i = 0; i < turns->workers_len; i++)
			n += turns->workers[i].caller == (*link)->caller;
		if (n < least) {
			least = n;
			best = link;
		}
	}
	if (best == NULL)
		return NULL;
	exchange = *best;
	*best = exchange->next;
	if (*best == NULL)
		turns->last = best;
	return exchange;
}

/* `mine`: where the worker notes for whom it works. */
static struct exchange *
next_exchange(struct turns *turns, uint64_t *mine)
{
	struct exchange *exchange;

	pthread_mutex_lock(&turns->lock);
	*mine = 0;
	while (turns->first == NULL && !turns->ending)
		pthread_cond_wait(&turns->filled, &turns->lock);
	exchange = dequeue(turns);
	if (exchange != NULL)
		*mine = exchange->caller;
	pthread_mutex_unlock(&turns->lock);
	return exchange;
}

static void
on_wake(void *context, struct waiter *waiter)
{
	struct turns *turns = context;

	pthread_mutex_lock(&turns->lock);
	enqueue(turns, (struct exchange *)waiter);
	pthread_mutex_unlock(&turns->lock);
}

/* Reports come before exports: while they are held up, each piece is followed by a pause as long as it took to make, up to YIELD_MS. */
static int64_t
yield(const struct turns *turns, int64_t took_ms)
{
	if (counter_get(COUNTER_QUEUE_SLOTS) == 0 || counter_get(COUNTER_COMMIT_LAG_US) <= turns->lag_most_us)
		return 0;
	counter_add(COUNTER_YIELDED, 1);
	return took_ms < YIELD_MS ? took_ms : YIELD_MS;
}

/* A stream that is too fast for its caller's quota goes on later. It is not refused: what was sent so far would have to be sent again. */
static void
pace(struct exchange *exchange, int64_t begun_ms)
{
	int64_t now = clock_ms(),
		ms = identity_spend(exchange->turns->identity, &exchange->request, exchange->response.len), more;

	exchange->kept_until_ms = 0;
	if (!exchange->response.streams || exchange->response.waits)
		return;
	counter_add(COUNTER_QUOTA_PACED, ms > 0);
	more = yield(exchange->turns, now - begun_ms);
	if (ms > 0 || more > 0)
		exchange->kept_until_ms = now + (ms > more ? ms : more);
}

/* Finds out who asks, and whether he still may. */
static bool
settle(struct turns *turns, struct exchange *exchange)
{
	if (exchange->settled)
		return identity_renew(turns->identity, &exchange->request, &exchange->response);
	exchange->settled = true;
	return identity_settle(turns->identity, &exchange->request, &exchange->response);
}

/* The next piece of a stream. A problem breaks the connection: what is on its way is no place to tell of it, and is not to look whole. */
static void
continue_stream(struct exchange *exchange)
{
	const char *fault = exchange_client(exchange);
	int64_t begun = clock_ms();

	if (fault != NULL)
		response_problem(&exchange->response, PROBLEM_BAD_CERTIFICATE, "%s.", fault);
	else if (settle(exchange->turns, exchange))
		routes_finish(&exchange->request, &exchange->response);
	pace(exchange, begun);
	peer_answer(link_peer(exchange->link));
	if (exchange->response.streams)
		return;
	exchange->broken = exchange->response.problem != PROBLEM_NONE;
	response_free(&exchange->response);
}

/* Whether the answer to what may be a guess is kept back. */
static bool
keep_back(struct turns *turns, struct exchange *exchange)
{
	int64_t ms;

	if (exchange->response.problem != PROBLEM_UNAUTHORIZED || exchange->request.hint[0] == '\0')
		return false;
	counter_add(COUNTER_SIGN_INS_REFUSED, 1);
	ms = guesses_failed(turns->guesses, exchange->source, exchange->request.hint, clock_ms());
	if (ms == 0)
		return false;
	counter_add(COUNTER_SIGN_INS_DELAYED, 1);
	exchange->kept_until_ms = clock_ms() + ms;
	return keep_waiting(turns, exchange);
}

/* As begin_answer, before the body comes. */
static bool
expect_body(struct turns *turns, struct exchange *exchange)
{
	if (settle(turns, exchange) && routes_expect(&exchange->request, &exchange->response))
		return false;
	if (keep_back(turns, exchange))
		return true;
	exchange->done = true;
	return false;
}

/* True if it is put aside once more. */
static bool
begin_answer(struct turns *turns, struct exchange *exchange)
{
	struct response *response = &exchange->response;
	int64_t begun = clock_ms();

	if (exchange->asks)
		return expect_body(turns, exchange);
	if (settle(turns, exchange))
		routes_finish(&exchange->request, response);
	learn_caller(turns, exchange);
	if (keep_back(turns, exchange))
		return true;
	if (response->waits && !response->streams) {
		response_free(response);
		if (keep_waiting(turns, exchange))
			return true;
		exchange->request.reading.until_ms = clock_ms();
		routes_finish(&exchange->request, response);
	}
	if (response->streams) {
		exchange->streaming = enter_stream(turns);
		if (exchange->streaming) {
			pace(exchange, begun);
		} else {
			response_problem(response, PROBLEM_TOO_MANY_STREAMS, "%s", "");
			response_header(response, "Retry-After", "10");
		}
	}
	exchange->done = true;
	return false;
}

/* Works on what is queued even when the server stops: a suspended connection can't be closed. */
static void *
work(void *context)
{
	struct worker *worker = context;
	struct turns *turns = worker->turns;
	struct exchange *exchange;

	while ((exchange = next_exchange(turns, &worker->caller)) != NULL) {
		if (exchange->streaming)
			continue_stream(exchange);
		else if (exchange->kept_until_ms > 0)
			exchange->done = true;
		else if (begin_answer(turns, exchange))
			continue;
		turns->connection.resume(exchange);
	}
	return NULL;
}

static int
start_workers(struct turns *turns, size_t n)
{
	int rc = 0;

	turns->workers = calloc(n, sizeof *turns->workers);
	if (turns->workers == NULL)
		return -1;
	pthread_mutex_lock(&turns->lock);
	for (; rc == 0 && turns->workers_len < n; turns->workers_len += rc == 0) {
		struct worker *worker = &turns->workers[turns->workers_len];

		worker->turns = turns;
		rc = pthread_create(&worker->thread, NULL, work, worker) == 0 ? 0 : -1;
	}
	pthread_mutex_unlock(&turns->lock);
	return rc;
}

struct turns *
turns_start(const struct settings *settings, const struct turns_switch *connection)
{
	const struct guess_limits limits = {settings->guess_free, settings->guess_delay, settings->guess_window};
	size_t threads = (size_t)settings->http_threads;
	struct turns *turns = calloc(1, sizeof *turns);

	if (turns == NULL)
		return NULL;
	pthread_mutex_init(&turns->lock, NULL);
	pthread_cond_init(&turns->filled, NULL);
	turns->connection = *connection;
	turns->last = &turns->first;
	turns->streams_most = (size_t)settings->http_streams;
	turns->lag_most_us = (settings->batch_window_ms + LAG_MS) * 1000;
	turns->guesses = guesses_new(&limits);
	/* One connection for each worker, and one each for the feed and the journal. */
	turns->pool =
		query_pool_new(settings->database_api, threads + 2, threads > 1 ? threads - 1 : 1, settings->preview_ms,
			       settings->http_query_time * 1000, settings->registrations_max);
	if (turns->guesses == NULL || turns->pool == NULL)
		goto fail;
	turns->identity = identity_start(settings, turns->pool);
	turns->journal = journal_start(turns->pool);
	turns->feed = feed_start(turns->pool, on_wake, turns);
	if (turns->identity != NULL && turns->journal != NULL && turns->feed != NULL &&
	    start_workers(turns, threads) == 0)
		return turns;
fail:
	turns_stop(turns);
	turns_free(turns);
	return NULL;
}

void
turns_stop(struct turns *turns)
{
	if (turns == NULL)
		return;
	pthread_mutex_lock(&turns->lock);
	turns->stopping = true;
	pthread_mutex_unlock(&turns->lock);
	/* Whoever waits goes back into the queue, and gets what there is. */
	feed_stop(turns->feed);
	pthread_mutex_lock(&turns->lock);
	turns->ending = true;
	pthread_cond_broadcast(&turns->filled);
	pthread_mutex_unlock(&turns->lock);
	for (size_t i = 0; i < turns->workers_len; i++)
		pthread_join(turns->workers[i].thread, NULL);
}

void
turns_free(struct turns *turns)
{
	if (turns == NULL)
		return;
	journal_stop(turns->journal);
	identity_stop(turns->identity);
	query_pool_free(turns->pool);
	guesses_free(turns->guesses);
	pthread_cond_destroy(&turns->filled);
	pthread_mutex_destroy(&turns->lock);
	free(turns->workers);
	free(turns);
}

void
turns_enter(struct turns *turns, struct exchange *exchange)
{
	exchange->turns = turns;
	exchange->request.pool = turns->pool;
}

void
turns_note(struct exchange *exchange)
{
	struct turns *turns = exchange->turns;

	journal_note(turns->journal, &exchange->request, exchange->response.status);
	if (!exchange->streaming)
		(void)identity_spend(turns->identity, &exchange->request, exchange->response.len);
}

void
turns_leave(struct exchange *exchange)
{
	if (exchange->streaming)
		leave_stream(exchange->turns);
	identity_leave(exchange->turns->identity, &exchange->request);
}
