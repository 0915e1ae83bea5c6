/*
 * What modprobe.d(5) forbids and sets. Pure.
 */
#ifndef FLEETSTATE_MODPROBE_H
#define FLEETSTATE_MODPROBE_H

#include <stdbool.h>

#include "schema/slice.h"

enum modprobe_kind {
	MODPROBE_BLACKLIST,	/* not loaded for a device that turns up; by hand it is */
	MODPROBE_NO_INSTALL,	/* "install MODULE /bin/false": not at all */
	MODPROBE_OPTIONS
};

struct modprobe_rule {
	enum modprobe_kind kind;
	struct slice module;
	struct slice options;	/* "authorized_default=0 nousb=1" */
};

/* false: the line says none of these. */
bool modprobe_parse(struct slice line, struct modprobe_rule *) WARN_UNUSED;
/* As kmod compares: "-" and "_" are the same. */
bool module_is(struct slice name, const char *other);

#endif
