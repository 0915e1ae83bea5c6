#include "schema/cbor.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "schema/cbor_item.h"

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

/* Takes the next item, which must be of that type. */
static bool
take(struct cbor_reader *r, enum cbor_kind type, struct cbor_item *item)
{
	if (r->error == REASON_OK)
		r->error = cbor_item_decode((struct slice){r->at, left(r)}, item);
	if (r->error != REASON_OK)
		return false;
	if (item->type != type)
		cbor_fail(r, REASON_MALFORMED);
	else if (!cbor_item_is_shortest(item))
		cbor_fail(r, REASON_NON_CANONICAL);
	else
		r->at += item->len;
	return r->error == REASON_OK;
}

uint64_t
cbor_read_uint(struct cbor_reader *r)
{
	struct cbor_item item;

	return take(r, CBOR_UINT, &item) ? item.argument : 0;
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
	struct cbor_item item;

	if (!take(r, type, &item))
		return 0;
	if (item.argument > INT64_MAX) {
		cbor_fail(r, REASON_CLAIM_INVALID);
		return 0;
	}
	return type == CBOR_NEGINT ? -1 - (int64_t)item.argument : (int64_t)item.argument;
}

bool
cbor_read_bool(struct cbor_reader *r)
{
	struct cbor_item item;

	if (!take(r, CBOR_SIMPLE, &item))
		return false;
	if (item.simple != SIMPLE_BOOL)
		cbor_fail(r, REASON_MALFORMED);
	return r->error == REASON_OK && item.argument != 0;
}

void
cbor_read_null(struct cbor_reader *r)
{
	struct cbor_item item;

	if (take(r, CBOR_SIMPLE, &item) && item.simple != SIMPLE_NULL)
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
	struct cbor_item item;

	if (cbor_peek(r) == CBOR_UINT || cbor_peek(r) == CBOR_NEGINT)
		return (double)cbor_read_int(r);
	if (!take(r, CBOR_SIMPLE, &item))
		return 0;
	if (item.simple != SIMPLE_FLOAT)
		cbor_fail(r, REASON_MALFORMED);
	else if (!isfinite(item.number))
		cbor_fail(r, REASON_CLAIM_INVALID);
	else if (is_whole(item.number))
		cbor_fail(r, REASON_NON_CANONICAL);
	return r->error == REASON_OK ? item.number : 0;
}

static struct slice
take_string(struct cbor_reader *r, enum cbor_kind type, size_t max)
{
	struct slice absent = {NULL, 0};
	struct cbor_item item;

	if (!take(r, type, &item))
		return absent;
	if (item.argument > max) {
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
		return absent;
	}
	return (struct slice){item.string, (size_t)item.argument};
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
	struct cbor_item item;

	if (!take(r, type, &item))
		return 0;
	if (item.argument > max)
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
	else if (item.argument > left(r) / least)
		cbor_fail(r, REASON_TRUNCATED);
	return r->error == REASON_OK ? (size_t)item.argument : 0;
}

size_t
cbor_read_array(struct cbor_reader *r, size_t max)
{
	return take_count(r, CBOR_ARRAY, max, 1);
}

void
cbor_read_tag(struct cbor_reader *r, uint64_t tag)
{
	struct cbor_item item;

	if (take(r, CBOR_TAG, &item) && item.argument != tag)
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
	struct cbor_item item;

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
	if (!take(r, CBOR_SIMPLE, &item))
		return;
	if (item.simple == SIMPLE_OTHER)
		cbor_fail(r, REASON_MALFORMED);
	else if (item.simple == SIMPLE_FLOAT && !isfinite(item.number))
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
	struct cbor_item item;

	if (take(r, CBOR_TAG, &item))
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

static void
write_head(struct cbor_writer *w, enum cbor_kind type, uint64_t argument)
{
	uint8_t head[CBOR_HEAD_MAX];

	append(w, head, cbor_item_encode(type, argument, head));
}

void
cbor_write_uint(struct cbor_writer *w, uint64_t value)
{
	write_head(w, CBOR_UINT, value);
}

void
cbor_write_int(struct cbor_writer *w, int64_t value)
{
	if (value >= 0)
		write_head(w, CBOR_UINT, (uint64_t)value);
	else
		write_head(w, CBOR_NEGINT, (uint64_t)(-1 - value));
}

void
cbor_write_bool(struct cbor_writer *w, bool value)
{
	uint8_t head[CBOR_HEAD_MAX];

	append(w, head, cbor_item_encode_bool(value, head));
}

void
cbor_write_null(struct cbor_writer *w)
{
	uint8_t head[CBOR_HEAD_MAX];

	append(w, head, cbor_item_encode_null(head));
}

void
cbor_write_number(struct cbor_writer *w, double number)
{
	uint8_t head[CBOR_HEAD_MAX];

	assert(isfinite(number));
	if (is_whole(number))
		cbor_write_int(w, (int64_t)number);
	else
		append(w, head, cbor_item_encode_float(number, head));
}

void
cbor_write_bytes_head(struct cbor_writer *w, size_t len)
{
	write_head(w, CBOR_BYTES, len);
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
	write_head(w, CBOR_TEXT, text.len);
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
	write_head(w, CBOR_ARRAY, items);
}

void
cbor_write_map(struct cbor_writer *w, size_t pairs)
{
	write_head(w, CBOR_MAP, pairs);
}

void
cbor_write_tag(struct cbor_writer *w, uint64_t tag)
{
	write_head(w, CBOR_TAG, tag);
}

void
cbor_write_encoded(struct cbor_writer *w, struct slice item)
{
	append(w, item.at, item.len);
}
