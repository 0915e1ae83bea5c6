/*
 * An event as one line of ArcSight's Common Event Format, version 0. Whatever a device put into its facts, the line keeps its meaning: what ends a field is
 * escaped, and other control characters are spelt out. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_CEF_H
#define FLEETSTATE_COLLECTOR_FORMAT_CEF_H

#include "collector/draft.h"
#include "collector/event.h"

/* What does not fit into the extension's fields is cut off: msg has the first 1,023 bytes of the event's data. */
void format_cef(struct draft *, const struct event *);

#endif
