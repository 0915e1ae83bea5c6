/*
 * The connections to the HTTP interface: how many there are, in all and of each address, and how long each may take for what it does. The socket
 * thread says what a connection is at; peers_look ends those that take too long. Knows no HTTP; times are monotonic milliseconds.
 */
#ifndef FLEETSTATE_COLLECTOR_PEERS_H
#define FLEETSTATE_COLLECTOR_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "schema/slice.h"

struct peer_limits {
	int64_t connections;	/* in all */
	int64_t per_address;	/* of one address, of IPv6 one /64; 0: any number */
	int64_t idle_ms;	/* without a byte, which libmicrohttpd looks after; here: what an answer's rate is measured over */
	int64_t request_ms;	/* from a request's line to its last byte; and for a line from when it could have begun */
	int64_t rate;		/* bytes a second that an answer is taken at; 0: as slowly as it likes */
};

struct peers;
struct peer;

/* NULL: no memory. */
struct peers *peers_new(const struct peer_limits *) WARN_UNUSED;
void peers_free(struct peers *);

/* Whether one more may come from there. Refusals are counted. */
bool peers_admit(struct peers *, const struct sockaddr *) WARN_UNUSED;
/* It is there, and a request may begin. NULL: no memory. `socket` stays open until peer_leave. */
struct peer *peer_enter(struct peers *, const struct sockaddr *, int socket, int64_t now) WARN_UNUSED;
void peer_leave(struct peer *);

/* What it is at. Any thread. */
void peer_expect(struct peer *, int64_t now);	/* nothing: a request may begin */
void peer_request(struct peer *, int64_t now);	/* a request's line is here */
void peer_wait(struct peer *);			/* its request is whole, and it waits for us */
void peer_answer(struct peer *);		/* an answer, or a piece of one, is on its way */

/* Ends those that are past their limits, counted. To be called about every second. */
void peers_look(struct peers *, int64_t now);

#endif
