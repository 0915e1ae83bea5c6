#include "emitter/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE 160 /* 34 + 16 + 20 + 64 digits and what is between them */

struct last {
	struct ueid ueid;
	uint64_t epoch, seq;
};

struct journal {
	int fd;
	off_t end;
	struct last *lasts;
	size_t len, room;
};

static struct last *
find(const struct journal *j, const struct ueid *ueid, uint64_t epoch)
{
	for (size_t i = 0; i < j->len; i++)
		if (j->lasts[i].epoch == epoch && memcmp(&j->lasts[i].ueid, ueid, sizeof *ueid) == 0)
			return &j->lasts[i];
	return NULL;
}

static int
note(struct journal *j, const struct ueid *ueid, uint64_t epoch, uint64_t seq)
{
	struct last *last = find(j, ueid, epoch);
	if (last != NULL) {
		last->seq = seq;
		return 0;
	}
	if (j->len == j->room) {
		size_t room = j->room * 2 + 8;
		struct last *more = reallocarray(j->lasts, room, sizeof *more);
		if (more == NULL)
			return -1;
		j->lasts = more;
		j->room = room;
	}
	j->lasts[j->len++] = (struct last){*ueid, epoch, seq};
	return 0;
}

static int
load(struct journal *j, FILE *f)
{
	char line[LINE_SIZE];
	while (fgets(line, sizeof line, f) != NULL) {
		size_t len = strlen(line);
		char hex[UEID_HEX];
		struct ueid ueid;
		uint64_t epoch, seq;
		if (len == 0 || line[len - 1] != '\n')
			break;
		if (sscanf(line, "%34[0-9a-f] %16" SCNx64 " %" SCNu64, hex, &epoch, &seq) != 3 ||
		    !ueid_parse((struct slice){(uint8_t *)hex, strlen(hex)}, &ueid))
			return -1;
		if (note(j, &ueid, epoch, seq) != 0)
			return -1;
		j->end += (off_t)len;
	}
	return 0;
}

struct journal *
journal_open(const char *file, char *error)
{
	struct journal *j = calloc(1, sizeof *j);
	FILE *f = NULL;
	errno = 0;
	if (j != NULL)
		j->fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (j == NULL || j->fd < 0 || (f = fopen(file, "re")) == NULL || load(j, f) != 0 ||
	    ftruncate(j->fd, j->end) != 0) {
		snprintf(error, ERROR_SIZE, "can't use the journal %s: %s", file,
			 errno != 0 ? strerror(errno) : "not one");
		if (f != NULL)
			fclose(f);
		journal_close(j);
		return NULL;
	}
	fclose(f);
	return j;
}

void
journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	if (j->fd >= 0)
		close(j->fd);
	free(j->lasts);
	free(j);
}

uint64_t
journal_last(const struct journal *j, const struct ueid *ueid, uint64_t epoch)
{
	const struct last *last = find(j, ueid, epoch);
	return last != NULL ? last->seq : 0;
}

int
journal_add(struct journal *j, const struct ueid *ueid, uint64_t epoch, uint64_t seq, const uint8_t digest[DIGEST_SIZE])
{
	char line[LINE_SIZE], name[UEID_HEX], hash[2 * DIGEST_SIZE + 1];
	ueid_print(ueid, name);
	hex_print(digest, DIGEST_SIZE, hash);
	int len = snprintf(line, sizeof line, "%s %016" PRIx64 " %" PRIu64 " %s\n", name, epoch, seq, hash);
	if (len < 0 || len >= (int)sizeof line)
		return -1;
	if (write_all_at(j->fd, (struct slice){(uint8_t *)line, (size_t)len}, j->end) != 0 || fdatasync(j->fd) != 0 ||
	    note(j, ueid, epoch, seq) != 0)
		return -1;
	j->end += len;
	return 0;
}
