/*
 * What is mounted, or would be: /proc/self/mountinfo, /proc/swaps, fstab(5), crypttab(5). Parsers only: a line in, its parts out. They point into
 * the line, still escaped.
 */
#ifndef FLEETSTATE_MOUNTS_H
#define FLEETSTATE_MOUNTS_H

#include <stdbool.h>

#include "schema/slice.h"

struct mount {
	unsigned id, parent, major, minor;
	struct slice root, point, options, type, source, super; /* proc(5) */
};
bool mount_parse(struct slice line, struct mount *) WARN_UNUSED;

/* fstab's; major and minor are 0, root and super absent. false: no entry, or a malformed one. */
bool fstab_parse(struct slice line, struct mount *) WARN_UNUSED;

struct crypt_volume {
	struct slice name, device, key, options;	/* the last two may be absent */
};
bool crypttab_parse(struct slice line, struct crypt_volume *) WARN_UNUSED;

bool swap_parse(struct slice line, struct slice *path) WARN_UNUSED;	/* of /proc/swaps; its title line is none */

/* "\040" for a blank. 0 when it does not fit with its NUL, or is empty. */
size_t mount_unescape(struct slice, char *out, size_t size) WARN_UNUSED;
/* Whether "rw,noexec,size=1m" has `option`, or has it with a value. */
bool mount_option(struct slice options, const char *option);

#endif
