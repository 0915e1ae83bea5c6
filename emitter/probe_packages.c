#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emitter/apk.h"
#include "emitter/components.h"
#include "emitter/dpkg.h"
#include "emitter/probes.h"
#include "emitter/rpm.h"

#define STATUS "var/lib/dpkg/status"
#define JOURNAL "var/lib/dpkg/updates"
#define STATUS_D "var/lib/dpkg/status.d"
#define DATABASE_MAX (128 * 1024 * 1024) /* a hundred times a desktop's: read in pieces, a third of a second */
#define JOURNAL_FILES 4096 /* dpkg begins anew at 250 */
#define STATUS_D_FILES LIMIT_COMPONENTS

/* What a database is read into. */
struct reading {
	struct probe *probe;
	struct components *components;
	struct dpkg *dpkg;
	char why[256]; /* the database could not be read to its end; empty: it was */
	bool no_memory;
};

static void
take_package(void *context, const struct dpkg_package *package)
{
	struct reading *r = context;

	if (package->condition == DPKG_INSTALLED)
		components_package(r->components, &package->component, package->cut);
	else if (package->condition == DPKG_BROKEN)
		components_broken(r->components, package->component.name);
}

/* ---- dpkg ---- */

/* Journal files have numbers; what dpkg is still writing is called tmp.i. */
struct journal {
	char (*names)[16];
	size_t len;
};

static bool
note_name(void *context, int directory, const char *name)
{
	struct journal *journal = context;
	struct slice text = {(const uint8_t *)name, strlen(name)};
	uint64_t number;

	(void)directory;
	if (text.len < sizeof journal->names[0] && text_number(text, 10, &number))
		memcpy(journal->names[journal->len++], name, text.len + 1);
	return journal->len < JOURNAL_FILES;
}

static int
newest_first(const void *a, const void *b)
{
	size_t len_a = strlen(a), len_b = strlen(b);

	if (len_a != len_b)
		return len_a < len_b ? 1 : -1;
	return strcmp(b, a);
}

static bool
feed(void *context, struct slice piece)
{
	dpkg_feed(context, piece);
	return true;
}

static int
read_file(struct reading *r, enum dpkg_source kind, const char *path)
{
	int result;

	dpkg_begin(r->dpkg, kind);
	result = source_stream(r->probe->source, path, DATABASE_MAX, feed, r->dpkg);
	r->no_memory = dpkg_end(r->dpkg) < 0 || r->no_memory;
	return result;
}

/* Before the status: if dpkg merges the journal into it meanwhile, both say the same. */
static int
read_journal(struct reading *r)
{
	struct journal journal = {calloc(JOURNAL_FILES, sizeof journal.names[0]), 0};
	char path[64];
	int result = -1;

	if (!journal.names)
		goto out;
	if (source_list(r->probe->source, JOURNAL, SOURCE_NAMES, note_name, &journal) < 0 &&
	    !source_missing(r->probe->source))
		goto out;
	qsort(journal.names, journal.len, sizeof journal.names[0], newest_first);
	for (size_t i = 0; i < journal.len; i++) {
		snprintf(path, sizeof path, JOURNAL "/%s", journal.names[i]);
		if (read_file(r, DPKG_JOURNAL, path) < 0 && !source_missing(r->probe->source))
			goto out;
	}
	result = 0;
out:
	free(journal.names);
	return result;
}

static bool
is_status_d(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < 128 && name[0] != '.' && !(len > 8 && strcmp(name + len - 8, ".md5sums") == 0);
}

struct directory {
	struct reading *reading;
	int result;
};

static bool
read_status_d(void *context, int directory, const char *name)
{
	struct directory *d = context;
	char path[192];

	(void)directory;
	if (!is_status_d(name))
		return true;
	snprintf(path, sizeof path, STATUS_D "/%s", name);
	d->result = read_file(d->reading, DPKG_STATUS_D, path);
	return d->result == 0;
}

static int
read_dpkg_files(struct reading *r)
{
	struct source *source = r->probe->source;
	struct directory d = {r, 0};

	if (read_journal(r) < 0)
		return -1;
	if (read_file(r, DPKG_STATUS, STATUS) < 0 && !source_missing(source))
		return -1;
	if (source_list(source, STATUS_D, STATUS_D_FILES, read_status_d, &d) < 0 && !source_missing(source))
		return -1;
	return d.result;
}

/* What dpkg_new was not given memory for is no memory for any of it. */
static int
with_dpkg(struct reading *r, enum component_type type, int (*read)(struct reading *, const char *), const char *path)
{
	int result;

	r->dpkg = dpkg_new(type, take_package, r);
	if (!r->dpkg) {
		r->no_memory = true;
		return 0;
	}
	result = read(r, path);
	if (result < 0)
		snprintf(r->why, sizeof r->why, "%s", source_why(r->probe->source));
	dpkg_free(r->dpkg);
	return result;
}

static int
read_all(struct reading *r, const char *path)
{
	(void)path;
	return read_dpkg_files(r);
}

static int
read_status(struct reading *r, const char *path)
{
	return read_file(r, DPKG_STATUS, path);
}

static int
read_dpkg(struct reading *r, const char *path)
{
	return with_dpkg(r, COMPONENT_DPKG, read_all, path);
}

/* ---- opkg, apk, rpm ---- */

static int
read_opkg(struct reading *r, const char *path)
{
	return with_dpkg(r, COMPONENT_OPKG, read_status, path);
}

static void
take_apk(void *context, const struct component *c, bool cut, bool broken)
{
	struct reading *r = context;

	components_package(r->components, c, cut);
	if (broken)
		components_broken(r->components, c->name);
}

static bool
feed_apk(void *context, struct slice piece)
{
	apk_feed(context, piece);
	return true;
}

static int
read_apk(struct reading *r, const char *path)
{
	struct apk apk = {.take = take_apk, .context = r};
	int result = source_stream(r->probe->source, path, DATABASE_MAX, feed_apk, &apk);

	apk_end(&apk);
	if (result < 0)
		snprintf(r->why, sizeof r->why, "%s", source_why(r->probe->source));
	return result;
}

static void
take_rpm(void *context, const struct component *c, bool cut)
{
	struct reading *r = context;

	components_package(r->components, c, cut);
}

/* Its directory is opened; what changes in it are these files. */
static int
read_rpm(struct reading *r, const char *path)
{
	static const char *const files[] = {"rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages"};
	char directory[64], file[96], why[CHILD_WHY];
	struct source_stamp stamp;
	int fd, result;

	snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		snprintf(file, sizeof file, "%s/%s", directory, files[i]);
		source_stamp(r->probe->source, file, &stamp);
	}
	fd = source_open(r->probe->source, directory, true);
	if (fd < 0) {
		snprintf(r->why, sizeof r->why, "%s", source_why(r->probe->source));
		return -1;
	}
	result = rpm_read(fd, take_rpm, r, why);
	close(fd);
	if (result < 0)
		snprintf(r->why, sizeof r->why, "%s: %s", directory, why);
	if (result == -2)
		source_trace_transient(r->probe->source);
	else if (result == -3)
		source_trace_later(r->probe->source);
	return result;
}

/* Package managers by what they leave behind. The first that is there counts. */
static const struct {
	const char *name, *path;
	int (*read)(struct reading *, const char *path);
} managers[] = {
	{"dpkg", STATUS, read_dpkg},
	{"dpkg", STATUS_D, read_dpkg},
	{"opkg", "usr/lib/opkg/status", read_opkg},
	{"opkg", "var/lib/opkg/status", read_opkg},
	{"apk", "lib/apk/db/installed", read_apk},
	{"apk", "usr/lib/apk/db/installed", read_apk},
	{"rpm", "usr/lib/sysimage/rpm/rpmdb.sqlite", read_rpm},
	{"rpm", "usr/lib/sysimage/rpm/Packages.db", read_rpm},
	{"rpm", "usr/lib/sysimage/rpm/Packages", read_rpm},
	{"rpm", "var/lib/rpm/rpmdb.sqlite", read_rpm},
	{"rpm", "var/lib/rpm/Packages.db", read_rpm},
	{"rpm", "var/lib/rpm/Packages", read_rpm},
};
#define MANAGERS (sizeof managers / sizeof managers[0])

/* ---- what is told ---- */

/* An image has a name and a version of its own (os-release(5)). */
static void
add_image(struct reading *r)
{
	const char *id = os_release_text(&r->probe->release, RELEASE_IMAGE_ID),
		   *version = os_release_text(&r->probe->release, RELEASE_IMAGE_VERSION);
	struct component c = {.type = COMPONENT_IMAGE};

	if (!id)
		return;
	c.name = (struct slice){(const uint8_t *)id, strlen(id)};
	c.version = (struct slice){(const uint8_t *)(version ? version : ""), version ? strlen(version) : 0};
	components_add(r->components, &c);
}

static void
all_unknown(struct probe *p, const char *why)
{
	facts_unknown(p->facts, FACT_PACKAGES_INSTALLED, why);
	facts_unknown(p->facts, FACT_PACKAGES_BROKEN, why);
	facts_unknown(p->facts, FACT_PACKAGES_LISTED, why);
}

static void
state(struct probe *p, const struct components_result *result)
{
	facts_set_uint(p->facts, FACT_PACKAGES_INSTALLED, result->installed);
	facts_begin_list(p->facts, FACT_PACKAGES_BROKEN);
	for (size_t i = 0; i < result->broken_len; i++)
		facts_add_text(p->facts, FACT_PACKAGES_BROKEN, result->broken[i]);
	if (result->unlisted)
		facts_unknown(p->facts, FACT_PACKAGES_LISTED, result->unlisted);
	else
		facts_set_uint(p->facts, FACT_PACKAGES_LISTED, result->listed);
}

void
probe_packages(struct probe *p)
{
	char distro[DISTRO_SIZE];
	struct reading r = {.probe = p};
	struct components_result result;
	size_t i = 0;

	free(p->inventory->encoded);
	memset(p->inventory, 0, sizeof *p->inventory);
	r.components = components_new(os_release_text(&p->release, RELEASE_ID), os_release_distro(&p->release, distro));
	if (!r.components) {
		p->no_memory = true;
		return;
	}
	while (i < MANAGERS && !source_exists(p->source, managers[i].path))
		i++;
	if (i < MANAGERS) {
		facts_set_text(p->facts, FACT_PACKAGES_MANAGER, managers[i].name);
		(void)managers[i].read(&r, managers[i].path);
	} else {
		facts_unknown(p->facts, FACT_PACKAGES_MANAGER, "no package manager is known here");
		snprintf(r.why, sizeof r.why, "no package manager is known here");
	}
	add_image(&r);
	if (r.no_memory || components_finish(r.components, p->inventory, &result) < 0)
		p->no_memory = true;
	else if (r.why[0])
		all_unknown(p, r.why);
	else
		state(p, &result);
	components_free(r.components);
}
