/*
 * A claims set (RFC 8392, RFC 9711) as a table: a message's module gives each claim its key and how it is read and written, and has all the rules
 * of the map itself kept here. Beside it what the report and the receipt have in common: profile, nonce, ranges, and how JSON shows bytes and times.
 */
#ifndef FLEETSTATE_CLAIMS_H
#define FLEETSTATE_CLAIMS_H

#include <jansson.h>

#include "schema/cbor.h"
#include "schema/report.h"

struct claim {
	int64_t key;
	bool required;
	int64_t with;	/* another claim that must be there beside this one; 0: none */
	void (*read)(struct cbor_reader *, void *message);
	bool (*present)(const void *message);	/* NULL: always */
	void (*write)(struct cbor_writer *, const void *message);
};

/* Claims that the table does not have are checked to be well formed and passed over. The first error found, or OK; CLAIM_MISSING if all that is
   there is right but not all is there. The table is in the order of the keys' encodings. */
enum reason claims_decode(struct slice payload, const struct claim *table, size_t n, void *message) WARN_UNUSED;
void claims_encode(const struct claim *table, size_t n, const void *message, struct cbor_writer *);

void claim_read_profile(struct cbor_reader *, void *);	/* another: PROFILE_UNKNOWN */
void claim_write_profile(struct cbor_writer *, const void *);
void claim_read_ueid(struct cbor_reader *, struct ueid *);
struct slice claim_read_nonce(struct cbor_reader *);
uint64_t claim_read_epoch(struct cbor_reader *);
void claim_write_epoch(struct cbor_writer *, uint64_t);
/* A digest or null; whether it was there. */
bool claim_read_digest(struct cbor_reader *, uint8_t digest[DIGEST_SIZE]);
void claim_write_digest(struct cbor_writer *, bool there, const uint8_t digest[DIGEST_SIZE]);
/* Both ends of a range of sequence numbers. */
struct seq_range claim_read_range(struct cbor_reader *);
void claim_write_range(struct cbor_writer *, struct seq_range);

/* New references, NULL when memory ran out. */
json_t *claim_json_hex(const uint8_t *, size_t len);
json_t *claim_json_ueid(const struct ueid *);
json_t *claim_json_epoch(uint64_t);	/* 16 hex digits */
json_t *claim_json_time(uint64_t seconds);	/* RFC 3339, UTC */

#endif
