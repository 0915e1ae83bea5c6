#include "collector/format_cloudevents.h"

#include <inttypes.h>

static void
add_subject(struct draft *d, const struct event *e)
{
	if (e->ueid.at == NULL)
		return;
	draft_text(d, ",\"subject\":\"");
	draft_hex(d, e->ueid);
	draft_text(d, "\"");
}

void
format_cloudevent(struct draft *d, const struct event *e)
{
	char time[EVENT_TIME_SIZE];

	event_time(e->time_us, time);
	draft_printf(d, "{\"specversion\":\"1.0\",\"id\":\"%" PRId64 "\",\"source\":\"urn:fleetstate:", e->id);
	draft_slice(d, e->tenant); /* a tenant's id has no letter that would need a thought */
	draft_text(d, "\",\"type\":");
	draft_json_string(d, e->type);
	add_subject(d, e);
	draft_printf(d, ",\"time\":\"%s\",\"tenant\":", time);
	draft_json_string(d, e->tenant);
	/* The sequence extension wants a text that sorts. */
	draft_printf(d,
		     ",\"severity\":\"%s\",\"sequence\":\"%019" PRId64
		     "\",\"datacontenttype\":\"application/json\",\"data\":",
		     severity_name(e->severity), e->position);
	draft_slice(d, e->data);
	draft_text(d, "}");
}
