#include "collector/format_event.h"

#include <inttypes.h>
#include <string.h>

#include "collector/format_cef.h"
#include "collector/format_cloudevents.h"
#include "collector/format_ecs.h"
#include "collector/format_native.h"
#include "collector/format_ocsf.h"

#define JSON_TYPE "application/json"
#define TEXT_TYPE "text/plain; charset=utf-8"

static const struct event_format formats[] = {
	{"native", true, JSON_TYPE, JSON_TYPE, format_native},
	{"ocsf", true, JSON_TYPE, JSON_TYPE, format_ocsf},
	{"ecs", true, JSON_TYPE, JSON_TYPE, format_ecs},
	{"cef", false, TEXT_TYPE, TEXT_TYPE, format_cef},
	{"cloudevents", true, CLOUDEVENT_TYPE, CLOUDEVENTS_TYPE, format_cloudevent},
};

const struct event_format *
event_format(const char *name)
{
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}

void
event_format_all(const struct event_format *format, struct draft *d, const struct event *events, size_t n)
{
	draft_text(d, format->json ? "[" : "");
	for (size_t i = 0; i < n; i++) {
		draft_text(d, format->json && i > 0 ? "," : "");
		format->write(d, &events[i]);
		draft_text(d, format->json ? "" : "\n");
	}
	draft_text(d, format->json ? "]" : "");
}

void
event_format_item(const struct event_format *format, struct draft *d, const struct event *e)
{
	struct draft line = {0};

	if (format->json) {
		format->write(d, e);
		return;
	}
	format->write(&line, e);
	draft_json_string(d, (struct slice){(const uint8_t *)line.at, line.len});
	d->failed = d->failed || line.failed;
	draft_free(&line);
}
