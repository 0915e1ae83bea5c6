/*
 * A disk whose power may go at any moment. Linked with --wrap, the calls below do what they say, and are noted too: what of each file and of each
 * directory is certain, and what was only asked for since. cut_disk_lay then lays a directory as it may look afterwards: of each 512 bytes any
 * of the versions since the last sync, of each name likewise, the size of any of them, and what nobody wrote is nought or what lay there before.
 */
#ifndef FLEETSTATE_TESTS_CUT_DISK_H
#define FLEETSTATE_TESTS_CUT_DISK_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define SECTOR 512
#define DESCRIPTORS 256
#define NAMES 512
#define OLD_SECTORS 64

/* The first of the versions is certain, the last is what the program sees. */
struct content {
	uint8_t *bytes;
	size_t len;
};

struct node {
	struct node *next;
	bool directory;
	struct content *versions;
	size_t len;
};

struct name {
	struct node *parent;
	char text[80];
	struct node **versions; /* NULL in it: no such name */
	size_t len;
};

static struct {
	bool noting;
	void (*noted)(void); /* after each call that changes something */
	struct node *nodes, *root, *descriptors[DESCRIPTORS];
	struct name names[NAMES];
	size_t names_len;
	uint8_t old[OLD_SECTORS][SECTOR]; /* what once lay on the disk */
	size_t old_len, synced, written;
	uint64_t random;
} disk;

static uint64_t
disk_random(uint64_t below)
{
	disk.random ^= disk.random << 13;
	disk.random ^= disk.random >> 7;
	disk.random ^= disk.random << 17;
	return disk.random % below;
}

/* ---- what was noted ---- */

static void
node_push(struct node *n, const uint8_t *bytes, size_t len)
{
	n->versions = reallocarray(n->versions, n->len + 1, sizeof *n->versions);
	uint8_t *copy = calloc(1, len + 1);
	if (len > 0)
		memcpy(copy, bytes, len);
	n->versions[n->len++] = (struct content){copy, len};
}

static struct node *
node_new(bool directory)
{
	struct node *n = calloc(1, sizeof *n);
	n->directory = directory;
	n->next = disk.nodes;
	disk.nodes = n;
	if (!directory)
		node_push(n, NULL, 0);
	return n;
}

static void
node_sync(struct node *n)
{
	struct content last = n->versions[n->len - 1];
	if (n->len > 1 && last.len >= SECTOR)
		memcpy(disk.old[disk.old_len++ % OLD_SECTORS], last.bytes + (last.len / SECTOR - 1) * SECTOR, SECTOR);
	for (size_t i = 0; i + 1 < n->len; i++)
		free(n->versions[i].bytes);
	n->versions[0] = last;
	n->len = 1;
}

static struct name *
name_of(struct node *parent, const char *text)
{
	for (size_t i = 0; i < disk.names_len; i++)
		if (disk.names[i].parent == parent && strcmp(disk.names[i].text, text) == 0)
			return &disk.names[i];
	if (disk.names_len == NAMES)
		abort();
	struct name *n = &disk.names[disk.names_len++];
	*n = (struct name){.parent = parent, .versions = calloc(1, sizeof(struct node *)), .len = 1};
	snprintf(n->text, sizeof n->text, "%s", text);
	return n;
}

static struct node *
name_node(const struct name *n)
{
	return n->versions[n->len - 1];
}

static void
name_push(struct name *n, struct node *node)
{
	n->versions = reallocarray(n->versions, n->len + 1, sizeof(struct node *));
	n->versions[n->len++] = node;
}

static void
directory_sync(const struct node *directory)
{
	for (size_t i = 0; i < disk.names_len; i++) {
		struct name *n = &disk.names[i];
		if (n->parent != directory)
			continue;
		n->versions[0] = name_node(n);
		n->len = 1;
	}
}

static struct node *
noted(int fd)
{
	return disk.noting && fd >= 0 && fd < DESCRIPTORS ? disk.descriptors[fd] : NULL;
}

static void
changed(void)
{
	if (disk.noted != NULL)
		disk.noted();
}

/* ---- the calls ---- */

int __real_openat(int at, const char *path, int flags, ...);
int __real_close(int fd);
ssize_t __real_pwrite(int fd, const void *bytes, size_t len, off_t at);
int __real_ftruncate(int fd, off_t len);
int __real_renameat(int from, const char *old, int to, const char *new);
int __real_unlinkat(int at, const char *path, int flags);
int __real_mkdirat(int at, const char *path, mode_t mode);
int __wrap_openat(int at, const char *path, int flags, ...);
int __wrap_close(int fd);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t at);
int __wrap_ftruncate(int fd, off_t len);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_unlinkat(int at, const char *path, int flags);
int __wrap_mkdirat(int at, const char *path, mode_t mode);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

static void
note_open(int fd, struct node *parent, const char *path, int flags)
{
	if (fd < 0 || fd >= DESCRIPTORS)
		return;
	if (strcmp(path, ".") == 0) {
		disk.descriptors[fd] = parent;
		return;
	}
	struct name *name = name_of(parent, path);
	bool fresh = name_node(name) == NULL;
	if (fresh)
		name_push(name, node_new(false));
	struct node *node = disk.descriptors[fd] = name_node(name);
	if (!fresh && (flags & O_TRUNC))
		node_push(node, NULL, 0);
	if (fresh || (flags & O_TRUNC))
		changed();
}

int
__wrap_openat(int at, const char *path, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	mode_t mode = (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	int fd = __real_openat(at, path, flags, mode);
	struct node *parent = noted(at);
	if (fd >= 0 && fd < DESCRIPTORS)
		disk.descriptors[fd] = NULL;
	if (parent != NULL)
		note_open(fd, parent, path, flags);
	return fd;
}

int
__wrap_close(int fd)
{
	if (fd >= 0 && fd < DESCRIPTORS)
		disk.descriptors[fd] = NULL;
	return __real_close(fd);
}

ssize_t
__wrap_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	struct node *node = noted(fd);
	ssize_t n = __real_pwrite(fd, bytes, len, at);
	if (node == NULL || n <= 0)
		return n;
	size_t end = (size_t)at + (size_t)n;
	const struct content *last = &node->versions[node->len - 1];
	size_t size = last->len > end ? last->len : end;
	uint8_t *after = calloc(1, size);
	if (last->len > 0)
		memcpy(after, last->bytes, last->len);
	memcpy(after + at, bytes, (size_t)n);
	node_push(node, after, size);
	free(after);
	disk.written += (size_t)n;
	changed();
	return n;
}

int
__wrap_ftruncate(int fd, off_t len)
{
	struct node *node = noted(fd);
	int rc = __real_ftruncate(fd, len);
	if (node != NULL && rc == 0) {
		const struct content last = node->versions[node->len - 1];
		if ((size_t)len > last.len)
			abort(); /* nobody does */
		node_push(node, last.bytes, (size_t)len);
		changed();
	}
	return rc;
}

int
__wrap_renameat(int from, const char *old, int to, const char *new)
{
	struct node *source = noted(from), *target = noted(to);
	int rc = __real_renameat(from, old, to, new);
	if (source != NULL && target != NULL && rc == 0) {
		struct node *moved = name_node(name_of(source, old));
		name_push(name_of(target, new), moved);
		name_push(name_of(source, old), NULL);
		changed();
	}
	return rc;
}

int
__wrap_unlinkat(int at, const char *path, int flags)
{
	struct node *parent = noted(at);
	int rc = __real_unlinkat(at, path, flags);
	if (parent != NULL && rc == 0) {
		name_push(name_of(parent, path), NULL);
		changed();
	}
	return rc;
}

int
__wrap_mkdirat(int at, const char *path, mode_t mode)
{
	struct node *parent = noted(at);
	int rc = __real_mkdirat(at, path, mode);
	if (parent != NULL && rc == 0) {
		name_push(name_of(parent, path), node_new(true));
		changed();
	}
	return rc;
}

/* Not the real one: whether this machine's disk has it is not the question. */
int
__wrap_fsync(int fd)
{
	struct node *node = noted(fd);
	if (node == NULL)
		return 0;
	if (node->directory)
		directory_sync(node);
	else
		node_sync(node);
	disk.synced++;
	changed();
	return 0;
}

int
__wrap_fdatasync(int fd)
{
	return __wrap_fsync(fd);
}

/* ---- what is left ---- */

static void
fill_sector(uint8_t *out, size_t at, size_t len, const struct node *n)
{
	const struct content *version = &n->versions[disk_random(n->len)];
	size_t has = version->len > at ? version->len - at : 0;
	memset(out, 0, len);
	/* Nobody wrote here for certain, so the disk may still have what lay here. */
	if (has == 0 && n->versions[0].len <= at && disk.old_len > 0 && disk_random(4) == 0)
		memcpy(out, disk.old[disk_random(disk.old_len < OLD_SECTORS ? disk.old_len : OLD_SECTORS)], len);
	else if (has > 0)
		memcpy(out, version->bytes + at, has < len ? has : len);
}

static void
lay_file(const char *path, const struct node *n)
{
	size_t len = n->versions[disk_random(n->len)].len;
	uint8_t *bytes = calloc(1, len + SECTOR);
	for (size_t at = 0; at < len; at += SECTOR)
		fill_sector(bytes + at, at, len - at < SECTOR ? len - at : SECTOR, n);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	__real_close(fd);
	free(bytes);
}

static void
lay_directory(const char *path, const struct node *directory)
{
	if (mkdir(path, 0700) != 0)
		abort();
	for (size_t i = 0; i < disk.names_len; i++) {
		const struct name *name = &disk.names[i];
		const struct node *node = name->versions[disk_random(name->len)];
		char below[256];
		if (name->parent != directory || node == NULL)
			continue;
		snprintf(below, sizeof below, "%s/%s", path, name->text);
		if (node->directory)
			lay_directory(below, node);
		else
			lay_file(below, node);
	}
}

/* The directory that `disk` notes, as it may look after the power went now. */
static void
cut_disk_lay(const char *path)
{
	lay_directory(path, disk.root);
}

static void
cut_disk_forget(void)
{
	for (struct node *n = disk.nodes, *next; n != NULL; n = next) {
		next = n->next;
		for (size_t i = 0; i < n->len; i++)
			free(n->versions[i].bytes);
		free(n->versions);
		free(n);
	}
	for (size_t i = 0; i < disk.names_len; i++)
		free(disk.names[i].versions);
	disk.nodes = disk.root = NULL;
	disk.names_len = 0;
	memset(disk.descriptors, 0, sizeof disk.descriptors);
}

#endif
