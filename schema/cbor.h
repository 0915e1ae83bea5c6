/*
 * A bounded cursor over deterministic CBOR, and a writer of it (RFC 8949 4.2.1). Nothing is allocated.
 * Both have a sticky state: after the first error every read returns zero values, every write does nothing, and the caller looks once at the end.
 */
#ifndef FLEETSTATE_CBOR_H
#define FLEETSTATE_CBOR_H

#include <stdbool.h>

#include "schema/cbor_item.h"
#include "schema/reason.h"
#include "schema/slice.h"

struct cbor_reader {
	const uint8_t *at, *end;
	enum reason error;	/* the first one; REASON_OK so far */
};

void cbor_reader_init(struct cbor_reader *, struct slice);
void cbor_fail(struct cbor_reader *, enum reason);	/* keeps the first */
enum cbor_kind cbor_peek(const struct cbor_reader *);
bool cbor_at_null(const struct cbor_reader *);

/* Each wants just that type and takes it; another type is REASON_MALFORMED, a long head REASON_NON_CANONICAL. */
uint64_t cbor_read_uint(struct cbor_reader *);
uint64_t cbor_read_uint_max(struct cbor_reader *, uint64_t min, uint64_t max);	/* outside: REASON_CLAIM_INVALID */
int64_t cbor_read_int(struct cbor_reader *);	/* beyond int64: REASON_CLAIM_INVALID */
bool cbor_read_bool(struct cbor_reader *);
void cbor_read_null(struct cbor_reader *);
double cbor_read_number(struct cbor_reader *);	/* an integer, or a finite float of the shortest form that is none */
struct slice cbor_read_bytes(struct cbor_reader *, size_t max);	/* longer: REASON_LIMIT_EXCEEDED */
void cbor_read_bytes_exact(struct cbor_reader *, uint8_t *out, size_t len);	/* another length: REASON_CLAIM_INVALID */
struct slice cbor_read_text(struct cbor_reader *, size_t max);	/* UTF-8 without U+0000, else REASON_TEXT_INVALID */
size_t cbor_read_array(struct cbor_reader *, size_t max);	/* number of items */
void cbor_read_tag(struct cbor_reader *, uint64_t tag);	/* another tag: REASON_NON_CANONICAL */
/* One whole item of any allowed kind; returns its encoding. Arrays, maps and tags may nest `depth` levels, keys of maps be ints and texts;
   undefined and other simple values are REASON_MALFORMED, integers beyond int64 and infinite floats REASON_CLAIM_INVALID. */
struct slice cbor_read_item(struct cbor_reader *, unsigned depth);
/* Nothing may follow: REASON_TRAILING_BYTES. Returns the reader's error. */
enum reason cbor_reader_end(struct cbor_reader *) WARN_UNUSED;

/* Maps with integer keys. while (cbor_map_next(&r, &m, &key)) read or cbor_read_item the value. Order and duplicates are checked. */
struct cbor_map {
	size_t left;
	struct slice last;	/* the previous key's encoding */
};
void cbor_read_map(struct cbor_reader *, struct cbor_map *, size_t max);
bool cbor_map_next(struct cbor_reader *, struct cbor_map *, int64_t *key);

/* The writer fills a buffer of the caller's. What does not fit sets `overflow`, and `len` goes on counting, so that a first pass over a buffer
   of size 0 measures. The caller writes map keys in order; that is asserted nowhere but in tests. */
struct cbor_writer {
	uint8_t *at;
	size_t len, size;
	bool overflow;
};

void cbor_writer_init(struct cbor_writer *, uint8_t *buffer, size_t size);
void cbor_write_uint(struct cbor_writer *, uint64_t);
void cbor_write_int(struct cbor_writer *, int64_t);
void cbor_write_bool(struct cbor_writer *, bool);
void cbor_write_null(struct cbor_writer *);
void cbor_write_number(struct cbor_writer *, double);	/* finite; integers are written as such, floats in their shortest form */
void cbor_write_bytes(struct cbor_writer *, struct slice);
void cbor_write_bytes_head(struct cbor_writer *, size_t len);	/* the content goes elsewhere, as into a digest */
void cbor_write_text(struct cbor_writer *, struct slice);
void cbor_write_string(struct cbor_writer *, const char *);
void cbor_write_array(struct cbor_writer *, size_t items);
void cbor_write_map(struct cbor_writer *, size_t pairs);
void cbor_write_tag(struct cbor_writer *, uint64_t);
void cbor_write_encoded(struct cbor_writer *, struct slice);	/* an item that is encoded already */

#endif
