#include "emitter/segment.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schema/limits.h"

#define SEGMENT_MAGIC "FSPOOL1\n"
#define RECORD_MAGIC UINT32_C(0x46535231)

/* CRC-32C (RFC 3720 B.4), half a byte at a time: the table stays small. */
static uint32_t
crc32c(uint32_t crc, struct slice s)
{
	static const uint32_t half[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	crc = ~crc;
	for (size_t i = 0; i < s.len; i++) {
		crc ^= s.at[i];
		crc = (crc >> 4) ^ half[crc & 15];
		crc = (crc >> 4) ^ half[crc & 15];
	}
	return ~crc;
}

void
segment_name(uint64_t first, char name[NAME_SIZE])
{
	snprintf(name, NAME_SIZE, "%016" PRIx64 ".seg", first);
}

void
record_head(uint8_t head[RECORD_HEAD], uint64_t seq, unsigned flags, struct slice message)
{
	uint32_t words[4] = {htobe32(RECORD_MAGIC), htobe32((uint32_t)message.len), htobe32(flags), 0};
	uint64_t number = htobe64(seq);
	memcpy(head, &words[0], 4);
	memcpy(head + 4, &words[1], 4);
	memcpy(head + 8, &number, 8);
	memcpy(head + 16, &words[2], 4);
	words[3] = htobe32(crc32c(crc32c(0, (struct slice){head, 20}), message));
	memcpy(head + 20, &words[3], 4);
}

/* The record that begins at `at`, if a whole and sound one does. */
bool
record_parse(struct slice file, size_t at, struct spool_record *out)
{
	uint32_t word;
	uint64_t seq;
	if (file.len - at < RECORD_HEAD)
		return false;
	const uint8_t *head = file.at + at;
	memcpy(&word, head, 4);
	if (be32toh(word) != RECORD_MAGIC)
		return false;
	memcpy(&word, head + 4, 4);
	out->len = be32toh(word);
	memcpy(&seq, head + 8, 8);
	out->seq = be64toh(seq);
	memcpy(&word, head + 16, 4);
	out->flags = be32toh(word);
	if (out->len > file.len - at - RECORD_HEAD || out->len > LIMIT_MESSAGE || out->seq == 0)
		return false;
	memcpy(&word, head + 20, 4);
	struct slice message = {head + RECORD_HEAD, out->len};
	return be32toh(word) == crc32c(crc32c(0, (struct slice){head, 20}), message);
}

void
segment_head(uint64_t epoch, uint8_t head[SEGMENT_HEAD])
{
	uint64_t number = htobe64(epoch);
	memcpy(head, SEGMENT_MAGIC, 8);
	memcpy(head + 8, &number, 8);
}

bool
segment_parse(struct slice file, uint64_t *epoch)
{
	uint64_t number;
	if (file.len < SEGMENT_HEAD || memcmp(file.at, SEGMENT_MAGIC, 8) != 0)
		return false;
	memcpy(&number, file.at + 8, 8);
	*epoch = be64toh(number);
	return true;
}

static int
compare_first(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* The segments' names, ascending; the caller frees them. */
int
segment_list(int dir, uint64_t **names, size_t *len)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	size_t room = 0;
	*names = NULL;
	*len = 0;
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;) {
		uint64_t first;
		int end = 0;
		if (sscanf(e->d_name, "%16" SCNx64 ".seg%n", &first, &end) != 1 || end != 20 || e->d_name[end] != '\0')
			continue;
		if (*len == room) {
			room = room * 2 + 16;
			uint64_t *more = reallocarray(*names, room, sizeof *more);
			if (more == NULL) {
				rc = -1;
				break;
			}
			*names = more;
		}
		(*names)[(*len)++] = first;
	}
	closedir(d);
	if (rc == 0 && *len > 0)
		qsort(*names, *len, sizeof **names, compare_first);
	return rc;
}

/* Reads the whole of a segment, at most what one record more than its size can make it. */
int
segment_load(int dir, uint64_t first, uint8_t **out, size_t *len)
{
	char name[NAME_SIZE];
	segment_name(first, name);
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -1;
	if (st.st_size > SEGMENT_SIZE + LIMIT_MESSAGE + RECORD_HEAD + SEGMENT_HEAD) {
		errno = EFBIG;
		return -1;
	}
	*out = malloc((size_t)st.st_size + 1);
	if (*out == NULL)
		return -1;
	ssize_t n = durable_read(dir, name, *out, (size_t)st.st_size);
	if (n < 0) {
		free(*out);
		return -1;
	}
	*len = (size_t)n;
	return 0;
}

int
segment_sync(int dir, uint64_t first)
{
	char name[NAME_SIZE];
	segment_name(first, name);
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	int rc = fd >= 0 ? fsync(fd) : -1;
	if (fd >= 0)
		close(fd);
	return rc;
}

int
segment_truncate(int dir, uint64_t first, size_t size)
{
	char name[NAME_SIZE];
	segment_name(first, name);
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int rc = ftruncate(fd, (off_t)size);
	if (rc == 0)
		rc = fsync(fd);
	close(fd);
	return rc;
}
