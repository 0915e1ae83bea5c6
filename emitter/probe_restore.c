#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/mounts.h"
#include "emitter/probes.h"
#include "emitter/volumes.h"

#define MOUNTS_MAX (4 * 1024 * 1024)
#define IMAGE "root is an image"

/* What /etc lies on. */
struct etc {
	bool known, writable, overlay;
	size_t nearest; /* length of its mount point */
};

static void
take(struct etc *etc, const struct mount *m, bool writable)
{
	char point[256];
	size_t len = mount_unescape(m->point, point, sizeof point);

	if ((strcmp(point, "/") != 0 && strcmp(point, "/etc") != 0) || len == 0)
		return;
	/* Of several mounts on one place the last is on top. */
	if (etc->known && len < etc->nearest)
		return;
	etc->known = true;
	etc->nearest = len;
	etc->writable = writable;
	etc->overlay = text_is(m->type, "overlay") && mount_option(m->super.at ? m->super : m->options, "upperdir");
}

static void
read_live(struct probe *p, struct etc *etc)
{
	bool own = false;
	const char *path = volumes_mountinfo(p->source, &own);
	struct slice text = path ? source_read(p->source, path, MOUNTS_MAX) : (struct slice){NULL, 0}, line;
	struct mount m;

	while (text_line(&text, &line))
		if (mount_parse(line, &m))
			take(etc, &m, volumes_writable(&m, own));
}

static void
read_image(struct probe *p, struct etc *etc)
{
	struct slice text = source_read(p->source, "etc/fstab", SOURCE_FILE), line;
	struct mount m;

	while (text_line(&text, &line))
		if (fstab_parse(line, &m))
			take(etc, &m, !mount_option(m.options, "ro"));
}

/* A partition that brings back the factory's state, by the name that it was given. */
static bool
has_factory(struct probe *p)
{
	static const char *const names[] = {"dev/disk/by-partlabel/factory", "dev/disk/by-partlabel/recovery",
					    "dev/disk/by-partlabel/rescue",  "dev/disk/by-label/factory",
					    "dev/disk/by-label/recovery",    "dev/disk/by-label/rescue"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (source_exists(p->source, names[i]))
			return true;
	return false;
}

static const char *
mechanism(struct probe *p, const struct etc *etc)
{
	static const char *const rollbacks[] = {"slots", "deployments", "snapshots"};
	const char *rollback = facts_text(p->facts, FACT_UPDATE_ROLLBACK);
	bool baseline = false;

	if (etc->overlay)
		return "overlay";
	for (size_t i = 0; rollback && i < sizeof rollbacks / sizeof rollbacks[0]; i++)
		if (strcmp(rollback, rollbacks[i]) == 0)
			return rollbacks[i];
	if (source_is_live(p->source) && has_factory(p))
		return "factory";
	if (facts_bool(p->facts, FACT_CONFIGURATION_BASELINE_SIGNED, &baseline) && baseline)
		return "baseline";
	return NULL;
}

void
probe_restore(struct probe *p)
{
	bool live = source_is_live(p->source);
	struct etc etc = {0};
	const char *how;

	/* It hangs on what other probes found. */
	source_trace_transient(p->source);
	if (live)
		read_live(p, &etc);
	else
		read_image(p, &etc);
	if (etc.known)
		facts_set_bool(p->facts, FACT_CONFIGURATION_WRITABLE, etc.writable);
	else
		facts_unknown(p->facts, FACT_CONFIGURATION_WRITABLE, live ? source_why(p->source) : IMAGE);
	how = mechanism(p, &etc);
	if (how)
		facts_set_text(p->facts, FACT_CONFIGURATION_RESTORE, how);
	else if (live || source_exists(p->source, "etc/passwd"))
		facts_set_text(p->facts, FACT_CONFIGURATION_RESTORE, "none");
	else
		facts_unknown(p->facts, FACT_CONFIGURATION_RESTORE, source_why(p->source));
}
