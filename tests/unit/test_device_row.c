/* A device's row printed, as ours and as others take it: every kind of value, what is hostile in it, and what is not as the database gives it. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "collector/format_asset.h"

#define DAY_US INT64_C(86400000000)

static struct slice
text(const char *at)
{
	return (struct slice){(const uint8_t *)at, strlen(at)};
}

/* A row of which only some is known. */
static struct device_row
row_of(enum device_column column, struct slice cell)
{
	struct device_row row = {0};

	row.cells[DEVICE_UEID] = (struct slice){(const uint8_t *)"\x01\xab", 2};
	row.cells[column] = cell;
	return row;
}

/* The member as JSON has it, and the cell as the file has it. NULL: the row is refused. */
static void
check(enum device_column column, struct slice cell, const char *json, const char *csv)
{
	struct device_row row = row_of(column, cell);
	struct response as_json = {0}, as_csv = {0};
	char expected[512] = "01ab", *all = expected + 4;

	device_json(&as_json, &row);
	device_csv(&as_csv, &row, false);
	assert_int_equal(as_json.failed || as_csv.failed, json == NULL);
	if (json != NULL) {
		json_t *whole = json_loadb((const char *)as_json.body, as_json.len, JSON_DECODE_ANY, NULL), *value;
		char *found;
		size_t i = 0;
		const char *key;

		assert_non_null(whole);
		assert_int_equal(json_object_size(whole), DEVICE_COLUMNS);
		assert_string_equal(json_string_value(json_object_get(whole, "ueid")), "01ab");
		json_object_foreach(whole, key, value)
		{
			if (i++ != (size_t)column)
				continue;
			found = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
			assert_string_equal(found, json);
			free(found);
		}
		json_decref(whole);
		for (int k = 1; k < DEVICE_COLUMNS; k++)
			all += sprintf(all, ",%s", k == (int)column ? csv : "");
		sprintf(all, "\r\n");
		assert_int_equal(as_csv.len, strlen(expected));
		assert_memory_equal(as_csv.body, expected, as_csv.len);
	}
	response_free(&as_json);
	response_free(&as_csv);
}

static void
texts_of_any_kind(void **state)
{
	static const char *const rows[][3] = {
		{"", "\"\"", "\"\""},
		{"a,b", "\"a,b\"", "\"a,b\""},
		{"a\"b\\", "\"a\\\"b\\\\\"", "\"a\"\"b\\\""},
		{"\"", "\"\\\"\"", "\"\"\"\""},
		{"a\r\nb\x1f", "\"a\\r\\nb\\u001F\"", "\"a\r\nb\x1f\""},
		{"=1+1", "\"=1+1\"", "\"'=1+1\""},
		{"+1", "\"+1\"", "\"'+1\""},
		{"-1", "\"-1\"", "\"'-1\""},
		{"@x", "\"@x\"", "\"'@x\""},
		{"\tx", "\"\\tx\"", "\"'\tx\""},
		{"\r=1", "\"\\r=1\"", "\"'\r=1\""},
		{"  =1", "\"  =1\"", "\"'  =1\""},
		{"\xef\xbc\x9d"
		 "1",
		 "\"\xef\xbc\x9d"
		 "1\"",
		 "\"'\xef\xbc\x9d"
		 "1\""},
		{"\xef\xbc\xa0", "\"\xef\xbc\xa0\"", "\"'\xef\xbc\xa0\""},
		{"Z\xc3\xbcrich \xf0\x9f\x98\x80", "\"Z\xc3\xbcrich \xf0\x9f\x98\x80\"",
		 "\"Z\xc3\xbcrich \xf0\x9f\x98\x80\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check(DEVICE_HWMODEL, text(rows[i][0]), rows[i][1], rows[i][2]);
	check(DEVICE_HWMODEL, (struct slice){NULL, 0}, "null", "");
}

static void
times_and_days(void **state)
{
	static const struct {
		int64_t us;
		const char *json, *csv;
	} times[] = {
		{0, "\"2000-01-01T00:00:00.000Z\"", "2000-01-01T00:00:00.000Z"},
		{-1, "\"1999-12-31T23:59:59.999Z\"", "1999-12-31T23:59:59.999Z"},
		{59 * DAY_US - 1, "\"2000-02-28T23:59:59.999Z\"", "2000-02-28T23:59:59.999Z"},
		{59 * DAY_US, "\"2000-02-29T00:00:00.000Z\"", "2000-02-29T00:00:00.000Z"},
		{60 * DAY_US + 3723004999, "\"2000-03-01T01:02:03.004Z\"", "2000-03-01T01:02:03.004Z"},
		{9826 * DAY_US, "\"2026-11-26T00:00:00.000Z\"", "2026-11-26T00:00:00.000Z"},
		{INT64_C(-10957) * DAY_US, "\"1970-01-01T00:00:00.000Z\"", "1970-01-01T00:00:00.000Z"},
		{INT64_C(-36465) * DAY_US, "\"1900-03-01T00:00:00.000Z\"", "1900-03-01T00:00:00.000Z"},
		{INT64_C(-36466) * DAY_US, "\"1900-02-28T00:00:00.000Z\"", "1900-02-28T00:00:00.000Z"},
		{INT64_C(2921939) * DAY_US, "\"9999-12-31T00:00:00.000Z\"", "9999-12-31T00:00:00.000Z"},
		{INT64_C(2921940) * DAY_US, "null", ""},
		{INT64_MAX, "null", ""},
		{INT64_MIN, "null", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		uint64_t wire = htobe64((uint64_t)times[i].us);
		uint32_t day = htobe32((uint32_t)(times[i].us / DAY_US));
		char json[16] = "\"", csv[sizeof json - 2] = "";

		check(DEVICE_LAST_SEEN, (struct slice){(const uint8_t *)&wire, sizeof wire}, times[i].json,
		      times[i].csv);
		if (times[i].us < 0 || times[i].us % DAY_US != 0 || times[i].csv[0] == '\0')
			continue;
		snprintf(csv, sizeof csv, "%.10s", times[i].csv);
		snprintf(json, sizeof json, "\"%s\"", csv);
		check(DEVICE_END_OF_LIFE, (struct slice){(const uint8_t *)&day, sizeof day}, json, csv);
	}
	check(DEVICE_LAST_SEEN, text("abc"), NULL, NULL);
	check(DEVICE_END_OF_LIFE, text(""), NULL, NULL);
}

static void
numbers(void **state)
{
	static const struct {
		int64_t n;
		const char *printed;
	} rows[] = {{0, "0"},
		    {1, "1"},
		    {-1, "-1"},
		    {9007199254740991, "9007199254740991"},
		    {INT64_MIN, "-9223372036854775808"}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t wide = htobe64((uint64_t)rows[i].n);
		uint32_t narrow = htobe32((uint32_t)rows[i].n);

		check(DEVICE_SEQ, (struct slice){(const uint8_t *)&wide, 8}, rows[i].printed, rows[i].printed);
		if (rows[i].n == (int32_t)rows[i].n)
			check(DEVICE_INTERVAL_S, (struct slice){(const uint8_t *)&narrow, 4}, rows[i].printed,
			      rows[i].printed);
	}
	check(DEVICE_SEQ, text("1"), NULL, NULL);
	check(DEVICE_SEQ, text("123456789"), NULL, NULL);
}

#define HEAD "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\2\0\0\0\1"
#define LIST(items) ((struct slice){(const uint8_t *)HEAD items, sizeof HEAD items - 1})

static void
lists(void **state)
{
	(void)state;
	check(DEVICE_REASONS, (struct slice){(const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0\x19", 12}, "[]", "\"\"");
	check(DEVICE_REASONS, LIST("\0\0\0\1a\0\0\0\2=b"), "[\"a\",\"=b\"]", "\"a '=b\"");
	check(DEVICE_LABELS, LIST("\0\0\0\3a=\"\0\0\0\0"), "[\"a=\\\"\",\"\"]", "\"a=\"\" \"");
	/* Cut short, and one that claims more than there is. */
	check(DEVICE_REASONS, LIST("\0\0\0"), NULL, NULL);
	check(DEVICE_REASONS, LIST("\0\0\0\2a"), NULL, NULL);
	check(DEVICE_REASONS, LIST("\xff\xff\xff\xff"), NULL, NULL);
	check(DEVICE_REASONS,
	      LIST("\0\0\0\1a\x7f\xff\xff\xff"
		   "b"),
	      NULL, NULL);
}

static void
digests(void **state)
{
	uint8_t bytes[65] = {0xff, 0x0a};

	(void)state;
	check(DEVICE_STATE_DIGEST, (struct slice){bytes, 2}, "\"ff0a\"", "ff0a");
	check(DEVICE_STATE_DIGEST, (struct slice){bytes, 65}, NULL, NULL);
}

static void
one_that_is_gone(void **state)
{
	struct device_row row = row_of(DEVICE_UEID, text("\x01\xab"));
	struct response out = {0};

	(void)state;
	row.gone = true;
	device_json(&out, &row);
	assert_int_equal(out.len, strlen("{\"ueid\":\"01ab\",\"gone\":true}"));
	assert_memory_equal(out.body, "{\"ueid\":\"01ab\",\"gone\":true}", out.len);
	response_free(&out);
	device_csv(&out, &row, true);
	assert_memory_equal(out.body, "01ab,,", 6);
	assert_memory_equal(out.body + out.len - 7, ",true\r\n", 7);
	response_free(&out);
	device_csv_head(&out, true);
	assert_memory_equal(out.body, "ueid,tenant,", 12);
	assert_memory_equal(out.body + out.len - 14, ",labels,gone\r\n", 14);
	response_free(&out);
}

static void
check_more(const struct device_row *row, const struct device_more *more, const char *end)
{
	struct response alone = {0}, out = {0};

	device_json(&alone, row);
	device_json_more(&out, row, more);
	assert_false(out.failed);
	assert_int_equal(out.len, alone.len - 1 + strlen(end));
	assert_memory_equal(out.body, alone.body, alone.len - 1);
	assert_memory_equal(out.body + alone.len - 1, end, strlen(end));
	response_free(&alone);
	response_free(&out);
}

static void
one_alone(void **state)
{
	const struct device_row row = row_of(DEVICE_SERIAL, text("a\"b"));
	struct device_row wrong = row_of(DEVICE_SEQ, text("x"));
	struct device_more more = {.challenge = {NULL, 0}};
	struct response out = {0};

	(void)state;
	check_more(&row, &more,
		   ",\"challenge\":null,\"ledger\":{\"duplicates\":0,\"late\":0,\"forks\":0,\"chain_breaks\":0,"
		   "\"missing\":0},"
		   "\"legal_hold\":null}");
	more = (struct device_more){text("{\"id\" : 1}"), text("{\"by\": \"x\"}"), {1, 2, 3, 4, INT64_MAX}};
	check_more(&row, &more,
		   ",\"challenge\":{\"id\" : 1},\"ledger\":{\"duplicates\":1,\"late\":2,\"forks\":3,\"chain_breaks\":4,"
		   "\"missing\":9223372036854775807},\"legal_hold\":{\"by\": \"x\"}}");
	device_json_more(&out, &wrong, &more);
	assert_true(out.failed);
	response_free(&out);
}

/* ---- the shapes of others ---- */

static const struct asset_document of_acme = {.tenant = "ac\"me", .time_ms = 1795651200000};

/* One row of it, with a NUL behind. The caller frees it. */
static struct response
foreign(const char *format, const struct device_row *row)
{
	struct response out = {0};

	asset_format(format)->row(&out, &of_acme, row);
	response_append(&out, "", 1);
	return out;
}

static struct device_row
whole_row(const char *value)
{
	static const uint64_t seen = 0;
	struct device_row row = row_of(DEVICE_UEID, text("\1bcdefghijklmnopq"));

	for (int i = DEVICE_TENANT; i < DEVICE_REASONS; i++)
		row.cells[i] = text(value);
	row.cells[DEVICE_LAST_SEEN] = (struct slice){(const uint8_t *)&seen, sizeof seen};
	return row;
}

/* Each line by itself. */
static void
check_json(struct response *out)
{
	char *rest = NULL;

	for (char *line = strtok_r((char *)out->body, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

		assert_non_null(json);
		json_decref(json);
	}
}

static void
foreign_shapes_are_whole_json(void **state)
{
	static const char *const formats[] = {"ocsf", "cyclonedx", "servicenow"};
	static const char *const values[] = {"a", "", "\",\"x\":{[", "\\", "\x01\r\n", "=1+1"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
			struct device_row row = whole_row(values[k]), known_little = row_of(DEVICE_UEID, row.cells[0]);
			struct response out = foreign(formats[i], &row), little;

			check_json(&out);
			known_little.gone = k % 2 == 1;
			little = foreign(formats[i], &known_little);
			check_json(&little);
			response_free(&out);
			response_free(&little);
		}
	}
}

static void
foreign_shapes_word_for_word(void **state)
{
	static const char *const rows[][2] = {
		{"netbox",
		 "\"016263646566676869"
		 "6a6b6c6d6e6f7071\",\"IoT device\",\"unknown\",\"unknown\",\"\",\"016263646566676869"
		 "6a6b6c6d6e6f7071\",\"offline\",\"ac\"\"me\",\"\",\"'=a, manufacturer left out, device_type left "
		 "out, serial left out, platform left out\"\r\n"},
		{"ocsf", "{\"class_uid\":5001,\"category_uid\":5,\"activity_id\":2,\"type_uid\":500102,\"severity_id\":"
			 "1,\"time\":1795651200000,"
			 "\"metadata\":{\"version\":\"1.8.0\",\"product\":{\"name\":\"fleetstate\"},\"tenant_uid\":"
			 "\"ac\\\"me\"},\"device\":{\"type_id\":7,"
			 "\"uid\":\"0162636465666768696a6b6c6d6e6f7071\",\"model\":\"=a\",\"vendor_name\":\"=a\",\"hw_"
			 "info\":{\"serial_number\":\"=a\","
			 "\"vendor_name\":\"=a\"},\"os\":{\"name\":\"=a\",\"type_id\":200,\"version\":\"=a\",\"kernel_"
			 "release\":\"=a\"},"
			 "\"last_seen_time\":946684800000},\"enrichments\":[{\"name\":\"device.uid\",\"value\":"
			 "\"0162636465666768696a6b6c6d6e6f7071\","
			 "\"provider\":\"fleetstate\",\"data\":{\"lifecycle\":\"=a\",\"posture\":\"=a\"}}]}\n"
			 "{\"class_uid\":5020,\"category_uid\":5,\"activity_id\":2,\"type_uid\":502002,\"severity_id\":"
			 "1,\"time\":1795651200000,"
			 "\"metadata\":{\"version\":\"1.8.0\",\"product\":{\"name\":\"fleetstate\"},\"tenant_uid\":"
			 "\"ac\\\"me\"},\"device\":{\"type_id\":7,"
			 "\"uid\":\"0162636465666768696a6b6c6d6e6f7071\",\"model\":\"=a\",\"vendor_name\":\"=a\",\"hw_"
			 "info\":{\"serial_number\":\"=a\","
			 "\"vendor_name\":\"=a\"},\"os\":{\"name\":\"=a\",\"type_id\":200,\"version\":\"=a\",\"kernel_"
			 "release\":\"=a\"}},"
			 "\"package\":{\"name\":\"=a\",\"version\":\"=a\",\"type_id\":2}}\n"},
	};
	struct device_row row = whole_row("=a");

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct response out = foreign(rows[i][0], &row);

		assert_string_equal((const char *)out.body, rows[i][1]);
		response_free(&out);
	}
}

static void
foreign_shapes_refuse_what_is_not_as_it_should_be(void **state)
{
	struct device_row bad_name = row_of(DEVICE_VENDOR, text("a")), bad_time = whole_row("a");
	static const char *const formats[] = {"ocsf", "cyclonedx", "servicenow", "netbox"};

	(void)state;
	bad_time.cells[DEVICE_FIRST_SEEN] = text("1970");
	bad_time.cells[DEVICE_FIRST_SEEN].len = 3;
	for (size_t i = 0; i < 4; i++) {
		struct response out = foreign(formats[i], &bad_name);

		assert_true(out.failed);
		response_free(&out);
	}
	struct response out = foreign("ocsf", &bad_time);

	assert_true(out.failed);
	response_free(&out);
}

/* As PostgreSQL's record_send has it: of 17 fields some have this, the others are NULL. */
static size_t
put_card(uint8_t card[256], size_t has, const char *value)
{
	uint8_t *at = card;

	memcpy(at, "\0\0\0\x11", 4);
	at += 4;
	for (size_t i = 0; i < 17; i++) {
		memcpy(at, "\0\0\0\x19\xff\xff\xff\xff", 8);
		at += 8;
		if (i != has)
			continue;
		at[-4] = at[-3] = at[-2] = 0;
		at[-1] = (uint8_t)strlen(value);
		memcpy(at, value, strlen(value));
		at += strlen(value);
	}
	return (size_t)(at - card);
}

static void
cards(void **state)
{
	static const enum device_column of[] = {DEVICE_SERIAL,     DEVICE_VENDOR,        DEVICE_LIFECYCLE,
						DEVICE_FIRST_SEEN, DEVICE_SUPPORT_UNTIL, DEVICE_UNKNOWNS,
						DEVICE_LABELS};
	static const size_t places[] = {0, 1, 8, 12, 13, 15, 16};
	struct device_row row = {.left_out = 0};
	uint8_t card[256];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
		struct slice own[DEVICE_WIDTH] = {text("u"), [DEVICE_WIDTH - 1] = {card, 0}};

		len = own[DEVICE_WIDTH - 1].len = put_card(card, places[i], "some");
		assert_true(device_read(own, &row));
		for (int k = DEVICE_SERIAL; k < DEVICE_COLUMNS; k++)
			assert_int_equal(row.cells[k].at != NULL, k == (int)of[i]);
		assert_int_equal(row.cells[of[i]].len, 4);
		assert_memory_equal(row.cells[of[i]].at, "some", 4);
		assert_int_equal(row.cells[DEVICE_UEID].len, 1);
		/* Cut anywhere, or with something behind it; its own copy lets AddressSanitizer see what is read beyond. */
		for (size_t cut = 0; cut < len; cut++) {
			uint8_t *part = malloc(cut + 1);

			memcpy(part, card, cut);
			own[DEVICE_WIDTH - 1] = (struct slice){part, cut};
			assert_false(device_read(own, &row));
			free(part);
		}
		own[DEVICE_WIDTH - 1] = (struct slice){card, len + 1};
		assert_false(device_read(own, &row));
	}
	/* Lengths that are none. */
	len = put_card(card, 0, "some");
	for (unsigned first = 1; first < 256; first++) {
		struct slice own[DEVICE_WIDTH] = {text("u"), [DEVICE_WIDTH - 1] = {card, len}};

		card[8] = (uint8_t)first;
		assert_false(device_read(own, &row));
	}
	/* Of one that is gone nothing is known. */
	struct slice none[DEVICE_WIDTH] = {{NULL, 0}};

	assert_true(device_read(none, &row));
	for (int k = DEVICE_SERIAL; k < DEVICE_COLUMNS; k++)
		assert_null(row.cells[k].at);
}

static void
where_it_stands(void **state)
{
	static const uint8_t zero[8] = {0}, nine[8] = {0, 0, 0, 0, 0, 0, 0, 9};
	const struct slice heard = {nine, 8}, never = {NULL, 0}, none = {zero, 8}, some = {nine, 8};
	struct {
		struct slice last_seen, hi, interval;
		bool stands, has_interval;
	} rows[] = {
		{heard, some, some, true, true},     {heard, some, none, true, false},
		{heard, none, some, false, true},    {never, some, some, false, true},
		{never, never, never, false, false}, {never, none, none, false, false},
	};
	struct device_row row = {.left_out = 0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct slice own[DEVICE_WIDTH] = {text("u"), rows[i].last_seen, some, rows[i].hi,
							rows[i].interval};

		assert_true(device_read(own, &row));
		assert_int_equal(row.cells[DEVICE_EPOCH].at != NULL, rows[i].stands);
		assert_int_equal(row.cells[DEVICE_SEQ].at != NULL, rows[i].stands);
		assert_int_equal(row.cells[DEVICE_INTERVAL_S].at != NULL, rows[i].has_interval);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cards),
		cmocka_unit_test(where_it_stands),
		cmocka_unit_test(texts_of_any_kind),
		cmocka_unit_test(times_and_days),
		cmocka_unit_test(numbers),
		cmocka_unit_test(lists),
		cmocka_unit_test(digests),
		cmocka_unit_test(one_that_is_gone),
		cmocka_unit_test(one_alone),
		cmocka_unit_test(foreign_shapes_are_whole_json),
		cmocka_unit_test(foreign_shapes_word_for_word),
		cmocka_unit_test(foreign_shapes_refuse_what_is_not_as_it_should_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
