/*
 * OpenSSL's configuration, config(5), as far as it tells what every program of the system gets: the section that openssl_conf, ssl_conf and
 * system_default lead to.
 */
#ifndef FLEETSTATE_OPENSSL_CONF_H
#define FLEETSTATE_OPENSSL_CONF_H

#include <stdbool.h>

#include "schema/slice.h"

#define CONF_ENTRIES 128	/* that may matter */
#define CONF_TEXT 512

struct openssl_conf {
	char section[64];	/* that the next line belongs to */
	struct {
		char section[64], name[64], value[CONF_TEXT];
	} *entries;		/* of CONF_ENTRIES, the caller's */
	size_t len;
	bool more;		/* than CONF_ENTRIES, or something too long to keep */
	unsigned depth;
};

/* Is called for ".include PATH"; the callee calls openssl_conf_parse for each file. */
struct openssl_include {
	void (*take)(void *, struct openssl_conf *, const char *path);
	void *context;
};
void openssl_conf_parse(struct openssl_conf *, struct slice text, const struct openssl_include *);

enum tls_floor { FLOOR_UNSET, FLOOR_NONE, FLOOR_SSL3, FLOOR_TLS1, FLOOR_TLS1_1, FLOOR_TLS1_2, FLOOR_TLS1_3 };

struct openssl_default {
	enum tls_floor floor;
	int level;		/* -1: not set */
	bool unsure;		/* it names something that is not understood here: a variable, "Protocol" */
};
void openssl_conf_default(const struct openssl_conf *, struct openssl_default *);

#endif
