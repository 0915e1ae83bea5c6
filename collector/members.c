#include "collector/members.h"

#include <inttypes.h>
#include <string.h>

#define NOTHING_KNOWN "unknown"

void
member_comma(struct response *out)
{
	if (!out->failed && out->len > 0 && strchr("{[", out->body[out->len - 1]) == NULL)
		response_append(out, ",", 1);
}

static void
add_name(struct response *out, const char *name)
{
	member_comma(out);
	response_append(out, "\"", 1);
	response_text(out, name);
	response_append(out, "\":", 2);
}

void
member_text(struct response *out, const char *name, struct slice text)
{
	if (text.at == NULL)
		return;
	add_name(out, name);
	response_string(out, text);
}

void
member_number(struct response *out, const char *name, int64_t number)
{
	add_name(out, name);
	response_printf(out, "%" PRId64, number);
}

struct slice
text_slice(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

struct slice
or_unknown(struct slice text)
{
	return text.len > 0 ? text : text_slice(NOTHING_KNOWN);
}
