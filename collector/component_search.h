/*
 * Which components a request means: `component_version=vers:deb/<1.2` is looked up first, since PostgreSQL does not know in which order a kind of
 * package has its versions.
 */
#ifndef FLEETSTATE_COLLECTOR_COMPONENT_SEARCH_H
#define FLEETSTATE_COLLECTOR_COMPONENT_SEARCH_H

#include "collector/query.h"
#include "collector/version_range.h"

#define COMPONENT_VERSIONS_MAX 20000 /* of one name or purl: two decades of a daily build, on two architectures */

/* The components of the name, and of the purl if it is not NULL, that are in the range that the parameter holds, as PostgreSQL writes a list: "{1,2}". To be freed with
   free(). NULL: the response is the problem. */
char *component_search(struct request *, struct response *, const char *name, const char *purl,
		       const char *parameter) WARN_UNUSED;
/* -1: the parameter looks like a range and is none, and the response says so. */
int component_version_check(const struct request *, struct response *, const char *parameter) WARN_UNUSED;

#endif
