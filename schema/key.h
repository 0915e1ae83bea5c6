/*
 * Keys of devices, of the collector and of receipts, and raw signatures by them: the only user of OpenSSL's signatures. A signature is r || s of
 * fixed width with s at most half the group's order, or EdDSA's own; what is signed comes in slices, so that nobody needs to put it together.
 */
#ifndef FLEETSTATE_KEY_H
#define FLEETSTATE_KEY_H

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
/* The public key, or the certificate's, in a PEM file that holds one of them. */
struct cose_key *cose_key_open_public(const char *file, char *error) WARN_UNUSED;
struct cose_key *cose_key_from_spki(struct slice der) WARN_UNUSED;	/* public key; NULL if not one of ours */
void cose_key_free(struct cose_key *);
void cose_key_kid(const struct cose_key *, uint8_t kid[KID_SIZE]);
int cose_key_alg(const struct cose_key *);	/* the one it signs with: -7, -35, -8 */
/* A new private key of that algorithm, as PKCS#8 PEM in `file`, created with mode 0600; a file that is there stays as it is. 0/-1. */
int cose_key_generate(int alg, const char *file) WARN_UNUSED;

/* Whether keys of ours have that algorithm; each has two names. */
bool cose_alg_known(int64_t alg);
/* The form of a signature by that algorithm, before any key is looked for: MALFORMED by its length, NON_CANONICAL by the size of s,
   ALGORITHM_UNKNOWN or OK. */
enum reason cose_alg_check(int alg, struct slice signature) WARN_UNUSED;

/* Verifies a signature over the `n` slices, one after the other. `digest`, if not NULL, becomes their SHA-256, also when the signature is bad, but
   not when the algorithm does not fit the key. BAD_SIGNATURE, ALGORITHM_MISMATCH, ALGORITHM_UNKNOWN or OK. The size of s is not looked at. */
enum reason cose_key_verify(struct cose_key *, int alg, const struct slice *parts, size_t n, struct slice signature,
			    uint8_t digest[DIGEST_SIZE]) WARN_UNUSED;
/* Signs the slices. Returns the signature's length, 0 if it can't be done, as with a public key. */
size_t cose_key_sign(struct cose_key *, const struct slice *parts, size_t n, uint8_t signature[LIMIT_SIGNATURE]) WARN_UNUSED;

void sha256(struct slice, uint8_t digest[DIGEST_SIZE]);
void sha256_pair(struct slice, struct slice, uint8_t digest[DIGEST_SIZE]);	/* over one after the other */
void sha256_parts(const struct slice *parts, size_t n, uint8_t digest[DIGEST_SIZE]);

#endif
