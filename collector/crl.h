/*
 * Lists of revoked certificates (RFC 5280 5): bytes and an issuer in, a list or a refusal out. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CRL_H
#define FLEETSTATE_COLLECTOR_CRL_H

#include <openssl/x509.h>
#include <stdint.h>

#include "schema/cose.h"

#define CRL_WHY_SIZE 256

/* A whole file, PEM or DER, of at most LIMIT_CRL bytes: one list and nothing else, complete and by its issuer alone (neither delta nor indirect).
   NULL: `why` says what stands against it. X509_CRL_free it. */
X509_CRL *crl_read(struct slice file, char why[CRL_WHY_SIZE]) WARN_UNUSED;
/* Whether `issuer` made it and may, and it is good at `now` (seconds since 1970). */
bool crl_fits(X509_CRL *, X509 *issuer, int64_t now, char why[CRL_WHY_SIZE]) WARN_UNUSED;
int64_t crl_begins(const X509_CRL *), crl_ends(const X509_CRL *);	/* seconds since 1970 */
void crl_issuer(const X509_CRL *, uint8_t digest[DIGEST_SIZE]);	/* SHA-256 of its issuer's name */
/* Whether it names that certificate, which `issuer` signed. */
bool crl_names(X509_CRL *, X509 *issuer, X509 *certificate);

#endif
