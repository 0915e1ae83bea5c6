#include "schema/events.h"

#include <stdio.h>
#include <string.h>

#include "schema/claims.h"

#define EVENT_ITEMS 5
#define KIND_MAX 65535 /* of a later version */

static const struct event_row rows[] = {
#define EVENT(symbol, key, json, element, help) {key, json, element, help},
#include "schema/events.def"
};
#define ROWS (sizeof rows / sizeof rows[0])

static const struct {
	unsigned kind;
} part_kinds[] = {
#define EVENT_PART(symbol, json, personal) {EVENT_##symbol},
#include "schema/events.def"
};

static const struct event_part parts[] = {
#define EVENT_PART(symbol, json, personal) {json, personal},
#include "schema/events.def"
};
#define PARTS (sizeof parts / sizeof parts[0])

const struct event_row *
event_row(unsigned kind)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].kind == kind)
			return &rows[i];
	return NULL;
}

const struct event_part *
event_parts(unsigned kind, size_t *n)
{
	size_t first = 0, end;

	while (first < PARTS && part_kinds[first].kind != kind)
		first++;
	for (end = first; end < PARTS && part_kinds[end].kind == kind;)
		end++;
	*n = end - first;
	return parts + first;
}

/*
 * From CBOR.
 */
static void
read_part(struct cbor_reader *r, struct slice *part)
{
	*part = (struct slice){NULL, 0};
	if (cbor_at_null(r)) {
		cbor_read_null(r);
		return;
	}
	*part = cbor_read_text(r, LIMIT_EVENT_TEXT);
	if (part->len == 0)
		cbor_fail(r, REASON_CLAIM_INVALID); /* not known is null */
}

static void
read_subject(struct cbor_reader *r, struct event *event)
{
	size_t wanted;

	event->others = cbor_at_null(r);
	event->parts_len = 0;
	if (event->others) {
		cbor_read_null(r);
		return;
	}
	event->parts_len = cbor_read_array(r, EVENT_PARTS_MAX);
	(void)event_parts(event->kind, &wanted);
	if (event_row(event->kind) && event->parts_len != wanted)
		cbor_fail(r, REASON_CLAIM_INVALID);
	for (size_t i = 0; i < event->parts_len; i++)
		read_part(r, &event->parts[i]);
}

void
event_decode(struct cbor_reader *r, struct event *event)
{
	memset(event, 0, sizeof *event);
	if (cbor_read_array(r, SIZE_MAX) != EVENT_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	event->kind = (unsigned)cbor_read_uint_max(r, 1, KIND_MAX);
	read_subject(r, event);
	event->first = cbor_read_uint_max(r, 0, LIMIT_IAT);
	event->last = cbor_read_uint_max(r, event->first, LIMIT_IAT);
	event->count = cbor_read_uint_max(r, 1, LIMIT_SEQ);
}

/* The bytes of an event up to its times. */
static struct slice
key_of(struct slice encoding)
{
	struct cbor_reader r;

	cbor_reader_init(&r, encoding);
	cbor_read_array(&r, EVENT_ITEMS);
	cbor_read_item(&r, 1);
	cbor_read_item(&r, LIMIT_DEPTH);
	return (struct slice){encoding.at, (size_t)(r.at - encoding.at)};
}

/* An item never begins with another one, so the shorter of two is never the longer's beginning. */
static void
check_follows(struct cbor_reader *r, struct slice before, struct slice now)
{
	size_t shorter = before.len < now.len ? before.len : now.len;
	int order = memcmp(before.at, now.at, shorter);

	if (order == 0)
		cbor_fail(r, REASON_DUPLICATE_KEY);
	else if (order > 0)
		cbor_fail(r, REASON_NON_CANONICAL);
}

size_t
events_check(struct cbor_reader *r)
{
	const uint8_t *begin = r->at;
	size_t n = cbor_read_array(r, LIMIT_EVENTS);
	struct slice before = {NULL, 0};

	if (n == 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
	for (size_t i = 0; i < n && r->error == REASON_OK; i++) {
		const uint8_t *from = r->at;
		struct event event;
		struct slice now;

		event_decode(r, &event);
		if (r->error != REASON_OK)
			break;
		now = key_of((struct slice){from, (size_t)(r->at - from)});
		if (before.at)
			check_follows(r, before, now);
		before = now;
	}
	if (r->error == REASON_OK && (size_t)(r->at - begin) > LIMIT_EVENTS_SIZE)
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
	return n;
}

/*
 * To CBOR.
 */
static void
write_key(const struct event *event, struct cbor_writer *w)
{
	cbor_write_array(w, EVENT_ITEMS);
	cbor_write_uint(w, event->kind);
	if (event->others) {
		cbor_write_null(w);
		return;
	}
	cbor_write_array(w, event->parts_len);
	for (size_t i = 0; i < event->parts_len; i++)
		if (event->parts[i].at)
			cbor_write_text(w, event->parts[i]);
		else
			cbor_write_null(w);
}

void
event_encode(const struct event *event, struct cbor_writer *w)
{
	write_key(event, w);
	cbor_write_uint(w, event->first);
	cbor_write_uint(w, event->last);
	cbor_write_uint(w, event->count);
}

size_t
event_key(const struct event *event, uint8_t *out, size_t size)
{
	struct cbor_writer w;

	cbor_writer_init(&w, out, size);
	write_key(event, &w);
	return w.overflow ? 0 : w.len;
}

/*
 * To JSON: json_object_set_new and json_array_append_new answer -1 when their value is NULL, that is when memory ran out.
 */
static json_t *
kind_json(unsigned kind)
{
	const struct event_row *row = event_row(kind);
	char number[16];

	if (row)
		return json_string(row->name);
	snprintf(number, sizeof number, "%u", kind);
	return json_string(number);
}

static json_t *
part_json(struct slice part)
{
	return part.at ? json_stringn((const char *)part.at, part.len) : json_null();
}

/* Of a kind that we do not know the parts have no names. */
static int
set_parts(json_t *object, const struct event *event)
{
	size_t named;
	const struct event_part *names = event_parts(event->kind, &named);
	json_t *list = named ? NULL : json_array();

	for (size_t i = 0; i < event->parts_len; i++) {
		if (named && event->parts[i].at &&
		    json_object_set_new(object, names[i].name, part_json(event->parts[i])) < 0)
			return -1;
		if (!named && json_array_append_new(list, part_json(event->parts[i])) < 0) {
			json_decref(list);
			return -1;
		}
	}
	if (named || event->parts_len == 0) {
		json_decref(list);
		return 0;
	}
	return json_object_set_new(object, "subject", list);
}

json_t *
event_json(const struct event *event)
{
	json_t *object = json_object();

	if (json_object_set_new(object, "kind", kind_json(event->kind)) < 0 ||
	    (event->others && json_object_set_new(object, "others", json_true()) < 0) || set_parts(object, event) < 0 ||
	    json_object_set_new(object, "first", claim_json_time(event->first)) < 0 ||
	    json_object_set_new(object, "last", claim_json_time(event->last)) < 0 ||
	    json_object_set_new(object, "count", json_integer((json_int_t)event->count)) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

json_t *
events_json(struct slice section)
{
	json_t *list = json_array();
	struct cbor_reader r;
	size_t n;

	cbor_reader_init(&r, section);
	n = cbor_read_array(&r, LIMIT_EVENTS);
	for (size_t i = 0; i < n; i++) {
		struct event event;

		event_decode(&r, &event);
		if (json_array_append_new(list, event_json(&event)) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}
