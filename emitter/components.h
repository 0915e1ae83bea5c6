/*
 * What is installed, gathered from whichever databases there are into the inventory: a set of components in the order of their encodings.
 * The first 20,000 are listed, all are counted.
 */
#ifndef FLEETSTATE_COMPONENTS_H
#define FLEETSTATE_COMPONENTS_H

#include <stdbool.h>

#include "emitter/collect.h"
#include "schema/report.h"
#include "schema/slice.h"

struct components;

/* For purls; NULL: none are made, or without distro. NULL: no memory. */
struct components *components_new(const char *os_id, const char *distro) WARN_UNUSED;
void components_free(struct components *);	/* NULL is fine */

/* An installed package; its purl is made here. `source` and `source_version` that only repeat name and version are left absent. It is counted, and
   listed too unless a text of it is cut or holds what no package's name or version does. */
void components_package(struct components *, const struct component *, bool cut);
/* A package that is neither installed nor gone. */
void components_broken(struct components *, struct slice name);
/* Something else that is no package: it is listed, and not counted as one. Its purl is the caller's. */
void components_add(struct components *, const struct component *);

struct components_result {
	uint64_t installed;	/* packages */
	size_t listed;		/* of them, in the inventory */
	const char *unlisted;	/* why not all are; NULL: all */
	const char *const *broken;	/* names; they belong to components */
	size_t broken_len;
};
/* The inventory, allocated. -1: no memory. */
int components_finish(struct components *, struct inventory *, struct components_result *) WARN_UNUSED;

/* pkg:deb/debian/name@version?arch=..&distro=.. into `out` with a NUL; 0 if it does not fit or the type has none. NULL distro: none. */
size_t purl_write(enum component_type, const char *os_id, const char *distro, const struct component *, char *out, size_t size) WARN_UNUSED;

#endif
