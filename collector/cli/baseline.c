/* `fleetstate baseline`: the secure baseline of a device's configuration, made and signed where devices are provisioned; no database. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "collector/cli/cli.h"
#include "schema/baseline.h"

#define FILE_MAX (1024 * 1024) /* as the emitter takes */

/* Below the root, as if it were "/": a link in an image means what it will mean on the device. */
static int
open_below(int root, const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_IN_ROOT};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static uint8_t *
read_whole(int fd, const char *name, size_t max, size_t *len)
{
	uint8_t *bytes = malloc(max + 1);
	ssize_t got = 1;

	if (bytes == NULL)
		cli_die(CLI_WRONG, "out of memory");
	for (*len = 0; got > 0 && *len <= max; *len += (size_t)got) {
		got = read(fd, bytes + *len, max + 1 - *len);
		if (got < 0)
			cli_die(CLI_WRONG, "%s: %m", name);
	}
	if (*len > max)
		cli_die(CLI_WRONG, "%s: larger than %zu KiB", name, max / 1024);
	return bytes;
}

static void
add_file(struct baseline *b, int root, const char *path)
{
	int fd = open_below(root, path);
	struct baseline_file *file;
	uint8_t *bytes, *digest;
	struct stat st;
	size_t len;

	if (fd < 0 && errno == ENOENT)
		return; /* a link to what is only there when the system runs */
	if (fd < 0 || fstat(fd, &st) < 0)
		cli_die(CLI_WRONG, "%s: %m", path);
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return;
	}
	if (b->files_len == LIMIT_BASELINE_FILES)
		cli_die(CLI_NO, "more than %d files match", LIMIT_BASELINE_FILES);
	if (strlen(path) > LIMIT_BASELINE_PATH)
		cli_die(CLI_NO, "%s: a path has at most %d bytes", path, LIMIT_BASELINE_PATH);
	bytes = read_whole(fd, path, FILE_MAX, &len);
	close(fd);
	digest = malloc(DIGEST_SIZE);
	file = &b->files[b->files_len++];
	file->path = (struct slice){(const uint8_t *)strdup(path), strlen(path)};
	if (digest == NULL || file->path.at == NULL)
		cli_die(CLI_WRONG, "out of memory");
	sha256((struct slice){bytes, len}, digest);
	free(bytes);
	file->sha256 = (struct slice){digest, DIGEST_SIZE};
	file->uid = st.st_uid;
	file->gid = st.st_gid;
	file->mode = st.st_mode & 07777;
}

/* A directory that is not there has nothing that matches. */
static int
on_error(const char *path, int error)
{
	(void)path;
	return error != ENOENT && error != ENOTDIR;
}

static void
add_matches(struct baseline *b, const char *directory, int root, const char *pattern)
{
	size_t prefix = strcmp(directory, "/") == 0 ? 0 : strlen(directory);
	char whole[4096];
	glob_t found;
	int result;

	if (pattern[0] != '/' || strlen(pattern) < 2 || strlen(pattern) > LIMIT_BASELINE_PATH)
		cli_die(CLI_WRONG, "%s: a pattern begins with / and has at most %d bytes", pattern,
			LIMIT_BASELINE_PATH);
	if ((size_t)snprintf(whole, sizeof whole, "%.*s%s", (int)prefix, directory, pattern) >= sizeof whole)
		cli_die(CLI_WRONG, "%s: too long", pattern);
	result = glob(whole, GLOB_NOSORT, on_error, &found);
	if (result != 0 && result != GLOB_NOMATCH)
		cli_die(CLI_WRONG, "%s: can't be listed", pattern);
	for (size_t i = 0; result == 0 && i < found.gl_pathc; i++)
		add_file(b, root, found.gl_pathv[i] + prefix);
	if (result == 0)
		globfree(&found);
}

static int
compare(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The path is the first thing in a file's entry. */
static size_t
sort_and_unite(void *rows, size_t n, size_t size)
{
	uint8_t *bytes = rows;
	size_t kept = 0;

	if (n > 0)
		qsort(rows, n, size, compare);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || compare(bytes + (kept - 1) * size, bytes + i * size) != 0)
			memmove(bytes + kept++ * size, bytes + i * size, size);
	return kept;
}

static void
write_file(const char *name, const uint8_t *bytes, size_t len)
{
	FILE *out = strcmp(name, "-") == 0 ? stdout : fopen(name, "wb");

	if (out == NULL || fwrite(bytes, 1, len, out) != len || (out == stdout ? fflush(out) : fclose(out)) != 0)
		cli_die(CLI_WRONG, "%s: %m", name);
}

int
baseline_make(const struct command *command, int argc, char **argv)
{
	const char *directory = "/", *key_name = NULL, *out = "-";
	const struct cli_option options[] = {{"root", &directory, NULL}, {"key", &key_name, NULL}, {"out", &out, NULL}};
	static struct baseline b;
	static uint8_t payload[LIMIT_BASELINE], message[LIMIT_BASELINE];
	char error[256];
	size_t len = 0;
	int n = cli_parse(command, argc, argv, options, 3, 1, LIMIT_BASELINE_PATTERNS), root;
	struct cose_key *key;

	if (key_name == NULL)
		cli_die(CLI_WRONG, "--key names the maker's key that signs it");
	key = cose_key_open(key_name, error);
	if (key == NULL)
		cli_die(CLI_WRONG, "%s", error);
	root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		cli_die(CLI_WRONG, "%s: %m", directory);
	b.made = (uint64_t)time(NULL);
	for (int i = 1; i <= n; i++) {
		add_matches(&b, directory, root, argv[i]);
		b.patterns[b.patterns_len++] = (struct slice){(const uint8_t *)argv[i], strlen(argv[i])};
	}
	close(root);
	if (b.files_len == 0)
		cli_die(CLI_NO, "no file matches");
	b.patterns_len = sort_and_unite(b.patterns, b.patterns_len, sizeof b.patterns[0]);
	b.files_len = sort_and_unite(b.files, b.files_len, sizeof b.files[0]);
	len = baseline_encode(&b, payload, sizeof payload);
	if (len > 0)
		len = cose_sign(key, NULL, 0, (struct slice){payload, len}, message, sizeof message);
	if (len == 0)
		cli_die(CLI_NO, "can't sign with %s", key_name);
	cose_key_free(key);
	write_file(out, message, len);
	if (strcmp(out, "-") != 0)
		printf("%zu files\n", b.files_len);
	return CLI_YES;
}

int
baseline_show(const struct command *command, int argc, char **argv)
{
	const char *key_name = NULL;
	const struct cli_option options[] = {{"key", &key_name, NULL}};
	static struct baseline b;
	char error[256], hex[2 * DIGEST_SIZE + 1];
	struct cose_key *key;
	enum reason reason;
	uint8_t *bytes;
	size_t len;
	int fd;

	cli_parse(command, argc, argv, options, 1, 1, 1);
	if (key_name == NULL)
		cli_die(CLI_WRONG, "--key names the maker's certificate or public key (PEM)");
	key = cose_key_open_public(key_name, error);
	if (key == NULL)
		cli_die(CLI_WRONG, "%s", error);
	fd = strcmp(argv[1], "-") == 0 ? STDIN_FILENO : open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		cli_die(CLI_WRONG, "%s: %m", argv[1]);
	bytes = read_whole(fd, argv[1], LIMIT_BASELINE, &len);
	reason = baseline_open((struct slice){bytes, len}, key, &b);
	cose_key_free(key);
	if (reason != REASON_OK)
		cli_die(CLI_NO, "not believed: %s", reason_name(reason));
	for (size_t i = 0; i < b.files_len; i++) {
		hex_print(b.files[i].sha256.at, DIGEST_SIZE, hex);
		printf("%s %04o %u:%u ", hex, b.files[i].mode, b.files[i].uid, b.files[i].gid);
		/* Whoever signed it chose the names: they must not move the cursor of somebody's terminal. */
		for (size_t k = 0; k < b.files[i].path.len; k++)
			putchar(b.files[i].path.at[k] < 0x20 || b.files[i].path.at[k] == 0x7f ? '?'
											      : b.files[i].path.at[k]);
		putchar('\n');
	}
	free(bytes);
	return CLI_YES;
}
