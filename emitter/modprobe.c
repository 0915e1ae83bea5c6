#include "emitter/modprobe.h"

#include <string.h>

#include "emitter/text.h"

bool
module_is(struct slice name, const char *other)
{
	if (name.len != strlen(other))
		return false;
	for (size_t i = 0; i < name.len; i++)
		if ((name.at[i] == '-' ? '_' : name.at[i]) != (other[i] == '-' ? '_' : other[i]))
			return false;
	return true;
}

/* What ends without loading anything. */
static bool
does_nothing(struct slice program)
{
	static const char *const programs[] = {"true", "false", ":", "nologin"};
	const uint8_t *slash = memrchr(program.at, '/', program.len);
	struct slice name = program;

	if (slash)
		name = (struct slice){slash + 1, (size_t)(program.at + program.len - slash - 1)};
	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
		if (text_is(name, programs[i]))
			return true;
	return false;
}

bool
modprobe_parse(struct slice line, struct modprobe_rule *out)
{
	struct slice command, program;
	struct modprobe_rule rule = {.options = {NULL, 0}};

	if (!text_word(&line, &command) || !text_word(&line, &rule.module))
		return false;
	if (text_is(command, "blacklist")) {
		rule.kind = MODPROBE_BLACKLIST;
	} else if (text_is(command, "options")) {
		rule.kind = MODPROBE_OPTIONS;
		rule.options = text_trim(line);
	} else if (text_is(command, "install") && text_word(&line, &program) && does_nothing(program)) {
		rule.kind = MODPROBE_NO_INSTALL;
	} else {
		return false;
	}
	*out = rule;
	return true;
}
