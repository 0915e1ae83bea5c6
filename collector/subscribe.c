#include "collector/subscribe.h"

#include <MQTTAsync.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "schema/log.h"

#define CANARY_MS 5000
#define CANARY_LATE_MS                                                                                                 \
	(2 * CANARY_MS) /* a silence of the broker's own, after which devices need time to be heard again */
#define CANARY_GOOD_MS 60000
#define DEAF_MS 5000 /* without a connection, before it is called an outage */
#define TICK_MS 250
#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS 4000 /* a broker that is back should find us before it finds the fleet, and we are few */
#define CONNECT_SECONDS 10
#define STUCK_MS (3 * CONNECT_SECONDS * 1000)
#define DISCONNECT_MS 3000
#define OUTGOING_MAX 1000 /* receipts of a shard on their way at once */
#define NAME_SIZE 32
#define ASIDE SHARDS /* the client that hears nothing but its own canary */
/* Waking for each message costs as much as verifying it. So after a pause the next ones are let gather in the socket; under load there is none. */
#define PAUSE_US 100
#define GATHER_US 2000

enum link { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct client {
	struct subscribe *subscribe;
	unsigned shard;
	char name[NAME_SIZE], topic[LIMIT_TOPIC], canary[LIMIT_TOPIC];
	_Atomic(MQTTAsync) handle; /* NULL: not held */
	atomic_int link;
	atomic_bool full; /* gave up because the queue was: stay away for a moment */
	_Atomic int64_t canary_sent, canary_back;
	_Atomic int64_t heard_since, heard_until; /* 0: not yet */
	_Atomic int64_t down_since; /* 0: connected */
	atomic_bool held; /* as handle, for those who must not wait for it */
	int64_t next_try, backoff, tried; /* the ticking thread's */
	atomic_bool spoilt; /* something could not be written: see on_not_sent */
	atomic_bool gone; /* the disconnect that was asked for is done */
};

struct subscribe {
	const struct settings *settings;
	struct queue *queue;
	struct budget *budget;
	/* Never connected. With the last handle paho 1.3.12 would end its threads, lose what they have in hand and forget its lists. */
	MQTTAsync anchor;
	struct client clients[SHARDS + 1]; /* one a shard, and the one beside them */
	pthread_mutex_t lock; /* over the clients' handles; what paho's own thread reads there is one, or NULL */
	pthread_t thread;
	atomic_bool stop;
	int64_t last_us; /* the last message's */
	int64_t worked_us; /* the receiving thread's own time, when it was asked for last */
};

static void
nap(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* Callbacks: paho's one receiving thread serves all clients, so each must be short. */

static void
set_down(struct client *c, const char *why)
{
	if (atomic_exchange(&c->link, LINK_DOWN) == LINK_UP)
		counter_add(COUNTER_BROKER_LOSSES, 1);
	if (atomic_load(&c->down_since) == 0)
		atomic_store(&c->down_since, clock_ms());
	log_warning("subscribe: %s: %s", c->name, why);
}

static void
on_lost(void *context, char *cause)
{
	set_down(context, cause == NULL ? "connection lost" : cause);
}

static void
on_refused(void *context, MQTTAsync_failureData5 *data)
{
	char line[256];

	snprintf(line, sizeof line, "can't connect: %s (paho %d, reason %s)",
		 data == NULL || data->message == NULL ? "" : data->message, data == NULL ? 0 : data->code,
		 data == NULL ? "" : MQTTReasonCode_toString(data->reasonCode));
	set_down(context, line);
}

/* What could not be written paho 1.3.12 frees, and keeps in the session all the same: on the next connection it would send what lies there by then, and at
   the handle's end free it once more. So such a handle is not used again. */
static void
on_not_sent(void *context, MQTTAsync_failureData5 *data)
{
	if (data != NULL && data->code == MQTTASYNC_FAILURE)
		atomic_store(&((struct client *)context)->spoilt, true);
}

static int
publish(struct client *c, const char *topic, const void *at, size_t len)
{
	MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;

	response.onFailure5 = on_not_sent;
	response.context = c;
	return MQTTAsync_send(c->handle, topic, (int)len, at, 1, 0, &response);
}

static void
send_canary(struct client *c)
{
	char now[32];
	int len = snprintf(now, sizeof now, "%lld", (long long)clock_ms());

	atomic_store(&c->canary_sent, clock_ms());
	if (publish(c, c->canary, now, (size_t)len) != MQTTASYNC_SUCCESS)
		log_debug("subscribe: %s: canary not sent", c->name);
}

static void
on_subscribed(void *context, MQTTAsync_successData5 *data)
{
	struct client *c = context;

	(void)data;
	/* What a resumed session had for us may come before this answer, and make us hang up: of a connection that we end paho tells nobody. */
	if (atomic_load(&c->link) != LINK_CONNECTING)
		return;
	atomic_store(&c->heard_since, clock_ms());
	atomic_store(&c->down_since, 0);
	send_canary(c);
	atomic_store(&c->link, LINK_UP);
}

static void
on_not_subscribed(void *context, MQTTAsync_failureData5 *data)
{
	struct client *c = context;
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer5;

	/* A subscription that our own end of its connection left without an answer: paho may tell of it as late as when the handle goes. */
	if (data != NULL && data->reasonCode == MQTTREASONCODE_SUCCESS)
		return;
	log_error("subscribe: %s: subscription refused: %s", c->name,
		  data == NULL ? "" : MQTTReasonCode_toString(data->reasonCode));
	atomic_store(&c->link, LINK_DOWN);
	(void)MQTTAsync_disconnect(c->handle, &options);
}

/* On every connection anew: a broker that lost its sessions in a restart would else be silently deaf to us. */
static void
on_connected(void *context, MQTTAsync_successData5 *data)
{
	struct client *c = context;
	MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
	char *const topics[] = {c->topic, c->canary};
	const int qos[] = {1, 1};

	(void)data;
	counter_add(COUNTER_BROKER_CONNECTS, 1);
	log_info("subscribe: %s: connected", c->name);
	response.onSuccess5 = on_subscribed;
	response.onFailure5 = on_not_subscribed;
	response.context = c;
	/* The last is the canary's, and all that is heard aside. */
	if (MQTTAsync_subscribeMany(c->handle, c->shard == ASIDE ? 1 : 2, topics + (c->shard == ASIDE), qos,
				    &response) != MQTTASYNC_SUCCESS)
		on_not_subscribed(c, NULL);
}

/* The rest of the shard stays in the broker's queue and in the devices' spools. */
static void
hang_up(struct client *c, size_t left)
{
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer5;

	counter_add(COUNTER_MESSAGES_LEFT, (int64_t)left);
	if (atomic_exchange(&c->full, true))
		return;
	counter_add(COUNTER_QUEUE_FULL, 1);
	log_warning("subscribe: %s: %s: leaving the rest to the broker", c->name,
		    clock_is_right() ? "queue full" : "no right time");
	atomic_store(&c->link, LINK_DOWN);
	(void)MQTTAsync_disconnect(c->handle, &options);
}

/* Our own message is back: all that the broker had for the shard when it was sent came before it. One that was sent before is no news, and after a
   message that found no room it proves nothing. */
static void
on_canary(struct client *c, const MQTTAsync_message *message)
{
	int64_t now = clock_ms(), sent = atomic_load(&c->canary_sent), until = atomic_load(&c->heard_until);
	char text[32];
	int len = snprintf(text, sizeof text, "%lld", (long long)sent);

	counter_add(COUNTER_CANARIES, 1);
	atomic_store(&c->canary_back, now);
	if (atomic_load(&c->full) || message->payloadlen != len || memcmp(message->payload, text, (size_t)len) != 0)
		return;
	if (now - until > CANARY_LATE_MS)
		atomic_store(&c->heard_since, now);
	atomic_store(&c->heard_until, sent);
}

/* Called at the end of each message, in paho's receiving thread. A pause is time in which the thread did nothing: where a message takes long to come
   in, as under a sanitizer, a nap after each of them would be all that it does. The thread's own time is asked for only where there may have been one. */
static void
gather(struct subscribe *s)
{
	int64_t now = clock_us(CLOCK_MONOTONIC), worked;

	if (now - s->last_us > PAUSE_US) {
		worked = clock_us(CLOCK_THREAD_CPUTIME_ID);
		/* Of the time since it was asked for last, at least what is since the last message. */
		if (now - s->last_us - (worked - s->worked_us) > PAUSE_US)
			nanosleep(&(struct timespec){0, GATHER_US * 1000}, NULL);
		s->worked_us = worked;
		now = clock_us(CLOCK_MONOTONIC);
	}
	s->last_us = now;
}

/* One report, or what a device kept while it was away. What is no report is refused where it is looked at, and so is what follows it. */
static void
take_reports(struct client *c, struct slice topic, struct slice payload)
{
	struct slice reports[LIMIT_SEQUENCE_REPORTS];
	size_t n = cose_split(payload, reports, LIMIT_SEQUENCE_REPORTS), put;
	/* Half the keep-alive: a longer wait would lose the connections of all shards. */
	unsigned wait = atomic_load(&c->full) ? 0 : (unsigned)c->subscribe->settings->keep_alive * 500;

	counter_add(COUNTER_MESSAGES, (int64_t)n);
	counter_add(COUNTER_SEQUENCES, n > 1);
	put = queue_put(c->subscribe->queue, c->shard, topic, reports, n, wait);
	if (put < n)
		hang_up(c, n - put);
}

/* paho acknowledges when this returns, and would bring the message back for ever if it returned 0. */
static int
on_message(void *context, char *topic, int topic_len, MQTTAsync_message *message)
{
	struct client *c = context;
	size_t len = topic_len > 0 ? (size_t)topic_len : strlen(topic);
	struct slice name = {(uint8_t *)topic, len}, payload = {message->payload, (size_t)message->payloadlen};

	if (len == strlen(c->canary) && memcmp(topic, c->canary, len) == 0) {
		on_canary(c, message);
	} else {
		counter_add(COUNTER_MESSAGE_BYTES, message->payloadlen);
		if (budget_allows(c->subscribe->budget, name, clock_ms())) {
			take_reports(c, name, payload);
		} else {
			counter_add(COUNTER_MESSAGES, 1);
			counter_add(COUNTER_OVER_BUDGET, 1);
		}
	}
	MQTTAsync_freeMessage(&message);
	MQTTAsync_free(topic);
	gather(c->subscribe);
	return 1;
}

/* Connections. */

static int
set_property(MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t value)
{
	MQTTProperty p = {.identifier = code};

	if (code == MQTTPROPERTY_CODE_RECEIVE_MAXIMUM)
		p.value.integer2 = (unsigned short)value;
	else
		p.value.integer4 = (unsigned)value;
	return MQTTProperties_add(properties, &p);
}

static void
connect_client(struct client *c)
{
	const struct settings *settings = c->subscribe->settings;
	MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer5;
	MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
	MQTTProperties properties = MQTTProperties_initializer;

	ssl.trustStore = settings->ca;
	ssl.keyStore = settings->certificate;
	ssl.privateKey = settings->key;
	ssl.verify = 1;
	ssl.enableServerCertAuth = 1;
	options.ssl = &ssl;
	options.keepAliveInterval = (int)settings->keep_alive;
	options.cleanstart = c->shard == ASIDE;
	options.connectTimeout = CONNECT_SECONDS;
	options.connectProperties = &properties;
	options.onSuccess5 = on_connected;
	options.onFailure5 = on_refused;
	options.context = c;
	atomic_store(&c->full, false);
	atomic_store(&c->link, LINK_CONNECTING);
	if (set_property(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
			 c->shard == ASIDE ? 0 : settings->session_expiry) != 0 ||
	    set_property(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, settings->receive_maximum) != 0 ||
	    MQTTAsync_connect(c->handle, &options) != MQTTASYNC_SUCCESS)
		set_down(c, "paho does not connect");
	MQTTProperties_free(&properties);
}

/* Waits longer each time, and by a random part, so that sixteen clients do not come back as one. */
static void
back_off(struct client *c, int64_t now)
{
	c->backoff = c->backoff == 0 ? BACKOFF_MIN_MS : c->backoff * 2;
	if (c->backoff > BACKOFF_MAX_MS)
		c->backoff = BACKOFF_MAX_MS;
	c->next_try = now + c->backoff / 2 + rand() % (int)(c->backoff / 2);
}

static const MQTTAsync_disconnectOptions hang_up_options = MQTTAsync_disconnectOptions_initializer5;

static int
create_handle(const struct settings *settings, const char *name, MQTTAsync *handle)
{
	MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;

	options.maxBufferedMessages = OUTGOING_MAX;
	return MQTTAsync_createWithOptions(handle, settings->broker, name, MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
}

static int
create(struct client *c)
{
	MQTTAsync handle = NULL;
	int rc = create_handle(c->subscribe->settings, c->name, &handle);

	if (rc == MQTTASYNC_SUCCESS)
		rc = MQTTAsync_setCallbacks(handle, c, on_lost, on_message, NULL);
	if (rc == MQTTASYNC_SUCCESS) {
		c->handle = handle;
		return 0;
	}
	log_error("subscribe: %s: %s", c->name, MQTTAsync_strerror(rc));
	MQTTAsync_destroy(&handle);
	return -1;
}

/* Or left as it is, some tens of kilobytes: its connection has ended. */
static void
destroy(struct client *c, MQTTAsync handle)
{
	if (atomic_exchange(&c->spoilt, false))
		(void)MQTTAsync_setConnectionLostCallback(handle, NULL, NULL);
	else
		MQTTAsync_destroy(&handle);
}

/* Another handle in the place of one that must not be used again. The session is the broker's, which has it by name. */
static int
replace(struct client *c)
{
	MQTTAsync handle = c->handle;

	if (create(c) != 0)
		return -1;
	destroy(c, handle);
	counter_add(COUNTER_CLIENTS_REPLACED, 1);
	return 0;
}

static void
tick(struct client *c, int64_t now)
{
	if (c->handle == NULL)
		return;
	switch ((enum link)atomic_load(&c->link)) {
	case LINK_UP:
		c->backoff = 0;
		if (now - atomic_load(&c->canary_sent) >= CANARY_MS)
			send_canary(c);
		break;
	case LINK_DOWN:
		if (now < c->next_try || (atomic_load(&c->full) && queue_fill(c->subscribe->queue) > 50))
			break;
		back_off(c, now);
		c->tried = now;
		if (MQTTAsync_isConnected(c->handle)) {
			/* A hang-up of our own that is still under way, or went wrong. */
			(void)MQTTAsync_disconnect(c->handle, &hang_up_options);
			break;
		}
		if (!atomic_load(&c->spoilt) || replace(c) == 0)
			connect_client(c);
		break;
	case LINK_CONNECTING:
		/* paho gives up by itself; should it not, so do we. */
		if (now - c->tried > STUCK_MS)
			set_down(c, "no answer to a connect");
		break;
	}
}

static void *
run(void *argument)
{
	struct subscribe *s = argument;

	while (!atomic_load(&s->stop)) {
		pthread_mutex_lock(&s->lock);
		for (unsigned i = 0; i <= ASIDE; i++)
			tick(&s->clients[i], clock_ms());
		pthread_mutex_unlock(&s->lock);
		nap(TICK_MS);
	}
	return NULL;
}

int
subscribe_hold(struct subscribe *s, unsigned shard)
{
	struct client *c = &s->clients[shard];
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (c->handle == NULL) {
		atomic_store(&c->link, LINK_DOWN);
		atomic_store(&c->canary_back, 0);
		atomic_store(&c->heard_since, 0);
		atomic_store(&c->heard_until, 0);
		atomic_store(&c->down_since, clock_ms());
		c->next_try = c->backoff = 0;
		rc = create(c);
		atomic_store(&c->held, rc == 0);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void
on_gone(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	atomic_store(&((struct client *)context)->gone, true);
}

static void
on_gone_anyway(void *context, MQTTAsync_failureData5 *data)
{
	(void)data;
	atomic_store(&((struct client *)context)->gone, true);
}

static void
disconnect(struct client *c, MQTTAsync handle)
{
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer5;
	int64_t end = clock_ms() + DISCONNECT_MS;

	atomic_store(&c->gone, false);
	options.timeout = DISCONNECT_MS / 2;
	options.onSuccess5 = on_gone;
	options.onFailure5 = on_gone_anyway;
	options.context = c;
	if (MQTTAsync_disconnect(handle, &options) != MQTTASYNC_SUCCESS)
		return;
	while (!atomic_load(&c->gone) && clock_ms() < end)
		nap(5);
}

void
subscribe_release(struct subscribe *s, unsigned shard)
{
	struct client *c = &s->clients[shard];
	MQTTAsync handle;

	pthread_mutex_lock(&s->lock);
	handle = c->handle;
	c->handle = NULL;
	atomic_store(&c->held, false);
	pthread_mutex_unlock(&s->lock);
	if (handle == NULL)
		return;
	disconnect(c, handle);
	destroy(c, handle);
	atomic_store(&c->link, LINK_DOWN);
}

/* Waits for nobody: paho may keep the lock's holder for as long as the queue is full. */
bool
subscribe_ready(struct subscribe *s, char *why)
{
	int64_t now = clock_ms();

	for (unsigned i = 0; i < SHARDS; i++) {
		struct client *c = &s->clients[i];
		int64_t back = atomic_load(&c->canary_back);

		if (!atomic_load(&c->held) || (back != 0 && now - back <= CANARY_GOOD_MS))
			continue;
		snprintf(why, 128, "shard %x: no message of our own came back through the broker in the last minute",
			 i);
		return false;
	}
	return true;
}

/* One that we left because our queue was full is our own trouble, not the broker's. */
static bool
is_deaf(const struct client *c, int64_t now)
{
	int64_t down = atomic_load(&c->down_since), back = atomic_load(&c->canary_back),
		since = atomic_load(&c->heard_since);

	if (!atomic_load(&c->held) || atomic_load(&c->full))
		return false;
	if (down != 0)
		return now - down > DEAF_MS;
	return now - (back > since ? back : since) > CANARY_LATE_MS + DEAF_MS;
}

bool
subscribe_deaf(struct subscribe *s, char *why)
{
	int64_t now = clock_ms();
	unsigned n = 0;

	for (unsigned i = 0; i < SHARDS; i++)
		n += is_deaf(&s->clients[i], now);
	if (n == 0 && is_deaf(&s->clients[ASIDE], now))
		n = SHARDS;
	snprintf(why, 128, "%s: %u of %d shards can't be heard", s->settings->broker, n, SHARDS);
	return n > 0;
}

int64_t
subscribe_cut_off(struct subscribe *s)
{
	int64_t now = clock_ms(), least = -1;

	for (unsigned i = 0; i < SHARDS; i++) {
		int64_t down = atomic_load(&s->clients[i].down_since), cut_off = down == 0 ? 0 : now - down;

		if (atomic_load(&s->clients[i].held) && (least < 0 || cut_off < least))
			least = cut_off;
	}
	return least;
}

bool
subscribe_answered_aside(struct subscribe *s)
{
	int64_t back;

	if (subscribe_hold(s, ASIDE) < 0)
		return false;
	back = atomic_load(&s->clients[ASIDE].canary_back);
	return back != 0 && clock_ms() - back <= CANARY_LATE_MS && atomic_load(&s->clients[ASIDE].down_since) == 0;
}

void
subscribe_end_aside(struct subscribe *s)
{
	subscribe_release(s, ASIDE);
}

bool
subscribe_heard(struct subscribe *s, unsigned shard, int64_t *since_ms, int64_t *until_ms)
{
	struct client *c = &s->clients[shard];
	int64_t now, since, until;

	if (!atomic_load(&c->held))
		return false;
	until = atomic_load(&c->heard_until);
	since = atomic_load(&c->heard_since);
	now = clock_ms();
	*since_ms = now - since;
	*until_ms = now - until;
	return since != 0 && until > since;
}

bool
subscribe_is_up(struct subscribe *s, unsigned shard)
{
	struct client *c = &s->clients[shard];
	bool up;

	pthread_mutex_lock(&s->lock);
	up = c->handle != NULL && atomic_load(&c->link) == LINK_UP;
	pthread_mutex_unlock(&s->lock);
	return up;
}

int
subscribe_publish(struct subscribe *s, const struct ueid *ueid, struct slice receipt)
{
	struct client *c = &s->clients[ueid_shard(ueid)];
	char topic[LIMIT_TOPIC];
	int rc = -1;

	topic_print_receipt(ueid, topic, sizeof topic);
	pthread_mutex_lock(&s->lock);
	/* What a resumed session has for us, and we for whom it is of, comes before our subscription is answered. paho refuses while there is no connection. */
	if (c->handle != NULL && atomic_load(&c->link) != LINK_DOWN &&
	    publish(c, topic, receipt.at, receipt.len) == MQTTASYNC_SUCCESS)
		rc = 0;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void
discard(struct subscribe *s)
{
	MQTTAsync_destroy(&s->anchor);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void
name_client(struct client *c, unsigned shard)
{
	c->shard = shard;
	if (shard == ASIDE)
		snprintf(c->name, sizeof c->name, "fleetstate-aside-%08x", arc4random());
	else
		snprintf(c->name, sizeof c->name, "fleetstate-shard-%x", shard);
	snprintf(c->topic, sizeof c->topic, "fleetstate/1/%x/+/report", shard);
	snprintf(c->canary, sizeof c->canary, "fleetstate/1/canary/%s", c->name);
}

struct subscribe *
subscribe_start(const struct settings *settings, struct queue *queue, struct budget *budget)
{
	struct subscribe *s = calloc(1, sizeof *s);
	int rc;

	if (s == NULL)
		return NULL;
	s->settings = settings;
	s->queue = queue;
	s->budget = budget;
	/* It would format a line for every packet and keep it for nobody. */
	MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR);
	pthread_mutex_init(&s->lock, NULL);
	for (unsigned i = 0; i <= ASIDE; i++) {
		s->clients[i].subscribe = s;
		name_client(&s->clients[i], i);
	}
	rc = create_handle(settings, "fleetstate-anchor", &s->anchor);
	if (rc != MQTTASYNC_SUCCESS)
		log_error("subscribe: %s", MQTTAsync_strerror(rc));
	if (rc == MQTTASYNC_SUCCESS && pthread_create(&s->thread, NULL, run, s) == 0)
		return s;
	discard(s);
	return NULL;
}

void
subscribe_stop(struct subscribe *s)
{
	if (s == NULL)
		return;
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	for (unsigned i = 0; i <= ASIDE; i++)
		subscribe_release(s, i);
	discard(s);
}
