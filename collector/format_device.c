#include "collector/format_device.h"

#include <assert.h>
#include <string.h>

#include "collector/csv.h"

#define DAYS_TO_2000 730425 /* from 0000-03-01, where the calendar's own years begin */
#define DAY_US INT64_C(86400000000)
#define MS_TO_2000 INT64_C(946684800000) /* from 1970 */
#define ARRAY_HEAD 20 /* dimensions, whether there are NULLs, type, length, lower bound: four bytes each */

/* A card, as PostgreSQL's record_send has it: how many fields, then each one's type and length, four bytes each, and its bytes. */
#define CARD_HEAD 4
#define FIELD_HEAD 8

enum kind { HEX, TEXT, TEXTS, TIME, DATE, NUMBER };
enum from { OWN, CARD, CALLER };

static const struct {
	const char *name;
	struct slice member; /* with the comma before it */
	enum kind kind;
	enum from from;
} columns[DEVICE_COLUMNS] = {
#define COLUMN(symbol, name, kind, from)                                                                               \
	[DEVICE_##symbol] = {name, {(const uint8_t *)",\"" name "\":", sizeof ",\"" name "\":" - 1}, kind, from},
	DEVICE_TABLE(COLUMN)};

/* ---- values ---- */

static uint64_t
read_be(const uint8_t *at, size_t len)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++)
		v = v << 8 | at[i];
	return v;
}

/* int4 or int8. */
static bool
read_int(struct slice s, int64_t *n)
{
	uint64_t v = s.len == 4 || s.len == 8 ? read_be(s.at, s.len) : 0;

	*n = s.len == 4 ? (int32_t)v : (int64_t)v;
	return s.len == 4 || s.len == 8;
}

/* The card's next field; without a card it is absent. */
static bool
next_field(struct slice *card, struct slice *field)
{
	uint32_t len;

	*field = (struct slice){NULL, 0};
	if (card->at == NULL)
		return true;
	if (card->len < FIELD_HEAD)
		return false;
	len = (uint32_t)read_be(card->at + 4, 4);
	card->at += FIELD_HEAD;
	card->len -= FIELD_HEAD;
	if (len == UINT32_MAX)
		return true;
	if (len > card->len)
		return false;
	*field = (struct slice){card->at, len};
	card->at += len;
	card->len -= len;
	return true;
}

/* A device that has not reported stands nowhere. */
static void
forget_zeros(struct slice cells[DEVICE_COLUMNS])
{
	int64_t n;

	if (cells[DEVICE_LAST_SEEN].at == NULL || !read_int(cells[DEVICE_SEQ], &n) || n <= 0)
		cells[DEVICE_EPOCH] = cells[DEVICE_SEQ] = (struct slice){NULL, 0};
	if (read_int(cells[DEVICE_INTERVAL_S], &n) && n == 0)
		cells[DEVICE_INTERVAL_S] = (struct slice){NULL, 0};
}

bool
device_read(const struct slice own[DEVICE_WIDTH], struct device_row *row)
{
	struct slice card = own[DEVICE_WIDTH - 1];

	if (card.at != NULL && card.len < CARD_HEAD)
		return false;
	if (card.at != NULL)
		card = (struct slice){card.at + CARD_HEAD, card.len - CARD_HEAD};
	for (size_t i = 0; i < DEVICE_COLUMNS; i++)
		if (columns[i].from == OWN)
			row->cells[i] = *own++;
		else if (columns[i].from == CARD && !next_field(&card, &row->cells[i]))
			return false;
	forget_zeros(row->cells);
	return card.len == 0;
}

/* At least so many digits. */
static char *
put_digits(char *end, uint64_t n, int least)
{
	for (; n > 0 || least > 0; n /= 10, least--)
		*--end = (char)('0' + n % 10);
	return end;
}

static void
print_int(struct response *out, int64_t n)
{
	char text[24], *end = text + sizeof text, *at;

	at = put_digits(end, n < 0 ? -(uint64_t)n : (uint64_t)n, 1);
	if (n < 0)
		*--at = '-';
	response_append(out, at, (size_t)(end - at));
}

/* The Gregorian day as "2026-11-26"; `days` since 2000-01-01. PostgreSQL's own go from 4713 BC to 5874897 AD; ours have four digits. */
static bool
put_date(char text[10], int64_t days)
{
	int64_t from = days + DAYS_TO_2000, era = from / 146097, day, year, month;

	if (from < 0)
		return false;
	day = from % 146097;
	year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	day -= 365 * year + year / 4 - year / 100;
	month = (5 * day + 2) / 153; /* from March on */
	day -= (153 * month + 2) / 5;
	year += 400 * era + (month >= 10);
	if (year > 9999)
		return false;
	put_digits(text + 4, (uint64_t)year, 4);
	text[4] = '-';
	put_digits(text + 7, (uint64_t)(month < 10 ? month + 3 : month - 9), 2);
	text[7] = '-';
	put_digits(text + 10, (uint64_t)day + 1, 2);
	return true;
}

/* RFC 3339 in UTC, of microseconds since 2000. */
static bool
put_time(char text[24], int64_t us)
{
	int64_t day = us / DAY_US - (us % DAY_US < 0), ms = (us - day * DAY_US) / 1000;

	if (us == INT64_MIN || us == INT64_MAX || !put_date(text, day))
		return false;
	text[10] = 'T';
	put_digits(text + 13, (uint64_t)(ms / 3600000), 2);
	text[13] = ':';
	put_digits(text + 16, (uint64_t)(ms / 60000 % 60), 2);
	text[16] = ':';
	put_digits(text + 19, (uint64_t)(ms / 1000 % 60), 2);
	text[19] = '.';
	put_digits(text + 23, (uint64_t)(ms % 1000), 3);
	text[23] = 'Z';
	return true;
}

/* The next text of an array; false at its end. What is not an array of texts fails the response. */
static bool
next_text(struct response *out, struct slice *rest, struct slice *text)
{
	uint64_t len;

	if (rest->len == 0)
		return false;
	len = rest->len < 4 ? 0 : read_be(rest->at, 4);
	if (rest->len < 4 || len > rest->len - 4) {
		out->failed = true;
		return false;
	}
	*text = (struct slice){rest->at + 4, (size_t)len};
	*rest = (struct slice){text->at + len, rest->len - 4 - (size_t)len};
	return true;
}

/* The elements of an array; one without dimensions is empty. */
static struct slice
elements(struct slice array)
{
	if (array.len < ARRAY_HEAD)
		return (struct slice){NULL, 0};
	return (struct slice){array.at + ARRAY_HEAD, array.len - ARRAY_HEAD};
}

/* True if there is such a time or day: 24 or 10 characters. */
static bool
put_when(struct response *out, enum kind kind, struct slice cell, char text[24])
{
	int64_t n;

	if (!read_int(cell, &n)) {
		out->failed = true;
		return false;
	}
	return kind == TIME ? put_time(text, n) : put_date(text, n);
}

struct slice
device_ueid(struct response *out, const struct device_row *row, char text[UEID_HEX])
{
	struct slice bytes = row->cells[DEVICE_UEID];

	if (bytes.len != UEID_SIZE) {
		out->failed = true;
		return (struct slice){NULL, 0};
	}
	hex_print(bytes.at, bytes.len, text);
	return (struct slice){(const uint8_t *)text, 2 * UEID_SIZE};
}

bool
device_time(struct response *out, const struct device_row *row, enum device_column column, int64_t *ms)
{
	struct slice cell = row->cells[column];
	char text[24];
	int64_t us;

	if (cell.at == NULL || !put_when(out, TIME, cell, text) || !read_int(cell, &us))
		return false;
	*ms = us / 1000 - (us % 1000 < 0) + MS_TO_2000;
	return true;
}

#define HEX_BYTES 64 /* of which a column has the digits */

/* What one shape has otherwise than the other. */
struct shape {
	struct slice absent; /* what is not known */
	struct slice quote; /* around bytes, times and days: nothing in them needs one */
	struct slice text_quote; /* around a text that `text` prints */
	void (*text)(struct response *, struct slice);
	struct slice begin, between, end; /* of a list of such texts */
};
#define LITERAL(text)                                                                                                  \
	{                                                                                                              \
		(const uint8_t *)(text), sizeof(text) - 1                                                              \
	}

static inline void
put(struct response *out, struct slice s)
{
	response_append(out, s.at, s.len);
}

static void
print_texts(struct response *out, const struct shape *shape, struct slice array)
{
	struct slice rest = elements(array), text;

	put(out, shape->begin);
	for (bool first = true; next_text(out, &rest, &text); first = false) {
		if (!first)
			put(out, shape->between);
		shape->text(out, text);
	}
	put(out, shape->end);
}

/* The characters of what has a few only, at most SHORT_SIZE. 0: there is nothing to show, or the response failed. */
#define SHORT_SIZE (2 * HEX_BYTES + 1)
static size_t
put_short(struct response *out, enum kind kind, struct slice cell, char text[SHORT_SIZE])
{
	if (kind != HEX)
		return put_when(out, kind, cell, text) ? (kind == TIME ? 24 : 10) : 0;
	if (cell.len > HEX_BYTES) {
		out->failed = true;
		return 0;
	}
	hex_print(cell.at, cell.len, text);
	return 2 * cell.len;
}

/* Inline: each shape has its own. */
static inline void
print_cell(struct response *out, const struct shape *shape, enum kind kind, struct slice cell)
{
	size_t quote = shape->quote.len, len;
	char text[SHORT_SIZE + 2];
	int64_t n;

	if (cell.at == NULL) {
		put(out, shape->absent);
		return;
	}
	switch (kind) {
	case TEXT:
		put(out, shape->text_quote);
		shape->text(out, cell);
		put(out, shape->text_quote);
		return;
	case TEXTS:
		print_texts(out, shape, cell);
		return;
	case HEX:
	case TIME:
	case DATE:
		len = put_short(out, kind, cell, text + quote);
		if (len == 0 && kind != HEX) {
			put(out, shape->absent);
			return;
		}
		memcpy(text, shape->quote.at, quote);
		memcpy(text + quote + len, shape->quote.at, quote);
		response_append(out, text, len + 2 * quote);
		return;
	case NUMBER:
		if (read_int(cell, &n))
			print_int(out, n);
		else
			out->failed = true;
	}
}

static bool
is_left_out(const struct device_row *row, size_t column)
{
	return (row->left_out >> column & 1) != 0;
}

/* ---- JSON ---- */

static const struct shape as_json = {LITERAL("null"), LITERAL("\""), LITERAL(""), response_string,
				     LITERAL("["),    LITERAL(","),  LITERAL("]")};

/* Up to the brace that ends the object. */
static void
put_members(struct response *out, const struct device_row *row)
{
	size_t n = row->gone ? DEVICE_UEID + 1 : DEVICE_COLUMNS, comma = 0;

	response_append(out, "{", 1);
	for (size_t i = 0; i < n; i++) {
		if (is_left_out(row, i))
			continue;
		response_append(out, columns[i].member.at + 1 - comma, columns[i].member.len - 1 + comma);
		print_cell(out, &as_json, columns[i].kind, row->cells[i]);
		comma = 1;
	}
}

void
device_json(struct response *out, const struct device_row *row)
{
	put_members(out, row);
	response_text(out, row->gone ? ",\"gone\":true}" : "}");
}

void
device_json_more(struct response *out, const struct device_row *row, const struct device_more *more)
{
	static const char *const sums[DEVICE_LEDGER] = {
		",\"ledger\":{\"duplicates\":", ",\"late\":", ",\"forks\":", ",\"chain_breaks\":", ",\"missing\":"};

	put_members(out, row);
	response_text(out, ",\"challenge\":");
	put(out, more->challenge.at == NULL ? as_json.absent : more->challenge);
	for (size_t i = 0; i < DEVICE_LEDGER; i++) {
		response_text(out, sums[i]);
		print_int(out, more->ledger[i]);
	}
	response_text(out, "},\"legal_hold\":");
	put(out, more->hold.at == NULL ? as_json.absent : more->hold);
	response_text(out, "}");
}

/* ---- comma-separated values ---- */

/* What can't hold a comma, a quote or a formula goes without quotes; what is not known is empty, without quotes too. */
static const struct shape as_csv = {LITERAL(""),   LITERAL(""),  LITERAL("\""), csv_text,
				    LITERAL("\""), LITERAL(" "), LITERAL("\"")};

void
device_csv_head(struct response *out, bool gone)
{
	for (size_t i = 0; i < DEVICE_COLUMNS; i++) {
		response_append(out, ",", i > 0);
		response_text(out, columns[i].name);
	}
	response_text(out, gone ? ",gone\r\n" : "\r\n");
}

void
device_csv(struct response *out, const struct device_row *row, bool gone)
{
	size_t comma = 0;

	for (size_t i = 0; i < DEVICE_COLUMNS; i++) {
		if (is_left_out(row, i))
			continue;
		response_append(out, ",", comma);
		print_cell(out, &as_csv, columns[i].kind, row->cells[i]);
		comma = 1;
	}
	if (gone)
		response_text(out, row->gone ? ",true" : ",");
	response_append(out, "\r\n", 2);
}
