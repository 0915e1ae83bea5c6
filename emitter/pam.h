/*
 * Linux-PAM's stacks (pam.d(5)) and what configures locking and waiting: faillock.conf(5), login.defs(5). Slices point into the text.
 */
#ifndef FLEETSTATE_PAM_H
#define FLEETSTATE_PAM_H

#include <stdbool.h>

#include "schema/slice.h"

#define PAM_LINE 4096

enum pam_type { PAM_AUTH, PAM_ACCOUNT, PAM_PASSWORD, PAM_SESSION };
struct pam_line {
	bool include;		/* "@include FILE", or a control of include or substack: `module` is the file's name */
	bool every_type;	/* @include */
	enum pam_type type;
	struct slice module;	/* without its directory */
	struct slice arguments;
};
/* Takes the next line off `text`, and those that it goes on with after a backslash, which are copied to `joined`. false: there is none. */
bool pam_next_line(struct slice *text, char joined[PAM_LINE], struct slice *line) WARN_UNUSED;
bool pam_parse(struct slice line, struct pam_line *) WARN_UNUSED;	/* false: a comment, or malformed */
/* "name" alone has an empty value, "name=value" that one; the last counts. */
bool pam_argument(struct slice arguments, const char *name, struct slice *value) WARN_UNUSED;

/* "name = value", "name value" or "name"; the last one of the name counts. false: it is not there. */
bool setting_find(struct slice text, const char *name, struct slice *value) WARN_UNUSED;

#endif
