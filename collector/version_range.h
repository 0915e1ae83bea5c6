/*
 * A range of versions as the package-url project's VERS notation has it: "vers:deb/>=1.2|<2.0", in the order that the type has for its own
 * versions. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_VERSION_RANGE_H
#define FLEETSTATE_COLLECTOR_VERSION_RANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "schema/limits.h"
#include "schema/slice.h"

#define VERSION_RANGE_CONSTRAINTS 32

struct version_kind;	/* a type of VERS: its order, and which components are of it */

struct version_constraint {
	enum version_comparator { VERSION_IS, VERSION_IS_NOT, VERSION_BELOW, VERSION_UP_TO, VERSION_ABOVE, VERSION_FROM } comparator;
	char text[LIMIT_VERSION + 1];
	size_t len;
};

struct version_range {
	const struct version_kind *kind;
	bool all;	/* "*" */
	struct version_constraint constraints[VERSION_RANGE_CONSTRAINTS];	/* sorted by version */
	size_t n;
};

/* Whether it begins as one does: no version does. */
bool version_range_is(const char *text) WARN_UNUSED;
/* False: it is none, and `why` says where and what (static). Constraints may come in any order; none may make another needless. */
bool version_range_parse(const char *text, struct version_range *, size_t *where, const char **why) WARN_UNUSED;
/* Whether a component ("dpkg", "1.2-3") is in it. One of another kind never is. */
bool version_range_has(const struct version_range *, struct slice type, struct slice version) WARN_UNUSED;

#endif
