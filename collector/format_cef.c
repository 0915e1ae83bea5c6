#include "collector/format_cef.h"

#include <inttypes.h>
#include <string.h>

#include "collector/code_point.h"
#include "collector/event_kind.h"

/* The most that a field holds, in bytes as written here. */
#define TYPE_MAX 1023
#define NAME_MAX_LEN 512
#define TEXT_MAX 1023
#define CUSTOM_MAX 4000

static const int severities[SEVERITIES] = {
	[SEVERITY_INFO] = 1, [SEVERITY_LOW] = 3, [SEVERITY_MEDIUM] = 5, [SEVERITY_HIGH] = 8, [SEVERITY_CRITICAL] = 10};

/* `ends`: what would end it, and the backslash. A header has no line ends of any kind, not even spelt as \n. */
static void
add_text(struct draft *d, struct slice text, const char *ends, bool header, size_t most)
{
	size_t begun = d->len, n;

	for (size_t i = 0; i < text.len; i += n) {
		uint32_t c = code_point(text.at + i, text.len - i, &n);

		if (d->len - begun + 8 > most)
			return;
		if (!header && (c == '\n' || c == '\r'))
			draft_text(d, c == '\n' ? "\\n" : "\\r");
		else if (code_point_is_control(c))
			draft_printf(d, "\\\\u%04x", c);
		else if (c == CODE_POINT_NONE)
			draft_text(d, "\xef\xbf\xbd");
		else if (c < 0x80 && strchr(ends, (int)c) != NULL)
			draft_printf(d, "\\%c", (int)c);
		else
			draft_add(d, text.at + i, n);
	}
}

static void
add_header(struct draft *d, struct slice text, size_t most)
{
	add_text(d, text, "\\|", true, most);
	draft_text(d, "|");
}

static void
add_field(struct draft *d, const char *name, struct slice text, size_t most)
{
	if (text.len == 0)
		return;
	draft_printf(d, " %s=", name);
	add_text(d, text, "\\=", false, most);
}

static struct slice
slice_of(const char *text)
{
	return (struct slice){(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
}

void
format_cef(struct draft *d, const struct event *e)
{
	struct draft made = {0};

	draft_text(d, "CEF:0|fleetstate|fleetstate|" FLEETSTATE_VERSION "|");
	add_header(d, e->type, TYPE_MAX);
	event_message(e, &made);
	add_header(d, (struct slice){(const uint8_t *)made.at, made.len}, NAME_MAX_LEN);
	draft_printf(d, "%d|rt=%" PRId64 " externalId=%" PRId64, severities[e->severity], e->time_us / 1000, e->id);
	if (e->ueid.at != NULL) {
		draft_text(d, " deviceExternalId=");
		draft_hex(d, e->ueid);
	}
	add_field(d, "cat", slice_of(event_kind(e->type)->ecs_categories), TEXT_MAX);
	draft_text(d, " cs1Label=tenant");
	add_field(d, "cs1", e->tenant, CUSTOM_MAX);
	draft_printf(d, " cn1Label=position cn1=%" PRId64, e->position);
	add_field(d, "suser", slice_of(event_actor(e)), TEXT_MAX);
	draft_empty(&made);
	event_reasons(e, &made);
	add_field(d, "reason", (struct slice){(const uint8_t *)made.at, made.len}, TEXT_MAX);
	add_field(d, "msg", e->data, TEXT_MAX);
	d->failed = d->failed || made.failed;
	draft_free(&made);
}
