/*
 * Whether an account still has the password that it left the factory with: crypt(3), loaded when it is first needed.
 */
#ifndef FLEETSTATE_DEFAULT_PASSWORD_H
#define FLEETSTATE_DEFAULT_PASSWORD_H

#include <stdbool.h>

#include "schema/key.h"

#define DEFAULT_PASSWORDS 16	/* pairs of account and password: each may cost a quarter of a second */

struct default_passwords {
	struct {
		uint8_t pair[DIGEST_SIZE];	/* SHA-256 of password and field */
		bool known, same;
	} cache[DEFAULT_PASSWORDS];
	size_t next;
};

/* NULL, or why it can't be told. */
const char *default_password_check(struct default_passwords *, struct slice password, struct slice field, bool *same) WARN_UNUSED;

#endif
