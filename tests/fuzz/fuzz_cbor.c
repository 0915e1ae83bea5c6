/* Whatever cbor_read_item takes is the one spelling of it: read as values and written again, it is the same bytes. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schema/cbor.h"
#include "schema/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void copy_item(struct cbor_reader *, struct cbor_writer *);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
copy_simple(struct cbor_reader *r, struct cbor_writer *w)
{
	const uint8_t *start = r->at;

	if (cbor_at_null(r)) {
		cbor_read_null(r);
		cbor_write_null(w);
	} else if (*r->at < 0xf6) {
		cbor_write_bool(w, cbor_read_bool(r));
	} else {
		double number = cbor_read_number(r);

		/* A whole number as a float is well formed, but none of our numbers. */
		if (r->error == REASON_NON_CANONICAL) {
			cbor_reader_init(r, (struct slice){start, (size_t)(r->end - start)});
			cbor_write_encoded(w, cbor_read_item(r, 1));
			return;
		}
		require(isfinite(number));
		cbor_write_number(w, number);
	}
}

static void
copy_map(struct cbor_reader *r, struct cbor_writer *w)
{
	struct cbor_map map;

	cbor_read_map(r, &map, SIZE_MAX);
	cbor_write_map(w, map.left);
	for (; map.left > 0; map.left--) {
		copy_item(r, w);
		copy_item(r, w);
	}
}

static void
copy_array(struct cbor_reader *r, struct cbor_writer *w)
{
	size_t items = cbor_read_array(r, SIZE_MAX);

	cbor_write_array(w, items);
	for (; items > 0; items--)
		copy_item(r, w);
}

/* The reader has no function for "any tag", so the number is found by asking for each head's own. */
static void
copy_tag(struct cbor_reader *r, struct cbor_writer *w)
{
	size_t argument = *r->at < 0xd8 ? 0 : (size_t)1 << (*r->at - 0xd8);
	uint64_t tag = *r->at & 0x1f;

	if (argument > 0)
		tag = 0;
	for (size_t i = 1; i <= argument; i++)
		tag = tag << 8 | r->at[i];
	cbor_read_tag(r, tag);
	cbor_write_tag(w, tag);
	copy_item(r, w);
}

static void
copy_item(struct cbor_reader *r, struct cbor_writer *w)
{
	switch (cbor_peek(r)) {
	case CBOR_UINT:
		cbor_write_uint(w, cbor_read_uint(r));
		break;
	case CBOR_NEGINT:
		cbor_write_int(w, cbor_read_int(r));
		break;
	case CBOR_BYTES:
		cbor_write_bytes(w, cbor_read_bytes(r, SIZE_MAX));
		break;
	case CBOR_TEXT:
		cbor_write_text(w, cbor_read_text(r, SIZE_MAX));
		break;
	case CBOR_ARRAY:
		copy_array(r, w);
		break;
	case CBOR_MAP:
		copy_map(r, w);
		break;
	case CBOR_TAG:
		copy_tag(r, w);
		break;
	case CBOR_SIMPLE:
		copy_simple(r, w);
		break;
	case CBOR_NONE:
		abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cbor_reader r;
	struct cbor_writer w;
	struct slice item;
	uint8_t *copy;

	cbor_reader_init(&r, (struct slice){data, size});
	item = cbor_read_item(&r, LIMIT_DEPTH);
	require((item.at != NULL) == (r.error == REASON_OK));
	if (item.at == NULL)
		return 0;
	require(item.at == data && item.len > 0 && item.len <= size);
	/* What is accepted is refused when it is cut. */
	cbor_reader_init(&r, (struct slice){data, item.len - 1});
	require(cbor_read_item(&r, LIMIT_DEPTH).at == NULL);
	copy = malloc(item.len);
	require(copy != NULL);
	cbor_reader_init(&r, item);
	cbor_writer_init(&w, copy, item.len);
	copy_item(&r, &w);
	require(cbor_reader_end(&r) == REASON_OK);
	require(!w.overflow && w.len == item.len && memcmp(copy, item.at, item.len) == 0);
	free(copy);
	return 0;
}
