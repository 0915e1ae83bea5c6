#include "emitter/source.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIECE (64 * 1024)
#define LINKS_MAX 40 /* as the kernel */
#define WHY_SIZE 256
#define TRACED_MAX 16384 /* files; a probe that looks at more looks again each time */
#define LATER_S 300 /* until what failed is tried again; it costs up to ten seconds of a core */
#define LATEST_S 86400
#define YOUNG_S 2 /* a file that was changed so lately may change again without another time stamp */

struct source {
	int root;
	bool live;
	bool walks;
	bool missing;
	size_t denied;
	uint8_t *buffer;
	size_t size;
	char why[WHY_SIZE];
	struct source_trace *trace; /* NULL: none is taken */
};

struct traced {
	size_t path; /* in the trace's paths */
	struct source_stamp stamp;
};

static bool
same_directory(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

struct source *
source_new(const char *root)
{
	struct source *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->root < 0) {
		free(s);
		return NULL;
	}
	s->live = same_directory(s->root, "/");
	return s;
}

void
source_free(struct source *s)
{
	if (!s)
		return;
	close(s->root);
	free(s->buffer);
	free(s);
}

bool
source_is_live(const struct source *s)
{
	return s->live;
}

void
source_walk(struct source *s)
{
	s->walks = true;
}

void
source_rewind(struct source *s)
{
	s->denied = 0;
	if (s->size > PIECE) {
		free(s->buffer);
		s->buffer = NULL;
		s->size = 0;
	}
}

size_t
source_denied(const struct source *s)
{
	return s->denied;
}

void
source_add_denied(struct source *s, size_t n)
{
	s->denied += n;
}

const char *
source_why(const struct source *s)
{
	return s->why;
}

bool
source_missing(const struct source *s)
{
	return s->missing;
}

static const struct {
	int error;
	const char *format;
} errors[] = {
	{ENOENT, "no %s"},
	{ENOTDIR, "no %s"},
	{ENODEV, "no %s"},
	{EACCES, "%s may not be read"},
	{EPERM, "%s may not be read"},
	{ELOOP, "%s has too many symbolic links"},
	{ENAMETOOLONG, "%s has too long a path"},
	{EBADFD, "%s is not a regular file"},
};

/* -1, and why. An error of the system's rather than the file's, such as too many open files, is none that the file's stamp tells of. */
static int
failed(struct source *s, const char *path, int error)
{
	const char *format = NULL;

	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (errors[i].error == error)
			format = errors[i].format;
	s->missing = error == ENOENT || error == ENOTDIR;
	s->denied += error == EACCES || error == EPERM;
	if (!format)
		source_trace_transient(s);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	if (format)
		snprintf(s->why, sizeof s->why, format, path);
	else
		snprintf(s->why, sizeof s->why, "%s: %s", path, strerror(error));
#pragma GCC diagnostic pop
	return -1;
}

static int
too_large(struct source *s, const char *path, size_t max)
{
	bool mib = max % (1024 * 1024) == 0;

	s->missing = false;
	snprintf(s->why, sizeof s->why, "%s is larger than %zu %s", path, max / (mib ? 1024 * 1024 : 1024),
		 mib ? "MiB" : "KiB");
	return -1;
}

/*
 * One attempt of the walk: opens component after component without following. Returns a descriptor, or -1 with errno; or, when it met a link or
 * "..", -2 with `path` rewritten, to be walked from the root again. So ".." only ever takes away a component that is known to be no link.
 */
static int
walk_once(int root, char path[PATH_MAX], int flags)
{
	char rest[PATH_MAX], target[PATH_MAX];
	size_t done = 0; /* of path, that are directories */
	int at = dup(root), next, error;

	while (at >= 0) {
		size_t begin = done + strspn(path + done, "/"), len = strcspn(path + begin, "/");
		size_t end = begin + len, slashes = strspn(path + end, "/");
		bool last = path[end + slashes] == '\0';
		struct stat st;
		ssize_t got;

		if (len == 0)
			return at;
		strcpy(rest, path + end);
		if (len == 1 && path[begin] == '.') {
			strcpy(path + begin, rest + strspn(rest, "/"));
			continue;
		}
		if (len == 2 && memcmp(path + begin, "..", 2) == 0) {
			while (done > 0 && path[done - 1] == '/')
				done--;
			while (done > 0 && path[done - 1] != '/')
				done--;
			strcpy(path + done, rest);
			close(at);
			return -2;
		}
		path[end] = '\0';
		next = openat(at, path + begin, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0 || fstat(next, &st) < 0)
			goto fail;
		if (S_ISLNK(st.st_mode) && !(last && (flags & O_NOFOLLOW))) {
			got = readlinkat(next, "", target, sizeof target);
			if (got < 0)
				goto fail;
			if ((size_t)got + strlen(rest) + begin >= PATH_MAX) {
				errno = ENAMETOOLONG;
				goto fail;
			}
			target[got] = '\0';
			if (target[0] == '/')
				begin = 0;
			memcpy(path + begin, target, (size_t)got);
			strcpy(path + begin + (size_t)got, rest);
			close(next);
			close(at);
			return -2;
		}
		if (last && !(flags & O_PATH)) {
			close(next);
			next = openat(at, path + begin, flags | O_NOFOLLOW | O_CLOEXEC);
			if (next < 0)
				goto fail;
		}
		strcpy(path + end, rest);
		close(at);
		at = next;
		done = end;
	}
	return -1;
fail:
	error = errno;
	if (next >= 0)
		close(next);
	close(at);
	errno = error;
	return -1;
}

static int
open_walking(const struct source *s, const char *path, int flags)
{
	char whole[PATH_MAX];
	int fd;

	if ((size_t)snprintf(whole, sizeof whole, "%s", path) >= sizeof whole) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (int links = 0; links < LINKS_MAX; links++) {
		fd = walk_once(s->root, whole, flags);
		if (fd != -2)
			return fd;
	}
	errno = ELOOP;
	return -1;
}

static int
open_below(struct source *s, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	if (!s->walks) {
		fd = syscall(SYS_openat2, s->root, path, &how, sizeof how);
		if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EAGAIN))
			return (int)fd;
		/* EAGAIN: something was renamed while the kernel resolved. EPERM may be a filter of system calls that does not know openat2. */
		if (errno == ENOSYS)
			s->walks = true;
	}
	return open_walking(s, path, flags);
}

static void
stamp_below(struct source *s, const char *path, struct source_stamp *out, bool *kernel)
{
	struct stat st;
	struct statfs fs;
	int fd = open_below(s, path, O_PATH);

	memset(out, 0, sizeof *out);
	*kernel = false;
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0) {
		out->device = st.st_dev;
		out->inode = st.st_ino;
		out->size = (uint64_t)st.st_size;
		out->modified_s = st.st_mtim.tv_sec;
		out->modified_ns = st.st_mtim.tv_nsec;
		out->changed_s = st.st_ctim.tv_sec;
		out->changed_ns = st.st_ctim.tv_nsec;
		/* A link may lead into /proc. */
		*kernel = S_ISREG(st.st_mode) && st.st_size == 0 && fstatfs(fd, &fs) == 0 &&
			  fs.f_type == PROC_SUPER_MAGIC;
	}
	close(fd);
}

static bool
is_kernel_path(const struct source *s, const char *path)
{
	path += strspn(path, "/");
	return s->live && (strncmp(path, "proc/", 5) == 0 || strncmp(path, "sys/", 4) == 0 ||
			   strncmp(path, "dev/", 4) == 0 || strcmp(path, "proc") == 0 || strcmp(path, "dev") == 0);
}

static bool
make_room(struct source_trace *t, size_t len)
{
	struct traced *at;
	char *paths;

	if (t->len == t->size) {
		at = realloc(t->at, (t->size ? 2 * t->size : 16) * sizeof *at);
		if (!at)
			return false;
		t->at = at;
		t->size = t->size ? 2 * t->size : 16;
	}
	while (t->paths_size - t->paths_len < len) {
		paths = realloc(t->paths, t->paths_size ? 2 * t->paths_size : 512);
		if (!paths)
			return false;
		t->paths = paths;
		t->paths_size = t->paths_size ? 2 * t->paths_size : 512;
	}
	return true;
}

/* Before the look itself, so that a change in between is seen as one. */
static void
trace(struct source *s, const char *path)
{
	struct source_trace *t = s->trace;
	size_t len = strlen(path) + 1;
	struct source_stamp stamp;
	bool kernel;

	if (!t || t->transient)
		return;
	if (is_kernel_path(s, path) || t->len == TRACED_MAX || !make_room(t, len)) {
		t->transient = true;
		return;
	}
	stamp_below(s, path, &stamp, &kernel);
	if (kernel || stamp.changed_s > time(NULL) - YOUNG_S)
		t->transient = true;
	memcpy(t->paths + t->paths_len, path, len);
	t->at[t->len++] = (struct traced){t->paths_len, stamp};
	t->paths_len += len;
}

void
source_trace_begin(struct source *s, struct source_trace *t)
{
	t->len = t->paths_len = 0;
	t->denied = s->denied;
	t->transient = false;
	t->until = 0;
	s->trace = t;
}

void
source_trace_end(struct source *s)
{
	s->trace->denied = s->denied - s->trace->denied;
	if (s->trace->until == 0)
		s->trace->postponed = 0;
	s->trace = NULL;
}

void
source_trace_transient(struct source *s)
{
	if (s->trace)
		s->trace->transient = true;
}

static int64_t
monotonic_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec;
}

void
source_trace_later(struct source *s)
{
	struct source_trace *t = s->trace;
	int64_t wait = LATER_S;

	if (!t || t->until != 0)
		return;
	for (unsigned i = 0; i < t->postponed && wait < LATEST_S; i++)
		wait *= 2;
	t->postponed++;
	t->until = monotonic_s() + (wait < LATEST_S ? wait : LATEST_S);
}

bool
source_trace_holds(struct source *s, const struct source_trace *t)
{
	struct source_stamp now;
	bool kernel;

	if (t->transient || t->len == 0 || (t->until != 0 && monotonic_s() >= t->until))
		return false;
	for (size_t i = 0; i < t->len; i++) {
		stamp_below(s, t->paths + t->at[i].path, &now, &kernel);
		if (memcmp(&now, &t->at[i].stamp, sizeof now) != 0)
			return false;
	}
	return true;
}

void
source_trace_free(struct source_trace *t)
{
	free(t->at);
	free(t->paths);
	memset(t, 0, sizeof *t);
}

/* Looks before it opens: opening a device can set it going, a watchdog for one. What was looked at must be what was opened. */
static int
open_file(struct source *s, const char *path, struct stat *st)
{
	struct stat before;
	int fd;

	trace(s, path);
	fd = open_below(s, path, O_PATH);
	if (fd < 0)
		return failed(s, path, errno);
	if (fstat(fd, &before) < 0 || !S_ISREG(before.st_mode)) {
		close(fd);
		return failed(s, path, EBADFD);
	}
	close(fd);
	fd = open_below(s, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return failed(s, path, errno);
	if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode) || st->st_dev != before.st_dev || st->st_ino != before.st_ino) {
		close(fd);
		return failed(s, path, EBADFD);
	}
	return fd;
}

static bool
grow(struct source *s, size_t size)
{
	uint8_t *bigger;

	if (size <= s->size)
		return true;
	bigger = realloc(s->buffer, size);
	if (!bigger)
		return false;
	s->buffer = bigger;
	s->size = size;
	return true;
}

/* A file of /proc or /sys says size 0 or 4096 whatever it holds, so the size only serves to refuse early. */
struct slice
source_read(struct source *s, const char *path, size_t max)
{
	struct slice absent = {NULL, 0};
	struct stat st;
	size_t len = 0;
	ssize_t got = 1;
	int fd = open_file(s, path, &st);

	if (fd < 0)
		return absent;
	if ((uint64_t)st.st_size > max)
		(void)too_large(s, path, max);
	while ((uint64_t)st.st_size <= max && got > 0) {
		if (len > max) {
			(void)too_large(s, path, max);
			break;
		}
		if (len == s->size && !grow(s, s->size ? 2 * s->size : 4096)) {
			(void)failed(s, path, ENOMEM);
			break;
		}
		got = read(fd, s->buffer + len, s->size - len);
		if (got < 0)
			(void)failed(s, path, errno);
		else
			len += (size_t)got;
	}
	close(fd);
	return got == 0 && len <= max ? (struct slice){s->buffer, len} : absent;
}

int
source_stream(struct source *s, const char *path, size_t max, bool (*take)(void *, struct slice), void *context)
{
	struct stat st;
	size_t left = max;
	ssize_t got;
	int fd, result = 0;

	if (!grow(s, PIECE))
		return failed(s, path, ENOMEM);
	fd = open_file(s, path, &st);
	if (fd < 0)
		return -1;
	if ((uint64_t)st.st_size > max) {
		close(fd);
		return too_large(s, path, max);
	}
	for (;;) {
		got = read(fd, s->buffer, PIECE);
		if (got < 0)
			result = failed(s, path, errno);
		if (got <= 0)
			break;
		if ((size_t)got > left)
			result = too_large(s, path, max);
		if (result < 0)
			break;
		left -= (size_t)got;
		if (!take(context, (struct slice){s->buffer, (size_t)got}))
			break;
	}
	close(fd);
	return result;
}

struct slice
source_read_tail(struct source *s, const char *path, size_t max, uint64_t *skipped)
{
	struct slice absent = {NULL, 0};
	struct stat st;
	size_t want, len = 0;
	ssize_t got = 1;
	int fd = open_file(s, path, &st);

	if (fd < 0)
		return absent;
	want = (uint64_t)st.st_size < max ? (size_t)st.st_size : max;
	*skipped = (uint64_t)st.st_size - want;
	if (!grow(s, want + 1))
		got = failed(s, path, ENOMEM);
	while (got > 0 && len < want) {
		got = pread(fd, s->buffer + len, want - len, (off_t)(*skipped + len));
		if (got < 0)
			(void)failed(s, path, errno);
		else
			len += (size_t)got;
	}
	close(fd);
	return got < 0 ? absent : (struct slice){s->buffer, len};
}

int
source_stat(struct source *s, const char *path, struct stat *st)
{
	int fd;

	trace(s, path);
	fd = open_below(s, path, O_PATH);
	if (fd < 0)
		return failed(s, path, errno);
	if (fstat(fd, st) < 0) {
		close(fd);
		return failed(s, path, errno);
	}
	close(fd);
	return 0;
}

int
source_open(struct source *s, const char *path, bool directory)
{
	struct stat st;
	int fd;

	if (!directory)
		return open_file(s, path, &st);
	trace(s, path);
	fd = open_below(s, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	return fd < 0 ? failed(s, path, errno) : fd;
}

void
source_stamp(struct source *s, const char *path, struct source_stamp *out)
{
	bool kernel;

	trace(s, path);
	stamp_below(s, path, out, &kernel);
}

bool
source_exists(struct source *s, const char *path)
{
	int fd;

	trace(s, path);
	fd = open_below(s, path, O_PATH);
	if (fd < 0) {
		(void)failed(s, path, errno);
		return false;
	}
	close(fd);
	return true;
}

int
source_list(struct source *s, const char *path, size_t max, bool (*take)(void *, int, const char *), void *context)
{
	int fd, result = 0;
	struct dirent *entry;
	DIR *directory;
	size_t n = 0;

	trace(s, path);
	fd = open_below(s, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	if (fd < 0)
		return failed(s, path, errno);
	directory = fdopendir(fd);
	if (!directory) {
		close(fd);
		return failed(s, path, errno);
	}
	while ((entry = readdir(directory))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (n++ == max) {
			s->missing = false;
			snprintf(s->why, sizeof s->why, "%s has more than %zu names", path, max);
			result = -1;
			break;
		}
		if (!take(context, dirfd(directory), entry->d_name))
			break;
	}
	closedir(directory);
	return result;
}
