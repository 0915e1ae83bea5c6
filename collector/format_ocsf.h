/*
 * An event as OCSF 1.8.0 has it, in the class that event_kinds.def gives it. The whole event is its raw_data. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_OCSF_H
#define FLEETSTATE_COLLECTOR_FORMAT_OCSF_H

#include "collector/draft.h"
#include "collector/event.h"

void format_ocsf(struct draft *, const struct event *);

#endif
