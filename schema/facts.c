#include "schema/facts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "schema/facts_table.h"
#include "schema/limits.h"

#define VALUE_MIN 32 /* bytes taken at once for a value */

struct facts *
facts_new(void)
{
	return calloc(1, sizeof(struct facts));
}

void
facts_free(struct facts *facts)
{
	if (!facts)
		return;
	for (size_t i = 0; i < FACTS; i++) {
		free(facts->values[i].encoded.at);
		free(facts->values[i].text.at);
	}
	free(facts);
}

static void
forget(struct value *value)
{
	value->known = false;
	value->items = 0;
	value->why = NULL;
	value->encoded.len = 0;
	value->text.len = 0;
}

void
facts_clear(struct facts *facts)
{
	for (size_t i = 0; i < FACTS; i++)
		forget(&facts->values[i]);
}

static bool
reserve(struct buffer *buffer, size_t more)
{
	size_t size = buffer->size ? buffer->size : VALUE_MIN;
	uint8_t *at;

	while (size - buffer->len < more)
		size *= 2;
	if (size == buffer->size)
		return true;
	at = realloc(buffer->at, size);
	if (!at)
		return false;
	buffer->at = at;
	buffer->size = size;
	return true;
}

static void
no_memory(struct value *value)
{
	forget(value);
	value->why = "out of memory";
}

static struct value *
value_of(struct facts *facts, enum fact fact)
{
	assert(fact < FACTS);
	return &facts->values[fact];
}

/* A value of one of these kinds is about to be written anew, in at most `size` bytes. NULL: no memory. */
static struct value *
renew(struct facts *facts, enum fact fact, enum fact_kind kind, size_t size)
{
	struct value *value = value_of(facts, fact);

	assert(fact_rows[fact].kind == kind);
	forget(value);
	if (!reserve(&value->encoded, size)) {
		no_memory(value);
		return NULL;
	}
	value->known = true;
	return value;
}

static struct cbor_writer
appender(const struct buffer *buffer)
{
	struct cbor_writer w;

	cbor_writer_init(&w, buffer->at + buffer->len, buffer->size - buffer->len);
	return w;
}

static void
append(struct buffer *buffer, const struct cbor_writer *w)
{
	assert(!w->overflow);
	buffer->len += w->len;
}

#define HEAD_MAX 9 /* bytes of a head with its argument: all of a number */

void
facts_set_bool(struct facts *facts, enum fact fact, bool flag)
{
	struct value *value = renew(facts, fact, KIND_BOOL, HEAD_MAX);
	struct cbor_writer w;

	if (!value)
		return;
	w = appender(&value->encoded);
	cbor_write_bool(&w, flag);
	append(&value->encoded, &w);
}

void
facts_set_uint(struct facts *facts, enum fact fact, uint64_t number)
{
	struct value *value = renew(facts, fact, KIND_UINT, HEAD_MAX);
	struct cbor_writer w;

	if (!value)
		return;
	w = appender(&value->encoded);
	cbor_write_uint(&w, number < INT64_MAX ? number : INT64_MAX);
	append(&value->encoded, &w);
}

void
facts_set_number(struct facts *facts, enum fact fact, double number)
{
	struct value *value = renew(facts, fact, KIND_NUMBER, HEAD_MAX);
	struct cbor_writer w;

	if (!value)
		return;
	w = appender(&value->encoded);
	cbor_write_number(&w, number);
	append(&value->encoded, &w);
}

/* Length of the UTF-8 character at the beginning, 0 if there is none (RFC 3629 4). */
static size_t
character(struct slice text)
{
	static const struct {
		uint8_t first, last, second_min, second_max;
		size_t len;
	} forms[] = {
		{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	uint8_t first = text.at[0];
	size_t form = 0;

	while (form < sizeof forms / sizeof forms[0] && (first < forms[form].first || first > forms[form].last))
		form++;
	if (form == sizeof forms / sizeof forms[0] || text.len < forms[form].len)
		return 0;
	for (size_t i = 1; i < forms[form].len; i++) {
		uint8_t min = i == 1 ? forms[form].second_min : 0x80, max = i == 1 ? forms[form].second_max : 0xbf;

		if (text.at[i] < min || text.at[i] > max)
			return 0;
	}
	return forms[form].len;
}

/* C0, DEL and C1: they could forge a line wherever the text is shown. */
static bool
is_control(const uint8_t *at, size_t len)
{
	return (len == 1 && (at[0] < 0x20 || at[0] == 0x7f)) || (len == 2 && at[0] == 0xc2 && at[1] < 0xa0);
}

/* Copies what is fit to travel into `out`, at most `max` bytes. */
struct slice
facts_clean(struct slice text, uint8_t *out, size_t max)
{
	static const uint8_t replacement[] = {0xef, 0xbf, 0xbd};
	size_t len = 0;

	while (text.len > 0) {
		size_t taken = character(text), given = taken;
		const uint8_t *from = text.at;

		if (taken == 0 || is_control(text.at, taken)) {
			taken = taken ? taken : 1;
			from = replacement;
			given = sizeof replacement;
		}
		if (given > max - len)
			break;
		memcpy(out + len, from, given);
		len += given;
		text.at += taken;
		text.len -= taken;
	}
	return (struct slice){out, len};
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

void
facts_set_text(struct facts *facts, enum fact fact, const char *text)
{
	facts_set_textn(facts, fact, string(text));
}

void
facts_set_textn(struct facts *facts, enum fact fact, struct slice text)
{
	uint8_t copy[LIMIT_SENT_TEXT];
	struct slice cleaned = facts_clean(text, copy, sizeof copy);
	/* One byte more, so that facts_text can end it with NUL. */
	struct value *value = renew(facts, fact, KIND_TEXT, HEAD_MAX + cleaned.len + 1);
	struct cbor_writer w;

	if (!value)
		return;
	w = appender(&value->encoded);
	cbor_write_text(&w, cleaned);
	append(&value->encoded, &w);
	value->encoded.at[value->encoded.len] = '\0';
}

void
facts_set_status(struct facts *facts, enum fact fact, enum status status, const char *why)
{
	uint8_t copy[LIMIT_SENT_WHY];
	struct slice cleaned = facts_clean(string(why), copy, sizeof copy);
	struct value *value = renew(facts, fact, KIND_STATUS, 2 + HEAD_MAX + cleaned.len);
	struct cbor_writer w;

	if (!value)
		return;
	w = appender(&value->encoded);
	cbor_write_array(&w, 2);
	cbor_write_uint(&w, status);
	cbor_write_text(&w, cleaned);
	append(&value->encoded, &w);
}

void
facts_begin_list(struct facts *facts, enum fact fact)
{
	struct value *value = value_of(facts, fact);

	assert(fact_is_list(fact));
	forget(value);
	value->known = true;
}

static size_t
lists_size(const struct facts *facts)
{
	size_t size = 0;

	for (size_t i = 0; i < FACTS; i++)
		if (fact_is_list((enum fact)i))
			size += facts->values[i].encoded.len;
	return size;
}

/* Makes room for one more item of `len` bytes. false: it does not go in, and the value says so. */
static bool
admit(struct facts *facts, struct value *value, size_t len)
{
	if (!value->known)
		return false; /* memory had run out */
	if (value->items >= LIMIT_SOCKETS) {
		value->why = "more than 512";
		return false;
	}
	if (len > LIMIT_LISTS || lists_size(facts) > LIMIT_LISTS - len) {
		value->why = "more than a report can hold";
		return false;
	}
	if (!reserve(&value->encoded, len)) {
		no_memory(value);
		return false;
	}
	return true;
}

void
facts_add_text(struct facts *facts, enum fact fact, const char *text)
{
	uint8_t copy[LIMIT_TEXT];
	struct slice cleaned = facts_clean(string(text), copy, sizeof copy);
	struct value *value = value_of(facts, fact);
	struct cbor_writer w;

	assert(fact_rows[fact].kind == KIND_TEXTS);
	if (!admit(facts, value, HEAD_MAX + cleaned.len))
		return;
	w = appender(&value->encoded);
	cbor_write_text(&w, cleaned);
	append(&value->encoded, &w);
	value->items++;
}

static bool
field_fits(enum field_type type, const struct fact_field *field)
{
	if (field->kind == FIELD_ABSENT)
		return true;
	switch (type) {
	case TYPE_TEXT:
		return field->kind == FIELD_TEXT;
	case TYPE_BOOL:
		return field->kind == FIELD_BOOL;
	case TYPE_UINT:
		return field->kind == FIELD_UINT && field->number <= INT64_MAX;
	case TYPE_MAC:
		return field->kind == FIELD_BYTES && field->bytes.len == MAC_SIZE;
	case TYPE_IP:
		return field->kind == FIELD_BYTES && (field->bytes.len == IPV4_SIZE || field->bytes.len == IPV6_SIZE);
	}
	return false;
}

static void
write_field(struct cbor_writer *w, const struct fact_field *field)
{
	uint8_t copy[LIMIT_TEXT];

	switch (field->kind) {
	case FIELD_ABSENT:
		cbor_write_null(w);
		break;
	case FIELD_BOOL:
		cbor_write_bool(w, field->flag);
		break;
	case FIELD_UINT:
		cbor_write_uint(w, field->number);
		break;
	case FIELD_TEXT:
		if (field->bytes.at)
			cbor_write_text(w, facts_clean(field->bytes, copy, sizeof copy));
		else
			cbor_write_null(w);
		break;
	case FIELD_BYTES:
		cbor_write_bytes(w, field->bytes);
		break;
	}
}

static void
write_row(struct cbor_writer *w, const struct fact_field *row, size_t n)
{
	cbor_write_array(w, n);
	for (size_t i = 0; i < n; i++)
		write_field(w, &row[i]);
}

void
facts_add_row(struct facts *facts, enum fact fact, const struct fact_field *row, size_t n)
{
	struct value *value = value_of(facts, fact);
	const struct field_row *field;
	struct cbor_writer w;
	size_t wanted;

	assert(fact_rows[fact].kind == KIND_ROWS);
	field = record_fields(fact_rows[fact].record, &wanted);
	assert(n == wanted);
	for (size_t i = 0; i < n; i++)
		assert(field_fits(field[i].type, &row[i]));
	(void)field, (void)wanted;

	cbor_writer_init(&w, NULL, 0);
	write_row(&w, row, n);
	if (!admit(facts, value, w.len))
		return;
	w = appender(&value->encoded);
	write_row(&w, row, n);
	append(&value->encoded, &w);
	value->items++;
}

void
facts_unknown(struct facts *facts, enum fact fact, const char *why)
{
	uint8_t copy[LIMIT_SENT_WHY];
	struct slice cleaned = facts_clean(string(why), copy, sizeof copy);
	struct value *value = value_of(facts, fact);

	forget(value);
	if (!reserve(&value->text, cleaned.len + 1)) {
		no_memory(value);
		return;
	}
	memcpy(value->text.at, cleaned.at, cleaned.len);
	value->text.at[cleaned.len] = '\0';
	value->why = (const char *)value->text.at;
}

/*
 * What is known.
 */
bool
facts_has(const struct facts *facts, enum fact fact)
{
	assert(fact < FACTS);
	return facts->values[fact].known;
}

const char *
facts_why(const struct facts *facts, enum fact fact)
{
	assert(fact < FACTS);
	return facts->values[fact].why;
}

/* A reader of a value of one of these kinds. false: not known. */
static bool
reader_of(const struct facts *facts, enum fact fact, struct cbor_reader *r)
{
	const struct value *value = &facts->values[fact];

	if (value->known)
		cbor_reader_init(r, (struct slice){value->encoded.at, value->encoded.len});
	return value->known;
}

bool
facts_bool(const struct facts *facts, enum fact fact, bool *out)
{
	struct cbor_reader r;

	assert(fact_rows[fact].kind == KIND_BOOL);
	if (!reader_of(facts, fact, &r))
		return false;
	*out = cbor_read_bool(&r);
	return true;
}

bool
facts_number(const struct facts *facts, enum fact fact, double *out)
{
	struct cbor_reader r;

	assert(fact_rows[fact].kind == KIND_UINT || fact_rows[fact].kind == KIND_NUMBER);
	if (!reader_of(facts, fact, &r))
		return false;
	*out = cbor_read_number(&r);
	return true;
}

const char *
facts_text(const struct facts *facts, enum fact fact)
{
	struct cbor_reader r;

	assert(fact_rows[fact].kind == KIND_TEXT);
	if (!reader_of(facts, fact, &r))
		return NULL;
	return (const char *)cbor_read_text(&r, LIMIT_TEXT).at;
}

size_t
facts_count(const struct facts *facts, enum fact fact)
{
	assert(fact_is_list(fact));
	return facts->values[fact].known ? facts->values[fact].items : 0;
}

struct slice
facts_rows(const struct facts *facts, enum fact fact)
{
	const struct value *value = &facts->values[fact];

	assert(fact_rows[fact].kind == KIND_ROWS);
	return (struct slice){value->encoded.at, value->encoded.len};
}

bool
facts_next_text(const struct facts *facts, enum fact fact, size_t *at, struct slice *text)
{
	const struct value *value = &facts->values[fact];
	struct cbor_reader r;

	assert(fact_rows[fact].kind == KIND_TEXTS);
	if (!value->known || *at >= value->encoded.len)
		return false;
	cbor_reader_init(&r, (struct slice){value->encoded.at + *at, value->encoded.len - *at});
	*text = cbor_read_text(&r, LIMIT_TEXT);
	*at = (size_t)(r.at - value->encoded.at);
	return true;
}

bool
facts_status(const struct facts *facts, enum fact fact, enum status *status, struct slice *why)
{
	struct cbor_reader r;

	assert(fact_rows[fact].kind == KIND_STATUS);
	if (!reader_of(facts, fact, &r))
		return false;
	(void)cbor_read_array(&r, 2);
	*status = (enum status)cbor_read_uint(&r);
	*why = cbor_read_text(&r, LIMIT_TEXT);
	return true;
}

/* A reason that is not a literal stands in the value's own text. */
static int
copy_value(struct value *to, const struct value *from)
{
	bool own = from->why && from->why == (const char *)from->text.at;
	/* One byte more: facts_text ends with NUL. */
	size_t len = from->encoded.len + 1;

	forget(to);
	if ((from->known && !reserve(&to->encoded, len)) || (own && !reserve(&to->text, strlen(from->why) + 1))) {
		no_memory(to);
		return -1;
	}
	if (from->encoded.len > 0)
		memcpy(to->encoded.at, from->encoded.at, from->encoded.len);
	if (from->known)
		to->encoded.at[from->encoded.len] = '\0';
	to->encoded.len = from->encoded.len;
	to->why = own ? strcpy((char *)to->text.at, from->why) : from->why;
	to->items = from->items;
	to->known = from->known;
	return 0;
}

int
facts_copy(struct facts *to, const struct facts *from)
{
	int rc = 0;

	for (size_t i = 0; i < FACTS; i++)
		if (copy_value(&to->values[i], &from->values[i]) != 0)
			rc = -1;
	return rc;
}
