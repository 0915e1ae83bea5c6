/*
 * Who may become root by sudo, sudoers(5), as far as it says so plainly: lists, aliases, users to run as, NOPASSWD. And by doas, doas.conf(5).
 */
#ifndef FLEETSTATE_SUDOERS_H
#define FLEETSTATE_SUDOERS_H

#include <stdbool.h>

#include "schema/slice.h"

#define SUDOERS_TEXT (128 * 1024)	/* all files together, without comments */

struct sudoers {
	char text[SUDOERS_TEXT];	/* lines as they count: continued ones joined, comments taken off */
	size_t len;
	bool more;	/* than fits, or is followed here */
	unsigned lookups;
	bool no_authentication;	/* Defaults !authenticate: for everybody */
};

/* Is called where a file, or all files of a directory, are included; the callee calls sudoers_parse for each of them. */
struct sudoers_include {
	void (*take)(void *, struct sudoers *, const char *path, bool directory);
	void *context;
};
void sudoers_parse(struct sudoers *, struct slice text, const struct sudoers_include *);

/* Calls `take` for each user ("alice", "#1000") or group ("%wheel") that may run something as root, but for root itself. One may come several times. */
typedef void sudoers_take(void *, const char *who, bool all_commands, bool without_password);
void sudoers_administrators(struct sudoers *, sudoers_take *, void *);

/* A file's name in an included directory: not one with a dot, or a backup's. */
bool sudoers_file(const char *name);

/* A line of doas.conf. `who` is "alice" or ":wheel". false: it lets nobody become root. */
bool doas_parse(struct slice line, struct slice *who, bool *all_commands, bool *without_password) WARN_UNUSED;

#endif
