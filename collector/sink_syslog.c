/*
 * Events as RFC 5424 messages over TLS (RFC 5425). The protocol has no acknowledgement: an event counts as delivered when the receiver's TCP has
 * acknowledged its bytes and the connection has lived on for a while. What was not, when a connection breaks, is sent again.
 */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "collector/format_rfc5424.h"
#include "collector/sink.h"

#define SETTLE_MS 5000 /* a receiver that dies sooner may not have read what its machine took */
#define MARKS 64 /* beyond, the newest is prolonged */

/* How far the stream had come when all of a message was in it. */
struct mark {
	struct sink_progress progress;
	uint64_t end; /* bytes of TCP, as tcpi_bytes_acked counts them */
	int64_t acked_ms; /* 0: not yet */
};

struct syslog {
	struct sink_link link;
	struct guard_call call;
	curl_socket_t socket; /* CURL_SOCKET_BAD: not connected */
	bool connecting, blocked;
	struct draft out;
	size_t done;
	int64_t moved_ms; /* when a byte last went out */
	enum sink_state state;
	struct sink_answer answer;
	struct sink_progress sending;
	struct mark marks[MARKS];
	size_t n;
};

/* "host:6514", "[2001:db8::1]:6514", or without the port: as the authority of a URL. */
static void
url_of(const char *target, char *url, size_t size)
{
	const char *port = strrchr(target, ':');
	bool has_port = port != NULL && strchr(port, ']') == NULL;

	snprintf(url, size, "https://%s%s", target, has_port ? "" : ":6514");
}

static bool
target_ok(const char *target, char *why)
{
	char url[2100];

	if (strlen(target) > 512 || strpbrk(target, "/?#@") != NULL) {
		snprintf(why, GUARD_WHY_SIZE, "not host:port");
		return false;
	}
	url_of(target, url, sizeof url);
	return guard_url_ok(url, why);
}

static struct sink_link *
open_link(const struct sink *sink, const struct sink_ground *ground, char *why)
{
	struct syslog *s = calloc(1, sizeof *s);

	if (s == NULL) {
		snprintf(why, GUARD_WHY_SIZE, "out of memory");
		return NULL;
	}
	s->link = (struct sink_link){sink, ground};
	s->socket = CURL_SOCKET_BAD;
	s->state = SINK_SENT;
	return &s->link;
}

/* curl sends close_notify (RFC 5425 4.4) before it closes. */
static void
disconnect(struct syslog *s)
{
	guard_close(&s->call);
	s->socket = CURL_SOCKET_BAD;
	s->connecting = s->blocked = false;
	s->n = 0;
}

static void
fail(struct syslog *s, const char *prefix, const char *text)
{
	sink_say(&s->answer, prefix, text);
	s->state = SINK_FAILED;
	disconnect(s);
}

static bool
begin_connect(struct syslog *s)
{
	const struct sink *sink = s->link.sink;
	char url[2100];
	CURL *c;

	url_of(sink->target, url, sizeof url);
	if (guard_open(s->link.ground->guard, &s->call, url) < 0)
		return false;
	c = s->call.curl;
	s->connecting = curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK &&
			curl_easy_setopt(c, CURLOPT_SSL_ENABLE_ALPN, 0L) == CURLE_OK &&
			curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
			curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, 15L) == CURLE_OK &&
			curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, 5L) == CURLE_OK &&
			(sink->certificate == NULL || guard_present(&s->call, sink->certificate, sink->secret) == 0) &&
			guard_begin(&s->call, s->link.ground->multi, &s->link, sink->ca) == 0;
	return s->connecting;
}

static void
send_events(struct sink_link *link, const struct event *events, size_t n, int64_t upto)
{
	struct syslog *s = (struct syslog *)link;
	/* Our own format is syslog's own: structured data. */
	const struct event_format *format = link->sink->format,
				  *payload = strcmp(format->name, "native") == 0 ? NULL : format;
	struct draft one = {0};

	draft_empty(&s->out);
	for (size_t i = 0; i < n; i++) {
		draft_empty(&one);
		format_rfc5424(&one, &events[i], link->ground->host, payload);
		draft_printf(&s->out, "%zu ", one.len);
		draft_add(&s->out, one.at, one.len);
		s->out.failed = s->out.failed || one.failed;
	}
	draft_free(&one);
	s->done = 0;
	s->moved_ms = 0;
	s->sending = (struct sink_progress){upto, (int64_t)n};
	s->state = SINK_BUSY;
	memset(&s->answer, 0, sizeof s->answer);
	if (s->out.failed)
		fail(s, "", "out of memory");
	else if (s->socket == CURL_SOCKET_BAD && !begin_connect(s))
		fail(s, "", s->call.why[0] != '\0' ? s->call.why : "out of memory");
}

static void
finished(struct sink_link *link, CURLcode code)
{
	struct syslog *s = (struct syslog *)link;

	s->connecting = false;
	if (guard_settle(&s->call, code) < 0)
		fail(s, "", s->call.why);
	else if (curl_easy_getinfo(s->call.curl, CURLINFO_ACTIVESOCKET, &s->socket) != CURLE_OK ||
		 s->socket == CURL_SOCKET_BAD)
		fail(s, "", "the connection is gone");
}

static bool
bytes_acked(curl_socket_t socket, uint64_t *acked)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;

	if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return false;
	*acked = info.tcpi_bytes_acked;
	return true;
}

/* Where the stream ends: what TCP has had acknowledged, and what it still holds, both at one moment. */
static bool
stream_end(curl_socket_t socket, uint64_t *end)
{
	uint64_t before, after;
	int held = 0;

	do {
		if (!bytes_acked(socket, &before) || ioctl(socket, SIOCOUTQ, &held) != 0 ||
		    !bytes_acked(socket, &after))
			return false;
	} while (before != after);
	*end = after + (uint64_t)held;
	return true;
}

static void
add_mark(struct syslog *s)
{
	struct mark *m;

	if (s->n < MARKS)
		s->marks[s->n++] = (struct mark){0};
	m = &s->marks[s->n - 1];
	if (!stream_end(s->socket, &m->end))
		m->end = UINT64_MAX;
	m->progress.position = s->sending.position;
	m->progress.events += s->sending.events;
	m->acked_ms = 0;
}

/* Receivers have nothing to say: what comes is the end, or TLS's own business. */
static bool
is_open(struct syslog *s)
{
	char unread[256];
	size_t n = 0;
	CURLcode code = curl_easy_recv(s->call.curl, unread, sizeof unread, &n);

	if (code == CURLE_AGAIN || (code == CURLE_OK && n > 0))
		return true;
	/* With nothing left to lose it is no failure: the next message finds another connection. */
	if (s->n == 0 && s->state != SINK_BUSY)
		disconnect(s);
	else
		fail(s, "connection lost: ", code == CURLE_OK ? "closed by the receiver" : curl_easy_strerror(code));
	return false;
}

static void
write_out(struct syslog *s, int64_t now_ms)
{
	s->blocked = false;
	while (s->done < s->out.len) {
		size_t n = 0;
		CURLcode code = curl_easy_send(s->call.curl, s->out.at + s->done, s->out.len - s->done, &n);

		if (code == CURLE_AGAIN) {
			s->blocked = true;
			if (now_ms - s->moved_ms > s->link.ground->timeout_ms)
				fail(s, "", "the receiver takes nothing more");
			return;
		}
		if (code != CURLE_OK) {
			fail(s, "connection lost: ", curl_easy_strerror(code));
			return;
		}
		s->done += n;
		s->moved_ms = now_ms;
	}
	add_mark(s);
	s->state = SINK_SENT;
}

static enum sink_state
step(struct sink_link *link, int64_t now_ms, struct sink_answer *answer)
{
	struct syslog *s = (struct syslog *)link;
	enum sink_state state;

	if (s->moved_ms == 0)
		s->moved_ms = now_ms;
	if (s->socket != CURL_SOCKET_BAD && is_open(s) && s->state == SINK_BUSY)
		write_out(s, now_ms);
	*answer = s->answer;
	state = s->state;
	if (state == SINK_FAILED)
		s->state = SINK_SENT;
	return state;
}

static struct sink_progress
confirmed(struct sink_link *link, int64_t now_ms, bool ending)
{
	struct syslog *s = (struct syslog *)link;
	struct sink_progress progress = {0, 0};
	uint64_t acked;
	size_t k = 0;

	if (s->n == 0 || !bytes_acked(s->socket, &acked))
		return progress;
	for (size_t i = 0; i < s->n && s->marks[i].end <= acked; i++)
		if (s->marks[i].acked_ms == 0)
			s->marks[i].acked_ms = now_ms;
	while (k < s->n && s->marks[k].acked_ms != 0 && (ending || now_ms - s->marks[k].acked_ms >= SETTLE_MS)) {
		progress.position = s->marks[k].progress.position;
		progress.events += s->marks[k++].progress.events;
	}
	memmove(s->marks, s->marks + k, (s->n - k) * sizeof *s->marks);
	s->n -= k;
	return progress;
}

static bool
pending(const struct sink_link *link)
{
	const struct syslog *s = (const struct syslog *)link;

	return s->state == SINK_BUSY || s->n > 0;
}

static bool
wait_for(const struct sink_link *link, struct curl_waitfd *fd)
{
	const struct syslog *s = (const struct syslog *)link;

	if (s->socket == CURL_SOCKET_BAD)
		return false;
	*fd = (struct curl_waitfd){.fd = s->socket,
				   .events = (short)(CURL_WAIT_POLLIN | (s->blocked ? CURL_WAIT_POLLOUT : 0))};
	return true;
}

static void
close_link(struct sink_link *link)
{
	struct syslog *s = (struct syslog *)link;

	disconnect(s);
	draft_free(&s->out);
	free(s);
}

const struct sink_kind sink_syslog = {
	.name = "syslog",
	.format = "native",
	.secret = "the client certificate's key",
	.target_ok = target_ok,
	.open = open_link,
	.send = send_events,
	.finished = finished,
	.step = step,
	.confirmed = confirmed,
	.pending = pending,
	.wait = wait_for,
	.close = close_link,
};
