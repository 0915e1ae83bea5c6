#include "collector/format_native.h"

#include <inttypes.h>

void
format_native(struct draft *d, const struct event *e)
{
	char time[EVENT_TIME_SIZE];

	event_time(e->time_us, time);
	/* Milliseconds, as everywhere in our interface. */
	draft_printf(d, "{\"position\":%" PRId64 ",\"id\":%" PRId64 ",\"time\":\"%.23sZ\",\"type\":", e->position,
		     e->id, time);
	draft_json_string(d, e->type);
	draft_text(d, ",\"tenant\":");
	draft_json_string(d, e->tenant);
	draft_text(d, ",\"ueid\":");
	if (e->ueid.at == NULL) {
		draft_text(d, "null");
	} else {
		draft_text(d, "\"");
		draft_hex(d, e->ueid);
		draft_text(d, "\"");
	}
	draft_text(d, ",\"data\":");
	draft_slice(d, e->data);
	draft_text(d, "}");
}
