#include "collector/format_rfc5424.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/code_point.h"

#define FACILITY 16 /* local0 */
#define ID "fleetstate@32473" /* the number that RFC 5612 sets aside for examples: we have none of our own */
#define DATA_ID "data@32473"
#define NAME_MAX_LEN 32 /* RFC 5424 6 */
#define HOST_MAX 255
#define TYPE_MAX 32
#define VALUE_MAX 1024 /* of one parameter */
#define TEXT_MAX 1024 /* of the message after the data */
#define TRUNCATED " truncated=\"1\""
/* Where parameters end: the text, both brackets, and TRUNCATED have to follow. */
#define PARAMS_MAX (SYSLOG_MESSAGE_MAX - TEXT_MAX * 2 - 256)

static const int levels[SEVERITIES] = {
	[SEVERITY_INFO] = 6, [SEVERITY_LOW] = 5, [SEVERITY_MEDIUM] = 4, [SEVERITY_HIGH] = 3, [SEVERITY_CRITICAL] = 2};

/* Printable ASCII, and nothing that ends a name. */
static void
add_name(struct draft *d, const char *text, size_t len, size_t most)
{
	if (len == 0)
		draft_text(d, "-");
	for (size_t i = 0; i < len && i < most; i++) {
		unsigned char c = (unsigned char)text[i];

		draft_printf(d, "%c", c <= ' ' || c >= 0x7f || strchr("=]\"", c) != NULL ? '_' : c);
	}
}

/* `escaped`: as a parameter's value (6.3.3), where a control character's own backslash needs one more. False: it was cut short. */
static bool
add_value(struct draft *d, const char *text, size_t len, size_t most, bool escaped)
{
	const uint8_t *at = (const uint8_t *)text;
	size_t begun = d->len, n;

	for (size_t i = 0; i < len; i += n) {
		uint32_t c = code_point(at + i, len - i, &n);

		if (d->len - begun + 8 > most)
			return false;
		if (code_point_is_control(c))
			draft_printf(d, "%s\\u%04x", escaped ? "\\" : "", c);
		else if (c == CODE_POINT_NONE)
			draft_text(d, "\xef\xbf\xbd");
		else if (escaped && (c == '"' || c == '\\' || c == ']'))
			draft_printf(d, "\\%c", (int)c);
		else
			draft_add(d, at + i, n);
	}
	return true;
}

static bool
add_param(struct draft *d, const char *name, const char *value, size_t len)
{
	bool whole;

	draft_text(d, " ");
	add_name(d, name, strlen(name), NAME_MAX_LEN);
	draft_text(d, "=\"");
	whole = add_value(d, value, len, VALUE_MAX, true);
	draft_text(d, "\"");
	return whole;
}

/* A list is the same name several times; what is nested stays JSON. */
static bool
add_field(struct draft *d, size_t begun, const char *name, const json_t *value)
{
	bool whole = true;
	char *text;

	if (d->len - begun + VALUE_MAX > PARAMS_MAX)
		return false;
	if (json_is_string(value))
		return add_param(d, name, json_string_value(value), json_string_length(value));
	if (json_is_array(value) && json_array_size(value) > 0 && json_is_string(json_array_get(value, 0))) {
		for (size_t i = 0; i < json_array_size(value); i++)
			whole = add_field(d, begun, name, json_array_get(value, i)) && whole;
		return whole;
	}
	text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	if (text == NULL)
		return false;
	whole = add_param(d, name, text, strlen(text));
	free(text);
	return whole;
}

static void
add_data(struct draft *d, size_t begun, const struct event *e)
{
	bool whole = true;
	const char *name;
	json_t *value;

	if (json_object_size(e->fields) == 0 && e->data.len <= 2)
		return;
	draft_text(d, "[" DATA_ID);
	if (!json_is_object(e->fields))
		whole = add_param(d, "json", (const char *)e->data.at, e->data.len);
	else
		json_object_foreach(e->fields, name, value) whole = add_field(d, begun, name, value) && whole;
	draft_text(d, whole ? "]" : TRUNCATED "]");
}

static void
add_head(struct draft *d, const struct event *e, const char *host)
{
	char time[EVENT_TIME_SIZE];

	event_time(e->time_us, time);
	draft_printf(d, "<%d>1 %s ", FACILITY * 8 + levels[e->severity], time);
	add_name(d, host, strlen(host), HOST_MAX);
	draft_text(d, " fleetstate - ");
	add_name(d, (const char *)e->type.at, e->type.len, TYPE_MAX);
	draft_printf(d, " [" ID " id=\"%" PRId64 "\" position=\"%" PRId64 "\" severity=\"%s\"", e->id, e->position,
		     severity_name(e->severity));
	(void)add_param(d, "tenant", (const char *)e->tenant.at, e->tenant.len);
	(void)add_param(d, "type", (const char *)e->type.at, e->type.len);
	if (e->ueid.at != NULL) {
		draft_text(d, " ueid=\"");
		draft_hex(d, e->ueid);
		draft_text(d, "\"");
	}
	draft_text(d, "]");
}

/* What others made to be read by machines begins at once: without the mark that it is UTF-8, which RFC 5424 6.4 allows. */
static void
add_payload(struct draft *d, size_t begun, const struct event *e, const struct event_format *payload)
{
	static const char cut[] = "{\"truncated\":true}";
	size_t head = d->len;
	struct event brief = *e;

	payload->write(d, e);
	if (d->len - begun <= SYSLOG_MESSAGE_MAX)
		return;
	d->len = head;
	brief.data = (struct slice){(const uint8_t *)cut, sizeof cut - 1};
	brief.truncated = true;
	payload->write(d, &brief);
}

void
format_rfc5424(struct draft *d, const struct event *e, const char *host, const struct event_format *payload)
{
	size_t begun = d->len;

	add_head(d, e, host);
	if (payload != NULL) {
		draft_text(d, " ");
		add_payload(d, begun, e, payload);
		return;
	}
	add_data(d, begun, e);
	/* 6.4: UTF-8 begins with the mark that says so. */
	draft_text(d, " \xef\xbb\xbf");
	add_name(d, (const char *)e->type.at, e->type.len, TYPE_MAX);
	if (e->ueid.at != NULL) {
		draft_text(d, " ");
		draft_hex(d, e->ueid);
	}
	draft_text(d, " ");
	(void)add_value(d, (const char *)e->data.at, e->data.len, TEXT_MAX, false);
}
