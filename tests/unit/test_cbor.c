/* The reader takes one spelling of everything and names what is wrong with any other; the writer writes that spelling. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schema/cbor.h"
#include "schema/limits.h"
#include "schema/topics.h"
#include "tests/unit/bytes.h"

#define INPUT_MAX 256

/* One way to read, so that rows of a table can name it. */
typedef void read_function(struct cbor_reader *);

static void
read_uint(struct cbor_reader *r)
{
	assert_true(cbor_read_uint(r) == 0 || r->error == REASON_OK);
}

static void
read_uint_3_to_9(struct cbor_reader *r)
{
	assert_true(cbor_read_uint_max(r, 3, 9) == 0 || r->error == REASON_OK);
}

static void
read_int(struct cbor_reader *r)
{
	assert_true(cbor_read_int(r) == 0 || r->error == REASON_OK);
}

static void
read_bool(struct cbor_reader *r)
{
	assert_true(!cbor_read_bool(r) || r->error == REASON_OK);
}

static void
read_number(struct cbor_reader *r)
{
	double number = cbor_read_number(r);

	assert_true(isfinite(number));
	assert_true(number == 0.0 || r->error == REASON_OK);
}

static void
read_bytes_4(struct cbor_reader *r)
{
	assert_true(cbor_read_bytes(r, 4).at == NULL || r->error == REASON_OK);
}

static void
read_bytes_exactly_2(struct cbor_reader *r)
{
	uint8_t out[2];

	cbor_read_bytes_exact(r, out, sizeof out);
}

static void
read_text_4(struct cbor_reader *r)
{
	assert_true(cbor_read_text(r, 4).at == NULL || r->error == REASON_OK);
}

static void
read_array_4(struct cbor_reader *r)
{
	assert_true(cbor_read_array(r, 4) == 0 || r->error == REASON_OK);
}

static void
read_tag_61(struct cbor_reader *r)
{
	cbor_read_tag(r, 61);
}

static void
read_map_4(struct cbor_reader *r)
{
	struct cbor_map map;
	int64_t key;

	cbor_read_map(r, &map, 4);
	while (cbor_map_next(r, &map, &key))
		cbor_read_uint(r);
}

static void
read_item(struct cbor_reader *r)
{
	assert_true(cbor_read_item(r, 3).at == NULL || r->error == REASON_OK);
}

static const struct {
	read_function *read;
	const char *hex;
	enum reason reason;
} rows[] = {
	{read_uint, "00", REASON_OK},
	{read_uint, "17", REASON_OK},
	{read_uint, "1818", REASON_OK},
	{read_uint, "1bffffffffffffffff", REASON_OK},
	{read_uint, "", REASON_TRUNCATED},
	{read_uint, "18", REASON_TRUNCATED},
	{read_uint, "1903", REASON_TRUNCATED},
	{read_uint, "1b00000001000000", REASON_TRUNCATED},
	{read_uint, "1800", REASON_NON_CANONICAL},
	{read_uint, "1817", REASON_NON_CANONICAL},
	{read_uint, "1900ff", REASON_NON_CANONICAL},
	{read_uint, "1a0000ffff", REASON_NON_CANONICAL},
	{read_uint, "1b00000000ffffffff", REASON_NON_CANONICAL},
	{read_uint, "1c", REASON_MALFORMED},
	{read_uint, "1f", REASON_MALFORMED},
	{read_uint, "20", REASON_MALFORMED},
	{read_uint, "40", REASON_MALFORMED},
	{read_uint, "f6", REASON_MALFORMED},
	{read_uint, "ff", REASON_MALFORMED},
	{read_uint, "9f", REASON_MALFORMED},
	{read_uint, "0000", REASON_TRAILING_BYTES},
	{read_uint_3_to_9, "03", REASON_OK},
	{read_uint_3_to_9, "09", REASON_OK},
	{read_uint_3_to_9, "02", REASON_CLAIM_INVALID},
	{read_uint_3_to_9, "0a", REASON_CLAIM_INVALID},
	{read_uint_3_to_9, "1bffffffffffffffff", REASON_CLAIM_INVALID},
	{read_int, "1b7fffffffffffffff", REASON_OK},
	{read_int, "3b7fffffffffffffff", REASON_OK},
	{read_int, "1b8000000000000000", REASON_CLAIM_INVALID},
	{read_int, "3b8000000000000000", REASON_CLAIM_INVALID},
	{read_int, "3bffffffffffffffff", REASON_CLAIM_INVALID},
	{read_int, "3800", REASON_NON_CANONICAL},
	{read_int, "3900ff", REASON_NON_CANONICAL},
	{read_int, "f90000", REASON_MALFORMED},
	{read_int, "c100", REASON_MALFORMED},
	{read_bool, "f4", REASON_OK},
	{read_bool, "f5", REASON_OK},
	{read_bool, "f6", REASON_MALFORMED},
	{read_bool, "f7", REASON_MALFORMED},
	{read_bool, "00", REASON_MALFORMED},
	{read_bool, "f814", REASON_MALFORMED},
	{read_bool, "f818", REASON_MALFORMED},
	{read_bool, "f93c00", REASON_MALFORMED},
	{read_number, "05", REASON_OK},
	{read_number, "24", REASON_OK},
	{read_number, "f93e00", REASON_OK},
	{read_number, "f90001", REASON_OK},
	{read_number, "fa47c35040", REASON_OK},
	{read_number, "fa47c35000", REASON_NON_CANONICAL}, /* 100000, an integer */
	{read_number, "f93c00", REASON_NON_CANONICAL},
	{read_number, "f98000", REASON_NON_CANONICAL}, /* -0 */
	{read_number, "fb3ff199999999999a", REASON_OK},
	{read_number, "fa3fc00000", REASON_NON_CANONICAL},
	{read_number, "fb3ff8000000000000", REASON_NON_CANONICAL},
	{read_number, "fb40f86a0000000000", REASON_NON_CANONICAL},
	{read_number, "fa33800000", REASON_NON_CANONICAL}, /* 2^-24, the smallest half */
	{read_number, "f97c00", REASON_CLAIM_INVALID},
	{read_number, "f9fc00", REASON_CLAIM_INVALID},
	{read_number, "f97e00", REASON_CLAIM_INVALID},
	{read_number, "fa7f800000", REASON_NON_CANONICAL},
	{read_number, "fb7ff8000000000000", REASON_NON_CANONICAL},
	{read_number, "f9", REASON_TRUNCATED},
	{read_number, "fb3ff19999999999", REASON_TRUNCATED},
	{read_number, "f4", REASON_MALFORMED},
	{read_number, "6131", REASON_MALFORMED},
	{read_bytes_4, "40", REASON_OK},
	{read_bytes_4, "4401020304", REASON_OK},
	{read_bytes_4, "450102030405", REASON_LIMIT_EXCEEDED},
	{read_bytes_4, "44010203", REASON_TRUNCATED},
	{read_bytes_4, "5bffffffffffffffff", REASON_TRUNCATED},
	{read_bytes_4, "5b7fffffffffffffff00", REASON_TRUNCATED},
	{read_bytes_4, "5801ff", REASON_NON_CANONICAL},
	{read_bytes_4, "5f4101ff", REASON_NON_CANONICAL},
	{read_bytes_4, "6161", REASON_MALFORMED},
	{read_bytes_4, "5c", REASON_MALFORMED},
	{read_bytes_exactly_2, "420102", REASON_OK},
	{read_bytes_exactly_2, "4101", REASON_CLAIM_INVALID},
	{read_bytes_exactly_2, "43010203", REASON_CLAIM_INVALID},
	{read_bytes_exactly_2, "6161", REASON_MALFORMED},
	{read_text_4, "60", REASON_OK},
	{read_text_4, "6461c3bc62", REASON_OK},
	{read_text_4, "63e6b0b4", REASON_OK},
	{read_text_4, "64f48fbfbf", REASON_OK},
	{read_text_4, "63ed9fbf", REASON_OK},
	{read_text_4, "656161616161", REASON_LIMIT_EXCEEDED},
	{read_text_4, "6161ff", REASON_TRAILING_BYTES},
	{read_text_4, "6100", REASON_TEXT_INVALID},
	{read_text_4, "63610062", REASON_TEXT_INVALID},
	{read_text_4, "6180", REASON_TEXT_INVALID},
	{read_text_4, "61c3", REASON_TEXT_INVALID},
	{read_text_4, "62c361", REASON_TEXT_INVALID},
	{read_text_4, "62c080", REASON_TEXT_INVALID}, /* overlong U+0000 */
	{read_text_4, "62c1bf", REASON_TEXT_INVALID},
	{read_text_4, "63e08080", REASON_TEXT_INVALID},
	{read_text_4, "63eda080", REASON_TEXT_INVALID}, /* a surrogate */
	{read_text_4, "64f0808080", REASON_TEXT_INVALID},
	{read_text_4, "64f4908080", REASON_TEXT_INVALID}, /* over U+10FFFF */
	{read_text_4, "61fe", REASON_TEXT_INVALID},
	{read_text_4, "7f6161ff", REASON_NON_CANONICAL},
	{read_text_4, "4161", REASON_MALFORMED},
	{read_array_4, "80", REASON_OK},
	{read_array_4, "850000000000", REASON_LIMIT_EXCEEDED},
	{read_array_4, "9bffffffffffffffff", REASON_LIMIT_EXCEEDED},
	{read_array_4, "8200", REASON_TRUNCATED},
	{read_array_4, "9fff", REASON_NON_CANONICAL},
	{read_array_4, "980100", REASON_NON_CANONICAL},
	{read_array_4, "a0", REASON_MALFORMED},
	{read_tag_61, "d83d", REASON_OK},
	{read_tag_61, "d2", REASON_NON_CANONICAL},
	{read_tag_61, "d9003d", REASON_NON_CANONICAL},
	{read_tag_61, "183d", REASON_MALFORMED},
	{read_tag_61, "d8", REASON_TRUNCATED},
	{read_map_4, "a0", REASON_OK},
	{read_map_4, "a201000200", REASON_OK},
	{read_map_4, "a2170018180018", REASON_TRAILING_BYTES},
	{read_map_4, "a3010020003800", REASON_NON_CANONICAL},
	{read_map_4, "a201000100", REASON_DUPLICATE_KEY},
	{read_map_4, "a202000100", REASON_NON_CANONICAL},
	{read_map_4, "a220000100", REASON_NON_CANONICAL}, /* -1 is 0x20, after 1 */
	{read_map_4, "a2181801170100", REASON_NON_CANONICAL},
	{read_map_4, "a201001801", REASON_NON_CANONICAL},
	{read_map_4, "a2010018020000", REASON_NON_CANONICAL},
	{read_map_4, "a1616100", REASON_MALFORMED},
	{read_map_4, "a11b800000000000000000", REASON_CLAIM_INVALID},
	{read_map_4, "a501000200030004000500", REASON_LIMIT_EXCEEDED},
	{read_map_4, "bf0100ff", REASON_NON_CANONICAL},
	{read_map_4, "bb800000000000000001", REASON_LIMIT_EXCEEDED},
	{read_map_4, "a101", REASON_TRUNCATED},
	{read_item, "83010203", REASON_OK},
	{read_item, "a201006161f5", REASON_OK},
	{read_item, "818180", REASON_OK},
	{read_item, "c18180", REASON_OK},
	{read_item, "81818180", REASON_LIMIT_EXCEEDED},
	{read_item, "c1c1c1c100", REASON_LIMIT_EXCEEDED},
	{read_item, "a101a101a101a0", REASON_LIMIT_EXCEEDED},
	{read_item, "82000001", REASON_TRAILING_BYTES},
	{read_item, "8200", REASON_TRUNCATED},
	{read_item, "c1", REASON_TRUNCATED},
	{read_item, "9bffffffffffffffff", REASON_TRUNCATED},
	{read_item, "bbffffffffffffffff", REASON_TRUNCATED},
	{read_item, "8118ff01", REASON_TRAILING_BYTES},
	{read_item, "811800", REASON_NON_CANONICAL},
	{read_item, "81fa3fc00000", REASON_NON_CANONICAL},
	{read_item, "a2616201616100", REASON_NON_CANONICAL},
	{read_item, "a2616101010000", REASON_NON_CANONICAL},
	{read_item, "a261610161610000", REASON_DUPLICATE_KEY},
	{read_item, "a1f500", REASON_MALFORMED},
	{read_item, "a1410100", REASON_MALFORMED},
	{read_item, "a1f93c0000", REASON_MALFORMED},
	{read_item, "a1616100ff", REASON_TRAILING_BYTES},
	{read_item, "81f7", REASON_MALFORMED},
	{read_item, "81f0", REASON_MALFORMED},
	{read_item, "81ff", REASON_MALFORMED},
	{read_item, "9fff", REASON_NON_CANONICAL},
	{read_item, "819fff", REASON_NON_CANONICAL},
	{read_item, "8161c3", REASON_TEXT_INVALID},
	{read_item, "811b8000000000000000", REASON_CLAIM_INVALID},
	{read_item, "81f97e00", REASON_CLAIM_INVALID},
};

static void
test_reading(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t buffer[INPUT_MAX];
		struct cbor_reader r;
		enum reason got;

		cbor_reader_init(&r, unhex(rows[i].hex, buffer));
		rows[i].read(&r);
		got = cbor_reader_end(&r);
		if (got != rows[i].reason)
			fail_msg("row %zu, %s: %s, not %s", i, rows[i].hex, reason_name(got),
				 reason_name(rows[i].reason));
	}
}

/* Cut anywhere, a message is truncated: nothing else, and nothing is read behind its end (the sanitizer's part). */
static void
test_every_cut_is_truncated(void **state)
{
	uint8_t buffer[INPUT_MAX], cut[INPUT_MAX];
	struct slice whole = unhex("a4014401020304026361626320820102390100a118fffb3ff199999999999a", buffer);

	(void)state;
	for (size_t len = 0; len < whole.len; len++) {
		struct cbor_reader r;

		memcpy(cut, whole.at, len);
		cbor_reader_init(&r, (struct slice){cut, len});
		cbor_read_item(&r, LIMIT_DEPTH);
		if (r.error != REASON_TRUNCATED)
			fail_msg("cut at %zu: %s", len, reason_name(r.error));
	}
}

static void
test_first_error_stays(void **state)
{
	uint8_t buffer[INPUT_MAX];
	struct cbor_reader r;

	(void)state;
	cbor_reader_init(&r, unhex("1800f6", buffer));
	assert_int_equal(cbor_read_uint(&r), 0);
	cbor_read_null(&r);
	assert_int_equal(cbor_peek(&r), CBOR_NONE);
	assert_false(cbor_at_null(&r));
	assert_null(cbor_read_item(&r, 1).at);
	cbor_fail(&r, REASON_MALFORMED);
	assert_int_equal(cbor_reader_end(&r), REASON_NON_CANONICAL);
}

static void
test_values(void **state)
{
	uint8_t buffer[INPUT_MAX], two[2];
	struct cbor_reader r;
	struct slice part;

	(void)state;
	cbor_reader_init(&r, unhex("1903e83903e7f5f6f93e0042beef626f6b8081183d4100", buffer));
	assert_int_equal(cbor_read_uint(&r), 1000);
	assert_int_equal(cbor_read_int(&r), -1000);
	assert_true(cbor_read_bool(&r));
	assert_true(cbor_at_null(&r));
	cbor_read_null(&r);
	assert_true(cbor_read_number(&r) == 1.5);
	cbor_read_bytes_exact(&r, two, sizeof two);
	assert_int_equal(two[0] << 8 | two[1], 0xbeef);
	part = cbor_read_text(&r, 2);
	assert_memory_equal(part.at, "ok", 2);
	assert_int_equal(cbor_read_array(&r, 9), 0);
	part = cbor_read_item(&r, 1);
	assert_int_equal(part.len, 3);
	assert_int_equal(cbor_peek(&r), CBOR_BYTES);
	assert_int_equal(cbor_read_bytes(&r, 1).len, 1);
	assert_int_equal(cbor_reader_end(&r), REASON_OK);
}

static void
expect_written(struct cbor_writer *w, const char *hex)
{
	uint8_t buffer[INPUT_MAX];
	struct slice want = unhex(hex, buffer);

	assert_false(w->overflow);
	if (w->len != want.len || memcmp(w->at, want.at, want.len) != 0)
		fail_msg("not %s", hex);
	w->len = 0;
}

static void
test_writing(void **state)
{
	static const struct {
		double number;
		const char *hex;
	} numbers[] = {
		{0, "00"},
		{-1, "20"},
		{1.5, "f93e00"},
		{-1.5, "f9be00"},
		{0x1p-24, "f90001"},
		{-0x1.8p-24 * 2, "f98003"},
		{0x1p-14, "f90400"},
		{0x1.ff8p-15, "f903ff"},
		{0x1p-25, "fa33000000"},
		{65504.5, "fa477fe080"},
		{100000, "1a000186a0"},
		{0.1, "fb3fb999999999999a"},
		{1.1, "fb3ff199999999999a"},
		{FLT_MIN, "fa00800000"},
		{0x1p-149, "fa00000001"},
		{0x1p-150, "fb3690000000000000"},
		{0x1p63, "fa5f000000"},
		{-0x1p63, "3b7fffffffffffffff"},
		{1e300, "fb7e37e43c8800759c"},
		{DBL_MAX, "fb7fefffffffffffff"},
	};
	uint8_t out[64];
	struct cbor_writer w;

	(void)state;
	cbor_writer_init(&w, out, sizeof out);
	cbor_write_uint(&w, UINT64_MAX);
	expect_written(&w, "1bffffffffffffffff");
	cbor_write_int(&w, INT64_MIN);
	expect_written(&w, "3b7fffffffffffffff");
	cbor_write_int(&w, -25);
	expect_written(&w, "3818");
	cbor_write_map(&w, 1);
	cbor_write_string(&w, "a");
	cbor_write_bytes(&w, (struct slice){(const uint8_t *)"\x01\x02", 2});
	expect_written(&w, "a16161420102");
	cbor_write_tag(&w, 61);
	cbor_write_array(&w, 3);
	cbor_write_bool(&w, false);
	cbor_write_null(&w);
	cbor_write_bytes_head(&w, 300);
	expect_written(&w, "d83d83f4f659012c");
	cbor_write_bytes(&w, (struct slice){NULL, 0});
	expect_written(&w, "40");
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		cbor_write_number(&w, numbers[i].number);
		expect_written(&w, numbers[i].hex);
	}
}

/* Every finite half that is no integer is taken as it is, and as a longer float is not. */
static void
test_every_half(void **state)
{
	unsigned wholes = 0;

	(void)state;
	for (unsigned bits = 0; bits <= UINT16_MAX; bits++) {
		uint8_t half[] = {0xf9, (uint8_t)(bits >> 8), (uint8_t)bits}, longer[9], out[9];
		struct cbor_reader r;
		struct cbor_writer w;
		union {
			double number;
			uint64_t bits;
		} value;

		if ((bits & 0x7c00) == 0x7c00)
			continue;
		cbor_reader_init(&r, (struct slice){half, sizeof half});
		value.number = cbor_read_number(&r);
		if (r.error != REASON_OK) {
			assert_int_equal(r.error, REASON_NON_CANONICAL);
			wholes++;
			continue;
		}
		assert_int_equal(cbor_reader_end(&r), REASON_OK);
		cbor_writer_init(&w, out, sizeof out);
		cbor_write_number(&w, value.number);
		assert_true(w.len == 3 && memcmp(out, half, 3) == 0);
		longer[0] = 0xfb;
		for (int i = 0; i < 8; i++)
			longer[1 + i] = (uint8_t)(value.bits >> (56 - 8 * i));
		cbor_reader_init(&r, (struct slice){longer, sizeof longer});
		cbor_read_number(&r);
		assert_int_equal(cbor_reader_end(&r), REASON_NON_CANONICAL);
	}
	/* Of each sign: zero, 1 to 2047 (the significand's 11 bits), and 1024 for each of the 5 exponents above. */
	assert_int_equal(wholes, 2 * (1 + 2047 + 5 * 1024));
}

static void
test_overflow_goes_on_counting(void **state)
{
	uint8_t out[3] = {0xee, 0xee, 0xee};
	struct cbor_writer w;

	(void)state;
	cbor_writer_init(&w, out, 2);
	cbor_write_uint(&w, 1);
	cbor_write_uint(&w, 1000);
	assert_true(w.overflow);
	assert_int_equal(w.len, 4);
	/* After what did not fit nothing is written, though this would fit. */
	cbor_write_uint(&w, 2);
	assert_int_equal(w.len, 5);
	assert_int_equal(out[1], 0xee);
	cbor_writer_init(&w, NULL, 0);
	cbor_write_string(&w, "measured");
	assert_true(w.overflow);
	assert_int_equal(w.len, 9);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_every_cut_is_truncated),
		cmocka_unit_test(test_first_error_stays),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_writing),
		cmocka_unit_test(test_every_half),
		cmocka_unit_test(test_overflow_goes_on_counting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
