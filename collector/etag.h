/*
 * Entity tags (RFC 9110 8.8.3), and what the lists of them in If-Match and If-None-Match say of what there is (13.1). Pure.
 *
 * A tag is made of SHA-256 over a key and the body or, since that takes an eighth of the time, a long body's GMAC under another key. GMAC with one nonce for all
 * is a hash of which nobody without its key finds two bodies that have it in common, but who sees it computes the key: so it is not shown, and SHA-256 tells
 * nothing of it. Who writes what is served, as a device does, has no key, so no choice of texts makes two answers look like one.
 */
#ifndef FLEETSTATE_COLLECTOR_ETAG_H
#define FLEETSTATE_COLLECTOR_ETAG_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/slice.h"

#define ETAG_HALF 16 /* bytes */

struct etag_key {
	uint8_t mac[ETAG_HALF], cover[ETAG_HALF];
};

/* The same secret gives the same tags. It may be what cursors are signed with: none has the text of which this is the HMAC. -1: there is no memory. */
int etag_key_derive(struct slice secret, struct etag_key *) WARN_UNUSED;
/* So many bytes of a body's hash, at most 32, as `hex` of twice that and a NUL. -1: there is no memory, or it has more than INT_MAX bytes. */
int etag_hash(const struct etag_key *, struct slice body, size_t bytes, char *hex) WARN_UNUSED;

/* Whether it is "*" or a list of at least one tag. */
bool etag_list_ok(const char *list) WARN_UNUSED;
/* Whether a list names the tag, by weak comparison: W/ or not. NULL, or none: no. */
bool etag_is_listed(const char *if_none_match, const char *etag) WARN_UNUSED;
/* Whether it names the tag, by strong comparison, as no weak one is named but by "*". NULL, or no such list: no. */
bool etag_is_matched(const char *if_match, const char *etag) WARN_UNUSED;
/* RFC 9110 13.2.2: whether what is at that revision, 0 if it is not there, is as the lists want it; NULL: there is no such header. Its tags are the revision,
   and if they have so many hexadecimal digits of a digest, a dot and these, which don't count. A weak one matches nothing in If-Match. */
bool etag_permits(const char *if_match, const char *if_none_match, int64_t revision, size_t digits) WARN_UNUSED;

#endif
