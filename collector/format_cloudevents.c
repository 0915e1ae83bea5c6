#include "collector/format_cloudevents.h"

#include <inttypes.h>

/* The quotes, too. What comes from the database is UTF-8; anything below a space, the quote and the backslash are escaped. */
static void
add_string(struct draft *d, struct slice text)
{
	size_t from = 0;

	draft_text(d, "\"");
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] >= ' ' && text.at[i] != '"' && text.at[i] != '\\')
			continue;
		draft_add(d, text.at + from, i - from);
		draft_printf(d, "\\u%04x", text.at[i]);
		from = i + 1;
	}
	draft_add(d, text.at + from, text.len - from);
	draft_text(d, "\"");
}

static void
add_subject(struct draft *d, const struct event *e)
{
	if (e->ueid.at == NULL)
		return;
	draft_text(d, ",\"subject\":\"");
	for (size_t i = 0; i < e->ueid.len; i++)
		draft_printf(d, "%02x", e->ueid.at[i]);
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
	add_string(d, e->type);
	add_subject(d, e);
	draft_printf(d, ",\"time\":\"%s\",\"tenant\":", time);
	add_string(d, e->tenant);
	/* The sequence extension wants a text that sorts. */
	draft_printf(d,
		     ",\"severity\":\"%s\",\"sequence\":\"%019" PRId64
		     "\",\"datacontenttype\":\"application/json\",\"data\":",
		     severity_name(e->severity), e->position);
	draft_slice(d, e->data);
	draft_text(d, "}");
}

void
format_cloudevents(struct draft *d, const struct event *events, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		draft_text(d, i == 0 ? "[" : ",");
		format_cloudevent(d, &events[i]);
	}
	draft_text(d, n == 0 ? "[]" : "]");
}
