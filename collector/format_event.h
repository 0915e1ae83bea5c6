/*
 * The formats of an event, apart from how it gets anywhere: the feed, its stream and every kind of sink take each of them. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_EVENT_H
#define FLEETSTATE_COLLECTOR_FORMAT_EVENT_H

#include "collector/draft.h"
#include "collector/event.h"

#define EVENT_FORMATS "native, ocsf, ecs, cef or cloudevents"

struct event_format {
	const char *name;
	bool json;			/* an event is a JSON object; else one line of text */
	const char *one, *several;	/* content types by HTTP */
	void (*write)(struct draft *, const struct event *);
};

/* NULL: there is none of that name. */
const struct event_format *event_format(const char *name) WARN_UNUSED;
/* As one body: an array of JSON, or lines that end with a newline. */
void event_format_all(const struct event_format *, struct draft *, const struct event *, size_t n);
/* As an item of a JSON list: a line of text becomes a JSON string. */
void event_format_item(const struct event_format *, struct draft *, const struct event *);

#endif
