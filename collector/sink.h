/*
 * What a kind of sink has to be able to do. Each is a file, sink_*.c, and a row of the table in forward.c; one thread drives them all, so nothing here
 * may wait: sending is begun with `send` and carried on by `step`.
 */
#ifndef FLEETSTATE_COLLECTOR_SINK_H
#define FLEETSTATE_COLLECTOR_SINK_H

#include "collector/event.h"
#include "collector/format_event.h"
#include "collector/guard.h"

#define SINK_ANSWER_SIZE 512

/* As configured: a row of the table `sink`. */
struct sink {
	int64_t id;
	char *tenant;			/* NULL: an operator's, of all tenants */
	char *name, *kind, *target;
	char *ca, *certificate;		/* PEM, or NULL */
	struct slice secret;		/* open; absent: there is none */
	const struct event_format *format;
	char *types;			/* as event_wanted takes them */
	enum severity least;
	size_t batch;
};

/* What a link stands on. */
struct sink_ground {
	CURLM *multi;
	const struct guard *guard;
	const char *host;		/* this collector's name */
	int64_t timeout_ms;
};

enum sink_state {
	SINK_BUSY,
	SINK_SENT,	/* another may be sent; whether this one is delivered, `confirmed` tells */
	SINK_FAILED,	/* the receiver, or the way to it: the same again, later */
	SINK_REJECTED,	/* the receiver says that it will never take this */
};

/* Of SINK_FAILED and SINK_REJECTED. */
struct sink_answer {
	char text[SINK_ANSWER_SIZE];	/* ASCII */
	int64_t retry_after_s;		/* what the receiver asked for; 0: nothing */
};

/* What has been delivered since it was last asked. */
struct sink_progress {
	int64_t position;	/* 0: nothing */
	int64_t events;
};

/* Every kind's link begins with it. */
struct sink_link {
	const struct sink *sink;
	const struct sink_ground *ground;
};

struct sink_kind {
	const char *name;
	const char *format;	/* when none is wished */
	const char *secret;		/* what its secret is; NULL: it has none */
	bool makes_secret;		/* one is made when none is given */
	bool (*target_ok)(const char *target, char *why);	/* its form; `why` holds GUARD_WHY_SIZE */
	/* Opens nothing yet. NULL: `why`, GUARD_WHY_SIZE, says what is wrong with the configuration. */
	struct sink_link *(*open)(const struct sink *, const struct sink_ground *, char *why);
	/* Begins to send; the events stay until `step` has said something else than SINK_BUSY. `upto`: where the cursor stands then. */
	void (*send)(struct sink_link *, const struct event *, size_t n, int64_t upto);
	void (*finished)(struct sink_link *, CURLcode);		/* curl is done with its handle, whose CURLOPT_PRIVATE is the link */
	enum sink_state (*step)(struct sink_link *, int64_t now_ms, struct sink_answer *);	/* also when nothing is being sent: SINK_SENT */
	/* `ending`: we are about to close, and what the receiver's machine has is taken for delivered. */
	struct sink_progress (*confirmed)(struct sink_link *, int64_t now_ms, bool ending);
	bool (*pending)(const struct sink_link *);		/* something was sent and is not confirmed */
	bool (*wait)(const struct sink_link *, struct curl_waitfd *);	/* a socket that is not curl's to watch */
	void (*close)(struct sink_link *);
};

extern const struct sink_kind sink_webhook, sink_syslog;

const struct sink_kind *sink_kind(const char *name);	/* NULL: there is none */
/* What came from outside, for logs and the database: at most SINK_ANSWER_SIZE - 1 bytes of visible ASCII. */
void sink_say(struct sink_answer *, const char *prefix, const char *text);

#endif
