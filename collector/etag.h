/*
 * Entity tags (RFC 9110 8.8.3), and what the lists of them in If-Match and If-None-Match say of what there is (13.1). Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_ETAG_H
#define FLEETSTATE_COLLECTOR_ETAG_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/slice.h"

/* Whether it is "*" or a list of at least one tag. */
bool etag_list_ok(const char *list) WARN_UNUSED;
/* Whether a list names the tag, by weak comparison: W/ or not. NULL, or none: no. */
bool etag_is_listed(const char *if_none_match, const char *etag) WARN_UNUSED;
/* RFC 9110 13.2.2: whether what is at that revision, 0 if it is not there, is as the lists want it; NULL: there is no such header. Of a tag counts what
   stands before its first dot, which is the revision; a weak one matches nothing in If-Match. */
bool etag_permits(const char *if_match, const char *if_none_match, int64_t revision) WARN_UNUSED;

#endif
