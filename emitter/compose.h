/*
 * What the next report tells: always who and when, the state when it is news, the inventory when it is asked for. Pure but for memory.
 */
#ifndef FLEETSTATE_COMPOSE_H
#define FLEETSTATE_COMPOSE_H

#include "emitter/collect.h"
#include "schema/receipt.h"

/* What the collector has been told and has asked for. All times are milliseconds of the monotonic clock. */
struct composer {
	bool told;		/* a state, in this run of the program */
	uint8_t state_digest[DIGEST_SIZE];	/* the last one told */
	int64_t told_at;
	bool heard;		/* a receipt, in this run */
	int64_t heard_at;
	unsigned unheard;	/* reports since then */
	unsigned wants;		/* of enum receipt_want, not yet answered */
	uint8_t nonce[LIMIT_NONCE];
	size_t nonce_len;	/* 0: no challenge waits */
	uint8_t nonce_told[LIMIT_NONCE];	/* the last one answered: its report is in the spool, and need not be made again */
	size_t nonce_told_len;
	unsigned answered;	/* what the report answered_seq brought; a receipt that does not know of it yet asks in vain for a while */
	uint64_t answered_seq;
	int64_t answered_at;
};

/* The report and what its slices point into. */
struct composed {
	struct report report;
	uint8_t *state, *readings;
	uint8_t state_digest[DIGEST_SIZE];
};

/* Makes the report of an observation; what the signer and the spool fill in is still absent. The inventory must outlive it. 0, or -1 when memory
   ran out; composed_free in any case. */
int compose(const struct composer *, const struct facts *, const struct inventory *, uint32_t interval, int64_t now, uint64_t wall,
	    struct composed *) WARN_UNUSED;
void composed_free(struct composed *);
/* That report is durable. */
void composer_told(struct composer *, const struct composed *, bool with_chain, int64_t now);
/* A receipt was taken. True when it asks for something that the next report should bring soon. */
bool composer_heard(struct composer *, const struct receipt *, int64_t now);

#endif
