#include "emitter/volumes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "emitter/text.h"

#define DEPTH_MAX 8 /* a file system on LVM on LUKS on RAID is 4 */
#define SLAVES_MAX 64
#define RAM_MAJOR 1
#define MOUNTS_MAX (4 * 1024 * 1024)

/* ---- below a block device ---- */

struct below {
	struct source *source;
	const struct volumes *volumes; /* so far, for loops */
	unsigned depth, slaves;
	bool plain, unknown;
};

static enum cover cover_of_directory(struct below *, const char *directory);

static bool
is_encrypting(struct slice uuid)
{
	return text_begins(uuid, "CRYPT-") && !text_begins(uuid, "CRYPT-VERITY") &&
	       !text_begins(uuid, "CRYPT-INTEGRITY");
}

static bool
take_slave(void *context, int directory, const char *name)
{
	struct below *above = context, below = *above;
	char path[VOLUME_PATH];
	enum cover cover;

	(void)directory;
	above->slaves++;
	below.depth++;
	below.slaves = 0;
	below.plain = below.unknown = false;
	if ((size_t)snprintf(path, sizeof path, "sys/class/block/%s", name) >= sizeof path || below.depth > DEPTH_MAX)
		cover = COVER_UNKNOWN;
	else
		cover = cover_of_directory(&below, path);
	above->plain = above->plain || cover == COVER_PLAIN;
	above->unknown = above->unknown || cover == COVER_UNKNOWN;
	return true;
}

/* The volume that a file lies on: the one mounted nearest above it. */
static enum cover
cover_of_file(const struct volumes *volumes, const char *path)
{
	const struct volume *nearest = NULL;

	for (size_t i = 0; i < volumes->len; i++) {
		size_t len = strlen(volumes->at[i].point);

		if (len == 1)
			len = 0; /* "/" */
		if (!volumes->at[i].swap && strncmp(path, volumes->at[i].point, len) == 0 && path[len] == '/' &&
		    (!nearest || len > strlen(nearest->point)))
			nearest = &volumes->at[i];
	}
	return nearest ? nearest->cover : COVER_UNKNOWN;
}

static enum cover
cover_of_directory(struct below *b, const char *directory)
{
	char path[VOLUME_PATH + 32], file[VOLUME_PATH];
	struct slice text;

	snprintf(path, sizeof path, "%s/dm/uuid", directory);
	text = source_read(b->source, path, SOURCE_ATTRIBUTE);
	if (text.at && is_encrypting(text))
		return COVER_ENCRYPTED;
	snprintf(path, sizeof path, "%s/loop/backing_file", directory);
	text = source_read(b->source, path, SOURCE_ATTRIBUTE);
	if (text.at) {
		text = text_trim(text);
		snprintf(file, sizeof file, "%.*s", text.len < sizeof file ? (int)text.len : 0, (const char *)text.at);
		return cover_of_file(b->volumes, file);
	}
	snprintf(path, sizeof path, "%s/slaves", directory);
	if (source_list(b->source, path, SLAVES_MAX, take_slave, b) < 0 && !source_missing(b->source))
		return COVER_UNKNOWN;
	if (b->slaves == 0)
		return COVER_PLAIN;
	/* One part in the clear is enough. */
	if (b->plain)
		return COVER_PLAIN;
	return b->unknown ? COVER_UNKNOWN : COVER_ENCRYPTED;
}

static enum cover
cover_of_device(struct source *source, const struct volumes *volumes, unsigned major, unsigned minor)
{
	struct below b = {.source = source, .volumes = volumes};
	char path[64];

	if (major == RAM_MAJOR)
		return COVER_MEMORY;
	snprintf(path, sizeof path, "sys/dev/block/%u:%u", major, minor);
	if (!source_exists(source, path))
		return COVER_UNKNOWN;
	return cover_of_directory(&b, path);
}

/* ---- a running system ---- */

/* File systems that lie on a disk but have no block device's number: on flash without blocks, over several devices, or encrypting by themselves. */
static const struct {
	const char *type;
	enum cover cover;
} types[] = {
	{"ubifs", COVER_PLAIN},          {"jffs2", COVER_PLAIN},
	{"yaffs2", COVER_PLAIN},         {"btrfs", COVER_UNKNOWN},
	{"bcachefs", COVER_UNKNOWN},     {"zfs", COVER_UNKNOWN},
	{"ecryptfs", COVER_ENCRYPTED},   {"fuse.gocryptfs", COVER_ENCRYPTED},
	{"fuse.encfs", COVER_ENCRYPTED}, {"fuse.cryfs", COVER_ENCRYPTED},
};

static bool
is_on_disk(const struct mount *m, enum cover *cover)
{
	*cover = COVER_UNKNOWN;
	if (m->major != 0)
		return true;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (text_is(m->type, types[i].type)) {
			*cover = types[i].cover;
			return true;
		}
	return false;
}

/* The device's number by its node, for file systems that have several devices. */
static bool
find_number(struct source *source, struct slice name, unsigned *major, unsigned *minor)
{
	char path[VOLUME_PATH];
	struct stat st;

	if (mount_unescape(name, path, sizeof path) == 0 || source_stat(source, path, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	*major = major(st.st_rdev);
	*minor = minor(st.st_rdev);
	return true;
}

/* A device that is mounted in several places is told once, by the shortest of its paths. */
static struct volume *
place_for(struct volumes *v, const struct mount *m, const char *point)
{
	for (size_t i = 0; i < v->len; i++) {
		if (v->at[i].major != m->major || v->at[i].minor != m->minor || m->major == 0)
			continue;
		if (strlen(v->at[i].point) > strlen(point))
			strcpy(v->at[i].point, point);
		return &v->at[i];
	}
	if (v->len == VOLUMES_MAX) {
		snprintf(v->why, sizeof v->why, "more than %d volumes are mounted", VOLUMES_MAX);
		return NULL;
	}
	v->at[v->len] = (struct volume){.major = m->major, .minor = m->minor};
	strcpy(v->at[v->len].point, point);
	return &v->at[v->len++];
}

bool
volumes_writable(const struct mount *m, bool own)
{
	return (own || mount_option(m->options, "rw")) && mount_option(m->super, "rw");
}

static void
take_mount(struct source *source, struct volumes *v, struct mount *m, bool own)
{
	bool writable = volumes_writable(m, own);
	char point[VOLUME_PATH];
	struct volume *volume;
	enum cover cover;

	if (!is_on_disk(m, &cover) || mount_unescape(m->point, point, sizeof point) == 0)
		return;
	if (m->major == 0 && cover == COVER_UNKNOWN && !find_number(source, m->source, &m->major, &m->minor))
		cover = COVER_UNKNOWN;
	volume = place_for(v, m, point);
	if (!volume)
		return;
	volume->writable = volume->writable || writable;
	if (cover == COVER_UNKNOWN && m->major != 0)
		cover = cover_of_device(source, v, m->major, m->minor);
	volume->cover = cover;
}

const char *
volumes_mountinfo(struct source *source, bool *own)
{
	static const char *const paths[] = {"proc/1/mountinfo", "proc/self/mountinfo"};

	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
		if (source_read(source, paths[i], MOUNTS_MAX).at) {
			*own = i > 0;
			return paths[i];
		}
	return NULL;
}

/* A copy, since each mount's device is looked up meanwhile. */
static void
read_mounts(struct source *source, struct volumes *v)
{
	bool own = false;
	const char *path = volumes_mountinfo(source, &own);
	struct slice text = path ? source_read(source, path, MOUNTS_MAX) : (struct slice){NULL, 0}, line;
	uint8_t *copy = text.at ? malloc(text.len + 1) : NULL;
	struct mount m;

	if (!copy) {
		snprintf(v->why, sizeof v->why, "%s", source_why(source));
		return;
	}
	memcpy(copy, text.at, text.len);
	for (text.at = copy; text_line(&text, &line);)
		if (mount_parse(line, &m))
			take_mount(source, v, &m, own);
	free(copy);
}

static void
add_swap(struct source *source, struct volumes *v, const char *path)
{
	struct volume *volume = &v->at[v->len];
	struct stat st;

	if (v->len == VOLUMES_MAX)
		return;
	*volume = (struct volume){.swap = true, .writable = true, .cover = COVER_UNKNOWN};
	if (strncmp(path, "/dev/zram", 9) == 0)
		volume->cover = COVER_MEMORY;
	else if (source_stat(source, path, &st) == 0 && S_ISBLK(st.st_mode))
		volume->cover = cover_of_device(source, v, major(st.st_rdev), minor(st.st_rdev));
	else if (strncmp(path, "/dev/", 5) != 0)
		volume->cover = cover_of_file(v, path);
	v->len++;
}

static void
read_swaps(struct source *source, struct volumes *v)
{
	struct slice text = source_read(source, "proc/swaps", SOURCE_ATTRIBUTE), line, name;
	char paths[32][VOLUME_PATH];
	size_t n = 0;

	if (!text.at && !source_missing(source))
		snprintf(v->swap_why, sizeof v->swap_why, "%s", source_why(source));
	while (n < 32 && text_line(&text, &line))
		if (swap_parse(line, &name) && mount_unescape(name, paths[n], sizeof paths[0]) > 0)
			n++;
	for (size_t i = 0; i < n; i++)
		add_swap(source, v, paths[i]);
}

/* ---- an image ---- */

static bool
is_mapped(struct slice crypttab, struct slice name)
{
	struct crypt_volume c;
	struct slice line;

	while (text_line(&crypttab, &line))
		if (crypttab_parse(line, &c) && c.name.len == name.len && memcmp(c.name.at, name.at, name.len) == 0)
			return true;
	return false;
}

/* By what fstab calls it. A name that may be that of an encrypted volume or of another, as a UUID, tells nothing once there are encrypted ones. */
static enum cover
cover_of_name(struct slice source, struct slice crypttab, bool any)
{
	static const char mapper[] = "/dev/mapper/";
	struct slice name = source;

	if (text_begins(source, "/dev/zram") || text_begins(source, "/dev/ram"))
		return COVER_MEMORY;
	if (!any)
		return COVER_PLAIN;
	if (text_begins(source, mapper)) {
		name.at += sizeof mapper - 1;
		name.len -= sizeof mapper - 1;
		return is_mapped(crypttab, name) ? COVER_ENCRYPTED : COVER_UNKNOWN;
	}
	if (text_begins(source, "PARTUUID=") || text_begins(source, "PARTLABEL=") || text_begins(source, "/dev/sd") ||
	    text_begins(source, "/dev/mmcblk") || text_begins(source, "/dev/nvme") || text_begins(source, "/dev/vd"))
		return COVER_PLAIN;
	return COVER_UNKNOWN;
}

static bool
is_disk_type(const struct mount *m)
{
	static const char *const others[] = {
		"proc",      "sysfs",  "tmpfs", "devpts",   "devtmpfs", "debugfs", "tracefs",  "cgroup",   "cgroup2",
		"nfs",       "nfs4",   "cifs",  "overlay",  "none",     "ramfs",   "efivarfs", "configfs", "securityfs",
		"hugetlbfs", "mqueue", "9p",    "virtiofs", "iso9660",  "udf",     "squashfs", "erofs",    "bind"};

	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (text_is(m->type, others[i]))
			return false;
	return !mount_option(m->options, "bind") && !mount_option(m->options, "noauto");
}

static void
take_fstab(struct volumes *v, const struct mount *m, struct slice crypttab, bool any)
{
	struct volume *volume = &v->at[v->len];

	if (!is_disk_type(m) || v->len == VOLUMES_MAX)
		return;
	*volume = (struct volume){.swap = text_is(m->type, "swap"), .writable = !mount_option(m->options, "ro")};
	if (!volume->swap && mount_unescape(m->point, volume->point, sizeof volume->point) == 0)
		return;
	volume->cover = cover_of_name(m->source, crypttab, any);
	v->len++;
}

static void
read_tables(struct source *source, struct volumes *v)
{
	struct slice crypttab = source_read(source, "etc/crypttab", SOURCE_FILE), text, line;
	uint8_t *copy = malloc(crypttab.len + 1);
	struct crypt_volume c;
	struct mount m;
	bool any = false;

	if (!copy || (!crypttab.at && !source_missing(source))) {
		snprintf(v->why, sizeof v->why, "%s", source_why(source));
		goto out;
	}
	if (crypttab.at)
		memcpy(copy, crypttab.at, crypttab.len);
	crypttab.at = copy;
	for (text = crypttab; text_line(&text, &line);)
		any = any || crypttab_parse(line, &c);
	text = source_read(source, "etc/fstab", SOURCE_FILE);
	if (!text.at)
		snprintf(v->why, sizeof v->why, "%s",
			 source_missing(source) ? "root is an image without an fstab" : source_why(source));
	while (text_line(&text, &line))
		if (fstab_parse(line, &m))
			take_fstab(v, &m, crypttab, any);
	/* An empty one, as many images have, says nothing. */
	if (!v->why[0] && v->len == 0)
		snprintf(v->why, sizeof v->why, "the image's fstab names no volume");
out:
	strcpy(v->swap_why, v->why);
	free(copy);
}

void
volumes_read(struct source *source, struct volumes *v)
{
	memset(v, 0, sizeof *v);
	if (!source_is_live(source)) {
		read_tables(source, v);
		return;
	}
	read_mounts(source, v);
	read_swaps(source, v);
}
