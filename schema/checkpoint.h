/*
 * The checkpoint: how far every device's reports had come, in one root (checkpoint.cddl). The payload only: cose.h signs and verifies.
 */
#ifndef FLEETSTATE_CHECKPOINT_H
#define FLEETSTATE_CHECKPOINT_H

#include "schema/merkle.h"
#include "schema/report.h"

#define CHECKPOINT_LEAF (UEID_SIZE + 8 + 8 + 2 * DIGEST_SIZE)	/* the longest */
#define CHECKPOINT_FAN 1024	/* leaves below a node whose hash is kept: a power of two */
#define LIMIT_CHECKPOINT (LIMIT_CHAIN + 512)	/* the whole message */

struct checkpoint {
	uint64_t iat;		/* 6, by the collector's clock */
	uint64_t number;	/* -65560: from 1, without gaps */
	bool has_previous;
	uint8_t previous[DIGEST_SIZE];	/* SHA-256 of the message before */
	uint64_t devices;	/* leaves */
	uint8_t root[DIGEST_SIZE];
	bool has_audit;		/* -65561: */
	uint64_t audit_number;	/* the audit log's last entry */
	uint8_t audit_hash[DIGEST_SIZE];
};

enum reason checkpoint_decode(struct slice payload, struct checkpoint *out) WARN_UNUSED;
void checkpoint_encode(const struct checkpoint *, struct cbor_writer *);

/* How far a device's reports had come. */
struct checkpoint_leaf {
	struct ueid ueid;
	uint64_t epoch, seq;
	uint8_t head[DIGEST_SIZE];	/* SHA-256 of the highest report */
	bool has_sections;
	uint8_t sections[DIGEST_SIZE];	/* and of the highest that has sections */
};

void checkpoint_leaf_hash(const struct checkpoint_leaf *, merkle_hash out);

#endif
