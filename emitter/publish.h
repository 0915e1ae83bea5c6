/*
 * The connection to the broker: the emitter's one user of paho. MQTT 5 over mutual TLS, one client per device, any number in a process. What
 * paho's threads see is copied into one bounded queue, and a descriptor wakes the loop that takes it out.
 */
#ifndef FLEETSTATE_PUBLISH_H
#define FLEETSTATE_PUBLISH_H

#include <stdbool.h>

#include "emitter/durable.h"
#include "schema/topics.h"

#define PUBLISH_WINDOW 16	/* messages in flight; mosquitto lets a client have 20 */

struct publish_settings {
	const char *broker;		/* ssl://host:port */
	const char *ca;			/* PEM, of the broker's certificate */
	const char *certificate, *key;	/* PEM files, the client's */
	unsigned keep_alive;		/* seconds */
	unsigned backoff_min, backoff_max;	/* milliseconds between attempts: doubled from the first to the second, a random part of it waited */
	unsigned interval;		/* seconds between two reports: who reports often comes back soon, and no fleet faster than it reports */
};

enum publish_event_kind {
	PUBLISH_CONNECTED,	/* and subscribed */
	PUBLISH_LOST,		/* or could not connect: `text` says why */
	PUBLISH_ACKED,		/* the broker has taken so many `reports` over, from `first` to `seq` */
	PUBLISH_REFUSED,	/* it has not */
	PUBLISH_MESSAGE,	/* `message` came on the receipt topic */
};

struct publish_event {
	enum publish_event_kind kind;
	uint64_t first, seq;
	unsigned reports;
	char text[96];
	struct slice message;	/* freed by publish_event_free */
};

struct publisher;

/* Milliseconds of the clock that `now` is on, here and in the pipeline: never set, and of no meaning but to itself. */
int64_t monotonic_ms(void);

/* Milliseconds to wait after so many attempts that failed: a random part of a time that doubles. */
int64_t publish_wait(const struct publish_settings *, unsigned attempts);

/* Settings are copied by pointer: they must outlive it. Connects to nothing yet. NULL and `error` on failure. */
struct publisher *publisher_new(const struct publish_settings *, const struct ueid *, char *error) WARN_UNUSED;
/* Disconnects, waiting at most `wait_ms` for what is in flight, and frees. */
void publisher_free(struct publisher *, unsigned wait_ms);

int publisher_fd(const struct publisher *);	/* readable when there are events */
/* The oldest event. False: there is none, and the descriptor is quiet again. */
bool publisher_take(struct publisher *, struct publish_event *);
void publish_event_free(struct publish_event *);

/* Connects when it is time for it. `now` is in milliseconds of the monotonic clock. Returns when to call again, INT64_MAX: at the next event. */
int64_t publisher_tick(struct publisher *, int64_t now);
bool publisher_connected(const struct publisher *);
bool publisher_has_room(const struct publisher *);	/* connected, and fewer than PUBLISH_WINDOW in flight */
/* Hands a message over that is so many reports, the lowest number of which is `first`, the highest `seq`; copies it. 0, or -1 when there is no room or
   paho would not. */
int publisher_send(struct publisher *, uint64_t first, uint64_t seq, unsigned reports, struct slice message) WARN_UNUSED;

uint64_t publisher_take_overruns(struct publisher *);	/* receipts that found the queue full since the last call */

#endif
