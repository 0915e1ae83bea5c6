/*
 * COSE_Sign1 (RFC 9052) on slices, in the one spelling of report.cddl, and the keys for it. The only user of OpenSSL's signatures.
 */
#ifndef FLEETSTATE_COSE_H
#define FLEETSTATE_COSE_H

#include <stdbool.h>

#include "schema/limits.h"
#include "schema/reason.h"
#include "schema/slice.h"

#define KID_SIZE 8
#define DIGEST_SIZE 32

/* A public or private key with the one algorithm family it is good for. Safe to use from one thread at a time. */
struct cose_key;

/* URI as OpenSSL's STORE takes it: a path, file:, pkcs11:, handle:. NULL, and a line in `error` (of 256 bytes), when it can't be opened or is
   not P-256, P-384 or Ed25519. */
struct cose_key *cose_key_open(const char *uri, char *error) WARN_UNUSED;
struct cose_key *cose_key_from_spki(struct slice der) WARN_UNUSED;	/* public key; NULL if not one of ours */
struct cose_key *cose_key_dup(const struct cose_key *) WARN_UNUSED;	/* for another thread; shares the key material */
void cose_key_free(struct cose_key *);
void cose_key_kid(const struct cose_key *, uint8_t kid[KID_SIZE]);
int cose_key_alg(const struct cose_key *);	/* the one it signs with: -7, -35, -8 */
/* A new private key of that algorithm, as PKCS#8 PEM in `file`, created with mode 0600; a file that is there stays as it is. 0/-1. */
int cose_key_generate(int alg, const char *file) WARN_UNUSED;

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

void sha256(struct slice, uint8_t digest[DIGEST_SIZE]);
void sha256_pair(struct slice, struct slice, uint8_t digest[DIGEST_SIZE]);	/* over one after the other */

#endif
