/*
 * The report: its claims as one open struct, in the order of report.cddl, and the way to and from CBOR.
 * Decoding is pure and checks everything that can be checked without a key: run it on verified bytes only.
 */
#ifndef FLEETSTATE_REPORT_H
#define FLEETSTATE_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "schema/cbor.h"
#include "schema/cose.h"
#include "schema/events.h"
#include "schema/limits.h"
#include "schema/reason.h"
#include "schema/slice.h"
#include "schema/topics.h"

#define FACTS_SIZE 16
#define BOOT_ID_SIZE 16

enum drop_cause { DROP_SKIPPED = 1, DROP_OVERWRITTEN = 2 };	/* nothing was signed; signed and given up */

struct seq_range {
	uint64_t first, last;	/* both in it */
};

struct dropped {
	struct seq_range range;
	enum drop_cause cause;
};

enum component_type { COMPONENT_DPKG, COMPONENT_OPKG, COMPONENT_APK, COMPONENT_RPM, COMPONENT_IMAGE, COMPONENT_CONTAINER, COMPONENT_MODULE,
	COMPONENT_FIRMWARE, COMPONENT_TYPES };

struct component {
	enum component_type type;
	struct slice name, version;
	struct slice architecture, source, source_version, purl;	/* absent: at == NULL */
};

struct report {
	uint64_t iat;		/* 6, seconds since 1970 by the device's clock, or with has_clock the device's floor */
	struct slice nonce;	/* 10, absent or 8 to 64 bytes */
	struct ueid ueid;	/* 256 */
	uint64_t bootcount;	/* 267 */
	struct slice state;	/* -65537, its encoding; absent in a quiet report */
	uint64_t seq;		/* -65538: 1 to LIMIT_SEQ */
	uint64_t epoch;		/* 8 bytes, big endian */
	bool has_prev;
	uint8_t prev[DIGEST_SIZE];
	uint8_t facts[FACTS_SIZE];
	uint32_t interval;	/* seconds */
	bool receipt;		/* wanted */
	struct slice inventory;	/* -65539: the encoding of the set, or absent when only its digest came */
	size_t components;	/* in the set */
	uint8_t state_digest[DIGEST_SIZE], inventory_digest[DIGEST_SIZE];	/* meaningful when state is there */
	struct slice boot_id;	/* -65540, absent or 16 bytes */
	struct slice readings;	/* -65541, its encoding, or absent */
	bool has_sections_prev;
	uint8_t sections_prev[DIGEST_SIZE];	/* -65542 */
	struct dropped dropped[LIMIT_DROPPED];	/* -65543 */
	size_t dropped_len;
	struct slice events;	/* -65544, its encoding, or absent */
	bool has_clock;
	uint64_t clock;		/* -65545, seconds since 1970 */
};

/* Slices point into `payload`. On a refusal *out is undefined. Unknown claims are checked to be well formed and passed over. */
enum reason report_decode(struct slice payload, struct report *out) WARN_UNUSED;

/* Writes the payload. With state set, inventory_digest must be set, and `inventory` when the whole set is to travel; state_digest is not read.
   The caller sets `facts` (report_facts_digest). */
void report_encode(const struct report *, struct cbor_writer *);
void report_facts_digest(const uint8_t state[DIGEST_SIZE], const uint8_t inventory[DIGEST_SIZE], uint8_t facts[FACTS_SIZE]);

/* Whether it is evidence that is kept long: a state, events, or both. */
bool report_has_sections(const struct report *);

/* The whole report for people: claims by name, state document, inventory items. New reference. */
json_t *report_json(const struct report *);

/* Components out of a checked inventory, one at a time: cbor_reader_init(&r, inventory); n = cbor_read_array(...); n times component_decode. */
void component_decode(struct cbor_reader *, struct component *);
void component_encode(const struct component *, struct cbor_writer *);
const char *component_type_name(enum component_type);	/* "dpkg" */

#endif
