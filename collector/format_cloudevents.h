/*
 * An event as a CloudEvent 1.0 in the JSON format. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_CLOUDEVENTS_H
#define FLEETSTATE_COLLECTOR_FORMAT_CLOUDEVENTS_H

#include "collector/draft.h"
#include "collector/event.h"

#define CLOUDEVENT_TYPE "application/cloudevents+json; charset=utf-8"
#define CLOUDEVENTS_TYPE "application/cloudevents-batch+json; charset=utf-8"

void format_cloudevent(struct draft *, const struct event *);

#endif
