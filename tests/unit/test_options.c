/* Options: where a value comes from, what each type takes, and the message for everything it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/log.h"
#include "schema/options.h"

struct settings {
	char *host, *key_file, *mode, *password;
	int64_t interval, spool_size, port;
	bool verbose;
};

#define AT(field) offsetof(struct settings, field)

static const struct option table[] = {
	{"host", OPTION_TEXT, AT(host), NULL, 0, 0, NULL, "the broker's host name", true, false},
	{"key_file", OPTION_PATH, AT(key_file), NULL, 0, 0, NULL, "the signing key", false, false},
	{"mode", OPTION_CHOICE, AT(mode), "hold", 0, 0, "admit|hold", "what becomes of an unknown device", false,
	 false},
	{"password", OPTION_TEXT, AT(password), "", 0, 0, NULL, "the database's password", false, true},
	{"interval", OPTION_SECONDS, AT(interval), "5m", 1, 86400, NULL, "time between two reports", false, false},
	{"spool_size", OPTION_BYTES, AT(spool_size), "64M", 1 << 20, INT64_C(1) << 32, NULL,
	 "room for reports that wait", false, false},
	{"port", OPTION_NUMBER, AT(port), "8883", 1, 65535, NULL, "the broker's port", false, false},
	{"verbose", OPTION_FLAG, AT(verbose), "no", 0, 0, NULL, "whether to say more", false, false},
};

#define OPTIONS (sizeof table / sizeof table[0])

static char said[4096]; /* on stderr, by the last load */
static char file_name[] = "/tmp/test_options.XXXXXX";

/* Runs with stderr caught in `said`. */
static int saved_stderr;
static FILE *caught;

static void
catch_stderr(void)
{
	caught = tmpfile();
	assert_non_null(caught);
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(dup2(fileno(caught), STDERR_FILENO) >= 0);
}

static void
release_stderr(void)
{
	size_t len;

	fflush(stderr);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	rewind(caught);
	len = fread(said, 1, sizeof said - 1, caught);
	said[len] = '\0';
	fclose(caught);
}

/* Arguments as one text, split at blanks. */
static int
load(struct settings *settings, const char *content, const char *arguments)
{
	char words[512], *argv[32] = {words}, *state = NULL;
	int argc = 0, result;
	FILE *file;

	snprintf(words, sizeof words, "program %s", arguments);
	for (char *word = strtok_r(words, " ", &state); word != NULL; word = strtok_r(NULL, " ", &state))
		argv[argc++] = word;
	if (content != NULL) {
		file = fopen(file_name, "w");
		assert_non_null(file);
		fputs(content, file);
		fclose(file);
	}
	catch_stderr();
	result = options_load(table, OPTIONS, settings, content != NULL ? file_name : NULL, argc, argv);
	release_stderr();
	return result;
}

static void
test_refused(void **state)
{
	static const struct {
		const char *file, *arguments, *says;
	} rows[] = {
		{NULL, "", "host: must be given: the broker's host name"},
		{NULL, "--host", "--host: wants a value"},
		{NULL, "--hosts=a", "--hosts: no such option"},
		{NULL, "--hos=a", "--hos: no such option"},
		{NULL, "--=a", "no such option"},
		{NULL, "--host=a --key_file=b", "--key_file: no such option"},
		{NULL, "--host=a --port=0", "--port: wants 1 to 65535, not \"0\""},
		{NULL, "--host=a --port=65536", "wants 1 to 65535"},
		{NULL, "--host=a --port=-1", "wants 1 to 65535"},
		{NULL, "--host=a --port=", "wants 1 to 65535, not \"\""},
		{NULL, "--host=a --port=+80", "wants 1 to 65535"},
		{NULL, "--host=a --port=0x50", "wants 1 to 65535"},
		{NULL, "--host=a --port=80a", "wants 1 to 65535"},
		{NULL, "--host=a --port=8k", "wants 1 to 65535"},
		{NULL, "--host=a --port=99999999999999999999", "wants 1 to 65535"},
		{NULL, "--host=a --interval=2d", "--interval: wants 1s to 1d, not \"2d\""},
		{NULL, "--host=a --interval=1w", "wants 1s to 1d"},
		{NULL, "--host=a --interval=1hh", "wants 1s to 1d"},
		{NULL, "--host=a --interval=1.5h", "wants 1s to 1d"},
		{NULL, "--host=a --interval=h", "wants 1s to 1d"},
		{NULL, "--host=a --spool-size=1K", "wants 1M to 4G, not \"1K\""},
		{NULL, "--host=a --spool-size=9223372036854775807G", "wants 1M to 4G"},
		{NULL, "--host=a --spool-size=64MB", "wants 1M to 4G"},
		{NULL, "--host=a --mode=admi", "--mode: wants admit|hold, not \"admi\""},
		{NULL, "--host=a --mode=admit|hold", "wants admit|hold"},
		{NULL, "--host=a --mode=", "wants admit|hold"},
		{NULL, "--host=a --verbose=maybe", "--verbose: wants yes|no, not \"maybe\""},
		{"host = a\nport = many\n", "", ":2: port: wants 1 to 65535, not \"many\""},
		{"host = a\n\n# comment\nspool-size = 2M\n", "", ":4: spool-size: no such option"},
		{"host = a\nunheard = 1\n", "", ":2: unheard: no such option"},
		{"host = a\nhost = b\n", "", ":2: host: given twice"},
		{"host = a\n  b\n", "", ":2: host: given twice"},
		{"[emitter]\nhost = a\n", "", ":2: [emitter]: there are no sections"},
		{"host = a\njust words\n", "", ":2: not \"name = value\""},
		{"host = a\n[open\n", "", ":2: not \"name = value\""},
		{"port = 1\n", "", "host: must be given"},
	};
	struct settings settings;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int result = load(&settings, rows[i].file, rows[i].arguments);

		if (result != -1 || strstr(said, rows[i].says) == NULL)
			fail_msg("row %zu: %d, \"%s\"", i, result, said);
		/* One line, and nothing is left behind. */
		assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
		assert_null(settings.host);
		assert_null(settings.mode);
	}
}

static void
test_long_line_refused(void **state)
{
	char content[600];
	struct settings settings;

	(void)state;
	memset(content, 'a', sizeof content);
	memcpy(content, "port = 1\nhost = ", 16);
	strcpy(content + 590, "\n");
	assert_int_equal(load(&settings, content, ""), -1);
	assert_non_null(strstr(said, ":2: the line is longer than"));
}

static void
test_no_file(void **state)
{
	char *argv[] = {(char *)"program"};
	struct settings settings;

	(void)state;
	catch_stderr();
	assert_int_equal(options_load(table, OPTIONS, &settings, "/nonexistent/file", 1, argv), -1);
	release_stderr();
	assert_string_equal(said, "/nonexistent/file: No such file or directory\n");
}

static void
test_defaults(void **state)
{
	struct settings settings;

	(void)state;
	memset(&settings, 0xee, sizeof settings);
	assert_int_equal(load(&settings, NULL, "--host a"), 3);
	assert_string_equal(said, "");
	assert_string_equal(settings.host, "a");
	assert_null(settings.key_file);
	assert_string_equal(settings.mode, "hold");
	assert_int_equal(settings.interval, 300);
	assert_int_equal(settings.spool_size, 64 << 20);
	assert_int_equal(settings.port, 8883);
	assert_false(settings.verbose);
	options_free(table, OPTIONS, &settings);
	assert_null(settings.host);
}

static void
test_later_source_wins(void **state)
{
	static const char content[] = "; where\nhost = file\nmode=admit\ninterval = 2h\nport : 1\nverbose = yes\n";
	struct settings settings;

	(void)state;
	assert_int_equal(load(&settings, content, "--interval 90 --host=line --verbose=no --key-file=a=b"), 6);
	assert_string_equal(settings.host, "line");
	assert_string_equal(settings.mode, "admit");
	assert_string_equal(settings.key_file, "a=b");
	assert_int_equal(settings.interval, 90);
	assert_int_equal(settings.port, 1);
	assert_false(settings.verbose);
	options_free(table, OPTIONS, &settings);
}

static void
test_first_argument_that_is_no_option(void **state)
{
	struct settings settings;

	(void)state;
	assert_int_equal(load(&settings, NULL, "--host=a --verbose verify --port=1"), 3);
	assert_true(settings.verbose);
	assert_int_equal(settings.port, 8883);
	options_free(table, OPTIONS, &settings);
	assert_int_equal(load(&settings, NULL, "--host=a -- --port=1"), 3);
	assert_int_equal(settings.port, 8883);
	options_free(table, OPTIONS, &settings);
}

/* What --check prints can be loaded again and says the same, save for secrets. */
static void
test_print_and_load_again(void **state)
{
	struct settings settings;
	char *first = NULL, *second = NULL;
	size_t len;
	FILE *out;

	(void)state;
	assert_true(load(&settings, NULL,
			 "--host=a --password=hunter2 --interval=1h --spool-size=2G --port=80 --verbose") > 0);
	out = open_memstream(&first, &len);
	options_print(table, OPTIONS, &settings, out);
	fclose(out);
	options_free(table, OPTIONS, &settings);
	assert_null(strstr(first, "hunter2"));
	assert_non_null(strstr(first, "\ninterval = 1h\n"));
	assert_non_null(strstr(first, "\nspool_size = 2G\n"));
	assert_non_null(strstr(first, "\nverbose = yes\n"));
	assert_non_null(strstr(first, "\n#key_file = \n"));
	assert_int_equal(load(&settings, first, ""), 1);
	out = open_memstream(&second, &len);
	options_print(table, OPTIONS, &settings, out);
	fclose(out);
	options_free(table, OPTIONS, &settings);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

static void
test_wrong_secret_is_not_said(void **state)
{
	static const struct option secret[] = {
		{"pin", OPTION_NUMBER, 0, "0", 0, 9999, NULL, "the token's PIN", false, true}};
	char *argv[] = {(char *)"program", (char *)"--pin=hunter2"};
	int64_t pin;

	(void)state;
	catch_stderr();
	assert_int_equal(options_load(secret, 1, &pin, NULL, 2, argv), -1);
	release_stderr();
	assert_string_equal(said, "--pin: wants 0 to 9999\n");
}

static void
test_help_names_every_option(void **state)
{
	char *help = NULL, *man = NULL;
	size_t len;
	FILE *out = open_memstream(&help, &len);

	(void)state;
	options_help(table, OPTIONS, out);
	fclose(out);
	out = open_memstream(&man, &len);
	options_man(table, OPTIONS, out);
	fclose(out);
	assert_non_null(strstr(help, "--spool-size=SIZE\n      room for reports that wait (default 64M, 1M to 4G)\n"));
	assert_non_null(strstr(help, "--host=TEXT\n      the broker's host name (must be given)\n"));
	assert_non_null(
		strstr(man, ".It Cm mode No = Ar admit|hold\nwhat becomes of an unknown device (default hold).\n"));
	for (size_t i = 0; i < OPTIONS; i++) {
		assert_non_null(strstr(help, table[i].help));
		assert_non_null(strstr(man, table[i].help));
	}
	free(help);
	free(man);
}

static void
test_log_lines_cannot_be_forged(void **state)
{
	char longest[5000];
	enum log_level level;

	(void)state;
	unsetenv("JOURNAL_STREAM");
	log_open("program", LOG_LEVEL_INFO);
	catch_stderr();
	log_info("refused topic=\"%s\"", "a\nprogram: error: forged\x1b[2J\xc2\x9b\x7f \xc3\xbc");
	log_debug("not at this level");
	release_stderr();
	assert_string_equal(
		said,
		"program: info: refused topic=\"a\\x0aprogram: error: forged\\x1b[2J\\xc2\\x9b\\x7f \xc3\xbc\"\n");
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	catch_stderr();
	log_error("%s", longest);
	release_stderr();
	assert_string_equal(said + strlen(said) - 7, " [cut]\n");
	assert_false(log_level_parse("verbose", &level));
	assert_false(log_level_parse("", &level));
	assert_true(log_level_parse("debug", &level));
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

static int
make_file(void **state)
{
	int fd = mkstemp(file_name);

	(void)state;
	return fd == -1 ? -1 : close(fd);
}

static int
remove_file(void **state)
{
	(void)state;
	return unlink(file_name);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_long_line_refused),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_later_source_wins),
		cmocka_unit_test(test_first_argument_that_is_no_option),
		cmocka_unit_test(test_print_and_load_again),
		cmocka_unit_test(test_wrong_secret_is_not_said),
		cmocka_unit_test(test_help_names_every_option),
		cmocka_unit_test(test_log_lines_cannot_be_forged),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
