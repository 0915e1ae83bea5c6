/*
 * What of the spool goes to the broker next: in the order of the numbers, several reports in a message when more than one is due, at the pace that the
 * collector asked for and within the publisher's window. Times are milliseconds of the monotonic clock.
 */
#ifndef FLEETSTATE_COURIER_H
#define FLEETSTATE_COURIER_H

#include "emitter/publish.h"
#include "emitter/repeat.h"

struct courier {
	struct spool *spool;	/* not owned */
	struct repeat repeat;
	uint64_t published;	/* all up to it were handed over on this connection */
	uint64_t sent;		/* reports, each time that one goes */
	int64_t next_send;
	uint32_t pace_ms;	/* between two reports of a backlog */
	uint64_t acked;		/* the newest that the broker has taken over */
	uint64_t not_acked;	/* the oldest that it would not, on this connection; UINT64_MAX: none */
};

void courier_init(struct courier *, struct spool *, int64_t now);
void courier_connected(struct courier *, int64_t now);
/* The broker took over all up to `seq`; it would not take what begins with `first`, which goes again on the next connection. 0: nothing of ours. */
void courier_acked(struct courier *, uint64_t seq);
void courier_not_acked(struct courier *, uint64_t first);
/* A receipt was taken. */
void courier_heard(struct courier *, uint32_t pace_ms);
/* Hands over what is due; `interval` in seconds. How many reports. */
uint64_t courier_send(struct courier *, struct publisher *, uint32_t interval, int64_t now);
/* When there is something to send by time; INT64_MAX: never. */
int64_t courier_due(const struct courier *, int64_t now);

#endif
