/*
 * The configuration files that packages brought, and what they were then: the Conffiles of dpkg's and opkg's databases.
 */
#ifndef FLEETSTATE_CONFFILES_H
#define FLEETSTATE_CONFFILES_H

#include <stdbool.h>

#include "emitter/text.h"

#define CONFFILES_MAX 4096
#define CONFFILES_PATHS (256 * 1024)

struct conffile {
	size_t path;	/* in the paths */
	uint8_t digest[32];
	size_t digest_len;	/* 16: MD5, 32: SHA-256 */
};

struct conffiles {
	struct conffile at[CONFFILES_MAX];
	size_t len;
	char paths[CONFFILES_PATHS];	/* each with a NUL, absolute */
	size_t paths_len;
	bool more;	/* than fits */

	struct text_feed feed;
	bool installed, inside;	/* of the paragraph at hand; in its Conffiles */
	size_t paragraph;	/* where its files begin */
};
/* Begin with zeros; the database in pieces, then its end. */
void conffiles_feed(struct conffiles *, struct slice piece);
void conffiles_end(struct conffiles *);

#endif
