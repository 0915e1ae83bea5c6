/* A program's command line: what is a setting, what is a word, what is neither; and that the arguments are there for the next time. */
#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/program.h"

#define MOST 8

struct settings {
	char *host;
	int64_t port;
};

enum { ACTION_DRINK = PROGRAM_OWN, ACTION_EAT };

static const struct option table[] = {
	{.name = "host",
	 .type = OPTION_TEXT,
	 .offset = offsetof(struct settings, host),
	 .required = true,
	 .help = "whose"},
	{.name = "port",
	 .type = OPTION_NUMBER,
	 .offset = offsetof(struct settings, port),
	 .initial = "7",
	 .min = 1,
	 .max = 9,
	 .help = "which"},
};
static const struct program_word words[] = {{"--drink", ACTION_DRINK, "drinks"}, {"eat", ACTION_EAT, "eats"}};

static int settled; /* the action that the settings were settled for; -1: never */

static int
settle(void *settings, int action)
{
	settled = action;
	return ((struct settings *)settings)->port == 6 ? -1 : 0;
}

static const struct program program = {
	.name = "fleetstate-test",
	.usage = "fleetstate-test [eat]",
	.table = table,
	.options = 2,
	.words = words,
	.words_len = 2,
	.settle = settle,
};

static char file[] = "/tmp/test_program.XXXXXX";
static char config[sizeof file + 16];

static int
load(struct settings *settings, char *const *words_given)
{
	char *argv[MOST + 1] = {(char *)"fleetstate-test"}, *before[MOST + 1];
	int argc = 1, action;

	for (; words_given[argc - 1] != NULL; argc++)
		argv[argc] = words_given[argc - 1];
	memcpy(before, argv, sizeof argv);
	memset(settings, 0, sizeof *settings);
	settled = -1;
	action = program_load(&program, settings, argc, argv);
	assert_memory_equal(argv, before, sizeof argv);
	return action;
}

static const struct {
	char *argv[MOST];
	int action, settled, port;
} cases[] = {
	{{(char *)"--host=a"}, PROGRAM_RUN, PROGRAM_RUN, 7},
	{{(char *)"--host", (char *)"a", (char *)"--drink", (char *)"--port", (char *)"8"},
	 ACTION_DRINK,
	 ACTION_DRINK,
	 8},
	{{(char *)"eat", (char *)"--host=a"}, ACTION_EAT, ACTION_EAT, 7},
	{{config}, PROGRAM_RUN, PROGRAM_RUN, 3},
	{{(char *)"--config", file, (char *)"--port=4"}, PROGRAM_RUN, PROGRAM_RUN, 4},
	{{(char *)"--config", file, (char *)"--check"}, PROGRAM_DONE, PROGRAM_CHECK, 0},
	{{(char *)"--host=a", (char *)"--help", (char *)"--nonsense"}, PROGRAM_DONE, -1, 0},
	{{(char *)"--example"}, PROGRAM_DONE, -1, 0},
	{{(char *)"--man-options"}, PROGRAM_DONE, -1, 0},
	{{(char *)"--version"}, PROGRAM_DONE, -1, 0},
	{{NULL}, PROGRAM_WRONG, -1, 0},
	{{(char *)"--host=a", (char *)"drink"}, PROGRAM_WRONG, -1, 0},
	{{(char *)"--host=a", (char *)"--port=10"}, PROGRAM_WRONG, -1, 0},
	{{(char *)"--host=a", (char *)"--port=6"}, PROGRAM_WRONG, PROGRAM_RUN, 0},
	{{(char *)"--host=a", (char *)"--port=6", (char *)"--check"}, PROGRAM_WRONG, PROGRAM_CHECK, 0},
	{{(char *)"--host=a", (char *)"--config"}, PROGRAM_WRONG, -1, 0},
	{{(char *)"--config=/nonexistent", (char *)"--host=a"}, PROGRAM_WRONG, -1, 0},
};

static void
test_cases(void **unused)
{
	struct settings settings;

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int action = load(&settings, cases[i].argv);

		if (action != cases[i].action || settled != cases[i].settled)
			fail_msg("case %zu: action %d, settled %d", i, action, settled);
		if (action == PROGRAM_DONE || action == PROGRAM_WRONG) {
			assert_null(settings.host);
			continue;
		}
		assert_string_equal(settings.host, "a");
		assert_int_equal(settings.port, cases[i].port);
		options_free(table, 2, &settings);
	}
}

/* The usage, each word and each option: nothing that can be typed goes untold. */
static void
test_help(void **unused)
{
	static const char *const told[] = {"usage: fleetstate-test [eat]\n",
					   "--config file",
					   "--drink",
					   "eat ",
					   "--check",
					   "--example",
					   "--man-options",
					   "--version",
					   "--help",
					   "--host",
					   "--port"};
	char *argv[] = {(char *)"--help", NULL}, help[4096] = "";
	struct settings settings;
	int out = dup(STDOUT_FILENO);
	FILE *caught = tmpfile();

	(void)unused;
	fflush(stdout);
	dup2(fileno(caught), STDOUT_FILENO);
	assert_int_equal(load(&settings, argv), PROGRAM_DONE);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	close(out);
	rewind(caught);
	assert_true(fread(help, 1, sizeof help - 1, caught) > 0);
	fclose(caught);
	for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
		if (strstr(help, told[i]) == NULL)
			fail_msg("--help lacks %s", told[i]);
}

static int told = -1;

static void
tell_of_cleaning_up(void)
{
	(void)!write(told, "!", 1);
}

/* Threads of others may still need it. */
static void
test_openssl_is_not_cleaned_up_at_exit(void **unused)
{
	int ends[2], status;
	char byte;

	(void)unused;
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		struct settings settings;
		told = ends[1];
		(void)load(&settings, (char *[]){(char *)"--host=a", NULL});
		options_free(table, 2, &settings);
		exit(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) == 1 &&
				     OPENSSL_atexit(tell_of_cleaning_up) == 1
			     ? 0
			     : 1);
	}
	close(ends[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

static int
write_file(void **unused)
{
	int fd = mkstemp(file);

	(void)unused;
	snprintf(config, sizeof config, "--config=%s", file);
	if (fd < 0 || write(fd, "host = a\nport = 3\n", 18) != 18)
		return -1;
	return close(fd);
}

static int
remove_file(void **unused)
{
	(void)unused;
	return unlink(file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_openssl_is_not_cleaned_up_at_exit),
	};

	return cmocka_run_group_tests(tests, write_file, remove_file);
}
