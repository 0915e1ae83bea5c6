/*
 * One item of CBOR: the whole of a string or number, only the head of an array, map or tag. The only user of libcbor, whose streaming functions read
 * and write a head and allocate nothing; cbor.h goes from item to item.
 */
#ifndef FLEETSTATE_CBOR_ITEM_H
#define FLEETSTATE_CBOR_ITEM_H

#include <stdbool.h>

#include "schema/reason.h"
#include "schema/slice.h"

#define CBOR_HEAD_MAX 9	/* initial byte and a 64-bit argument */

enum cbor_kind { CBOR_UINT, CBOR_NEGINT, CBOR_BYTES, CBOR_TEXT, CBOR_ARRAY, CBOR_MAP, CBOR_TAG, CBOR_SIMPLE, CBOR_NONE /* at the end, or failed */ };

struct cbor_item {
	enum cbor_kind type;
	bool indefinite;
	uint64_t argument;	/* value, count, length or tag; of a negative integer -1 - value */
	const uint8_t *string;	/* its content, within the bytes that were read */
	enum { SIMPLE_OTHER, SIMPLE_BOOL, SIMPLE_NULL, SIMPLE_FLOAT } simple;
	double number;
	size_t len;	/* bytes taken, a string's content included */
};

/* The first item of the bytes, whatever its form: OK, TRUNCATED or MALFORMED. */
enum reason cbor_item_decode(struct slice, struct cbor_item *) WARN_UNUSED;
/* RFC 8949 4.2.1: definite, and by the shortest head or float. */
bool cbor_item_is_shortest(const struct cbor_item *);

/* Each writes the shortest head of its value and returns the length of it. The first is for all types but CBOR_SIMPLE. */
size_t cbor_item_encode(enum cbor_kind, uint64_t argument, uint8_t head[CBOR_HEAD_MAX]) WARN_UNUSED;
size_t cbor_item_encode_bool(bool, uint8_t head[CBOR_HEAD_MAX]) WARN_UNUSED;
size_t cbor_item_encode_null(uint8_t head[CBOR_HEAD_MAX]) WARN_UNUSED;
size_t cbor_item_encode_float(double, uint8_t head[CBOR_HEAD_MAX]) WARN_UNUSED;

#endif
