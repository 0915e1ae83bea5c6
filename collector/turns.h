/*
 * Whose turn it is: requests that are whole, or whose body is asked for first, wait here for a worker, for an event, or until they may be answered, with their connection suspended; the workers
 * find out who asks, and have the route answer. Knows of libmicrohttpd only that connections can be suspended.
 */
#ifndef FLEETSTATE_COLLECTOR_TURNS_H
#define FLEETSTATE_COLLECTOR_TURNS_H

#include "collector/feed.h"
#include "collector/link.h"
#include "collector/source.h"

struct turns;

/* One request, from its first line to the last byte of its answer. */
struct exchange {
	struct waiter waiter;		/* in the feed; first, so that it is the exchange too */
	struct exchange *next;		/* in the queue */
	struct serve *serve;
	struct turns *turns;
	struct MHD_Connection *connection;
	struct link *link;
	struct request request;
	struct response response;	/* of a stream: the piece that is being sent */
	size_t sent;			/* of the piece */
	int64_t kept_until_ms;		/* the response is whole, or a stream's next piece is wanted, and kept back; 0: it is not */
	char source[SOURCE_SIZE];
	uint64_t credential;		/* the beginning of its hash; odd */
	uint64_t caller;		/* whose turn it is: the credential's, or once it is known, its tenant's; never 0 */
	bool begun;			/* libmicrohttpd has called for it once */
	bool accepted;			/* nothing is wrong with its headers */
	bool asks;			/* it waits to hear whether its body is wanted */
	bool settled;			/* it is known who asks */
	bool done;			/* the response is whole */
	bool streaming;			/* its answer has begun, and goes on piece by piece */
	bool broken;			/* and can't go on */
	char target[];			/* as it came; libmicrohttpd's own is decoded already */
};

/* What turns do to connections. `suspend` is called while others can't see the exchange yet, `resume` once for each. */
struct turns_switch {
	void (*suspend)(struct exchange *);
	void (*resume)(struct exchange *);
};

/* Starts http_threads workers, and what they need of the database. NULL after logging why, if there is more to say than that memory ran out. */
struct turns *turns_start(const struct settings *, const struct turns_switch *) WARN_UNUSED;
/* Answers what waits; nothing is put aside any more. NULL is fine. */
void turns_stop(struct turns *);
/* After turns_stop, once no exchange is left. */
void turns_free(struct turns *);

/* A new one: its request gets the database. */
void turns_enter(struct turns *, struct exchange *);
/* For a worker, or for the feed if it `waits`. False: the server is stopping, and the connection was not suspended. */
bool turns_wait(struct exchange *, bool waits) WARN_UNUSED;
/* Its answer is whole, or begins: what is remembered of it, for the audit log and its caller's quota. */
void turns_note(struct exchange *);
/* What it held is given back. */
void turns_leave(struct exchange *);

/* What is wrong with the certificate that its client has shown; NULL: nothing, and the request has it, or there is none. */
const char *exchange_client(struct exchange *) WARN_UNUSED;

#endif
