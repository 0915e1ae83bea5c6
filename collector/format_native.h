/*
 * An event as our own interface tells it. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_NATIVE_H
#define FLEETSTATE_COLLECTOR_FORMAT_NATIVE_H

#include "collector/draft.h"
#include "collector/event.h"

void format_native(struct draft *, const struct event *);

#endif
