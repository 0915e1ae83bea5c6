#include "emitter/publish.h"

#include <MQTTAsync.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "schema/limits.h"

#define QUEUE_SIZE 64 /* all that the window can answer, and the connection's own events */
#define QUEUE_MESSAGES 8 /* of them, receipts: 128 KiB at most */
#define CONNECT_TIMEOUT 30 /* seconds; or two intervals when that is less, */
#define CONNECT_TIMEOUT_MIN 10 /* but not less than a slow link or a busy broker needs */
#define TLS_REASON 5 /* which field of OpenSSL's line */
#define STABLE_MS 10000 /* a connection that held this long ends the backing off */
#define TYPE_REPORT "application/eat+cwt" /* RFC 9782 */
#define TYPE_REPORTS "application/cbor-seq" /* RFC 8742 */

/* Beside those of publish.h, what only this file sees. */
enum { EVENT_OPENED = 100, EVENT_CLOSED };

enum phase { PHASE_IDLE, PHASE_CONNECTING, PHASE_UP };

/* paho gives a message's fate back with a pointer; it points to one of these. */
struct flight {
	struct publisher *publisher;
	_Atomic uint64_t seq; /* of its last report; 0: free */
	uint64_t first;
	unsigned reports;
};

struct publisher {
	const struct publish_settings *settings;
	MQTTAsync client;
	char name[UEID_HEX];
	char report_topic[LIMIT_TOPIC], receipt_topic[LIMIT_TOPIC];

	/* The loop's. */
	enum phase phase;
	int64_t retry_at, up_since;
	unsigned attempts;
	struct flight flights[PUBLISH_WINDOW];
	size_t in_flight;

	/* Shared with paho's threads. */
	pthread_mutex_t lock;
	int wake;
	struct publish_event queue[QUEUE_SIZE];
	size_t head, len, messages;
	uint64_t overruns;
	char tls_error[96]; /* OpenSSL's last, of this attempt to connect */
};

int64_t
monotonic_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- paho's side: copy, enqueue, wake ---- */

static void
wake(const struct publisher *p)
{
	uint64_t one = 1;
	ssize_t n = write(p->wake, &one, sizeof one);
	(void)n; /* a full counter is awake already */
}

static bool
enqueue(struct publisher *p, const struct publish_event *event)
{
	bool is_message = event->kind == PUBLISH_MESSAGE;
	pthread_mutex_lock(&p->lock);
	bool room = p->len < QUEUE_SIZE && !(is_message && p->messages == QUEUE_MESSAGES);
	if (room) {
		p->queue[(p->head + p->len++) % QUEUE_SIZE] = *event;
		p->messages += is_message;
	} else {
		p->overruns++;
	}
	pthread_mutex_unlock(&p->lock);
	wake(p);
	return room;
}

static void
enqueue_kind(struct publisher *p, int kind, uint64_t seq, const char *text)
{
	struct publish_event event = {.kind = (enum publish_event_kind)kind, .seq = seq};
	if (text != NULL)
		snprintf(event.text, sizeof event.text, "%s", text);
	(void)enqueue(p, &event);
}

static void
on_connect(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	enqueue_kind(context, EVENT_OPENED, 0, NULL);
}

/* One line of OpenSSL's errors: "thread:error:code:library:function:reason:file:line:data". Only the reason is for people. */
static int
on_tls_error(const char *line, size_t len, void *context)
{
	struct publisher *p = context;
	struct slice field = {(const uint8_t *)line, 0};
	const char *end = line + len;
	for (int i = 0; i <= TLS_REASON && line <= end; i++) {
		const char *colon = memchr(line, ':', (size_t)(end - line));
		field = (struct slice){(const uint8_t *)line, (size_t)((colon != NULL ? colon : end) - line)};
		line = colon != NULL ? colon + 1 : end + 1;
	}
	pthread_mutex_lock(&p->lock);
	snprintf(p->tls_error, sizeof p->tls_error, "%.*s", (int)field.len, (const char *)field.at);
	pthread_mutex_unlock(&p->lock);
	return 1;
}

/* paho says the most in one of three places, depending on how far it came; OpenSSL knows more of a failed handshake. */
static void
on_failure(void *context, MQTTAsync_failureData5 *data)
{
	struct publisher *p = context;
	char text[96] = "no answer", tls_error[sizeof p->tls_error];
	pthread_mutex_lock(&p->lock);
	memcpy(tls_error, p->tls_error, sizeof tls_error);
	pthread_mutex_unlock(&p->lock);
	if (tls_error[0] != '\0')
		snprintf(text, sizeof text, "TLS: %.80s", tls_error);
	else if (data != NULL && data->reasonCode >= MQTTREASONCODE_UNSPECIFIED_ERROR)
		snprintf(text, sizeof text, "%s", MQTTReasonCode_toString(data->reasonCode));
	else if (data != NULL && data->message != NULL)
		snprintf(text, sizeof text, "%s", data->message);
	else if (data != NULL && data->code != 0)
		snprintf(text, sizeof text, "%s",
			 MQTTAsync_strerror(data->code) ? MQTTAsync_strerror(data->code) : "failed");
	enqueue_kind(context, PUBLISH_LOST, 0, text);
}

static void
on_lost(void *context, char *cause)
{
	enqueue_kind(context, PUBLISH_LOST, 0, cause != NULL ? cause : "connection lost");
}

/* The broker ends the connection and says why. */
static void
on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
	(void)properties;
	enqueue_kind(context, PUBLISH_LOST, 0, MQTTReasonCode_toString(reason));
}

static void
on_subscribed(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	enqueue_kind(context, PUBLISH_CONNECTED, 0, NULL);
}

static void
on_acked(void *context, MQTTAsync_successData5 *data)
{
	struct flight *flight = context;
	(void)data;
	enqueue_kind(flight->publisher, PUBLISH_ACKED, flight->seq, NULL);
}

static void
on_refused(void *context, MQTTAsync_failureData5 *data)
{
	struct flight *flight = context;
	enqueue_kind(flight->publisher, PUBLISH_REFUSED, flight->seq,
		     data != NULL ? MQTTReasonCode_toString(data->reasonCode) : NULL);
}

static void
on_closed(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	enqueue_kind(context, EVENT_CLOSED, 0, NULL);
}

static void
on_not_closed(void *context, MQTTAsync_failureData5 *data)
{
	(void)data;
	enqueue_kind(context, EVENT_CLOSED, 0, NULL);
}

static int
on_message(void *context, char *topic, int topic_len, MQTTAsync_message *message)
{
	struct publisher *p = context;
	(void)topic_len;
	size_t len = (size_t)message->payloadlen;
	uint8_t *copy = len > 0 && len <= LIMIT_RECEIPT ? malloc(len) : NULL;
	if (copy != NULL) {
		memcpy(copy, message->payload, len);
		struct publish_event event = {.kind = PUBLISH_MESSAGE, .message = {copy, len}};
		if (!enqueue(p, &event))
			free(copy);
	}
	MQTTAsync_freeMessage(&message);
	MQTTAsync_free(topic);
	return 1;
}

/* ---- the loop's side ---- */

static void
begin_once(void)
{
	MQTTAsync_init_options options = MQTTAsync_init_options_initializer;
	options.do_openssl_init = 0; /* OpenSSL 3 does it itself */
	MQTTAsync_global_init(&options);
}

static int
create_client(struct publisher *p, char *error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, begin_once);
	MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
	options.maxBufferedMessages = PUBLISH_WINDOW;
	int rc = MQTTAsync_createWithOptions(&p->client, p->settings->broker, p->name, MQTTCLIENT_PERSISTENCE_NONE,
					     NULL, &options);
	if (rc == MQTTASYNC_SUCCESS)
		rc = MQTTAsync_setCallbacks(p->client, p, on_lost, on_message, NULL);
	if (rc == MQTTASYNC_SUCCESS)
		rc = MQTTAsync_setDisconnected(p->client, p, on_disconnected);
	if (rc == MQTTASYNC_SUCCESS)
		return 0;
	snprintf(error, ERROR_SIZE, "broker %s: %s", p->settings->broker, MQTTAsync_strerror(rc));
	return -1;
}

struct publisher *
publisher_new(const struct publish_settings *settings, const struct ueid *ueid, char *error)
{
	struct publisher *p = calloc(1, sizeof *p);
	if (p == NULL || (p->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
		snprintf(error, ERROR_SIZE, "can't make a client: %s", strerror(errno));
		free(p);
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	p->settings = settings;
	ueid_print(ueid, p->name);
	topic_print_report(ueid, p->report_topic, sizeof p->report_topic);
	topic_print_receipt(ueid, p->receipt_topic, sizeof p->receipt_topic);
	for (size_t i = 0; i < PUBLISH_WINDOW; i++)
		p->flights[i].publisher = p;
	if (create_client(p, error) != 0) {
		publisher_free(p, 0);
		return NULL;
	}
	return p;
}

static bool
dequeue(struct publisher *p, struct publish_event *out)
{
	pthread_mutex_lock(&p->lock);
	bool any = p->len > 0;
	if (any) {
		*out = p->queue[p->head];
		p->head = (p->head + 1) % QUEUE_SIZE;
		p->len--;
		p->messages -= out->kind == PUBLISH_MESSAGE;
	}
	pthread_mutex_unlock(&p->lock);
	return any;
}

/* Waits for the end of an orderly disconnection: paho first delivers what is in flight. */
static void
close_client(struct publisher *p, unsigned wait_ms)
{
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer5;
	options.timeout = (int)wait_ms;
	options.onSuccess5 = on_closed;
	options.onFailure5 = on_not_closed;
	options.context = p;
	if (MQTTAsync_disconnect(p->client, &options) != MQTTASYNC_SUCCESS)
		return;
	int64_t until = monotonic_ms() + wait_ms + 500;
	for (int64_t now = monotonic_ms(); now < until; now = monotonic_ms()) {
		struct pollfd fd = {.fd = p->wake, .events = POLLIN};
		struct publish_event event;
		bool closed = false;
		if (poll(&fd, 1, (int)(until - now)) > 0) {
			uint64_t count;
			ssize_t n = read(p->wake, &count, sizeof count);
			(void)n;
		}
		while (dequeue(p, &event)) {
			closed |= (int)event.kind == EVENT_CLOSED || event.kind == PUBLISH_LOST;
			publish_event_free(&event);
		}
		if (closed)
			return;
	}
}

void
publisher_free(struct publisher *p, unsigned wait_ms)
{
	if (p == NULL)
		return;
	if (p->client != NULL && p->phase != PHASE_IDLE)
		close_client(p, wait_ms);
	if (p->client != NULL)
		MQTTAsync_destroy(&p->client);
	for (struct publish_event event; dequeue(p, &event);)
		publish_event_free(&event);
	pthread_mutex_destroy(&p->lock);
	close(p->wake);
	free(p);
}

int
publisher_fd(const struct publisher *p)
{
	return p->wake;
}

void
publish_event_free(struct publish_event *event)
{
	free((void *)(uintptr_t)event->message.at);
	event->message = (struct slice){NULL, 0};
}

/* The event becomes that of all its reports. */
static void
land(struct publisher *p, struct publish_event *event)
{
	event->first = event->seq;
	event->reports = 1;
	for (size_t i = 0; i < PUBLISH_WINDOW; i++)
		if (event->seq != 0 && p->flights[i].seq == event->seq) {
			event->first = p->flights[i].first;
			event->reports = p->flights[i].reports;
			p->flights[i].seq = 0;
			p->in_flight--;
			return;
		}
}

/* A fleet that lost its broker comes back spread out. An interval is long enough for that: then the broker sees no more connections than it sees
   reports. */
int64_t
publish_wait(const struct publish_settings *s, unsigned attempts)
{
	uint64_t most = s->backoff_min, longest = (uint64_t)s->interval * 1000;
	if (longest > s->backoff_max)
		longest = s->backoff_max;
	for (unsigned i = 0; i < attempts && most < longest; i++)
		most *= 2;
	if (most > longest)
		most = longest;
	return arc4random_uniform((uint32_t)most + 1);
}

static void
back_off(struct publisher *p)
{
	int64_t now = monotonic_ms();
	if (p->phase == PHASE_UP && now - p->up_since >= STABLE_MS)
		p->attempts = 0;
	p->retry_at = now + publish_wait(p->settings, p->attempts++);
	p->phase = PHASE_IDLE;
	for (size_t i = 0; i < PUBLISH_WINDOW; i++)
		p->flights[i].seq = 0;
	p->in_flight = 0;
}

/* A broker forgets subscriptions with the session, so each connection makes its own. */
static void
subscribe(struct publisher *p)
{
	MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
	options.onSuccess5 = on_subscribed;
	options.onFailure5 = on_failure;
	options.context = p;
	int rc = MQTTAsync_subscribe(p->client, p->receipt_topic, 1, &options);
	if (rc != MQTTASYNC_SUCCESS)
		enqueue_kind(p, PUBLISH_LOST, 0, MQTTAsync_strerror(rc));
}

/* A subscription that was refused leaves the connection standing; without receipts it is no use. */
static void
hang_up(struct publisher *p)
{
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer5;
	if (MQTTAsync_isConnected(p->client))
		(void)MQTTAsync_disconnect(p->client, &options);
}

/* Takes up what an event means for the connection. False: it is not for the caller. */
static bool
digest_event(struct publisher *p, struct publish_event *event)
{
	switch ((int)event->kind) {
	case EVENT_OPENED:
		subscribe(p);
		return false;
	case PUBLISH_CONNECTED:
		p->phase = PHASE_UP;
		p->up_since = monotonic_ms();
		return true;
	case PUBLISH_LOST:
		if (p->phase == PHASE_IDLE)
			return false; /* told already */
		hang_up(p);
		back_off(p);
		return true;
	case PUBLISH_ACKED:
	case PUBLISH_REFUSED:
		land(p, event);
		return true;
	case PUBLISH_MESSAGE:
		return true;
	default:
		return false;
	}
}

bool
publisher_take(struct publisher *p, struct publish_event *out)
{
	while (dequeue(p, out)) {
		if (digest_event(p, out))
			return true;
		publish_event_free(out);
	}
	uint64_t count;
	ssize_t n = read(p->wake, &count, sizeof count);
	(void)n; /* nothing to read: quiet already */
	/* What came between the last look and the read has lost its wake-up. */
	pthread_mutex_lock(&p->lock);
	bool more = p->len > 0;
	pthread_mutex_unlock(&p->lock);
	if (more)
		wake(p);
	return false;
}

/* paho 1.3.12 can name TLS 1.2 at most; the default lets OpenSSL take the highest both have, and the broker's listener takes 1.3 only. */
static MQTTAsync_SSLOptions
tls_options(struct publisher *p)
{
	const struct publish_settings *settings = p->settings;
	MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
	tls.struct_version = 5;
	tls.trustStore = settings->ca;
	tls.keyStore = settings->certificate;
	tls.privateKey = settings->key;
	tls.enableServerCertAuth = 1;
	tls.verify = 1; /* the host name too: paho leaves that out by default */
	tls.disableDefaultTrustStore = 1;
	tls.sslVersion = MQTT_SSL_VERSION_DEFAULT;
	tls.ssl_error_cb = on_tls_error;
	tls.ssl_error_context = p;
	return tls;
}

static int
connect_timeout(unsigned interval)
{
	if (interval >= CONNECT_TIMEOUT / 2)
		return CONNECT_TIMEOUT;
	return interval * 2 > CONNECT_TIMEOUT_MIN ? (int)interval * 2 : CONNECT_TIMEOUT_MIN;
}

static int
connect_client(struct publisher *p)
{
	MQTTAsync_SSLOptions tls = tls_options(p);
	pthread_mutex_lock(&p->lock);
	p->tls_error[0] = '\0';
	pthread_mutex_unlock(&p->lock);
	MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer5;
	MQTTProperties properties = MQTTProperties_initializer;
	MQTTProperty largest = {.identifier = MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE};
	largest.value.integer4 = LIMIT_RECEIPT + 1024;
	if (MQTTProperties_add(&properties, &largest) != 0)
		return MQTTASYNC_FAILURE;
	options.connectProperties = &properties;
	options.cleanstart = 1; /* nothing waits at the broker for us: the spool does, and receipts come anew */
	options.keepAliveInterval = (int)p->settings->keep_alive;
	options.connectTimeout = connect_timeout(p->settings->interval);
	options.maxInflight = PUBLISH_WINDOW;
	options.ssl = &tls;
	options.onSuccess5 = on_connect;
	options.onFailure5 = on_failure;
	options.context = p;
	int rc = MQTTAsync_connect(p->client, &options);
	MQTTProperties_free(&properties);
	return rc;
}

int64_t
publisher_tick(struct publisher *p, int64_t now)
{
	if (p->phase != PHASE_IDLE)
		return INT64_MAX;
	if (now < p->retry_at)
		return p->retry_at;
	p->phase = PHASE_CONNECTING;
	int rc = connect_client(p);
	if (rc != MQTTASYNC_SUCCESS)
		enqueue_kind(p, PUBLISH_LOST, 0, MQTTAsync_strerror(rc));
	return INT64_MAX;
}

bool
publisher_connected(const struct publisher *p)
{
	return p->phase == PHASE_UP;
}

bool
publisher_has_room(const struct publisher *p)
{
	return p->phase == PHASE_UP && p->in_flight < PUBLISH_WINDOW;
}

static struct flight *
free_flight(struct publisher *p)
{
	for (size_t i = 0; i < PUBLISH_WINDOW; i++)
		if (p->flights[i].seq == 0)
			return &p->flights[i];
	return NULL;
}

int
publisher_send(struct publisher *p, uint64_t first, uint64_t seq, unsigned reports, struct slice message)
{
	struct flight *flight = free_flight(p);
	if (!publisher_has_room(p) || flight == NULL)
		return -1;
	MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
	options.onSuccess5 = on_acked;
	options.onFailure5 = on_refused;
	options.context = flight;
	MQTTAsync_message packet = MQTTAsync_message_initializer;
	packet.payload = (void *)(uintptr_t)message.at;
	packet.payloadlen = (int)message.len;
	packet.qos = 1;
	const char *name = reports > 1 ? TYPE_REPORTS : TYPE_REPORT;
	MQTTProperty type = {.identifier = MQTTPROPERTY_CODE_CONTENT_TYPE};
	type.value.data = (MQTTLenString){(int)strlen(name), (char *)(uintptr_t)name};
	flight->seq = seq;
	flight->first = first;
	flight->reports = reports;
	int rc = MQTTProperties_add(&packet.properties, &type) == 0
			 ? MQTTAsync_sendMessage(p->client, p->report_topic, &packet, &options)
			 : MQTTASYNC_FAILURE;
	MQTTProperties_free(&packet.properties);
	if (rc != MQTTASYNC_SUCCESS) {
		flight->seq = 0;
		/* Of a connection that was ended from here paho tells nobody. */
		if (rc == MQTTASYNC_DISCONNECTED)
			enqueue_kind(p, PUBLISH_LOST, 0, MQTTAsync_strerror(rc));
		return -1;
	}
	p->in_flight++;
	return 0;
}

uint64_t
publisher_take_overruns(struct publisher *p)
{
	pthread_mutex_lock(&p->lock);
	uint64_t overruns = p->overruns;
	p->overruns = 0;
	pthread_mutex_unlock(&p->lock);
	return overruns;
}
