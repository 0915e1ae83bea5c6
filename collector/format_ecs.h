/*
 * An event in the fields of the Elastic Common Schema 9.4.0. The whole event is its event.original, so that no name that a device made up becomes a field.
 * Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_ECS_H
#define FLEETSTATE_COLLECTOR_FORMAT_ECS_H

#include "collector/draft.h"
#include "collector/event.h"

void format_ecs(struct draft *, const struct event *);

#endif
