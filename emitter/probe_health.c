#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "emitter/health.h"
#include "emitter/mounts.h"
#include "emitter/probes.h"
#include "emitter/systemd.h"

#define MOUNTS_MAX 4096
#define POINT_SIZE 512
#define FAILED_MAX 4096 /* services */

/* File systems that can be written to and lie on this machine: to ask one over a network may take for ever. */
static const char *const local[] = {"ext2",  "ext3",     "ext4",   "xfs",   "btrfs", "f2fs",
				    "jfs",   "reiserfs", "nilfs2", "zfs",   "vfat",  "exfat",
				    "ntfs3", "bcachefs", "ubifs",  "jffs2", "tmpfs", "overlay"};

static bool
is_local(struct slice type)
{
	for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
		if (text_is(type, local[i]))
			return true;
	return false;
}

static void
add_unit(void *context, const char *unit)
{
	facts_add_text(context, FACT_HEALTH_FAILED_UNITS, unit);
}

static bool
take_failed(void *context, int directory, const char *name)
{
	(void)directory;
	facts_add_text(context, FACT_HEALTH_FAILED_UNITS, name);
	return true;
}

/* Of the systems of services only systemd and OpenRC keep what failed. */
static void
failed_units(struct probe *p)
{
	const char *why;

	if (source_exists(p->source, "run/openrc/started")) {
		facts_begin_list(p->facts, FACT_HEALTH_FAILED_UNITS);
		if (source_list(p->source, "run/openrc/failed", FAILED_MAX, take_failed, p->facts) < 0 &&
		    !source_missing(p->source))
			facts_unknown(p->facts, FACT_HEALTH_FAILED_UNITS, source_why(p->source));
	} else if (!source_is_live(p->source)) {
		facts_unknown(p->facts, FACT_HEALTH_FAILED_UNITS, "root is an image");
	} else if (!source_exists(p->source, "run/systemd/system")) {
		facts_unknown(p->facts, FACT_HEALTH_FAILED_UNITS, "neither systemd nor OpenRC runs the services here");
	} else {
		source_trace_transient(p->source);
		facts_begin_list(p->facts, FACT_HEALTH_FAILED_UNITS);
		if (systemd_failed_units(NULL, add_unit, p->facts, &why) < 0)
			facts_unknown(p->facts, FACT_HEALTH_FAILED_UNITS, why);
	}
}

bool
health_is_full(uint64_t blocks, uint64_t free, uint64_t available, uint64_t inodes, uint64_t inodes_free)
{
	uint64_t used = blocks > free ? blocks - free : 0;

	if (blocks == 0)
		return false;
	if (available > UINT64_MAX / 20 || used > UINT64_MAX - available)
		return false;
	if (available * 20 < used + available)
		return true;
	return inodes > 0 && inodes_free <= UINT64_MAX / 20 && inodes_free * 20 < inodes;
}

/* false as well when something else is mounted over it. A btrfs numbers each of its volumes. */
static bool
is_full(const struct mount *mount, const char *point)
{
	int fd = open(point, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	struct stat st;
	bool full;

	if (fd < 0)
		return false;
	full = fstat(fd, &st) == 0 &&
	       (text_is(mount->type, "btrfs") ||
		(major(st.st_dev) == mount->major && minor(st.st_dev) == mount->minor)) &&
	       fstatfs(fd, &fs) == 0 && health_is_full(fs.f_blocks, fs.f_bfree, fs.f_bavail, fs.f_files, fs.f_ffree);
	close(fd);
	return full;
}

/* One that is read-only although it could be written to. */
struct suspect {
	char point[POINT_SIZE], source[64];
	bool emergency;
	bool is_meant;
};

struct mounts {
	struct probe *probe;
	struct seen {
		unsigned major, minor;
	} seen[256]; /* file systems, of which the first mount counts */
	size_t seen_len;
	struct suspect suspects[32];
	size_t suspects_len;
};

static bool
was_seen(struct mounts *m, const struct mount *mount)
{
	for (size_t i = 0; i < m->seen_len; i++)
		if (m->seen[i].major == mount->major && m->seen[i].minor == mount->minor)
			return true;
	if (m->seen_len < sizeof m->seen / sizeof m->seen[0])
		m->seen[m->seen_len++] = (struct seen){mount->major, mount->minor};
	return false;
}

static void
suspect(struct mounts *m, const struct mount *mount, const char *point)
{
	struct suspect *s = &m->suspects[m->suspects_len];
	const uint8_t *slash = memrchr(mount->source.at, '/', mount->source.len);
	size_t len = slash ? (size_t)(mount->source.at + mount->source.len - slash - 1) : 0;

	if (m->suspects_len == sizeof m->suspects / sizeof m->suspects[0])
		return;
	memset(s, 0, sizeof *s);
	strcpy(s->point, point);
	if (len > 0 && len < sizeof s->source)
		memcpy(s->source, slash + 1, len);
	s->emergency = mount_option(mount->super, "emergency_ro");
	m->suspects_len++;
}

static void
take_mount(struct mounts *m, const struct mount *mount)
{
	char point[POINT_SIZE];

	if (!is_local(mount->type) || mount_unescape(mount->point, point, sizeof point) == 0 || was_seen(m, mount))
		return;
	/* The options of the mount itself are those of our own name space, in which much is read-only that is not elsewhere. */
	if (mount_option(mount->super, "ro"))
		suspect(m, mount, point);
	else if (source_is_live(m->probe->source) && is_full(mount, point))
		facts_add_text(m->probe->facts, FACT_HEALTH_FULL, point);
}

/* What fstab says goes before what the file system noted; without either, somebody may have meant it. */
static void
judge_suspects(struct mounts *m)
{
	struct slice text = source_read(m->probe->source, "etc/fstab", SOURCE_FILE), line, count;
	struct mount entry;
	char point[POINT_SIZE], path[128];
	uint64_t errors;

	while (text.at && text_line(&text, &line)) {
		if (!fstab_parse(line, &entry) || mount_unescape(entry.point, point, sizeof point) == 0)
			continue;
		for (size_t i = 0; i < m->suspects_len; i++) {
			if (strcmp(point, m->suspects[i].point) != 0)
				continue;
			if (mount_option(entry.options, "ro"))
				m->suspects[i].is_meant = true;
			else
				m->suspects[i].emergency = true;
		}
	}
	for (size_t i = 0; i < m->suspects_len; i++) {
		struct suspect *s = &m->suspects[i];

		snprintf(path, sizeof path, "sys/fs/ext4/%s/errors_count", s->source);
		count = s->emergency || s->is_meant || s->source[0] == '\0' || s->source[0] == '.'
				? (struct slice){NULL, 0}
				: source_read(m->probe->source, path, SOURCE_ATTRIBUTE);
		if (count.at && text_number(text_trim(count), 10, &errors) && errors > 0)
			s->emergency = true;
		if (s->emergency && !s->is_meant)
			facts_add_text(m->probe->facts, FACT_HEALTH_READ_ONLY, s->point);
	}
}

static void
file_systems(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/self/mountinfo", SOURCE_FILE), line;
	struct mounts m = {.probe = p};
	struct mount mount;

	if (!text.at) {
		facts_unknown(p->facts, FACT_HEALTH_FULL, probe_why(p));
		facts_unknown(p->facts, FACT_HEALTH_READ_ONLY, probe_why(p));
		return;
	}
	facts_begin_list(p->facts, FACT_HEALTH_FULL);
	facts_begin_list(p->facts, FACT_HEALTH_READ_ONLY);
	for (size_t i = 0; i < MOUNTS_MAX && text_line(&text, &line); i++)
		if (mount_parse(line, &mount))
			take_mount(&m, &mount);
	judge_suspects(&m);
	if (!source_is_live(p->source))
		facts_unknown(p->facts, FACT_HEALTH_FULL, "root is an image");
}

bool
oom_kills_parse(struct slice text, uint64_t *kills)
{
	struct slice line, name;

	while (text_line(&text, &line))
		if (text_word(&line, &name) && text_is(name, "oom_kill"))
			return text_number(text_trim(line), 10, kills);
	return false;
}

static void
oom_kills(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/vmstat", SOURCE_ATTRIBUTE);
	uint64_t kills;

	if (!text.at)
		facts_unknown(p->facts, FACT_HEALTH_OOM_KILLS, probe_why(p));
	else if (oom_kills_parse(text, &kills))
		facts_set_uint(p->facts, FACT_HEALTH_OOM_KILLS, kills);
	else
		facts_unknown(p->facts, FACT_HEALTH_OOM_KILLS, "this kernel does not count them");
}

void
probe_health(struct probe *p)
{
	failed_units(p);
	file_systems(p);
	oom_kills(p);
}
