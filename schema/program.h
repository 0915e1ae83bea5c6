/*
 * A program's command line: its settings, which schema/options.h reads, and the words that are none. --config, --check, --example, --man-options,
 * --version and --help are every program's; each may have words of its own.
 */
#ifndef FLEETSTATE_PROGRAM_H
#define FLEETSTATE_PROGRAM_H

#include "schema/options.h"

/* What is asked for. The actions of a program's own words are PROGRAM_OWN and above. */
enum program_action {
	PROGRAM_RUN,
	PROGRAM_CHECK,		/* only `settle` hears of it: for the caller it is done */
	PROGRAM_DONE,		/* --help and the like: printed */
	PROGRAM_WRONG,		/* said why */
	PROGRAM_OWN
};

struct program_word {
	const char *text;	/* "--once" */
	int action;
	const char *help;	/* NULL: another word's help tells of it */
};

struct program {
	const char *name;	/* "fleetstate-emitter" */
	const char *usage;	/* for --help: its name and what may follow */
	const char *file;	/* read without --config, if it is there; NULL: none */
	const struct option *table;
	size_t options;
	const struct program_word *words;
	size_t words_len;
	int (*settle)(void *settings, int action);	/* what single options can't say: 0, or -1 after saying what is wrong; NULL: nothing */
};

/* Fills `settings`, which are all zero before, and prints what --help and the like ask for. Returns a program_action, or that of the last of the
   program's own words; after PROGRAM_DONE and PROGRAM_WRONG there is nothing to free, otherwise options_free frees. argv is not changed, and good
   for loading again (SIGHUP). From then on OpenSSL is not cleaned up when the process ends. */
int program_load(const struct program *, void *settings, int argc, char *const *argv) WARN_UNUSED;

/* The file that program_load reads with these arguments; NULL: none. */
const char *program_file(const struct program *, int argc, char *const *argv);

#endif
