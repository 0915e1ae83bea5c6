#include "collector/pipeline.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "collector/answer.h"
#include "collector/challenge.h"
#include "collector/checkpoint.h"
#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/evaluate.h"
#include "collector/forward.h"
#include "collector/keyring.h"
#include "collector/lease.h"
#include "collector/outbox.h"
#include "collector/queue.h"
#include "collector/store.h"
#include "collector/subscribe.h"
#include "collector/watch.h"
#include "collector/workers.h"
#include "schema/log.h"

#define IDLE_MS 250 /* between two looks at what others changed */
#define STOP_SECONDS 10 /* for a database that does not answer when we end */

struct pipeline {
	const struct settings *settings;
	struct tls *tls;
	struct queue *queue;
	struct budget *budget;
	struct keyring *keyring;
	struct subscribe *subscribe;
	struct answer *answer;
	struct workers *workers;
	struct store *store;
	struct message **batch;
	pthread_t store_thread;
	struct evaluate *evaluate;
	struct lease *lease;
	struct watch *watch;
	struct challenger *challenger;
	struct outbox *outbox;
	struct checkpointer *checkpointer;
	struct forward *forward;
	size_t started; /* stages */
	_Atomic int64_t stop_by; /* seconds; 0: not stopping */
};

static int start_queue(struct pipeline *);
static int start_subscribe(struct pipeline *);
static int start_answer(struct pipeline *);
static int start_verify(struct pipeline *);
static int start_store(struct pipeline *);
static int start_evaluate(struct pipeline *);
static int start_watch(struct pipeline *);
static int start_challenge(struct pipeline *);
static int start_outbox(struct pipeline *);
static int start_forward(struct pipeline *);
static int start_lease(struct pipeline *);
static int start_checkpoint(struct pipeline *);
static void stop_queue(struct pipeline *);
static void stop_subscribe(struct pipeline *);
static void stop_answer(struct pipeline *);
static void stop_verify(struct pipeline *);
static void stop_store(struct pipeline *);
static void stop_evaluate(struct pipeline *);
static void stop_watch(struct pipeline *);
static void stop_challenge(struct pipeline *);
static void stop_outbox(struct pipeline *);
static void stop_forward(struct pipeline *);
static void stop_lease(struct pipeline *);
static void stop_checkpoint(struct pipeline *);

/*
 * A report comes in at `subscribe`, which copies it into the queue; `verify` finishes it there, in any order; `store` takes the longest finished
 * run from the front and commits it, judged by the operator's policies; then `answer` sends receipts. `evaluate` judges what no report brings up, and
 * `challenge` has questions asked.
 * `lease` says which shards we subscribe to, and so sets it all going: it starts
 * after all of these and stops before them.
 */
/* clang-format off */
static const struct stage {
	const char *name;
	int (*start)(struct pipeline *);
	void (*stop)(struct pipeline *);
} stages[] = {
	{"queue", start_queue, stop_queue},
	{"subscribe", start_subscribe, stop_subscribe},
	{"answer", start_answer, stop_answer},
	{"verify", start_verify, stop_verify},
	{"store", start_store, stop_store},
	{"evaluate", start_evaluate, stop_evaluate},
	{"lease", start_lease, stop_lease},
	{"watch", start_watch, stop_watch},
	{"challenge", start_challenge, stop_challenge},
	{"outbox", start_outbox, stop_outbox},
	{"checkpoint", start_checkpoint, stop_checkpoint},
	{"forward", start_forward, stop_forward},
};
/* clang-format on */
#define STAGES (sizeof stages / sizeof stages[0])

struct pipeline *
pipeline_start(const struct settings *settings, struct tls *tls)
{
	struct pipeline *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->settings = settings;
	p->tls = tls;
	for (; p->started < STAGES; p->started++)
		if (stages[p->started].start(p) < 0) {
			log_error("pipeline: %s does not start", stages[p->started].name);
			pipeline_stop(p);
			return NULL;
		}
	return p;
}

void
pipeline_stop(struct pipeline *p)
{
	if (p == NULL)
		return;
	atomic_store(&p->stop_by, clock_s() + STOP_SECONDS);
	while (p->started > 0)
		stages[--p->started].stop(p);
	free(p);
}

/* The queue, and who is known in memory. */

static int
start_queue(struct pipeline *p)
{
	p->keyring = keyring_new();
	p->queue = queue_new((size_t)p->settings->queue_slots, (size_t)p->settings->queue_bytes,
			     (unsigned)p->settings->workers);
	p->budget = budget_new(p->settings->refusals_per_second);
	if (p->keyring != NULL && p->queue != NULL && p->budget != NULL)
		return 0;
	stop_queue(p);
	return -1;
}

static void
stop_queue(struct pipeline *p)
{
	budget_free(p->budget);
	queue_free(p->queue);
	keyring_free(p->keyring);
}

/* subscribe */

static int
start_subscribe(struct pipeline *p)
{
	p->subscribe = subscribe_start(p->settings, p->queue, p->budget);
	return p->subscribe == NULL ? -1 : 0;
}

static void
stop_subscribe(struct pipeline *p)
{
	subscribe_stop(p->subscribe);
}

/* answer */

static int
start_answer(struct pipeline *p)
{
	p->answer = answer_start(p->settings, p->subscribe);
	return p->answer == NULL ? -1 : 0;
}

static void
stop_answer(struct pipeline *p)
{
	answer_stop(p->answer);
}

/* verify */

static int
start_verify(struct pipeline *p)
{
	struct database *db = database_new(p->settings->database, NULL, 0);
	struct anchors *anchors = db == NULL ? NULL : anchors_load(db);

	database_free(db);
	if (anchors == NULL)
		return -1;
	p->workers = workers_start(p->settings, p->queue, p->keyring, p->answer, p->budget, anchors);
	return p->workers == NULL ? -1 : 0;
}

static void
stop_verify(struct pipeline *p)
{
	workers_free(p->workers);
}

/* store */

static void
committed(void *context, const struct judge *judge, struct message **messages, size_t n)
{
	struct pipeline *p = context;

	answer_batch(p->answer, judge, messages, n, queue_fill(p->queue));
}

/* Changes do not wait for a batch, and batches not for many changes. */
static void *
run_store(void *argument)
{
	struct pipeline *p = argument;
	unsigned wait = IDLE_MS;
	size_t n;

	while (queue_batch(p->queue, wait, (unsigned)p->settings->batch_window_ms, (unsigned)p->settings->batch_news_ms,
			   p->batch, (size_t)p->settings->batch_max, &n)) {
		wait = store_reload_now(p->store) ? 0 : IDLE_MS;
		if (n > 0 && store_batch(p->store, p->batch, n) < 0)
			counter_add(COUNTER_MESSAGES_LEFT, (int64_t)n);
		queue_release(p->queue);
	}
	return NULL;
}

static int
start_store(struct pipeline *p)
{
	p->batch = calloc((size_t)p->settings->batch_max, sizeof(struct message *));
	p->store = store_new(p->settings, p->keyring, committed, p);
	if (p->batch != NULL && p->store != NULL && pthread_create(&p->store_thread, NULL, run_store, p) == 0)
		return 0;
	free(p->batch);
	store_free(p->store);
	return -1;
}

/* The end of the flow: what is in the queue is verified and stored before its threads end. */
static void
stop_store(struct pipeline *p)
{
	queue_close(p->queue);
	workers_join(p->workers);
	pthread_join(p->store_thread, NULL);
	free(p->batch);
	store_free(p->store);
}

/* evaluate */

static int
start_evaluate(struct pipeline *p)
{
	p->evaluate = evaluate_start(p->settings);
	return p->evaluate == NULL ? -1 : 0;
}

static void
stop_evaluate(struct pipeline *p)
{
	evaluate_stop(p->evaluate);
}

/* watch */

/* The canary first: what came before it and is not stored yet is in the queue still. */
static bool
heard_shard(void *context, unsigned shard, int64_t *since, int64_t *until)
{
	struct pipeline *p = context;
	int64_t since_ms, until_ms, oldest, now = clock_now_us();

	if (!clock_is_right() || !subscribe_heard(p->subscribe, shard, &since_ms, &until_ms))
		return false;
	oldest = queue_oldest(p->queue);
	*since = now - since_ms * 1000;
	*until = now - until_ms * 1000;
	if (*until > oldest)
		*until = oldest;
	return true;
}

static bool
deaf(void *context, char *why)
{
	return subscribe_deaf(((struct pipeline *)context)->subscribe, why);
}

static void
watch_anchors(void *context, struct anchors *anchors)
{
	workers_set_anchors(((struct pipeline *)context)->workers, anchors);
}

static void
watch_device(void *context, const struct ueid *ueid)
{
	store_reload(((struct pipeline *)context)->store, ueid);
}

static void
watch_devices(void *context)
{
	store_reload_all(((struct pipeline *)context)->store);
}

static int
start_watch(struct pipeline *p)
{
	p->watch =
		watch_start(p->settings, p->tls,
			    &(struct watch_events){heard_shard, deaf, watch_anchors, watch_device, watch_devices, p});
	return p->watch == NULL ? -1 : 0;
}

static void
stop_watch(struct pipeline *p)
{
	watch_stop(p->watch);
}

/* challenge */

static bool
is_up(void *context, unsigned shard)
{
	return subscribe_is_up(((struct pipeline *)context)->subscribe, shard);
}

static void
send_challenge(void *context, const struct ueid *ueid, const struct ledger *ledger, struct slice nonce)
{
	answer_challenge(((struct pipeline *)context)->answer, ueid, ledger, nonce);
}

static int
start_challenge(struct pipeline *p)
{
	p->challenger = challenger_start(p->settings, &(struct challenge_events){is_up, send_challenge, p});
	return p->challenger == NULL ? -1 : 0;
}

static void
stop_challenge(struct pipeline *p)
{
	challenger_stop(p->challenger);
}

/* outbox */

static int
start_outbox(struct pipeline *p)
{
	p->outbox = outbox_start(p->settings);
	return p->outbox == NULL ? -1 : 0;
}

static void
stop_outbox(struct pipeline *p)
{
	outbox_stop(p->outbox);
}

/* checkpoint */

static int
start_checkpoint(struct pipeline *p)
{
	p->checkpointer = checkpointer_start(p->settings);
	return p->checkpointer == NULL ? -1 : 0;
}

static void
stop_checkpoint(struct pipeline *p)
{
	checkpointer_stop(p->checkpointer);
}

/* forward */

static int
start_forward(struct pipeline *p)
{
	p->forward = forward_start(p->settings);
	return p->forward == NULL ? -1 : 0;
}

static void
stop_forward(struct pipeline *p)
{
	forward_stop(p->forward);
}

/* lease */

static int64_t
cut_off_ms(void *context)
{
	return subscribe_cut_off(((struct pipeline *)context)->subscribe);
}

static bool
answered_aside(void *context)
{
	return subscribe_answered_aside(((struct pipeline *)context)->subscribe);
}

static void
end_aside(void *context)
{
	subscribe_end_aside(((struct pipeline *)context)->subscribe);
}

static int
hold_shard(void *context, unsigned shard)
{
	return subscribe_hold(((struct pipeline *)context)->subscribe, shard);
}

static void
release_shard(void *context, unsigned shard)
{
	subscribe_release(((struct pipeline *)context)->subscribe, shard);
}

/* A database that does not answer is waited for, but not for ever when we end: devices send again what is then left. */
static void
give_up_in_time(struct pipeline *p)
{
	int64_t stop_by = atomic_load(&p->stop_by);

	if (stop_by == 0 || clock_s() < stop_by)
		return;
	workers_give_up(p->workers);
	store_give_up(p->store);
}

static void
drain_shard(void *context, unsigned shard)
{
	struct pipeline *p = context;

	workers_drain(p->workers, shard, true);
	while (queue_of_shard(p->queue, shard) > 0) {
		give_up_in_time(p);
		nanosleep(&(struct timespec){0, 5000000}, NULL);
	}
	keyring_forget_shard(p->keyring, shard);
	answer_forget_shard(p->answer, shard);
	workers_drain(p->workers, shard, false);
}

static int
start_lease(struct pipeline *p)
{
	p->lease = lease_start(p->settings, &(struct lease_events){hold_shard, release_shard, drain_shard, cut_off_ms,
								   answered_aside, end_aside, p});
	return p->lease == NULL ? -1 : 0;
}

static void
stop_lease(struct pipeline *p)
{
	lease_stop(p->lease);
}

/* Readiness. */

bool
pipeline_leases_ready(void *context, char *why)
{
	return lease_ready(((struct pipeline *)context)->lease, why);
}

bool
pipeline_broker_ready(void *context, char *why)
{
	return subscribe_ready(((struct pipeline *)context)->subscribe, why);
}
