#include "emitter/quarantine.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DIRECTORY "quarantine"
#define NAME_MAX_HERE 64

/* The reason comes from outside: only what reasons are made of gets into a name. */
static void
file_name(uint64_t seq, struct slice reason, char name[NAME_MAX_HERE])
{
	int n = snprintf(name, NAME_MAX_HERE, "%016" PRIu64 "-", seq);
	for (size_t i = 0; i < reason.len && n < NAME_MAX_HERE - 6; i++)
		if (islower(reason.at[i]) || reason.at[i] == '-')
			name[n++] = (char)reason.at[i];
	memcpy(name + n, ".cose", 6);
}

/* Removes the lowest names until there is room for one more. */
static int
trim(int dir)
{
	for (;;) {
		int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
		if (d == NULL)
			return -1;
		char oldest[NAME_MAX_HERE] = "";
		size_t files = 0;
		for (struct dirent *e; (e = readdir(d)) != NULL;) {
			if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof oldest)
				continue;
			if (files++ == 0 || strcmp(e->d_name, oldest) < 0)
				memcpy(oldest, e->d_name, strlen(e->d_name) + 1);
		}
		closedir(d);
		if (files < QUARANTINE_MAX)
			return 0;
		if (unlinkat(dir, oldest, 0) != 0)
			return -1;
	}
}

int
quarantine_keep(int at, uint64_t seq, struct slice reason, struct slice message)
{
	char name[NAME_MAX_HERE], error[ERROR_SIZE];
	int dir = durable_directory(at, DIRECTORY, error);
	if (dir < 0)
		return -1;
	file_name(seq, reason, name);
	int rc = trim(dir);
	if (rc == 0)
		rc = durable_write(dir, name, message, true);
	close(dir);
	return rc;
}
