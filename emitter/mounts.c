#include "emitter/mounts.h"

#include <limits.h>
#include <string.h>

#include "emitter/text.h"

static bool
small_number(struct slice text, unsigned *out)
{
	uint64_t number;

	if (!text_number(text, 10, &number) || number > UINT_MAX)
		return false;
	*out = (unsigned)number;
	return true;
}

bool
mount_parse(struct slice line, struct mount *out)
{
	struct slice id, parent, device, major, minor, word;
	struct mount m = {0};

	if (!text_word(&line, &id) || !text_word(&line, &parent) || !text_word(&line, &device) ||
	    !text_word(&line, &m.root) || !text_word(&line, &m.point) || !text_word(&line, &m.options))
		return false;
	if (!small_number(id, &m.id) || !small_number(parent, &m.parent) || !text_cut(device, ':', &major, &minor) ||
	    !small_number(major, &m.major) || !small_number(minor, &m.minor))
		return false;
	/* Optional fields, then a hyphen. */
	do {
		if (!text_word(&line, &word))
			return false;
	} while (!text_is(word, "-"));
	if (!text_word(&line, &m.type) || !text_word(&line, &m.source) || !text_word(&line, &m.super))
		return false;
	*out = m;
	return true;
}

bool
fstab_parse(struct slice line, struct mount *out)
{
	struct mount m = {0};

	if (!text_word(&line, &m.source) || m.source.at[0] == '#' || !text_word(&line, &m.point) ||
	    !text_word(&line, &m.type))
		return false;
	if (!text_word(&line, &m.options))
		m.options = (struct slice){(const uint8_t *)"defaults", 8};
	*out = m;
	return true;
}

bool
crypttab_parse(struct slice line, struct crypt_volume *out)
{
	struct crypt_volume v = {0};

	if (!text_word(&line, &v.name) || v.name.at[0] == '#' || !text_word(&line, &v.device))
		return false;
	if (text_word(&line, &v.key))
		(void)!text_word(&line, &v.options);
	*out = v;
	return true;
}

bool
swap_parse(struct slice line, struct slice *path)
{
	struct slice name, kind, size;
	uint64_t number;

	if (!text_word(&line, &name) || !text_word(&line, &kind) || !text_word(&line, &size) ||
	    !text_number(size, 10, &number))
		return false;
	*path = name;
	return true;
}

size_t
mount_unescape(struct slice text, char *out, size_t size)
{
	size_t len = 0;
	uint64_t value;

	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];

		if (c == '\\' && text.len - i > 3 && text_number((struct slice){text.at + i + 1, 3}, 8, &value) &&
		    value > 0 && value <= UINT8_MAX) {
			c = (uint8_t)value;
			i += 3;
		}
		if (len + 1 >= size || c == '\0')
			return 0;
		out[len++] = (char)c;
	}
	if (len > 0)
		out[len] = '\0';
	return len;
}

bool
mount_option(struct slice options, const char *option)
{
	size_t len = strlen(option);
	struct slice word, rest;

	while (options.len > 0) {
		if (!text_cut(options, ',', &word, &rest)) {
			word = options;
			rest = (struct slice){NULL, 0};
		}
		if (text_begins(word, option) && (word.len == len || word.at[len] == '='))
			return true;
		options = rest;
	}
	return false;
}
