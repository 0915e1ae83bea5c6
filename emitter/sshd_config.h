/*
 * sshd_config(5), as OpenSSH 9.2's `sshd -T` has it without a connection: the first value counts, files are included where they are named, what
 * stands in a Match block counts only below "Match all", and what is not set has the compiled default.
 */
#ifndef FLEETSTATE_SSHD_CONFIG_H
#define FLEETSTATE_SSHD_CONFIG_H

#include <stdbool.h>

#include "schema/slice.h"

enum sshd_keyword {
	SSHD_PERMIT_ROOT_LOGIN,
	SSHD_PASSWORD,
	SSHD_KEYBOARD_INTERACTIVE,
	SSHD_EMPTY_PASSWORDS,
	SSHD_PUBKEY,
	SSHD_USE_PAM,
	SSHD_MAX_AUTH_TRIES,
	SSHD_LOGIN_GRACE_TIME,
	SSHD_AUTHENTICATION_METHODS,
	SSHD_AUTHORIZED_KEYS_FILE,
	SSHD_AUTHORIZED_KEYS_COMMAND,
	SSHD_CIPHERS,
	SSHD_MACS,
	SSHD_KEX,
	SSHD_HOST_KEY_ALGORITHMS,
	SSHD_PUBKEY_ALGORITHMS,
	SSHD_CA_ALGORITHMS,
	SSHD_KEYWORDS
};

#define SSHD_VALUE 2048	/* with the NUL: all algorithms of a kind together */
#define SSHD_MATCHED 32	/* settings in Match blocks that are looked at */

struct sshd_config {
	struct {
		bool set, matched;	/* the latter: by a Match block that always holds, which goes before */
		char text[SSHD_VALUE];	/* words, in lower case where case means nothing; numbers in decimal, times in seconds */
	} values[SSHD_KEYWORDS];
	struct {
		char criteria[128];
		enum sshd_keyword keyword;
		char text[64];
	} matched[SSHD_MATCHED];
	size_t matched_len;
	bool matched_more;
	char broken[128];	/* what sshd would not start with; empty: nothing */
};

/* Where a text begins: at its top level all counts. */
struct sshd_place {
	bool active, match_active;	/* in sshd's first reading, and in its second, for a connection */
	bool never, match_never, match_only;
	unsigned depth;
	char criteria[128];
};

/* Is called for a file to be included, with the pattern as it stands there; the callee calls sshd_config_parse for each file, with `place`. */
struct sshd_include {
	void (*take)(void *, struct sshd_config *, const char *pattern, const struct sshd_place *place);
	void *context;
};

void sshd_config_init(struct sshd_config *);
/* `place` NULL: the main file, or what goes before it, as -o on the command line. */
void sshd_config_parse(struct sshd_config *, struct slice text, const struct sshd_place *place, const struct sshd_include *);

const char *sshd_config_text(const struct sshd_config *, enum sshd_keyword);	/* the effective value, or the default; lists as they are written */
bool sshd_config_flag(const struct sshd_config *, enum sshd_keyword);
uint64_t sshd_config_number(const struct sshd_config *, enum sshd_keyword);
/* A password alone is enough, by itself or through PAM. */
bool sshd_takes_passwords(const struct sshd_config *);
/* Calls `take` for each setting of a Match block that lets in more than the effective ones: "user bob: passwordauthentication yes". */
void sshd_loosened(const struct sshd_config *, void (*take)(void *, const char *), void *);
/* Calls `take` for each algorithm in effect that should not be, once for each kind of use that has it. */
void sshd_weak(const struct sshd_config *, void (*take)(void *, const char *), void *);

#endif
