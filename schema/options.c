#include "schema/options.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Suffixes of numbers; the largest first, for printing. */
struct unit {
	char suffix;
	int64_t factor;
};

static const struct unit seconds_units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}, {'\0', 1}};
static const struct unit bytes_units[] = {{'G', 1 << 30}, {'M', 1 << 20}, {'K', 1 << 10}, {'\0', 1}};
static const struct unit plain_units[] = {{'\0', 1}};

typedef bool set_function(const struct option *, void *field, const char *text);

static set_function set_text, set_number, set_flag, set_choice;

/* What each type of option is: how it is set, its units, and what help calls its value. */
static const struct type {
	set_function *set;
	const struct unit *units;
	const char *value;
	const char *join; /* between the parts of what goes over several lines; NULL: it does not */
} types[] = {
	[OPTION_TEXT] = {set_text, NULL, "TEXT", NULL},
	[OPTION_WORDS] = {set_text, NULL, "TEXT", " "},
	[OPTION_STATEMENTS] = {set_text, NULL, "TEXT", "; "},
	[OPTION_PATH] = {set_text, NULL, "PATH", NULL},
	[OPTION_SECONDS] = {set_number, seconds_units, "TIME", NULL},
	[OPTION_BYTES] = {set_number, bytes_units, "SIZE", NULL},
	[OPTION_NUMBER] = {set_number, plain_units, "NUMBER", NULL},
	[OPTION_FLAG] = {set_flag, NULL, "yes|no", NULL},
	[OPTION_CHOICE] = {set_choice, NULL, NULL, NULL},
};

enum source { SOURCE_NONE, SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ARGUMENT };

/* One load: where the text at hand comes from, for the message. */
struct load {
	const struct option *table;
	size_t n;
	void *settings;
	enum source source;
	enum source *given; /* per option: where its value came from last */
	const char *file; /* NULL: the command line */
	FILE *stream;
	int line;
	bool failed;
};

static bool
holds_text(const struct option *option)
{
	return types[option->type].units == NULL && option->type != OPTION_FLAG;
}

static void *
field_of(const struct option *option, void *settings)
{
	return (char *)settings + option->offset;
}

static char *
text_of(const struct option *option, const void *settings)
{
	char *text;

	memcpy(&text, (const char *)settings + option->offset, sizeof text);
	return text;
}

static int64_t
number_of(const struct option *option, const void *settings)
{
	int64_t number;

	memcpy(&number, (const char *)settings + option->offset, sizeof number);
	return number;
}

static bool
flag_of(const struct option *option, const void *settings)
{
	return *((const char *)settings + option->offset) != 0;
}

static bool
set_text(const struct option *option, void *field, const char *text)
{
	char *copy = strdup(text), *old;

	(void)option;
	if (copy == NULL)
		return false;
	memcpy(&old, field, sizeof old);
	free(old);
	memcpy(field, &copy, sizeof copy);
	return true;
}

static bool
set_number(const struct option *option, void *field, const char *text)
{
	const struct unit *unit = types[option->type].units;
	char *end;
	long long number;
	int64_t value;

	errno = 0;
	number = strtoll(text, &end, 10);
	/* strtoll passes over blanks and a plus; a setting has neither. */
	if (errno != 0 || end == text || !(*text == '-' || (*text >= '0' && *text <= '9')))
		return false;
	while (unit->suffix != '\0' && unit->suffix != *end)
		unit++;
	if (unit->suffix != '\0')
		end++;
	if (*end != '\0' || __builtin_mul_overflow((int64_t)number, unit->factor, &value))
		return false;
	if (value < option->min || value > option->max)
		return false;
	memcpy(field, &value, sizeof value);
	return true;
}

static bool
set_flag(const struct option *option, void *field, const char *text)
{
	static const struct {
		const char *text;
		bool value;
	} words[] = {{"yes", true}, {"no", false},  {"true", true}, {"false", false},
		     {"on", true},  {"off", false}, {"1", true},    {"0", false}};

	(void)option;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strcmp(text, words[i].text) == 0) {
			memcpy(field, &words[i].value, sizeof words[i].value);
			return true;
		}
	}
	return false;
}

static bool
set_choice(const struct option *option, void *field, const char *text)
{
	const char *at = option->choices;
	size_t len = strlen(text);

	while (len > 0 && len == strcspn(text, "|") && at != NULL) {
		if (strncmp(at, text, len) == 0 && (at[len] == '|' || at[len] == '\0'))
			return set_text(option, field, text);
		at = strchr(at, '|');
		if (at != NULL)
			at++;
	}
	return false;
}

/* With the largest unit that leaves no rest. */
static void
print_number(const struct option *option, int64_t value, FILE *out)
{
	const struct unit *unit = types[option->type].units;

	while (unit->suffix != '\0' && (value == 0 || value % unit->factor != 0))
		unit++;
	fprintf(out, "%lld", (long long)(value / unit->factor));
	if (unit->suffix != '\0')
		fputc(unit->suffix, out);
}

/* "30s to 1d", "admit|hold": what the option wants. */
static void
print_wanted(const struct option *option, FILE *out)
{
	if (types[option->type].units != NULL) {
		print_number(option, option->min, out);
		fputs(" to ", out);
		print_number(option, option->max, out);
	} else {
		fputs(option->type == OPTION_CHOICE ? option->choices : types[option->type].value, out);
	}
}

static void __attribute__((format(printf, 2, 3))) complain(struct load *load, const char *format, ...)
{
	va_list arguments;

	load->failed = true;
	if (load->file != NULL && load->line > 0)
		fprintf(stderr, "%s:%d: ", load->file, load->line);
	else if (load->file != NULL)
		fprintf(stderr, "%s: ", load->file);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static void
set(struct load *load, const struct option *option, const char *text)
{
	load->given[option - load->table] = load->source;
	if (types[option->type].set(option, field_of(option, load->settings), text))
		return;
	load->failed = true;
	if (load->file != NULL)
		fprintf(stderr, "%s:%d: ", load->file, load->line);
	fprintf(stderr, "%s%s: wants ", load->file == NULL ? "--" : "", option->name);
	print_wanted(option, stderr);
	/* Not even a wrong password is for a log. */
	if (option->secret)
		fputs("\n", stderr);
	else
		fprintf(stderr, ", not \"%s\"\n", text);
}

/* As in the file, or with dashes for underscores. */
static bool
is_name(const char *name, const char *text, size_t len)
{
	if (strlen(name) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (name[i] != (text[i] == '-' ? '_' : text[i]))
			return false;
	}
	return true;
}

static const struct option *
find(const struct load *load, const char *name, size_t len)
{
	for (size_t i = 0; i < load->n; i++) {
		if (is_name(load->table[i].name, name, len))
			return &load->table[i];
	}
	return NULL;
}

/* What goes on on another line of the file. */
static void
append(struct load *load, const struct option *option, const char *more)
{
	char *old = text_of(option, load->settings), *whole;

	if (asprintf(&whole, "%s%s%s", old != NULL ? old : "", types[option->type].join, more) < 0) {
		complain(load, "out of memory");
		return;
	}
	set(load, option, whole);
	free(whole);
}

/* inih's handler; it goes on after an error unless told, and the first one is enough. */
static int
take_setting(void *context, const char *section, const char *name, const char *value)
{
	struct load *load = context;
	const struct option *option;

	if (load->failed)
		return 1;
	option = strchr(name, '-') == NULL ? find(load, name, strlen(name)) : NULL;
	if (*section != '\0')
		complain(load, "[%s]: there are no sections", section);
	else if (option == NULL)
		complain(load, "%s: no such option", name);
	else if (load->given[option - load->table] == SOURCE_FILE && types[option->type].join != NULL)
		append(load, option, value);
	else if (load->given[option - load->table] == SOURCE_FILE)
		complain(load, "%s: given twice", name);
	else
		set(load, option, value);
	return 1;
}

/* inih's reader: counts lines, and refuses one that it would cut in two. */
static char *
read_line(char *line, int size, void *context)
{
	struct load *load = context;
	char *got = load->failed ? NULL : fgets(line, size, load->stream);

	if (got == NULL)
		return NULL;
	load->line++;
	if (strchr(line, '\n') == NULL && !feof(load->stream)) {
		complain(load, "the line is longer than %d characters", size - 2);
		return NULL;
	}
	return got;
}

static void
load_lines(struct load *load)
{
	int line = ini_parse_stream(read_line, load, take_setting, load);

	if (!load->failed && line != 0) {
		load->line = line;
		complain(load, "not \"name = value\"");
	}
	if (!load->failed && ferror(load->stream))
		complain(load, "%s", strerror(errno));
}

static void
load_stream(struct load *load, const char *file, FILE *stream)
{
	load->source = SOURCE_FILE;
	load->file = file;
	load->stream = stream;
	if (stream == NULL)
		complain(load, "%s", strerror(errno));
	else
		load_lines(load);
	load->file = NULL;
	load->line = 0;
}

static void
load_file(struct load *load, const char *file)
{
	FILE *stream = fopen(file, "re");

	load_stream(load, file, stream);
	if (stream != NULL)
		fclose(stream);
}

/* One argument that begins with "--". Returns how many of argv it took. */
static int
take_argument(struct load *load, const char *argument, const char *next)
{
	size_t len = strcspn(argument + 2, "=");
	const struct option *option = memchr(argument + 2, '_', len) == NULL ? find(load, argument + 2, len) : NULL;
	const char *value = argument[2 + len] == '=' ? argument + 2 + len + 1 : NULL;

	if (option == NULL) {
		complain(load, "--%.*s: no such option", (int)len, argument + 2);
		return 1;
	}
	if (value == NULL && option->type == OPTION_FLAG) {
		set(load, option, "yes");
		return 1;
	}
	if (value != NULL) {
		set(load, option, value);
		return 1;
	}
	if (next == NULL)
		complain(load, "%s: wants a value", argument);
	else
		set(load, option, next);
	return 2;
}

static int
load_arguments(struct load *load, int argc, char **argv)
{
	int i = 1;

	load->source = SOURCE_ARGUMENT;
	while (i < argc && !load->failed && strncmp(argv[i], "--", 2) == 0) {
		if (argv[i][2] == '\0')
			return i + 1;
		i += take_argument(load, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
	}
	return i;
}

static void
load_defaults(struct load *load)
{
	for (size_t i = 0; i < load->n; i++) {
		const struct option *option = &load->table[i];
		size_t size = holds_text(option)            ? sizeof(char *)
			      : option->type == OPTION_FLAG ? sizeof(bool)
							    : sizeof(int64_t);

		memset(field_of(option, load->settings), 0, size);
	}
	load->source = SOURCE_DEFAULT;
	for (size_t i = 0; i < load->n; i++) {
		if (load->table[i].initial != NULL)
			set(load, &load->table[i], load->table[i].initial);
	}
	/* A default out of its own range is a bug in the table. */
	assert(!load->failed);
}

static void
check_required(struct load *load)
{
	for (size_t i = 0; i < load->n && !load->failed; i++) {
		const struct option *option = &load->table[i];

		if (option->required && load->given[i] == SOURCE_NONE)
			complain(load, "%s: must be given: %s", option->name, option->help);
	}
}

int
options_load(const struct option *table, size_t n, void *settings, const char *file, int argc, char **argv)
{
	struct load load = {.table = table, .n = n, .settings = settings};
	int rest = argc;

	load.given = calloc(n, sizeof *load.given);
	if (load.given == NULL) {
		complain(&load, "out of memory");
		return -1;
	}
	load_defaults(&load);
	if (file != NULL)
		load_file(&load, file);
	if (!load.failed)
		rest = load_arguments(&load, argc, argv);
	check_required(&load);
	free(load.given);
	if (!load.failed)
		return rest;
	options_free(table, n, settings);
	return -1;
}

int
options_read(const struct option *table, size_t n, void *settings, const char *file, FILE *stream)
{
	struct load load = {.table = table, .n = n, .settings = settings};

	load.given = calloc(n, sizeof *load.given);
	if (load.given == NULL)
		return -1;
	load_defaults(&load);
	load_stream(&load, file, stream);
	check_required(&load);
	free(load.given);
	if (load.failed)
		options_free(table, n, settings);
	return load.failed ? -1 : 0;
}

void
options_free(const struct option *table, size_t n, void *settings)
{
	char *nothing = NULL;

	for (size_t i = 0; i < n; i++) {
		if (!holds_text(&table[i]))
			continue;
		free(text_of(&table[i], settings));
		memcpy(field_of(&table[i], settings), &nothing, sizeof nothing);
	}
}

void
options_print(const struct option *table, size_t n, const void *settings, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const struct option *option = &table[i];
		const char *text = holds_text(option) ? text_of(option, settings) : "";

		fprintf(out, "# %s\n", option->help);
		if (option->secret || text == NULL) {
			fprintf(out, "#%s = %s\n", option->name, text == NULL ? "" : "(secret)");
			continue;
		}
		fprintf(out, "%s = %s", option->name, text);
		if (types[option->type].units != NULL)
			print_number(option, number_of(option, settings), out);
		else if (option->type == OPTION_FLAG)
			fputs(flag_of(option, settings) ? "yes" : "no", out);
		fputc('\n', out);
	}
}

static void
print_dashed(const char *name, FILE *out)
{
	for (; *name != '\0'; name++)
		fputc(*name == '_' ? '-' : *name, out);
}

/* "(default 64M, 1M to 1G)", or nothing. */
static void
print_range(const struct option *option, FILE *out)
{
	bool ranged = types[option->type].units != NULL;

	if (option->initial == NULL && !ranged && !option->required)
		return;
	fputs(" (", out);
	if (option->required && option->initial == NULL)
		fputs("must be given", out);
	else if (option->initial != NULL)
		fprintf(out, "default %s", *option->initial == '\0' ? "empty" : option->initial);
	if (ranged) {
		fputs(option->initial != NULL || option->required ? ", " : "", out);
		print_wanted(option, out);
	}
	fputc(')', out);
}

void
options_help(const struct option *table, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const char *value = table[i].type == OPTION_CHOICE ? table[i].choices : types[table[i].type].value;

		fputs("  --", out);
		print_dashed(table[i].name, out);
		fprintf(out, "=%s\n      %s", value, table[i].help);
		print_range(&table[i], out);
		fputc('\n', out);
	}
}

void
options_example(const struct option *table, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "\n# %s\n%s%s = %s\n", table[i].help, table[i].required ? "" : "#", table[i].name,
			table[i].initial == NULL ? "" : table[i].initial);
}

void
options_man(const struct option *table, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const char *value = table[i].type == OPTION_CHOICE ? table[i].choices : types[table[i].type].value;

		fprintf(out, ".It Cm %s No = Ar %s\n%s", table[i].name, value, table[i].help);
		print_range(&table[i], out);
		fputs(".\n", out);
	}
}
