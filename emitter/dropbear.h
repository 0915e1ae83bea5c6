/*
 * How dropbear, the small SSH server of embedded systems, is started: its arguments, or OpenWrt's configuration (UCI) of it.
 */
#ifndef FLEETSTATE_DROPBEAR_H
#define FLEETSTATE_DROPBEAR_H

#include <stdbool.h>

#include "schema/slice.h"

struct dropbear {
	bool no_root, no_password, no_root_password, empty_password;
	uint64_t tries;
};
void dropbear_init(struct dropbear *);	/* as compiled */
/* A file of shell variables, as /etc/default/dropbear: the words of DROPBEAR_EXTRA_ARGS. */
void dropbear_arguments(struct slice text, struct dropbear *);
/* Of several instances the loosest counts. */
void dropbear_uci(struct slice text, struct dropbear *);

#endif
