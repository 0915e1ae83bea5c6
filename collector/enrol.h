/*
 * Enrolment: from a certificate chain to a device that a trust anchor vouches for. The only user of X.509 beside crl.h. Pure: chain, anchors and a time in,
 * enrolment or reason out.
 */
#ifndef FLEETSTATE_COLLECTOR_ENROL_H
#define FLEETSTATE_COLLECTOR_ENROL_H

#include "collector/database.h"
#include "schema/cose.h"
#include "schema/topics.h"

struct anchors;	/* trust anchors as loaded; safe for many readers */

/* Reads all trust anchors and the lists of what they revoked; an anchor that is not a self-signed certificate is logged and vouches for nobody. NULL when the database fails. */
struct anchors *anchors_load(struct database *) WARN_UNUSED;
/* The same from PEM, for `fleetstate verify`: all admit, tenant 0. NULL with a line in error[256]. */
struct anchors *anchors_from_pem(const char *file, char *error) WARN_UNUSED;
void anchors_free(struct anchors *);
/* The one certificate in a text of PEM, as a trust anchor: self-signed, a CA's. *der is the caller's to OPENSSL_free. -1 with what is wrong in why[256]. */
int anchor_from_text(const char *pem, struct slice *der, char *why) WARN_UNUSED;

struct enrolment {
	int32_t tenant_id;		/* the anchor's */
	bool hold;			/* wait for approval */
	uint8_t kid[KID_SIZE];
	int64_t not_before, not_after;	/* the leaf's, seconds since 1970 */
	struct slice spki;		/* DER; owned */
	struct slice chain[LIMIT_CHAIN_CERTS];	/* DER, leaf first; owned */
	size_t chain_len;
};

/* RFC 5280 path validation by OpenSSL up to an anchor, at `now` (seconds since 1970), nothing on the way weaker than 112 bits. The chain is in
   order, leaf first; the anchor itself may end it. Leaf: no CA, digitalSignature, and if it has extended key usages then 1.3.6.1.5.5.7.3.36
   (RFC 9336) among them; one common name = ueid in lower-case hex; a key of ours, with this kid. CERTIFICATE_* or OK; *out is written with OK.
   UNKNOWN_KEY if memory ran out: sending it again can help. Of several anchors that vouch for it, one of this tenant, or else the first (0: any). */
enum reason enrol_chain(const struct anchors *, const struct slice *chain, size_t n, const struct ueid *, struct slice kid, int64_t now,
	int32_t tenant_id, struct enrolment **out) WARN_UNUSED;
/* The same for another common name: of who signs receipts and checkpoints. */
enum reason enrol_named(const struct anchors *, const struct slice *chain, size_t n, const char *name, struct slice kid, int64_t now,
	struct enrolment **out) WARN_UNUSED;
/* Of several certificates the one that is to be renewed first. */
#define RENEWAL_NAME 128
struct renewal {
	int64_t due;			/* seconds since 1970: `warning` before its end, or in its last quarter when it lives less than four of these */
	int64_t not_after;
	char name[RENEWAL_NAME];	/* its subject as RFC 2253 writes it, in ASCII; cut off */
};
/* -1: the PEM file can't be read, or holds no certificate. `warning` is in seconds. */
int renewal_of_pem(const char *file, int64_t warning, struct renewal *) WARN_UNUSED;
/* False: there are no anchors. */
bool renewal_of_anchors(const struct anchors *, int64_t warning, struct renewal *) WARN_UNUSED;
/* Whether it is a certificate whose time begins after `then`; nothing else of it is looked at. */
bool certificate_begins_after(struct slice der, int64_t then);
void enrolment_free(struct enrolment *);

#endif
