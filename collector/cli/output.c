#include "collector/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/cli/cli.h"

static struct {
	FILE *file;
	char *place; /* owned; NULL: it is written as it comes */
	char *volatile part; /* owned; what becomes the file; NULL: it did, or there is none */
} output;

static void
discard(void)
{
	if (output.part != NULL)
		unlink(output.part);
}

static void
on_end(int number)
{
	discard();
	raise(number);
}

static void
discard_at_the_end(void)
{
	static const int numbers[] = {SIGHUP, SIGINT, SIGTERM};
	struct sigaction action = {.sa_handler = on_end, .sa_flags = (int)SA_RESETHAND}, old;

	atexit(discard);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(numbers[i], &action, NULL);
}

/* Of what the program has open already, whatever that is: another file in its place would not be what its other users have. */
static bool
is_open_already(const char *name)
{
	static const char *const names[] = {"/dev/std", "/dev/fd/", "/proc/"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strncmp(name, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static mode_t
usual_mode(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return 0666 & ~mask;
}

/* Who could read the old one, NULL: there is none, can read the new one, and nobody else. */
static int
set_mode(int fd, const struct stat *old)
{
	mode_t mode = old == NULL ? usual_mode() : old->st_mode & 0777;

	if (old != NULL && fchown(fd, old->st_uid, old->st_gid) < 0 && fchown(fd, (uid_t)-1, old->st_gid) < 0)
		mode &= ~(mode_t)S_IRWXG;
	return fchmod(fd, mode);
}

static int
make_part(const char *name, const struct stat *old)
{
	char *part;
	int fd;

	/* A link stays one. */
	output.place = old == NULL ? strdup(name) : realpath(name, NULL);
	if (output.place == NULL || asprintf(&part, "%s.part-XXXXXX", output.place) < 0)
		cli_die(CLI_NO, "%s: %m", name);
	output.part = part;
	fd = mkostemp(part, O_CLOEXEC);
	if (fd < 0)
		cli_die(CLI_WRONG, "%s: no new file can be made beside it: %m", name);
	discard_at_the_end();
	if (set_mode(fd, old) < 0)
		cli_die(CLI_NO, "%s: %m", part);
	return fd;
}

FILE *
output_open(const char *name)
{
	struct stat is;
	bool there = stat(name, &is) == 0;
	int fd = -1;

	if (!there && errno != ENOENT)
		cli_die(CLI_WRONG, "%s: %m", name);
	if (is_open_already(name) || (there && !S_ISREG(is.st_mode)))
		fd = open(name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
	else if (!there || access(name, W_OK) == 0)
		fd = make_part(name, there ? &is : NULL);
	output.file = fd < 0 ? NULL : fdopen(fd, "w");
	if (output.file == NULL)
		cli_die(CLI_WRONG, "%s: %m", name);
	return output.file;
}

/* Its name is there after a loss of power too. */
static void
sync_folder(void)
{
	char *copy = strdup(output.place);
	int fd = copy == NULL ? -1 : open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	free(copy);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

void
output_settle(void)
{
	char *part = output.part;

	if (part == NULL)
		return;
	if (fflush(output.file) != 0 || fsync(fileno(output.file)) < 0)
		cli_die(CLI_NO, OUTPUT_FULL);
	if (rename(part, output.place) < 0)
		cli_die(CLI_NO, "%s: %m", output.place);
	output.part = NULL;
	free(part);
	sync_folder();
}

void
output_close(void)
{
	output_settle();
	if (fclose(output.file) != 0)
		cli_die(CLI_NO, OUTPUT_FULL);
	free(output.place);
	output.place = NULL;
	output.file = NULL;
}
