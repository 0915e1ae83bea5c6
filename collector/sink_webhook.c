/* Events by HTTP POST, signed. A message is delivered when it was answered with 2xx; the next is sent after it, so that they arrive in
   order. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/sink.h"

struct webhook {
	struct sink_link link;
	struct guard_call call;
	struct curl_slist *headers;
	struct draft body;
	enum sink_state state;
	struct sink_answer answer;
	struct sink_progress sending, progress;
};

/* What a status says of the message itself, and not of the receiver's state: the same message would be refused again. */
static const long rejections[] = {400, 413, 415, 422};

static bool
rejects(long status)
{
	for (size_t i = 0; i < sizeof rejections / sizeof *rejections; i++)
		if (rejections[i] == status)
			return true;
	return false;
}

static struct sink_link *
open_link(const struct sink *sink, const struct sink_ground *ground, char *why)
{
	struct webhook *w = calloc(1, sizeof *w);

	if (w == NULL) {
		snprintf(why, GUARD_WHY_SIZE, "out of memory");
		return NULL;
	}
	w->link = (struct sink_link){sink, ground};
	w->state = SINK_SENT;
	return &w->link;
}

/* curl_slist_append leaves the list as it was when it fails. */
static bool
add_header(struct webhook *w, const char *line)
{
	struct curl_slist *longer = curl_slist_append(w->headers, line);

	if (longer == NULL)
		return false;
	w->headers = longer;
	return true;
}

/* HMAC-SHA256 over the time, a dot and the body: a receiver that looks at the time too can't be fooled with an old message. */
static bool
sign(struct webhook *w)
{
	struct slice secret = w->link.sink->secret;
	struct draft told = {0};
	uint8_t mac[EVP_MAX_MD_SIZE];
	char line[64 + 2 * EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int at;
	bool good;

	if (secret.at == NULL)
		return true;
	draft_printf(&told, "%lld.", (long long)time(NULL));
	at = snprintf(line, sizeof line, "Fleetstate-Signature: t=%.*s,v1=", (int)told.len - 1,
		      told.at == NULL ? "" : told.at);
	draft_add(&told, w->body.at, w->body.len);
	good = !told.failed &&
	       HMAC(EVP_sha256(), secret.at, (int)secret.len, (const uint8_t *)told.at, told.len, mac, &len) != NULL;
	for (unsigned i = 0; good && i < len; i++)
		at += snprintf(line + at, sizeof line - (size_t)at, "%02x", mac[i]);
	draft_free(&told);
	return good && add_header(w, line);
}

static void
end_call(struct webhook *w)
{
	guard_close(&w->call);
	curl_slist_free_all(w->headers);
	w->headers = NULL;
}

static bool
begin_call(struct webhook *w)
{
	const struct sink *sink = w->link.sink;
	CURL *c = w->call.curl;
	char type[128];

	snprintf(type, sizeof type, "Content-Type: %s", sink->batch == 1 ? sink->format->one : sink->format->several);
	/* An empty Expect: no waiting for permission to send a large body. */
	return add_header(w, type) && add_header(w, "Expect:") && sign(w) &&
	       curl_easy_setopt(c, CURLOPT_HTTPHEADER, w->headers) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_POSTFIELDS, w->body.at) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)w->body.len) == CURLE_OK &&
	       guard_begin(&w->call, w->link.ground->multi, &w->link, sink->ca) == 0;
}

static void
send_events(struct sink_link *link, const struct event *events, size_t n, int64_t upto)
{
	const struct event_format *format = link->sink->format;
	struct webhook *w = (struct webhook *)link;

	draft_empty(&w->body);
	if (link->sink->batch == 1)
		format->write(&w->body, events);
	else
		event_format_all(format, &w->body, events, n);
	memset(&w->answer, 0, sizeof w->answer);
	w->sending = (struct sink_progress){upto, (int64_t)n};
	w->state = SINK_BUSY;
	if (w->body.failed || guard_open(link->ground->guard, &w->call, link->sink->target) < 0 || !begin_call(w)) {
		sink_say(&w->answer, "", w->call.why[0] != '\0' ? w->call.why : "out of memory");
		w->state = SINK_FAILED;
		end_call(w);
	}
}

static void
finished(struct sink_link *link, CURLcode code)
{
	struct webhook *w = (struct webhook *)link;
	char prefix[64];

	if (guard_settle(&w->call, code) < 0) {
		sink_say(&w->answer, "", w->call.why);
		w->state = SINK_FAILED;
	} else if (w->call.status >= 200 && w->call.status < 300) {
		w->progress.position = w->sending.position;
		w->progress.events += w->sending.events;
		w->state = SINK_SENT;
	} else {
		snprintf(prefix, sizeof prefix, "HTTP %ld%s: ", w->call.status,
			 w->call.status >= 300 && w->call.status < 400 ? " (redirects are not followed)" : "");
		sink_say(&w->answer, prefix, w->call.kept);
		if (w->call.status == 429 || w->call.status == 503)
			w->answer.retry_after_s = w->call.retry_after_s;
		w->state = rejects(w->call.status) ? SINK_REJECTED : SINK_FAILED;
	}
	end_call(w);
}

static enum sink_state
step(struct sink_link *link, int64_t now_ms, struct sink_answer *answer)
{
	struct webhook *w = (struct webhook *)link;
	enum sink_state state = w->state;

	(void)now_ms;
	*answer = w->answer;
	if (state != SINK_BUSY)
		w->state = SINK_SENT;
	return state;
}

static struct sink_progress
confirmed(struct sink_link *link, int64_t now_ms, bool ending)
{
	struct webhook *w = (struct webhook *)link;
	struct sink_progress progress = w->progress;

	(void)now_ms;
	(void)ending;
	w->progress = (struct sink_progress){0, 0};
	return progress;
}

static bool
pending(const struct sink_link *link)
{
	const struct webhook *w = (const struct webhook *)link;

	return w->state == SINK_BUSY || w->progress.position != 0;
}

static bool
wait_for(const struct sink_link *link, struct curl_waitfd *fd)
{
	(void)link;
	(void)fd;
	return false;
}

static void
close_link(struct sink_link *link)
{
	struct webhook *w = (struct webhook *)link;

	end_call(w);
	draft_free(&w->body);
	free(w);
}

const struct sink_kind sink_webhook = {
	.name = "webhook",
	.format = "cloudevents",
	.secret = "the key that messages are signed with",
	.makes_secret = true,
	.target_ok = guard_url_ok,
	.open = open_link,
	.send = send_events,
	.finished = finished,
	.step = step,
	.confirmed = confirmed,
	.pending = pending,
	.wait = wait_for,
	.close = close_link,
};
