/*
 * The events section of a report, struct <-> CBOR -> JSON. An event stands for all of its kind and subject since the last report with events:
 * when the first and the last was, and how many. Pure.
 */
#ifndef FLEETSTATE_EVENTS_H
#define FLEETSTATE_EVENTS_H

#include <jansson.h>
#include <stdbool.h>

#include "schema/cbor.h"
#include "schema/limits.h"

#define EVENT_PARTS_MAX 4

enum event_kind {
#define EVENT(symbol, key, json, element, help) EVENT_##symbol = key,
#include "schema/events.def"
};

struct event {
	unsigned kind;		/* of enum event_kind, or one of a later version */
	bool others;		/* all of this kind whose subject there was no room for: no parts */
	size_t parts_len;
	struct slice parts[EVENT_PARTS_MAX];	/* of the subject, 1 to LIMIT_EVENT_TEXT bytes each; not known: at == NULL */
	uint64_t first, last;	/* seconds since 1970 by the device's clock */
	uint64_t count;		/* 1 to LIMIT_SEQ */
};

struct event_row {
	unsigned kind;
	const char *name, *element, *help;
};

struct event_part {
	const char *name;
	bool personal;
};

/* NULL: not one that we know. */
const struct event_row *event_row(unsigned kind);
/* The parts of a known kind's subject. */
const struct event_part *event_parts(unsigned kind, size_t *n);

/* The whole section: order, no two of one kind and subject, limits. Returns how many; the reader has the error. */
size_t events_check(struct cbor_reader *);
/* One out of a checked section: cbor_reader_init(&r, section); n = cbor_read_array(...); n times event_decode. */
void event_decode(struct cbor_reader *, struct event *);
void event_encode(const struct event *, struct cbor_writer *);
/* Kind and subject alone, by which events are in order and merged: the bytes in `out` up to the returned length; 0: they do not fit. */
size_t event_key(const struct event *, uint8_t *out, size_t size) WARN_UNUSED;

/* New references; NULL when memory ran out. */
json_t *event_json(const struct event *);
json_t *events_json(struct slice section);

#endif
