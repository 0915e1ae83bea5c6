/*
 * A package URL as somebody asks with one: whole, or without what may be any (ECMA-427). It comes out as emitters write it, so that whoever spells it otherwise
 * finds the same. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_PURL_SEARCH_H
#define FLEETSTATE_COLLECTOR_PURL_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

#include "schema/limits.h"
#include "schema/slice.h"

struct purl_search {
	char text[3 * LIMIT_PURL + 1]; /* "pkg:deb/debian/openssl@3.0.11-1?arch=amd64" */
	size_t len;
	char name[LIMIT_PURL + 1]; /* decoded: the component's own */
};

/* False: it is none, and `why` (static) says what, from which byte on. A subpath is none that we know. */
bool purl_search_parse(const char *text, struct purl_search *, size_t *where, const char **why) WARN_UNUSED;

#endif
