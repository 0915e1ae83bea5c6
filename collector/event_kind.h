/*
 * What the types of events are in the words of OCSF and ECS, and to people: the table event_kinds.def. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_EVENT_KIND_H
#define FLEETSTATE_COLLECTOR_EVENT_KIND_H

#include <stdbool.h>

#include "schema/slice.h"

enum ocsf_class { OCSF_CHANGE, OCSF_COMPLIANCE, OCSF_DETECTION, OCSF_ENTITY };

struct event_kind {
	const char *type;
	enum ocsf_class class;
	int activity;
	const char *member;		/* whose value says more of the activity; empty: none does */
	const char *ecs_kind;
	const char *ecs_categories, *ecs_types;	/* with commas between */
	const char *title;
};

/* Never NULL: what has no row of its own is something that happened. */
const struct event_kind *event_kind(struct slice type) WARN_UNUSED;

/* Whether there are events of the type: it has a row of its own, or is "device.event." and the number of a kind that has no name here. */
bool event_type_is(struct slice type) WARN_UNUSED;

/* What a sink wants is told in words: a type, or "alert.*", which is every type that begins with "alert.". Whether a type is of those of a word. */
bool event_type_fits(struct slice type, struct slice word) WARN_UNUSED;
/* Whether there are any of a word. */
bool event_word_is(struct slice word) WARN_UNUSED;
/* Every type that has a name, and some families of them, with a space before each. */
extern const char event_words[];

#endif
