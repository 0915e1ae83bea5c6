/*
 * The inclusion proof: why a signed checkpoint covers a report (proof.cddl). Pure; who signed the checkpoint is for the caller to verify.
 */
#ifndef FLEETSTATE_PROOF_H
#define FLEETSTATE_PROOF_H

#include "schema/checkpoint.h"

#define LIMIT_PROOF (12 * 1024 * 1024)	/* a chain of 8 MiB: a month of quiet reports at one a minute */

enum proof_fault {
	PROOF_HOLDS,
#define PROOF_FAULT(symbol, name, help) PROOF_FAULT_##symbol,
#include "schema/proof_faults.def"
#undef PROOF_FAULT
};

const char *proof_fault_name(enum proof_fault);

struct proof {
	struct slice checkpoint;	/* the message */
	struct checkpoint_leaf leaf;
	uint64_t index;
	merkle_hash path[MERKLE_HEIGHT];
	size_t path_len;
	struct slice chain;	/* the byte strings' encodings, one behind the other */
	size_t chain_len;
};

/* Slices point into `bytes`. On a refusal *out is undefined. */
enum reason proof_decode(struct slice bytes, struct proof *out) WARN_UNUSED;
void proof_encode(const struct proof *, struct cbor_writer *);

/* The checkpoint that it holds, its signature not verified: `cose` for who does. */
enum proof_fault proof_checkpoint(const struct proof *, struct cose_sign1 *cose, struct checkpoint *, enum reason *why) WARN_UNUSED;
/* Whether it holds for the report's bytes under that checkpoint. `why` says more of what is malformed. */
enum proof_fault proof_check(const struct proof *, const struct checkpoint *, struct slice report, enum reason *why) WARN_UNUSED;

#endif
