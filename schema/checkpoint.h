/*
 * The checkpoint: how far every device's reports had come, in one root (checkpoint.cddl). The payload only: cose.h signs and verifies.
 */
#ifndef FLEETSTATE_CHECKPOINT_H
#define FLEETSTATE_CHECKPOINT_H

#include "schema/merkle.h"
#include "schema/report.h"

#define CHECKPOINT_LEAF (UEID_SIZE + 8 + 8 + DIGEST_SIZE)
#define LIMIT_CHECKPOINT (LIMIT_CHAIN + 512)	/* the whole message */

struct checkpoint {
	uint64_t iat;		/* 6, by the collector's clock */
	uint64_t number;	/* -65560: from 1, without gaps */
	bool has_previous;
	uint8_t previous[DIGEST_SIZE];	/* SHA-256 of the message before */
	uint64_t devices;	/* leaves */
	uint8_t root[DIGEST_SIZE];
};

enum reason checkpoint_decode(struct slice payload, struct checkpoint *out) WARN_UNUSED;
void checkpoint_encode(const struct checkpoint *, struct cbor_writer *);

/* The hash of a device's leaf: its highest report. */
void checkpoint_leaf(const struct ueid *, uint64_t epoch, uint64_t seq, const uint8_t head[DIGEST_SIZE], merkle_hash out);

#endif
