#include "emitter/events.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "schema/facts.h"

#define FILE_NAME "events"
#define FILE_VERSION 1
#define KEY_MAX (8 + EVENT_PARTS_MAX * (3 + LIMIT_EVENT_TEXT))
#define KINDS 32 /* of which each may be counted without a subject */
#define FILE_MAX (EVENTS_BYTES + (EVENTS_MAX + KINDS) * 64 + 2048)

struct held {
	uint8_t *key; /* kind and subject, encoded: what two of the same have in common */
	size_t len;
	uint64_t first, last, count;
};

struct events {
	int dir;
	struct held held[EVENTS_MAX + KINDS];
	size_t n, subjects, bytes;
	struct positions positions, saved;
	bool added; /* since it was saved */
	const struct personal *personal;
	uint8_t *section;
};

struct positions *
events_positions(struct events *e)
{
	return &e->positions;
}

size_t
events_pending(const struct events *e)
{
	return e->n;
}

bool
events_unsaved(const struct events *e)
{
	return e->added || memcmp(&e->positions, &e->saved, sizeof e->positions) != 0;
}

/* ---- adding ---- */

static struct held *
find(struct events *e, const uint8_t *key, size_t len)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->held[i].len == len && memcmp(e->held[i].key, key, len) == 0)
			return &e->held[i];
	return NULL;
}

static size_t
count_kind(const struct events *e, unsigned kind)
{
	uint8_t head[4];
	struct event event = {.kind = kind, .others = true};
	size_t len = event_key(&event, head, sizeof head) - 1, n = 0;
	for (size_t i = 0; i < e->n; i++)
		n += e->held[i].len > len && memcmp(e->held[i].key, head, len) == 0;
	return n;
}

static bool
has_room(const struct events *e, const struct event *event, size_t len)
{
	if (event->others)
		return e->n < EVENTS_MAX + KINDS;
	return e->subjects < EVENTS_MAX && e->bytes + len <= EVENTS_BYTES &&
	       count_kind(e, event->kind) < EVENTS_OF_KIND;
}

/* In its place: keys are in the order of their bytes. */
static struct held *
insert(struct events *e, const struct event *event, const uint8_t *key, size_t len)
{
	uint8_t *copy = has_room(e, event, len) ? malloc(len) : NULL;
	size_t at = 0;
	if (copy == NULL)
		return NULL;
	memcpy(copy, key, len);
	while (at < e->n && memcmp(e->held[at].key, key, e->held[at].len < len ? e->held[at].len : len) < 0)
		at++;
	memmove(&e->held[at + 1], &e->held[at], (e->n - at) * sizeof e->held[0]);
	e->n++;
	e->subjects += !event->others;
	e->bytes += event->others ? 0 : len;
	e->held[at] = (struct held){.key = copy, .len = len, .first = event->first, .last = event->last};
	return &e->held[at];
}

static uint64_t
sum(uint64_t a, uint64_t b)
{
	return b > (uint64_t)LIMIT_SEQ - a ? (uint64_t)LIMIT_SEQ : a + b;
}

static bool
merge(struct events *e, const struct event *event)
{
	uint8_t key[KEY_MAX];
	size_t len = event_key(event, key, sizeof key);
	struct held *held;
	assert(len > 0);
	held = find(e, key, len);
	if (held == NULL)
		held = insert(e, event, key, len);
	if (held == NULL)
		return false;
	held->first = event->first < held->first ? event->first : held->first;
	held->last = event->last > held->last ? event->last : held->last;
	held->count = sum(held->count, event->count);
	e->added = true;
	return true;
}

static void
take(struct events *e, struct event *event)
{
	if (event->first > (uint64_t)LIMIT_IAT)
		event->first = (uint64_t)LIMIT_IAT;
	if (event->last < event->first || event->last > (uint64_t)LIMIT_IAT)
		event->last = event->first;
	if (merge(e, event))
		return;
	event->others = true;
	event->parts_len = 0;
	(void)!merge(e, event);
}

void
events_set_personal(struct events *e, const struct personal *personal)
{
	e->personal = personal;
}

/* A name or an address as it may be told; what may not be told is as what is not known. */
static struct slice
private_part(const struct events *e, struct slice part, char *out, size_t size)
{
	char hash[PERSONAL_HASH];
	const char *told;
	if (e->personal == NULL)
		return part;
	memcpy(out, part.at, part.len);
	out[part.len] = '\0';
	told = personal_text(e->personal, out, hash);
	if (told != NULL && told != out)
		snprintf(out, size, "%s", told);
	return told != NULL ? (struct slice){(uint8_t *)out, strlen(out)} : (struct slice){NULL, 0};
}

void
events_add(struct events *e, enum event_kind kind, uint64_t at, uint64_t times, const struct slice *parts, size_t n)
{
	uint8_t text[EVENT_PARTS_MAX][LIMIT_EVENT_TEXT];
	char hidden[EVENT_PARTS_MAX][LIMIT_EVENT_TEXT + 1];
	struct event event = {.kind = kind, .parts_len = n, .first = at, .last = at, .count = times};
	size_t wanted;
	const struct event_part *rows = event_parts(kind, &wanted);
	assert(n == wanted && times > 0);
	for (size_t i = 0; i < n; i++) {
		if (parts[i].at == NULL || parts[i].len == 0)
			continue;
		event.parts[i] = facts_clean(parts[i], text[i], LIMIT_EVENT_TEXT);
		if (rows[i].personal)
			event.parts[i] = private_part(e, event.parts[i], hidden[i], sizeof hidden[i]);
	}
	take(e, &event);
}

void
events_say(struct events *e, enum event_kind kind, uint64_t at, const char *const *parts, size_t n)
{
	struct slice slices[EVENT_PARTS_MAX] = {{NULL, 0}};
	for (size_t i = 0; i < n; i++)
		if (parts[i] != NULL)
			slices[i] = (struct slice){(const uint8_t *)parts[i], strlen(parts[i])};
	events_add(e, kind, at, 1, slices, n);
}

/* ---- telling ---- */

static void
write_section(const struct events *e, struct cbor_writer *w)
{
	cbor_write_array(w, e->n);
	for (size_t i = 0; i < e->n; i++) {
		const struct held *held = &e->held[i];
		cbor_write_encoded(w, (struct slice){held->key, held->len});
		cbor_write_uint(w, held->first);
		cbor_write_uint(w, held->last);
		cbor_write_uint(w, held->count);
	}
}

struct slice
events_section(struct events *e)
{
	struct cbor_writer w;
	if (e->n == 0)
		return (struct slice){NULL, 0};
	if (e->section == NULL && (e->section = malloc(FILE_MAX)) == NULL)
		return (struct slice){NULL, 0};
	cbor_writer_init(&w, e->section, FILE_MAX);
	write_section(e, &w);
	assert(!w.overflow);
	return (struct slice){e->section, w.len};
}

static void
clear(struct events *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->held[i].key);
	e->n = e->subjects = e->bytes = 0;
	free(e->section);
	e->section = NULL;
}

void
events_told(struct events *e)
{
	clear(e);
	e->added = false;
}

/* ---- the file ---- */

static void
write_place(struct cbor_writer *w, const struct place *place)
{
	cbor_write_array(w, 2);
	cbor_write_uint(w, place->inode);
	cbor_write_uint(w, place->offset);
}

static void
read_place(struct cbor_reader *r, struct place *place)
{
	if (cbor_read_array(r, 2) != 2)
		cbor_fail(r, REASON_MALFORMED);
	place->inode = cbor_read_uint(r);
	place->offset = cbor_read_uint_max(r, 0, INT64_MAX);
}

int
events_save(struct events *e, uint64_t seq)
{
	uint8_t *buffer = malloc(FILE_MAX);
	struct cbor_writer w;
	const struct positions *p = &e->positions;
	int rc = -1;
	if (buffer == NULL)
		return -1;
	cbor_writer_init(&w, buffer, FILE_MAX);
	cbor_write_array(&w, 9);
	cbor_write_uint(&w, FILE_VERSION);
	cbor_write_uint(&w, seq);
	cbor_write_bytes(&w, (struct slice){p->boot_id, BOOT_ID_SIZE});
	write_place(&w, &p->btmp);
	write_place(&w, &p->wtmp);
	write_place(&w, &p->log);
	cbor_write_string(&w, p->cursor);
	cbor_write_bytes(&w, (struct slice){p->inventory, DIGEST_SIZE});
	write_section(e, &w);
	assert(!w.overflow);
	rc = durable_write(e->dir, FILE_NAME, (struct slice){buffer, w.len}, true);
	free(buffer);
	if (rc == 0) {
		e->saved = e->positions;
		e->added = false;
	}
	return rc;
}

static void
read_events(struct cbor_reader *r, struct events *e, bool told)
{
	size_t n = cbor_read_array(r, EVENTS_MAX + KINDS);
	for (size_t i = 0; i < n && r->error == REASON_OK; i++) {
		struct event event;
		event_decode(r, &event);
		if (r->error == REASON_OK && !told)
			take(e, &event);
	}
}

static enum reason
parse(struct events *e, struct slice file, uint64_t newest)
{
	struct positions *p = &e->positions;
	struct cbor_reader r;
	struct slice cursor;
	uint64_t seq;
	cbor_reader_init(&r, file);
	if (cbor_read_array(&r, 9) != 9)
		cbor_fail(&r, REASON_MALFORMED);
	(void)cbor_read_uint_max(&r, FILE_VERSION, FILE_VERSION);
	seq = cbor_read_uint_max(&r, 0, LIMIT_SEQ);
	cbor_read_bytes_exact(&r, p->boot_id, BOOT_ID_SIZE);
	read_place(&r, &p->btmp);
	read_place(&r, &p->wtmp);
	read_place(&r, &p->log);
	cursor = cbor_read_text(&r, CURSOR_MAX - 1);
	if (cursor.len > 0)
		memcpy(p->cursor, cursor.at, cursor.len);
	cbor_read_bytes_exact(&r, p->inventory, DIGEST_SIZE);
	read_events(&r, e, seq != 0 && seq <= newest);
	p->known = true;
	return cbor_reader_end(&r);
}

static void
load(struct events *e, uint64_t newest)
{
	uint8_t *buffer = malloc(FILE_MAX);
	ssize_t len = buffer != NULL ? durable_read(e->dir, FILE_NAME, buffer, FILE_MAX) : -1;
	bool missing = len < 0 && errno == ENOENT;
	if (len >= 0 && parse(e, (struct slice){buffer, (size_t)len}, newest) == REASON_OK) {
		e->saved = e->positions;
		e->added = false;
	} else if (!missing) {
		clear(e);
		memset(&e->positions, 0, sizeof e->positions);
		events_say(e, EVENT_LOST, (uint64_t)time(NULL), (const char *const[]){"all", "saved state unreadable"},
			   2);
	}
	free(buffer);
}

struct events *
events_open(int dir, uint64_t newest, char *error)
{
	struct events *e = calloc(1, sizeof *e);
	if (e == NULL) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return NULL;
	}
	e->dir = dir;
	load(e, newest);
	return e;
}

void
events_free(struct events *e)
{
	if (e == NULL)
		return;
	clear(e);
	free(e);
}
