/*
 * COSE_Sign1 (RFC 9052) on slices, in the one spelling of report.cddl: the envelope, and what a signature covers. Keys, and how they sign, are
 * in key.h.
 */
#ifndef FLEETSTATE_COSE_H
#define FLEETSTATE_COSE_H

#include "schema/key.h"
#include "schema/limits.h"
#include "schema/reason.h"
#include "schema/slice.h"

struct cose_sign1 {
	int alg;
	struct slice kid;
	struct slice chain[LIMIT_CHAIN_CERTS];	/* DER, leaf first */
	size_t chain_len;
	struct slice protected;	/* the bstr's content, as received */
	struct slice payload, signature;
};

/* Takes the envelope apart and checks its form; the signature is not looked at but for its length and the size of s. */
enum reason cose_decode(struct slice message, struct cose_sign1 *) WARN_UNUSED;

/* Takes a CBOR sequence (RFC 8742) of messages apart, into at most `max` items, 1 at least: together they are all of it. What no end can be told of,
   what is in one over LIMIT_SEQUENCE, all from one under LIMIT_SEQUENCE_LEAST on and all from item `max` on is one item, to the end. Only where they end
   is looked at. */
size_t cose_split(struct slice sequence, struct slice *items, size_t max) WARN_UNUSED;

/* Verifies. `tbs`, if not NULL, becomes SHA-256 of the Sig_structure: what was signed, whatever the signature looks like. It is written whenever
   the algorithm fits the key, also when the signature is bad. BAD_SIGNATURE, ALGORITHM_MISMATCH, ALGORITHM_UNKNOWN or OK. */
enum reason cose_verify(const struct cose_sign1 *, struct cose_key *, uint8_t tbs[DIGEST_SIZE]) WARN_UNUSED;

/* What a signature covers: the slices of the Sig_structure (RFC 9052 4.4). cose_verify is this with an empty external_aad. */
struct cose_signed {
	int alg;
	struct slice protected, external, payload, signature;
};
enum reason cose_verify_signed(const struct cose_signed *, struct cose_key *, uint8_t tbs[DIGEST_SIZE]) WARN_UNUSED;

/* Only the digest of what was signed. */
void cose_tbs_digest(const struct cose_sign1 *, uint8_t tbs[DIGEST_SIZE]);

/* Writes a whole message. Returns its length, 0 if it does not fit or signing failed. */
size_t cose_sign(struct cose_key *, const struct slice *chain, size_t chain_len, struct slice payload, uint8_t *out, size_t size) WARN_UNUSED;

#endif
