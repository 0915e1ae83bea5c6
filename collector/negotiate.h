/*
 * What a client's headers ask of an answer's form (RFC 9110 12, 13): sent compressed, or not at all because the client has it already. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_NEGOTIATE_H
#define FLEETSTATE_COLLECTOR_NEGOTIATE_H

#include <stdbool.h>

#include "collector/response.h"

enum coding {
	CODING_NONE,
	CODING_GZIP,
	CODING_ZSTD
};

/* The one that an Accept-Encoding header likes best; of two that it likes the same, zstd. NULL, or one that makes no sense: none. */
enum coding coding_choose(const char *accept_encoding) WARN_UNUSED;
/* Whether an If-None-Match header names the tag, W/ or not. NULL: no. */
bool etag_is_listed(const char *if_none_match, const char *etag) WARN_UNUSED;

/*
 * To be called once for a whole answer to GET or HEAD. A 200 gets an ETag, or becomes a 304; what is text, made for it and not small is compressed. What has an
 * ETag of its own goes out as it is: signed bytes, and what If-Match is about.
 */
void negotiate(struct response *, const char *accept_encoding, const char *if_none_match);

#endif
