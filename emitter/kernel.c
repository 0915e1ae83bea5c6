#include "emitter/kernel.h"

#include <string.h>

#include "emitter/text.h"

bool
module_parse(struct slice line, struct slice *name, struct slice *taint)
{
	struct slice size, word, last = {NULL, 0};
	uint64_t bytes;

	if (!text_word(&line, name) || !text_word(&line, &size) || !text_number(size, 10, &bytes))
		return false;
	while (text_word(&line, &word))
		last = word;
	*taint = (struct slice){size.at + size.len, 0};
	if (last.len > 2 && last.at[0] == '(' && last.at[last.len - 1] == ')')
		*taint = (struct slice){last.at + 1, last.len - 2};
	return true;
}

/* By bit (the kernel's tainted-kernels.rst). */
static const char *const taints[] = {
	"proprietary module",
	"module loaded by force",
	"processor out of specification",
	"module unloaded by force",
	"machine check",
	"bad page",
	"requested by a user",
	"oops",
	"ACPI table overridden",
	"warning",
	"staging driver",
	"platform's firmware bug worked around",
	"module from outside the tree",
	"unsigned module",
	"soft lock-up",
	"live patched",
	"auxiliary",
	"randomised structures",
	"in-kernel test",
	"fwctl's mutating access",
};

void
taint_names(uint64_t bits, void (*take)(void *, const char *), void *context)
{
	size_t n = sizeof taints / sizeof taints[0];

	for (size_t i = 0; i < n; i++)
		if (bits >> i & 1)
			take(context, taints[i]);
	if (bits >> n)
		take(context, "a reason that is not known here");
}

bool
profile_enforces(struct slice line)
{
	line = text_trim(line);
	return line.len > 10 && memcmp(line.at + line.len - 10, " (enforce)", 10) == 0;
}

bool
ima_policy_has(struct slice policy, const char *action)
{
	struct slice line, word;

	while (text_line(&policy, &line))
		if (text_word(&line, &word) && text_is(word, action))
			return true;
	return false;
}

static bool
same_setting(struct slice name, const char *other)
{
	if (name.len > 0 && name.at[0] == '-')
		name.at++, name.len--;
	if (name.len != strlen(other))
		return false;
	for (size_t i = 0; i < name.len; i++)
		if ((name.at[i] == '/' ? '.' : name.at[i]) != other[i])
			return false;
	return true;
}

bool
sysctl_find(struct slice text, const char *name, uint64_t *value)
{
	struct slice line, key, number;
	bool found = false;

	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#' || line.at[0] == ';' || !text_cut(line, '=', &key, &number))
			continue;
		if (same_setting(key, name) && text_number(number, 10, value))
			found = true;
	}
	return found;
}

bool
sysrq_is_open(uint64_t value)
{
	const uint64_t dumps = 8, signals = 64;

	return value == 1 || (value & (dumps | signals)) != 0;
}

bool
kernel_config_has(struct slice text, const char *option, bool *set)
{
	size_t len = strlen(option);
	struct slice line;

	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (text_begins(line, "# "))
			line.at += 2, line.len -= 2;
		if (!text_begins(line, option) || line.len < len + 2)
			continue;
		if (line.at[len] == '=')
			*set = line.at[len + 1] == 'y' || line.at[len + 1] == 'm';
		else if (line.at[len] == ' ' && line.at == text_trim(line).at)
			*set = false;
		else
			continue;
		return true;
	}
	return false;
}
