#include "schema/cbor_item.h"

#include <assert.h>
#include <cbor.h>
#include <math.h>

/* The callbacks note what came; all rules are applied afterwards, in one place. */

static void
note(void *context, enum cbor_kind type, uint64_t argument)
{
	struct cbor_item *item = context;

	item->type = type;
	item->argument = argument;
}

static void
on_uint8(void *context, uint8_t value)
{
	note(context, CBOR_UINT, value);
}

static void
on_uint16(void *context, uint16_t value)
{
	note(context, CBOR_UINT, value);
}

static void
on_uint32(void *context, uint32_t value)
{
	note(context, CBOR_UINT, value);
}

static void
on_uint64(void *context, uint64_t value)
{
	note(context, CBOR_UINT, value);
}

static void
on_negint8(void *context, uint8_t value)
{
	note(context, CBOR_NEGINT, value);
}

static void
on_negint16(void *context, uint16_t value)
{
	note(context, CBOR_NEGINT, value);
}

static void
on_negint32(void *context, uint32_t value)
{
	note(context, CBOR_NEGINT, value);
}

static void
on_negint64(void *context, uint64_t value)
{
	note(context, CBOR_NEGINT, value);
}

static void
note_string(void *context, enum cbor_kind type, const uint8_t *at, size_t len)
{
	struct cbor_item *item = context;

	note(context, type, len);
	item->string = at;
}

static void
on_bytes(void *context, cbor_data at, size_t len)
{
	note_string(context, CBOR_BYTES, at, len);
}

static void
on_text(void *context, cbor_data at, size_t len)
{
	note_string(context, CBOR_TEXT, at, len);
}

static void
on_array(void *context, size_t items)
{
	note(context, CBOR_ARRAY, items);
}

static void
on_map(void *context, size_t pairs)
{
	note(context, CBOR_MAP, pairs);
}

static void
on_tag(void *context, uint64_t tag)
{
	note(context, CBOR_TAG, tag);
}

static void
note_indefinite(void *context, enum cbor_kind type)
{
	struct cbor_item *item = context;

	note(context, type, 0);
	item->indefinite = true;
}

static void
on_indefinite_bytes(void *context)
{
	note_indefinite(context, CBOR_BYTES);
}

static void
on_indefinite_text(void *context)
{
	note_indefinite(context, CBOR_TEXT);
}

static void
on_indefinite_array(void *context)
{
	note_indefinite(context, CBOR_ARRAY);
}

static void
on_indefinite_map(void *context)
{
	note_indefinite(context, CBOR_MAP);
}

static void
on_double(void *context, double value)
{
	struct cbor_item *item = context;

	note(context, CBOR_SIMPLE, 0);
	item->simple = SIMPLE_FLOAT;
	item->number = value;
}

static void
on_float(void *context, float value)
{
	on_double(context, (double)value);
}

static void
on_bool(void *context, bool value)
{
	struct cbor_item *item = context;

	note(context, CBOR_SIMPLE, value);
	item->simple = SIMPLE_BOOL;
}

static void
on_null(void *context)
{
	struct cbor_item *item = context;

	note(context, CBOR_SIMPLE, 0);
	item->simple = SIMPLE_NULL;
}

static void
on_undefined(void *context)
{
	note(context, CBOR_SIMPLE, 0);
}

/* A break that ends nothing. */
static void
on_break(void *context)
{
	note(context, CBOR_NONE, 0);
}

static const struct cbor_callbacks callbacks = {
	.uint8 = on_uint8,
	.uint16 = on_uint16,
	.uint32 = on_uint32,
	.uint64 = on_uint64,
	.negint8 = on_negint8,
	.negint16 = on_negint16,
	.negint32 = on_negint32,
	.negint64 = on_negint64,
	.byte_string = on_bytes,
	.byte_string_start = on_indefinite_bytes,
	.string = on_text,
	.string_start = on_indefinite_text,
	.array_start = on_array,
	.indef_array_start = on_indefinite_array,
	.map_start = on_map,
	.indef_map_start = on_indefinite_map,
	.tag = on_tag,
	.float2 = on_float,
	.float4 = on_float,
	.float8 = on_double,
	.undefined = on_undefined,
	.null = on_null,
	.boolean = on_bool,
	.indef_break = on_break,
};

static size_t
argument_len(uint64_t argument)
{
	return argument < 24            ? 0
	       : argument <= UINT8_MAX  ? 1
	       : argument <= UINT16_MAX ? 2
	       : argument <= UINT32_MAX ? 4
					: 8;
}

/* Whether binary16 holds the number, and its bits. libcbor 0.8 loses the low bits of subnormal halves, so it isn't asked. */
static bool
half_bits(double number, uint16_t *bits)
{
	double magnitude = fabs(number);
	uint16_t sign = signbit(number) ? 0x8000 : 0;
	int exponent;
	double scaled;

	if (isnan(number) || isinf(number)) {
		*bits = isnan(number) ? 0x7e00 : sign | 0x7c00;
		return true;
	}
	if (magnitude > 65504)
		return false;
	exponent = magnitude < 0x1p-14 ? -14 : ilogb(magnitude);
	scaled = ldexp(magnitude, 10 - exponent);
	if (scaled != floor(scaled))
		return false;
	/* A normal's hidden bit, 1024, carries into the exponent's field. */
	*bits = (uint16_t)(sign | (((unsigned)(exponent + 14) << 10) + (unsigned)scaled));
	return true;
}

static bool
fits_single(double number)
{
	return isnan(number) || isinf(number) ||
	       (fabs(number) <= (double)0x1.fffffep127f && (double)(float)number == number);
}

/* Bytes of the shortest float of that value. */
static size_t
float_len(double number)
{
	uint16_t bits;

	return half_bits(number, &bits) ? 2 : fits_single(number) ? 4 : 8;
}

/* RFC 8949 4.2.1: definite, and the shortest head. */
bool
cbor_item_is_shortest(const struct cbor_item *item)
{
	size_t argument;

	if (item->indefinite)
		return false;
	if (item->type == CBOR_SIMPLE)
		argument = item->simple == SIMPLE_FLOAT ? float_len(item->number) : 0;
	else
		argument = argument_len(item->argument);
	if (item->type == CBOR_BYTES || item->type == CBOR_TEXT)
		return item->len == 1 + argument + item->argument;
	return item->len == 1 + argument;
}

/* A head that is all in one byte, as most are, needs no library. libcbor 0.8 knows only the tags of RFC 7049 among them, and
   so not COSE_Sign1's, 18. */
static bool
decode_short(uint8_t initial, struct cbor_item *item)
{
	static const enum cbor_kind majors[] = {
		CBOR_UINT, CBOR_NEGINT, CBOR_NONE, CBOR_NONE, CBOR_ARRAY, CBOR_MAP, CBOR_TAG, CBOR_NONE,
	};
	enum cbor_kind type = majors[initial >> 5];
	uint8_t argument = initial & 0x1f;

	if (argument >= 24 || type == CBOR_NONE)
		return false;
	note(item, type, argument);
	item->len = 1;
	return true;
}

enum reason
cbor_item_decode(struct slice bytes, struct cbor_item *item)
{
	struct cbor_decoder_result result;

	*item = (struct cbor_item){.type = CBOR_NONE};
	if (bytes.len == 0)
		return REASON_TRUNCATED;
	if (decode_short(*bytes.at, item))
		return REASON_OK;
	result = cbor_stream_decode(bytes.at, bytes.len, &callbacks, item);
	if (result.status == CBOR_DECODER_NEDATA)
		return REASON_TRUNCATED;
	if (result.status != CBOR_DECODER_FINISHED || item->type == CBOR_NONE)
		return REASON_MALFORMED;
	item->len = result.read;
	return REASON_OK;
}

size_t
cbor_item_encode(enum cbor_kind type, uint64_t argument, uint8_t head[CBOR_HEAD_MAX])
{
	static size_t (*const encoders[])(uint64_t, unsigned char *, size_t) = {
		[CBOR_UINT] = cbor_encode_uint,
		[CBOR_NEGINT] = cbor_encode_negint,
		[CBOR_BYTES] = cbor_encode_bytestring_start,
		[CBOR_TEXT] = cbor_encode_string_start,
		[CBOR_ARRAY] = cbor_encode_array_start,
		[CBOR_MAP] = cbor_encode_map_start,
		[CBOR_TAG] = cbor_encode_tag,
	};

	assert(type < CBOR_SIMPLE);
	return encoders[type](argument, head, CBOR_HEAD_MAX);
}

size_t
cbor_item_encode_bool(bool value, uint8_t head[CBOR_HEAD_MAX])
{
	return cbor_encode_bool(value, head, CBOR_HEAD_MAX);
}

size_t
cbor_item_encode_null(uint8_t head[CBOR_HEAD_MAX])
{
	return cbor_encode_null(head, CBOR_HEAD_MAX);
}

size_t
cbor_item_encode_float(double number, uint8_t head[CBOR_HEAD_MAX])
{
	uint16_t bits;

	if (half_bits(number, &bits)) {
		head[0] = 0xf9;
		head[1] = (uint8_t)(bits >> 8);
		head[2] = (uint8_t)(bits & 0xff);
		return 3;
	}
	if (fits_single(number))
		return cbor_encode_single((float)number, head, CBOR_HEAD_MAX);
	return cbor_encode_double(number, head, CBOR_HEAD_MAX);
}
