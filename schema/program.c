#include "schema/program.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema/log.h"

struct arguments {
	int argc;
	char **argv; /* those that are settings */
	const char *file;
	int action;
};

static void
print_word(const char *text, const char *help)
{
	printf("  %-20s %s\n", text, help);
}

static void
print_help(const struct program *program)
{
	printf("usage: %s\n\n  %-20s read this file%s%s\n", program->usage, "--config file",
	       program->file == NULL ? "" : " instead of ", program->file == NULL ? "" : program->file);
	for (size_t i = 0; i < program->words_len; i++)
		if (program->words[i].help != NULL)
			print_word(program->words[i].text, program->words[i].help);
	print_word("--check", "check the settings, print what is in force, end");
	print_word("--example", "print an example file, end");
	print_word("--man-options", "print the options as the manual page has them, end");
	print_word("--version", "print the version, end");
	print_word("--help", "print this, end\n");
	options_help(program->table, program->options, stdout);
}

static void
print_example(const struct program *program)
{
	printf("# %s: every option with its default. See %s(8).\n", program->name, program->name);
	options_example(program->table, program->options, stdout);
}

static void
print_version(const struct program *program)
{
	printf("%s " FLEETSTATE_VERSION "\n", program->name);
}

static void
print_man(const struct program *program)
{
	options_man(program->table, program->options, stdout);
}

static const struct {
	const char *text;
	void (*print)(const struct program *);
} printers[] = {
	{"--help", print_help},
	{"--example", print_example},
	{"--version", print_version},
	{"--man-options", print_man},
};

static bool
take_printer(const struct program *program, struct arguments *a, const char *argument)
{
	for (size_t i = 0; i < sizeof printers / sizeof *printers; i++)
		if (strcmp(argument, printers[i].text) == 0) {
			printers[i].print(program);
			a->action = PROGRAM_DONE;
			return true;
		}
	return false;
}

static bool
take_word(const struct program *program, struct arguments *a, const char *argument)
{
	for (size_t i = 0; i < program->words_len; i++)
		if (strcmp(argument, program->words[i].text) == 0) {
			a->action = program->words[i].action;
			return true;
		}
	if (strcmp(argument, "--check") != 0)
		return false;
	a->action = PROGRAM_CHECK;
	return true;
}

/* Sorts out what is no setting, up to the first that only wants something printed. */
static void
sort_arguments(const struct program *program, struct arguments *a, int argc, char *const *argv)
{
	for (int i = 0; i < argc; i++) {
		if (i == 0)
			a->argv[a->argc++] = argv[i];
		else if (take_printer(program, a, argv[i]))
			return;
		else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
			a->file = argv[++i];
		else if (strncmp(argv[i], "--config=", 9) == 0)
			a->file = argv[i] + 9;
		else if (!take_word(program, a, argv[i]))
			a->argv[a->argc++] = argv[i];
	}
}

static const char *
file_of(const struct program *program, const struct arguments *a)
{
	if (a->file == NULL && program->file != NULL && faccessat(AT_FDCWD, program->file, R_OK, AT_EACCESS) == 0)
		return program->file;
	return a->file;
}

static int
load(const struct program *program, void *settings, struct arguments *a)
{
	int first = options_load(program->table, program->options, settings, file_of(program, a), a->argc, a->argv);
	if (first >= 0 && first < a->argc)
		log_error("not an option: %s", a->argv[first]);
	if (first != a->argc || (program->settle != NULL && program->settle(settings, a->action) != 0))
		return PROGRAM_WRONG;
	if (a->action != PROGRAM_CHECK)
		return a->action;
	options_print(program->table, program->options, settings, stdout);
	return PROGRAM_DONE;
}

int
program_load(const struct program *program, void *settings, int argc, char *const *argv)
{
	struct arguments a = {.action = PROGRAM_RUN, .argv = calloc((size_t)argc + 1, sizeof *a.argv)};
	/* paho's threads may be at their very end when the process ends: what OpenSSL keeps for them is freed by them and not by its own cleaning up too. */
	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
	if (a.argv == NULL)
		return PROGRAM_WRONG;
	sort_arguments(program, &a, argc, argv);
	int action = a.action == PROGRAM_DONE ? PROGRAM_DONE : load(program, settings, &a);
	free(a.argv);
	if (action == PROGRAM_DONE || action == PROGRAM_WRONG)
		options_free(program->table, program->options, settings);
	return action;
}

const char *
program_file(const struct program *program, int argc, char *const *argv)
{
	struct arguments a = {.action = PROGRAM_RUN, .argv = calloc((size_t)argc + 1, sizeof *a.argv)};
	if (a.argv == NULL)
		return NULL;
	sort_arguments(program, &a, argc, argv);
	free(a.argv);
	return file_of(program, &a);
}
