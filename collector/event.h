/*
 * An event of the outbox, as sinks and formats see it, and how grave it is. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_EVENT_H
#define FLEETSTATE_COLLECTOR_EVENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "collector/draft.h"
#include "schema/slice.h"

enum severity { SEVERITY_INFO, SEVERITY_LOW, SEVERITY_MEDIUM, SEVERITY_HIGH, SEVERITY_CRITICAL, SEVERITIES };

const char *severity_name(enum severity);
bool severity_parse(struct slice, enum severity *);

struct event {
	int64_t position;	/* gapless; 0: only a test */
	int64_t id;		/* unique in the database */
	int64_t time_us;	/* since 1970 */
	struct slice tenant, type;
	struct slice ueid;	/* 17 bytes; absent when it is about no device */
	struct slice data;	/* a JSON object, as the database spells it */
	json_t *fields;		/* the same, read; NULL if it can't be */
	bool truncated;		/* `data` says only so: the event was too long for its way */
	enum severity severity;
};

/* Fills in fields and severity. */
void event_read(struct event *);
void event_clear(struct event *);
/* 2026-11-26T08:00:00.000000Z; `text` holds 28 bytes. */
#define EVENT_TIME_SIZE 28
void event_time(int64_t us, char *text);

/* What it tells a person, in one line: its kind's title, and the word that says most. */
void event_message(const struct event *, struct draft *);
/* Why, with commas between; nothing if it does not say. */
void event_reasons(const struct event *, struct draft *);
/* Who did it; NULL: it does not say. */
const char *event_actor(const struct event *);

/* What a sink wants: words such as "device.fork" or "alert.*", separated by commas; empty: everything. */
bool event_wanted(const struct event *, const char *types, enum severity least);

#endif
