#include "emitter/durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define BESIDE ".new" /* ends the name of a file that is not written to its end */

/* The entry of a new directory is in the one above. Where that may be passed but not read, nobody can do more. */
static int
sync_above(int at, const char *path)
{
	char above[PATH_MAX];
	if (snprintf(above, sizeof above, "%s", path) >= (int)sizeof above) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int dir = openat(at, dirname(above), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == EACCES ? 0 : -1;
	int rc = fsync(dir);
	close(dir);
	return rc;
}

int
durable_directory(int at, const char *path, char *error)
{
	int made = mkdirat(at, path, 0700);
	if ((made != 0 && errno != EEXIST) || (made == 0 && sync_above(at, path) != 0)) {
		snprintf(error, ERROR_SIZE, "can't make directory %s: %s", path, strerror(errno));
		return -1;
	}
	int dir = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		snprintf(error, ERROR_SIZE, "can't open directory %s: %s", path, strerror(errno));
	return dir;
}

int
durable_lock(int dir, const char *path, char *error)
{
	if (flock(dir, LOCK_EX | LOCK_NB) == 0)
		return 0;
	snprintf(error, ERROR_SIZE, "%s is in use by another process", path);
	return -1;
}

int
write_all_at(int fd, struct slice content, off_t at)
{
	for (size_t done = 0; done < content.len;) {
		ssize_t n = pwrite(fd, content.at + done, content.len - done, at + (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ENOSPC;
			return -1;
		}
		done += (size_t)n;
	}
	return 0;
}

int
read_all_at(int fd, uint8_t *out, size_t len, off_t at)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, out + done, len - done, at + (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = EIO;
			return -1;
		}
		done += (size_t)n;
	}
	return 0;
}

int
durable_write(int dir, const char *name, struct slice content, bool sync)
{
	char beside[80];
	if (snprintf(beside, sizeof beside, ".%s" BESIDE, name) >= (int)sizeof beside) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int fd = openat(dir, beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int rc = write_all_at(fd, content, 0);
	if (rc == 0 && sync)
		rc = fsync(fd);
	int why = errno;
	close(fd);
	if (rc == 0) {
		rc = renameat(dir, beside, dir, name);
		why = errno;
	}
	if (rc == 0 && sync) {
		rc = fsync(dir);
		why = errno;
	} else if (rc != 0) {
		(void)unlinkat(dir, beside, 0);
	}
	errno = why;
	return rc;
}

void
durable_sweep(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		size_t len = strlen(e->d_name), end = strlen(BESIDE);
		if (e->d_name[0] == '.' && len > 1 + end && strcmp(e->d_name + len - end, BESIDE) == 0)
			(void)unlinkat(dir, e->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

ssize_t
durable_read(int dir, const char *name, uint8_t *out, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	struct stat st;
	ssize_t len = -1;
	int why = 0;
	if (fstat(fd, &st) != 0)
		why = errno;
	else if ((size_t)st.st_size > size)
		why = EFBIG;
	else if (read_all_at(fd, out, (size_t)st.st_size, 0) != 0)
		why = errno;
	else
		len = st.st_size;
	close(fd);
	if (len < 0)
		errno = why;
	return len;
}
