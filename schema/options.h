/*
 * Options: one table gives each setting its name, type, default, range and one line of help, and so writes --help, the example file, the man
 * page's list and --check. Settings come from defaults, then the INI file (inih), then the command line (--name=value or --name value).
 */
#ifndef FLEETSTATE_OPTIONS_H
#define FLEETSTATE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "schema/slice.h"

/* WORDS and STATEMENTS are TEXT that may go over several lines of a file, indented or with the name again: put together by " " and "; ". */
enum option_type { OPTION_TEXT, OPTION_WORDS, OPTION_STATEMENTS, OPTION_PATH, OPTION_SECONDS, OPTION_BYTES, OPTION_NUMBER, OPTION_FLAG, OPTION_CHOICE };

struct option {
	const char *name;	/* "spool_size": as in the file; --spool-size on the command line */
	enum option_type type;
	size_t offset;		/* in the settings struct: char * for TEXT, WORDS, STATEMENTS, PATH and CHOICE (owned by the settings), int64_t for numbers, bool */
	const char *initial;	/* default, as text; NULL: must be given unless not `required` */
	int64_t min, max;	/* of numbers; SECONDS take s m h d, BYTES take K M G */
	const char *choices;	/* "admit|hold" */
	const char *help;	/* one line, with the unit */
	bool required;
	bool secret;		/* --check does not print it */
};

/* Fills `settings` from the defaults, `file` (NULL: none) and argv's options, in this order. Returns the index of the first argument that is
   no option, -1 after printing an error that names file, line, option and what it wants. Call options_free before filling again. */
int options_load(const struct option *table, size_t n, void *settings, const char *file, int argc, char **argv) WARN_UNUSED;
/* As a file that somebody else opened and closes; `file` is what it is called. 0, or -1 after printing an error. */
int options_read(const struct option *table, size_t n, void *settings, const char *file, FILE *stream) WARN_UNUSED;
void options_free(const struct option *table, size_t n, void *settings);
void options_print(const struct option *table, size_t n, const void *settings, FILE *);	/* as a file: what is in force */
void options_help(const struct option *table, size_t n, FILE *);
void options_example(const struct option *table, size_t n, FILE *);	/* as a file: the defaults */
void options_man(const struct option *table, size_t n, FILE *);	/* mdoc .It lines */

#endif
