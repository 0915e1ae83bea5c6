/*
 * passwd(5), shadow(5) and group(5), line by line, as the C library takes them: also with blanks in front and with fields missing at the end, since
 * "eve::0:0" is root without a password. Slices point into the line.
 */
#ifndef FLEETSTATE_ACCOUNTS_H
#define FLEETSTATE_ACCOUNTS_H

#include <stdbool.h>

#include "schema/slice.h"

struct account {
	struct slice name, password, home, shell;
	uint64_t uid, gid;
};
bool account_parse(struct slice line, struct account *) WARN_UNUSED;	/* false: a comment, or not taken */

struct shadow {
	struct slice name, password;
	bool expires;
	uint64_t expiry;	/* days since 1970 */
};
bool shadow_parse(struct slice line, struct shadow *) WARN_UNUSED;

struct group {
	struct slice name, members;
	uint64_t gid;
};
bool group_parse(struct slice line, struct group *) WARN_UNUSED;
/* Takes the next name off "alice,bob". */
bool group_member(struct slice *members, struct slice *name) WARN_UNUSED;

/* What the password field lets in. */
enum password {
	PASSWORD_EMPTY,		/* anybody */
	PASSWORD_LOCKED,	/* "!" or "*" in front: nobody */
	PASSWORD_NONE,		/* nothing that crypt(3) makes: nobody */
	PASSWORD_WEAK,		/* DES, MD5, SHA-1 or NT */
	PASSWORD_SOUND
};
enum password password_kind(struct slice field);
/* Whether checking one password against it takes at most about a quarter of a second. */
bool password_is_cheap(struct slice field);

/* Not one of those that only say that nobody logs in. */
bool shell_lets_in(struct slice shell);

/* authorized_keys: options, or none, then a kind of key and the key. */
bool authorised_key(struct slice line);

#endif
