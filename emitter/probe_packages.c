#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/probes.h"

#define STATUS "var/lib/dpkg/status"
#define JOURNAL "var/lib/dpkg/updates"
#define STATUS_D "var/lib/dpkg/status.d"
#define STATUS_MAX (128 * 1024 * 1024) /* a hundred times a desktop's: read in pieces, a third of a second */
#define JOURNAL_FILES 4096 /* dpkg begins anew at 250 */
#define STATUS_D_FILES LIMIT_COMPONENTS
#define DISTRO_SIZE 520

struct packages {
	bool known; /* all below is what the stamps belong to */
	struct source_stamp stamps[4];
	char os_id[256], distro[DISTRO_SIZE];
	char why[256]; /* the database could not be read to its end; empty: it was */
	struct dpkg *dpkg;
	struct dpkg_result result;
	struct inventory inventory;
};

/* Package managers by what they leave behind. The first that is there counts. */
static const struct {
	const char *name, *path;
	bool read;
} managers[] = {
	{"dpkg", STATUS, true},
	{"dpkg", STATUS_D, true},
	{"opkg", "usr/lib/opkg/status", false},
	{"opkg", "var/lib/opkg/status", false},
	{"apk", "lib/apk/db/installed", false},
	{"apk", "usr/lib/apk/db/installed", false},
	{"rpm", "usr/lib/sysimage/rpm", false},
	{"rpm", "var/lib/rpm", false},
};

struct packages *
packages_new(void)
{
	return calloc(1, sizeof(struct packages));
}

static void
forget(struct packages *k)
{
	dpkg_free(k->dpkg);
	free(k->inventory.encoded);
	memset(k, 0, sizeof *k);
}

void
packages_free(struct packages *k)
{
	if (!k)
		return;
	forget(k);
	free(k);
}

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
read_file(struct probe *p, enum dpkg_source kind, const char *path)
{
	struct dpkg *dpkg = p->packages->dpkg;
	int result;

	dpkg_begin(dpkg, kind);
	result = source_stream(p->source, path, STATUS_MAX, feed, dpkg);
	dpkg_end(dpkg);
	return result;
}

/* Before the status: if dpkg merges the journal into it meanwhile, both say the same. */
static int
read_journal(struct probe *p)
{
	struct journal journal = {calloc(JOURNAL_FILES, sizeof journal.names[0]), 0};
	char path[64];
	int result = -1;

	if (!journal.names)
		goto out;
	if (source_list(p->source, JOURNAL, SOURCE_NAMES, note_name, &journal) < 0 && !source_missing(p->source))
		goto out;
	qsort(journal.names, journal.len, sizeof journal.names[0], newest_first);
	for (size_t i = 0; i < journal.len; i++) {
		snprintf(path, sizeof path, JOURNAL "/%s", journal.names[i]);
		if (read_file(p, DPKG_JOURNAL, path) < 0 && !source_missing(p->source))
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
	struct probe *probe;
	struct source_stamp *sum;
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
	d->result = read_file(d->probe, DPKG_STATUS_D, path);
	return d->result == 0;
}

/* The order of a directory means nothing, so the files' stamps are added up. */
static bool
stamp_status_d(void *context, int directory, const char *name)
{
	struct directory *d = context;
	struct source_stamp one;
	char path[192];

	(void)directory;
	if (!is_status_d(name))
		return true;
	snprintf(path, sizeof path, STATUS_D "/%s", name);
	source_stamp(d->probe->source, path, &one);
	d->sum->device += one.device;
	d->sum->inode += one.inode;
	d->sum->size += one.size;
	d->sum->modified_s += one.modified_s;
	d->sum->modified_ns += one.modified_ns;
	d->sum->changed_s += one.changed_s;
	d->sum->changed_ns += one.changed_ns;
	return true;
}

static void
take_stamps(struct probe *p, struct source_stamp stamps[4])
{
	struct directory d = {p, &stamps[3], 0};

	source_stamp(p->source, STATUS, &stamps[0]);
	source_stamp(p->source, JOURNAL, &stamps[1]);
	source_stamp(p->source, STATUS_D, &stamps[2]);
	memset(&stamps[3], 0, sizeof stamps[3]);
	if (stamps[2].inode)
		(void)!source_list(p->source, STATUS_D, STATUS_D_FILES, stamp_status_d, &d);
}

static int
read_all(struct probe *p)
{
	struct directory d = {p, NULL, 0};

	if (read_journal(p) < 0)
		return -1;
	if (read_file(p, DPKG_STATUS, STATUS) < 0 && !source_missing(p->source))
		return -1;
	if (source_list(p->source, STATUS_D, STATUS_D_FILES, read_status_d, &d) < 0 && !source_missing(p->source))
		return -1;
	return d.result;
}

/* What purls call the distribution: its release's code name, or "alpine-3.20" for those that have none. */
static void
name_distro(const struct os_release *release, char os_id[256], char distro[DISTRO_SIZE])
{
	const char *id = os_release_text(release, RELEASE_ID),
		   *code = os_release_text(release, RELEASE_VERSION_CODENAME),
		   *version = os_release_text(release, RELEASE_VERSION_ID);

	snprintf(os_id, 256, "%s", id ? id : "");
	if (code)
		snprintf(distro, DISTRO_SIZE, "%s", code);
	else if (id && version)
		snprintf(distro, DISTRO_SIZE, "%s-%s", id, version);
	else
		distro[0] = '\0';
}

/* -1: no memory. */
static int
read_dpkg(struct probe *p)
{
	struct packages *k = p->packages;
	struct source_stamp stamps[4];
	char os_id[256], distro[DISTRO_SIZE];

	take_stamps(p, stamps);
	name_distro(&p->release, os_id, distro);
	if (k->known && memcmp(k->stamps, stamps, sizeof stamps) == 0 && strcmp(k->os_id, os_id) == 0 &&
	    strcmp(k->distro, distro) == 0)
		return 0;
	forget(k);
	k->dpkg = dpkg_new(os_id[0] ? os_id : NULL, distro[0] ? distro : NULL);
	if (!k->dpkg)
		return -1;
	if (read_all(p) < 0)
		snprintf(k->why, sizeof k->why, "%s", source_why(p->source));
	if (dpkg_finish(k->dpkg, &k->inventory, &k->result) < 0)
		return -1;
	memcpy(k->stamps, stamps, sizeof stamps);
	strcpy(k->os_id, os_id);
	strcpy(k->distro, distro);
	k->known = k->why[0] == '\0';
	return 0;
}

static void
all_unknown(struct probe *p, const char *why)
{
	facts_unknown(p->facts, FACT_PACKAGES_INSTALLED, why);
	facts_unknown(p->facts, FACT_PACKAGES_BROKEN, why);
	facts_unknown(p->facts, FACT_PACKAGES_LISTED, why);
}

static void
state(struct probe *p, const struct packages *k)
{
	if (k->why[0]) {
		all_unknown(p, k->why);
		return;
	}
	facts_set_uint(p->facts, FACT_PACKAGES_INSTALLED, k->result.installed);
	facts_begin_list(p->facts, FACT_PACKAGES_BROKEN);
	for (size_t i = 0; i < k->result.broken_len; i++)
		facts_add_text(p->facts, FACT_PACKAGES_BROKEN, k->result.broken[i]);
	if (k->result.unlisted)
		facts_unknown(p->facts, FACT_PACKAGES_LISTED, k->result.unlisted);
	else
		facts_set_uint(p->facts, FACT_PACKAGES_LISTED, k->result.listed);
}

/* A set of no components, for what has no database that can be read. */
static int
nothing(struct packages *k)
{
	struct dpkg *none = dpkg_new(NULL, NULL);
	struct dpkg_result result;
	int got = none ? dpkg_finish(none, &k->inventory, &result) : -1;

	dpkg_free(none);
	return got;
}

void
probe_packages(struct probe *p)
{
	struct packages *k = p->packages;
	size_t i = 0;
	char why[64];
	int result;

	while (i < sizeof managers / sizeof managers[0] && !source_exists(p->source, managers[i].path))
		i++;
	if (i < sizeof managers / sizeof managers[0] && managers[i].read) {
		facts_set_text(p->facts, FACT_PACKAGES_MANAGER, managers[i].name);
		result = read_dpkg(p);
		state(p, k);
	} else if (i < sizeof managers / sizeof managers[0]) {
		forget(k);
		facts_set_text(p->facts, FACT_PACKAGES_MANAGER, managers[i].name);
		snprintf(why, sizeof why, "the database of %s is not read", managers[i].name);
		all_unknown(p, why);
		result = nothing(k);
	} else {
		forget(k);
		facts_unknown(p->facts, FACT_PACKAGES_MANAGER, "no package manager is known here");
		all_unknown(p, "no package manager is known here");
		result = nothing(k);
	}
	p->no_memory = p->no_memory || result < 0;
	*p->inventory = k->inventory;
}
