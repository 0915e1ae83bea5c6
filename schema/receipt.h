/*
 * The receipt: what the collector says of a device's reports (receipt.cddl). The payload only: cose.h signs and verifies.
 */
#ifndef FLEETSTATE_RECEIPT_H
#define FLEETSTATE_RECEIPT_H

#include <jansson.h>

#include "schema/report.h"

#define RECEIPT_NAME "fleetstate-receipt"	/* the common name of a receipt signer's certificate */

enum receipt_want { WANT_CHAIN = 1, WANT_STATE = 2, WANT_INVENTORY = 4 };

struct receipt {
	uint64_t iat;		/* 6, by the collector's clock */
	struct ueid ueid;	/* 256 */
	uint64_t epoch;		/* -65550 */
	uint64_t up_to;
	bool has_digest;
	uint8_t digest[DIGEST_SIZE];
	struct seq_range missing[LIMIT_RECEIPT_MISSING];
	size_t missing_len;
	struct {
		uint8_t digest[DIGEST_SIZE];
		struct slice reason;	/* points into the payload, or to a reason's name */
	} refused[LIMIT_RECEIPT_REFUSED];
	size_t refused_len;
	unsigned wants;		/* of enum receipt_want */
	uint32_t pace_ms;
	struct slice nonce;	/* -65551 */
};

enum reason receipt_decode(struct slice payload, struct receipt *out) WARN_UNUSED;
void receipt_encode(const struct receipt *, struct cbor_writer *);
json_t *receipt_json(const struct receipt *);

#endif
