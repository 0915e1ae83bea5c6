#include "emitter/stated.h"

#include <string.h>

#include "emitter/text.h"

static bool
is_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.at[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
			return false;
	}
	return name.len > 0 && name.len <= STATED_NAME;
}

static bool
has_control(struct slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.at[i] < 0x20 || value.at[i] == 0x7f)
			return true;
	return false;
}

static const char *
wrong(struct slice statement, struct slice *name, struct slice *value)
{
	if (!text_cut(statement, '=', name, value))
		return "wants name=value";
	if (!is_name(*name))
		return "a name has 1 to 64 letters, digits, dots, dashes and underscores";
	if (value->len == 0)
		return "a value is missing";
	if (value->len > STATED_VALUE)
		return "a value is longer than 256 bytes";
	return has_control(*value) ? "a value has a control character" : NULL;
}

enum stated
stated_next(struct slice *text, struct slice *name, struct slice *value, const char **why)
{
	while (text->len > 0) {
		const uint8_t *end = memchr(text->at, ';', text->len);
		size_t len = end ? (size_t)(end - text->at) : text->len;
		struct slice statement = text_trim((struct slice){text->at, len});
		size_t taken = end ? len + 1 : len;

		text->at += taken;
		text->len -= taken;
		if (statement.len == 0)
			continue;
		*why = wrong(statement, name, value);
		return *why ? STATED_WRONG : STATED_ONE;
	}
	return STATED_END;
}
