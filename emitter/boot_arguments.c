#include "emitter/boot_arguments.h"

#include <stdio.h>
#include <string.h>

#define ENTRIES_MAX 256 /* of a boot loader's menu */

static bool
is_end(uint8_t c)
{
	return c <= ' ' || c == '"' || c == '\'';
}

static bool
same_name(struct slice name, const char *other)
{
	if (name.len != strlen(other))
		return false;
	for (size_t i = 0; i < name.len; i++)
		if ((name.at[i] == '-' ? '_' : name.at[i]) != (other[i] == '-' ? '_' : other[i]))
			return false;
	return true;
}

void
boot_arguments_find(struct slice text, const char *name, boot_argument *take, void *context)
{
	while (text.len > 0) {
		struct slice word = {text.at, 0}, key, value;

		while (word.len < text.len && !is_end(text.at[word.len]))
			word.len++;
		text.at += word.len;
		text.len -= word.len;
		if (word.len == 0) {
			text.at++;
			text.len--;
			continue;
		}
		if (!text_cut(word, '=', &key, &value)) {
			key = word;
			value = (struct slice){word.at + word.len, 0};
		}
		if (same_name(key, name))
			take(context, value);
	}
}

static const char *const files[] = {
	"etc/kernel/cmdline",         "boot/cmdline.txt",   "boot/firmware/cmdline.txt", "boot/extlinux/extlinux.conf",
	"extlinux/extlinux.conf",     "boot/grub/grub.cfg", "boot/grub2/grub.cfg",       "boot/armbianEnv.txt",
	"boot/syslinux/syslinux.cfg", "etc/default/grub",
};
static const char *const directories[] = {"boot/loader/entries", "efi/loader/entries", "boot/efi/loader/entries"};

struct search {
	struct probe *probe;
	const char *directory, *name;
	boot_argument *take;
	void *context;
	bool found; /* a file that could hold it */
};

static void
look_into(struct search *s, const char *path)
{
	struct slice text = source_read(s->probe->source, path, SOURCE_FILE);

	if (!text.at)
		return;
	s->found = true;
	boot_arguments_find(text, s->name, s->take, s->context);
}

static bool
take_entry(void *context, int directory, const char *name)
{
	struct search *s = context;
	size_t len = strlen(name);
	char path[320];

	(void)directory;
	if (len > 5 && len < 256 && strcmp(name + len - 5, ".conf") == 0) {
		snprintf(path, sizeof path, "%s/%s", s->directory, name);
		look_into(s, path);
	}
	return true;
}

bool
boot_arguments(struct probe *p, const char *name, boot_argument *take, void *context)
{
	struct search s = {.probe = p, .name = name, .take = take, .context = context};

	look_into(&s, "proc/cmdline");
	if (s.found || source_is_live(p->source))
		return s.found;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		look_into(&s, files[i]);
	for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
		s.directory = directories[i];
		(void)!source_list(p->source, s.directory, ENTRIES_MAX, take_entry, &s);
	}
	return s.found;
}

struct wanted {
	const char *values;
	bool is;
};

static void
compare(void *context, struct slice value)
{
	struct wanted *wanted = context;
	struct slice values = {(const uint8_t *)wanted->values, strlen(wanted->values)}, one;

	wanted->is = false;
	while (text_word(&values, &one))
		if (one.len == value.len && memcmp(one.at, value.at, one.len) == 0)
			wanted->is = true;
}

bool
boot_argument_is(struct probe *p, const char *name, const char *values)
{
	struct wanted wanted = {values, false};

	(void)boot_arguments(p, name, compare, &wanted);
	return wanted.is;
}
