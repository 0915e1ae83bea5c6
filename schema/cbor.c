#include "schema/cbor.h"

#include <assert.h>
#include <cbor.h>
#include <math.h>
#include <string.h>

#define HEAD_MAX 9 /* initial byte and a 64-bit argument */

/* One item as libcbor saw it: the whole of a string, only the head of an array, map or tag. */
struct head {
	enum cbor_kind type;
	bool indefinite;
	uint64_t argument; /* value, count or tag */
	const uint8_t *string;
	enum { SIMPLE_OTHER, SIMPLE_BOOL, SIMPLE_NULL, SIMPLE_FLOAT } simple;
	double number;
	size_t len; /* bytes taken, a string's content included */
};

/* The callbacks note what came; all rules are applied afterwards, in one place. */

static void
note(void *context, enum cbor_kind type, uint64_t argument)
{
	struct head *head = context;

	head->type = type;
	head->argument = argument;
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
	struct head *head = context;

	note(context, type, len);
	head->string = at;
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
	struct head *head = context;

	note(context, type, 0);
	head->indefinite = true;
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
	struct head *head = context;

	note(context, CBOR_SIMPLE, 0);
	head->simple = SIMPLE_FLOAT;
	head->number = value;
}

static void
on_float(void *context, float value)
{
	on_double(context, (double)value);
}

static void
on_bool(void *context, bool value)
{
	struct head *head = context;

	note(context, CBOR_SIMPLE, value);
	head->simple = SIMPLE_BOOL;
}

static void
on_null(void *context)
{
	struct head *head = context;

	note(context, CBOR_SIMPLE, 0);
	head->simple = SIMPLE_NULL;
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
static bool
is_shortest(const struct head *head)
{
	size_t argument;

	if (head->indefinite)
		return false;
	if (head->type == CBOR_SIMPLE)
		argument = head->simple == SIMPLE_FLOAT ? float_len(head->number) : 0;
	else
		argument = argument_len(head->argument);
	if (head->type == CBOR_BYTES || head->type == CBOR_TEXT)
		return head->len == 1 + argument + head->argument;
	return head->len == 1 + argument;
}

static bool
is_text(struct slice text)
{
	/* By lead byte: how many follow, and what the first of them may be; so no overlong form, surrogate or value over U+10FFFF. */
	static const struct {
		uint8_t first, last, follow, low, high;
	} leads[] = {
		{0x01, 0x7f, 0, 0x80, 0xbf}, {0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf},
		{0xe1, 0xec, 2, 0x80, 0xbf}, {0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf},
		{0xf0, 0xf0, 3, 0x90, 0xbf}, {0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
	};
	size_t i = 0, row;

	while (i < text.len) {
		uint8_t lead = text.at[i++];

		for (row = 0; row < sizeof leads / sizeof leads[0]; row++) {
			if (lead >= leads[row].first && lead <= leads[row].last)
				break;
		}
		if (row == sizeof leads / sizeof leads[0] || leads[row].follow > text.len - i)
			return false;
		for (unsigned n = 0; n < leads[row].follow; n++, i++) {
			uint8_t low = n == 0 ? leads[row].low : 0x80, high = n == 0 ? leads[row].high : 0xbf;

			if (text.at[i] < low || text.at[i] > high)
				return false;
		}
	}
	return true;
}

void
cbor_reader_init(struct cbor_reader *r, struct slice bytes)
{
	*r = (struct cbor_reader){bytes.at, bytes.at == NULL ? NULL : bytes.at + bytes.len, REASON_OK};
}

void
cbor_fail(struct cbor_reader *r, enum reason reason)
{
	if (r->error == REASON_OK)
		r->error = reason;
}

static size_t
left(const struct cbor_reader *r)
{
	return (size_t)(r->end - r->at);
}

enum cbor_kind
cbor_peek(const struct cbor_reader *r)
{
	static const enum cbor_kind majors[] = {
		CBOR_UINT, CBOR_NEGINT, CBOR_BYTES, CBOR_TEXT, CBOR_ARRAY, CBOR_MAP, CBOR_TAG, CBOR_SIMPLE,
	};

	if (r->error != REASON_OK || r->at == r->end)
		return CBOR_NONE;
	return majors[*r->at >> 5];
}

bool
cbor_at_null(const struct cbor_reader *r)
{
	return cbor_peek(r) == CBOR_SIMPLE && *r->at == 0xf6;
}

/* libcbor 0.8 knows only the tags of RFC 7049 among those in one byte, and so not COSE_Sign1's, 18. */
static bool
look_short_tag(const struct cbor_reader *r, struct head *head)
{
	if (*r->at < 0xc0 || *r->at > 0xd7)
		return false;
	note(head, CBOR_TAG, *r->at & 0x1f);
	head->len = 1;
	return true;
}

/* Looks at the next item, but does not take it. */
static bool
look(struct cbor_reader *r, struct head *head)
{
	struct cbor_decoder_result result;

	*head = (struct head){.type = CBOR_NONE};
	if (r->error != REASON_OK)
		return false;
	if (r->at == r->end) {
		cbor_fail(r, REASON_TRUNCATED);
		return false;
	}
	if (look_short_tag(r, head))
		return true;
	result = cbor_stream_decode(r->at, left(r), &callbacks, head);
	if (result.status != CBOR_DECODER_FINISHED || head->type == CBOR_NONE) {
		cbor_fail(r, result.status == CBOR_DECODER_NEDATA ? REASON_TRUNCATED : REASON_MALFORMED);
		return false;
	}
	head->len = result.read;
	return true;
}

/* Takes the next item, which must be of that type. */
static bool
take(struct cbor_reader *r, enum cbor_kind type, struct head *head)
{
	if (!look(r, head))
		return false;
	if (head->type != type)
		cbor_fail(r, REASON_MALFORMED);
	else if (!is_shortest(head))
		cbor_fail(r, REASON_NON_CANONICAL);
	else
		r->at += head->len;
	return r->error == REASON_OK;
}

uint64_t
cbor_read_uint(struct cbor_reader *r)
{
	struct head head;

	return take(r, CBOR_UINT, &head) ? head.argument : 0;
}

uint64_t
cbor_read_uint_max(struct cbor_reader *r, uint64_t min, uint64_t max)
{
	uint64_t value = cbor_read_uint(r);

	if (r->error == REASON_OK && (value < min || value > max))
		cbor_fail(r, REASON_CLAIM_INVALID);
	return r->error == REASON_OK ? value : 0;
}

int64_t
cbor_read_int(struct cbor_reader *r)
{
	enum cbor_kind type = cbor_peek(r) == CBOR_NEGINT ? CBOR_NEGINT : CBOR_UINT;
	struct head head;

	if (!take(r, type, &head))
		return 0;
	if (head.argument > INT64_MAX) {
		cbor_fail(r, REASON_CLAIM_INVALID);
		return 0;
	}
	return type == CBOR_NEGINT ? -1 - (int64_t)head.argument : (int64_t)head.argument;
}

bool
cbor_read_bool(struct cbor_reader *r)
{
	struct head head;

	if (!take(r, CBOR_SIMPLE, &head))
		return false;
	if (head.simple != SIMPLE_BOOL)
		cbor_fail(r, REASON_MALFORMED);
	return r->error == REASON_OK && head.argument != 0;
}

void
cbor_read_null(struct cbor_reader *r)
{
	struct head head;

	if (take(r, CBOR_SIMPLE, &head) && head.simple != SIMPLE_NULL)
		cbor_fail(r, REASON_MALFORMED);
}

/* A number that is written as an integer: a value must not have two spellings. */
static bool
is_whole(double number)
{
	return number == trunc(number) && number >= -0x1p63 && number < 0x1p63;
}

double
cbor_read_number(struct cbor_reader *r)
{
	struct head head;

	if (cbor_peek(r) == CBOR_UINT || cbor_peek(r) == CBOR_NEGINT)
		return (double)cbor_read_int(r);
	if (!take(r, CBOR_SIMPLE, &head))
		return 0;
	if (head.simple != SIMPLE_FLOAT)
		cbor_fail(r, REASON_MALFORMED);
	else if (!isfinite(head.number))
		cbor_fail(r, REASON_CLAIM_INVALID);
	else if (is_whole(head.number))
		cbor_fail(r, REASON_NON_CANONICAL);
	return r->error == REASON_OK ? head.number : 0;
}

static struct slice
take_string(struct cbor_reader *r, enum cbor_kind type, size_t max)
{
	struct slice absent = {NULL, 0};
	struct head head;

	if (!take(r, type, &head))
		return absent;
	if (head.argument > max) {
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
		return absent;
	}
	return (struct slice){head.string, (size_t)head.argument};
}

struct slice
cbor_read_bytes(struct cbor_reader *r, size_t max)
{
	return take_string(r, CBOR_BYTES, max);
}

void
cbor_read_bytes_exact(struct cbor_reader *r, uint8_t *out, size_t len)
{
	struct slice bytes = cbor_read_bytes(r, SIZE_MAX);

	if (r->error == REASON_OK && bytes.len != len)
		cbor_fail(r, REASON_CLAIM_INVALID);
	if (r->error == REASON_OK)
		memcpy(out, bytes.at, len);
	else
		memset(out, 0, len);
}

struct slice
cbor_read_text(struct cbor_reader *r, size_t max)
{
	struct slice text = take_string(r, CBOR_TEXT, max);

	if (is_text(text))
		return text;
	cbor_fail(r, REASON_TEXT_INVALID);
	return (struct slice){NULL, 0};
}

/* Every item has a byte at least: a count over what is left is a lie that nobody should loop over. */
static size_t
take_count(struct cbor_reader *r, enum cbor_kind type, size_t max, size_t least)
{
	struct head head;

	if (!take(r, type, &head))
		return 0;
	if (head.argument > max)
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
	else if (head.argument > left(r) / least)
		cbor_fail(r, REASON_TRUNCATED);
	return r->error == REASON_OK ? (size_t)head.argument : 0;
}

size_t
cbor_read_array(struct cbor_reader *r, size_t max)
{
	return take_count(r, CBOR_ARRAY, max, 1);
}

void
cbor_read_tag(struct cbor_reader *r, uint64_t tag)
{
	struct head head;

	if (take(r, CBOR_TAG, &head) && head.argument != tag)
		cbor_fail(r, REASON_NON_CANONICAL);
}

void
cbor_read_map(struct cbor_reader *r, struct cbor_map *map, size_t max)
{
	*map = (struct cbor_map){.left = take_count(r, CBOR_MAP, max, 2)};
}

/* RFC 8949 4.2.1: keys in the bytewise order of their encodings. */
static void
check_order(struct cbor_reader *r, struct cbor_map *map, struct slice key)
{
	size_t shorter = key.len < map->last.len ? key.len : map->last.len;
	int order;

	if (r->error != REASON_OK)
		return;
	order = map->last.at == NULL ? 1 : memcmp(key.at, map->last.at, shorter);
	if (order == 0 && key.len == map->last.len)
		cbor_fail(r, REASON_DUPLICATE_KEY);
	else if (order < 0 || (order == 0 && key.len < map->last.len))
		cbor_fail(r, REASON_NON_CANONICAL);
	map->last = key;
}

bool
cbor_map_next(struct cbor_reader *r, struct cbor_map *map, int64_t *key)
{
	const uint8_t *start = r->at;

	*key = 0;
	if (map->left == 0 || r->error != REASON_OK)
		return false;
	*key = cbor_read_int(r);
	check_order(r, map, (struct slice){start, (size_t)(r->at - start)});
	map->left--;
	return r->error == REASON_OK;
}

static void pass_item(struct cbor_reader *, unsigned depth);

static void
pass_scalar(struct cbor_reader *r, enum cbor_kind type)
{
	struct head head;

	switch (type) {
	case CBOR_UINT:
	case CBOR_NEGINT:
		cbor_read_int(r);
		return;
	case CBOR_BYTES:
		cbor_read_bytes(r, SIZE_MAX);
		return;
	case CBOR_TEXT:
		cbor_read_text(r, SIZE_MAX);
		return;
	default:
		break;
	}
	if (!take(r, CBOR_SIMPLE, &head))
		return;
	if (head.simple == SIMPLE_OTHER)
		cbor_fail(r, REASON_MALFORMED);
	else if (head.simple == SIMPLE_FLOAT && !isfinite(head.number))
		cbor_fail(r, REASON_CLAIM_INVALID);
}

static void
pass_map(struct cbor_reader *r, unsigned depth)
{
	struct cbor_map map;

	cbor_read_map(r, &map, SIZE_MAX);
	for (; map.left > 0 && r->error == REASON_OK; map.left--) {
		const uint8_t *start = r->at;

		if (cbor_peek(r) == CBOR_TEXT)
			cbor_read_text(r, SIZE_MAX);
		else
			cbor_read_int(r);
		check_order(r, &map, (struct slice){start, (size_t)(r->at - start)});
		pass_item(r, depth);
	}
}

static void
pass_array(struct cbor_reader *r, unsigned depth)
{
	for (size_t n = cbor_read_array(r, SIZE_MAX); n > 0 && r->error == REASON_OK; n--)
		pass_item(r, depth);
}

static void
pass_tag(struct cbor_reader *r, unsigned depth)
{
	struct head head;

	if (take(r, CBOR_TAG, &head))
		pass_item(r, depth);
}

/* Goes `depth` levels down and no further, so the stack is bounded whatever comes. */
static void
pass_item(struct cbor_reader *r, unsigned depth)
{
	static void (*const nested[CBOR_NONE])(struct cbor_reader *, unsigned) = {
		[CBOR_ARRAY] = pass_array,
		[CBOR_MAP] = pass_map,
		[CBOR_TAG] = pass_tag,
	};
	enum cbor_kind type = cbor_peek(r);

	if (type == CBOR_NONE)
		cbor_fail(r, REASON_TRUNCATED);
	else if (nested[type] == NULL)
		pass_scalar(r, type);
	else if (depth == 0)
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
	else
		nested[type](r, depth - 1);
}

struct slice
cbor_read_item(struct cbor_reader *r, unsigned depth)
{
	const uint8_t *start = r->at;

	pass_item(r, depth);
	if (r->error != REASON_OK)
		return (struct slice){NULL, 0};
	return (struct slice){start, (size_t)(r->at - start)};
}

enum reason
cbor_reader_end(struct cbor_reader *r)
{
	if (r->at != r->end)
		cbor_fail(r, REASON_TRAILING_BYTES);
	return r->error;
}

void
cbor_writer_init(struct cbor_writer *w, uint8_t *buffer, size_t size)
{
	*w = (struct cbor_writer){buffer, 0, size, false};
}

static void
append(struct cbor_writer *w, const uint8_t *bytes, size_t len)
{
	if (w->overflow || len > w->size - w->len)
		w->overflow = true;
	else if (len > 0)
		memcpy(w->at + w->len, bytes, len);
	w->len += len;
}

void
cbor_write_uint(struct cbor_writer *w, uint64_t value)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_uint(value, head, sizeof head));
}

void
cbor_write_int(struct cbor_writer *w, int64_t value)
{
	uint8_t head[HEAD_MAX];

	if (value >= 0)
		cbor_write_uint(w, (uint64_t)value);
	else
		append(w, head, cbor_encode_negint((uint64_t)(-1 - value), head, sizeof head));
}

void
cbor_write_bool(struct cbor_writer *w, bool value)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_bool(value, head, sizeof head));
}

void
cbor_write_null(struct cbor_writer *w)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_null(head, sizeof head));
}

void
cbor_write_number(struct cbor_writer *w, double number)
{
	uint8_t head[HEAD_MAX];
	uint16_t bits;

	assert(isfinite(number));
	if (is_whole(number)) {
		cbor_write_int(w, (int64_t)number);
	} else if (half_bits(number, &bits)) {
		const uint8_t half[] = {0xf9, (uint8_t)(bits >> 8), (uint8_t)(bits & 0xff)};

		append(w, half, sizeof half);
	} else if (fits_single(number)) {
		append(w, head, cbor_encode_single((float)number, head, sizeof head));
	} else {
		append(w, head, cbor_encode_double(number, head, sizeof head));
	}
}

void
cbor_write_bytes_head(struct cbor_writer *w, size_t len)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_bytestring_start(len, head, sizeof head));
}

void
cbor_write_bytes(struct cbor_writer *w, struct slice bytes)
{
	cbor_write_bytes_head(w, bytes.len);
	append(w, bytes.at, bytes.len);
}

void
cbor_write_text(struct cbor_writer *w, struct slice text)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_string_start(text.len, head, sizeof head));
	append(w, text.at, text.len);
}

void
cbor_write_string(struct cbor_writer *w, const char *text)
{
	cbor_write_text(w, (struct slice){(const uint8_t *)text, strlen(text)});
}

void
cbor_write_array(struct cbor_writer *w, size_t items)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_array_start(items, head, sizeof head));
}

void
cbor_write_map(struct cbor_writer *w, size_t pairs)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_map_start(pairs, head, sizeof head));
}

void
cbor_write_tag(struct cbor_writer *w, uint64_t tag)
{
	uint8_t head[HEAD_MAX];

	append(w, head, cbor_encode_tag(tag, head, sizeof head));
}

void
cbor_write_encoded(struct cbor_writer *w, struct slice item)
{
	append(w, item.at, item.len);
}
