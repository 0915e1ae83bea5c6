/* Whether dm-verity stands below the root file system. */
#include "emitter/verity.h"

#include <stdio.h>
#include <string.h>

#include "emitter/boot_arguments.h"
#include "emitter/mounts.h"

#define DEPTH 8 /* device-mapper devices on one another */
#define SLAVES_MAX 32

struct stack {
	struct probe *probe;
	char names[SLAVES_MAX][64]; /* block devices below the root, those still to be looked at last */
	size_t len;
};

static bool
take_slave(void *context, int directory, const char *name)
{
	struct stack *stack = context;

	(void)directory;
	if (stack->len < SLAVES_MAX && strlen(name) < sizeof stack->names[0])
		strcpy(stack->names[stack->len++], name);
	return stack->len < SLAVES_MAX;
}

static bool
is_verity(struct probe *p, const char *directory)
{
	char path[128];
	struct slice uuid;

	snprintf(path, sizeof path, "%.96s/dm/uuid", directory);
	uuid = source_read(p->source, path, SOURCE_ATTRIBUTE);
	return uuid.at && text_begins(uuid, "CRYPT-VERITY-");
}

static bool
stands_on_verity(struct probe *p, const char *directory)
{
	struct stack stack = {.probe = p};
	char path[128];

	if (is_verity(p, directory))
		return true;
	snprintf(path, sizeof path, "%.96s/slaves", directory);
	(void)!source_list(p->source, path, SLAVES_MAX, take_slave, &stack);
	for (size_t i = 0, left = DEPTH; i < stack.len && left > 0; i++, left--) {
		snprintf(path, sizeof path, "sys/class/block/%.63s", stack.names[i]);
		if (is_verity(p, path))
			return true;
		snprintf(path, sizeof path, "sys/class/block/%.63s/slaves", stack.names[i]);
		(void)!source_list(p->source, path, SLAVES_MAX, take_slave, &stack);
	}
	return false;
}

/* The directory of sysfs that describes the device of the root; of several mounts on "/" the last one is seen. */
static bool
find_root(struct slice text, char *directory, size_t size, const char **why)
{
	struct slice line, base;
	struct mount mount;

	*why = "no file system is mounted on /";
	directory[0] = '\0';
	while (text_line(&text, &line)) {
		if (!mount_parse(line, &mount) || !text_is(mount.point, "/"))
			continue;
		directory[0] = '\0';
		*why = "the root file system does not lie on one device";
		if (mount.major != 0) {
			snprintf(directory, size, "sys/dev/block/%u:%u", mount.major, mount.minor);
		} else if (text_begins(mount.source, "/dev/") && !text_begins(mount.source, "/dev/mapper/")) {
			base = (struct slice){mount.source.at + 5, mount.source.len - 5};
			if (base.len > 0 && base.len < 64 && !memchr(base.at, '/', base.len) && base.at[0] != '.')
				snprintf(directory, size, "sys/class/block/%.*s", (int)base.len, (const char *)base.at);
		}
	}
	return directory[0] != '\0';
}

static void
found(void *context, struct slice value)
{
	*(bool *)context = *(bool *)context || value.len > 0;
}

/* An image without a running kernel: what it will be started with. */
static void
from_configuration(struct probe *p)
{
	static const char *const arguments[] = {"roothash", "systemd.verity_root_hash", "verity.roothash"};
	bool any = false, read = false;

	for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++)
		read = boot_arguments(p, arguments[i], found, &any) || read;
	if (read)
		facts_set_bool(p->facts, FACT_BOOT_VERITY, any);
	else
		facts_unknown(p->facts, FACT_BOOT_VERITY, "root is an image without a boot configuration");
}

void
verity_observe(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/self/mountinfo", SOURCE_FILE);
	char directory[96];
	const char *why;

	if (!text.at && !source_is_live(p->source))
		from_configuration(p);
	else if (!text.at)
		facts_unknown(p->facts, FACT_BOOT_VERITY, source_why(p->source));
	else if (!find_root(text, directory, sizeof directory, &why))
		facts_unknown(p->facts, FACT_BOOT_VERITY, why);
	else if (!source_exists(p->source, directory))
		facts_unknown(p->facts, FACT_BOOT_VERITY, source_why(p->source));
	else
		facts_set_bool(p->facts, FACT_BOOT_VERITY, stands_on_verity(p, directory));
}
