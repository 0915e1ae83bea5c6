#include <stdio.h>
#include <string.h>

#include "emitter/boot_arguments.h"
#include "emitter/glob.h"
#include "emitter/update_conf.h"
#include "emitter/updates.h"
#include "schema/version.h"

#define SLOTS_MAX 16

struct slots {
	struct updates *updates;
	char names[SLOTS_MAX][64], bootnames[SLOTS_MAX][64];
	size_t len;
	char booted[64], version[128];
};

static void
keep(char *out, size_t size, struct slice text)
{
	snprintf(out, size, "%.*s", (int)(text.len < size ? text.len : size - 1),
		 text.len ? (const char *)text.at : "");
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void
add_slot(struct slots *s, struct slice name)
{
	if (s->len > 0 && text_is(name, s->names[s->len - 1]))
		return;
	if (s->len < SLOTS_MAX)
		keep(s->names[s->len++], sizeof s->names[0], name);
}

static void
take_rauc(void *context, struct slice section, struct slice name, struct slice value)
{
	struct slots *s = context;

	if (!text_begins(section, "slot."))
		return;
	add_slot(s, (struct slice){section.at + 5, section.len - 5});
	if (text_is(name, "bootname") && s->len > 0)
		keep(s->bootnames[s->len - 1], sizeof s->bootnames[0], value);
}

static void
keep_booted(void *context, struct slice value)
{
	struct slots *s = context;

	keep(s->booted, sizeof s->booted, value);
}

static void
read_rauc(struct slots *s)
{
	sections_parse(source_read(s->updates->probe->source, "etc/rauc/system.conf", SOURCE_FILE), take_rauc, s);
	if (source_is_live(s->updates->probe->source))
		(void)boot_arguments(s->updates->probe, "rauc.slot", keep_booted, s);
}

static void
read_mender(struct slots *s)
{
	static const char *const parts[] = {"RootfsPartA", "RootfsPartB"};
	struct slice text = source_read(s->updates->probe->source, "etc/mender/mender.conf", SOURCE_FILE), value;
	char found[2][64];
	size_t n = 0;

	for (size_t i = 0; text.at && i < 2; i++)
		if (quoted_value(text, parts[i], &value))
			keep(found[n++], sizeof found[0], value);
	for (size_t i = 0; i < n; i++)
		add_slot(s, string(found[i]));
}

/* ostree/deploy/OS/deploy/CHECKSUM.N; beside each lies an .origin file. */
static bool
take_deployment(void *context, const char *path)
{
	struct slots *s = context;
	const char *name = strrchr(path, '/') + 1;
	size_t len = strlen(name);

	if (len > 7 && strcmp(name + len - 7, ".origin") == 0)
		return true;
	s->updates->deployments++;
	add_slot(s, string(name));
	return true;
}

static void
tell_slots(struct slots *s)
{
	facts_begin_list(s->updates->probe->facts, FACT_UPDATE_SLOTS);
	for (size_t i = 0; i < s->len; i++) {
		struct fact_field row[4] = {{.kind = FIELD_TEXT, .bytes = string(s->names[i])}};

		if (s->booted[0]) {
			row[2].kind = FIELD_BOOL;
			row[2].flag = strcmp(s->booted, s->names[i]) == 0 || strcmp(s->booted, s->bootnames[i]) == 0;
		}
		facts_add_row(s->updates->probe->facts, FACT_UPDATE_SLOTS, row, 4);
	}
}

/* ---- kernels ---- */

struct kernels {
	char newest[128];
	size_t n;
};

/* Kernels of one package have one name and a version in it; the order of Debian's versions fits other distributions' releases too. */
static bool
take_kernel(void *context, const char *path)
{
	struct kernels *k = context;
	const char *release = strchr(strrchr(path, '/'), '-') + 1;

	if (strstr(release, "rescue"))
		return true;
	k->n++;
	if (k->newest[0] == '\0' || version_compare(VERSION_DEBIAN, string(release), string(k->newest)) > 0)
		snprintf(k->newest, sizeof k->newest, "%s", release);
	return true;
}

static void
read_kernels(struct updates *u, struct kernels *k)
{
	static const char *const patterns[] = {"boot/vmlinuz-*", "boot/vmlinux-*", "boot/Image-*", "boot/zImage-*"};

	memset(k, 0, sizeof *k);
	for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
		(void)!source_glob(u->probe->source, patterns[i], 256, take_kernel, k);
}

void
updates_reboot(struct updates *u)
{
	static const char *const marks[] = {"run/reboot-required", "var/run/reboot-required"};
	struct facts *facts = u->probe->facts;
	const char *running = facts_text(facts, FACT_OS_KERNEL);
	struct kernels k;

	if (!source_is_live(u->probe->source)) {
		facts_unknown(facts, FACT_UPDATE_REBOOT_NEEDED, "root is an image");
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		if (source_exists(u->probe->source, marks[i])) {
			facts_set_bool(facts, FACT_UPDATE_REBOOT_NEEDED, true);
			return;
		}
	}
	read_kernels(u, &k);
	if (k.n == 0 || !running)
		facts_unknown(facts, FACT_UPDATE_REBOOT_NEEDED,
			      "no kernel lies in /boot, and nothing asks for a reboot");
	else
		facts_set_bool(facts, FACT_UPDATE_REBOOT_NEEDED,
			       version_compare(VERSION_DEBIAN, string(k.newest), string(running)) > 0);
}

/* ---- the way back ---- */

/* Names are enough, and the first will do: a cache may hold thousands. */
struct ending {
	const char *end;
	bool found;
};

static bool
look_at_end(void *context, int directory, const char *name)
{
	struct ending *ending = context;
	size_t len = strlen(name), tail = strlen(ending->end);

	(void)directory;
	ending->found = len > tail && strcmp(name + len - tail, ending->end) == 0;
	return !ending->found;
}

static bool
has_one(struct updates *u, const char *directory, const char *end)
{
	struct ending ending = {end, false};

	(void)!source_list(u->probe->source, directory, SOURCE_NAMES, look_at_end, &ending);
	return ending.found;
}

void
updates_slots(struct updates *u)
{
	struct slots s = {.updates = u};
	const char *way = "none";
	struct kernels k;

	if (u->has[UPDATER_RAUC])
		read_rauc(&s);
	if (u->has[UPDATER_MENDER])
		read_mender(&s);
	u->slots = s.len;
	(void)!source_glob(u->probe->source, "ostree/deploy/*/deploy/*", 64, take_deployment, &s);
	tell_slots(&s);
	read_kernels(u, &k);
	if (u->slots > 1)
		way = "slots";
	else if (u->deployments > 1)
		way = "deployments";
	else if (has_one(u, "etc/snapper/configs", "") ||
		 source_exists(u->probe->source, "etc/timeshift/timeshift.json"))
		way = "snapshots";
	else if (k.n > 1)
		way = "kernels";
	else if (has_one(u, "var/cache/apt/archives", ".deb") ||
		 source_exists(u->probe->source, "var/lib/dnf/history.sqlite"))
		way = "packages";
	facts_set_text(u->probe->facts, FACT_UPDATE_ROLLBACK, way);
}
