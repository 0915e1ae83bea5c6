/*
 * What a client's headers ask of an answer's form (RFC 9110 12, 13): sent compressed, or not at all because the client has it already. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_NEGOTIATE_H
#define FLEETSTATE_COLLECTOR_NEGOTIATE_H

#include <stdbool.h>

#include "collector/etag.h"
#include "collector/packer.h"
#include "collector/response.h"

/* The one that an Accept-Encoding header likes best; of two that it likes the same, zstd. NULL, or one that makes no sense: none. */
enum coding coding_choose(const char *accept_encoding) WARN_UNUSED;

/*
 * To be called once for a whole answer to GET or HEAD. A 200 gets an ETag, or becomes a 304; what is text, made for it and not small is compressed. What has an
 * ETag of its own goes out as it is: signed bytes, and what If-Match is about. Without a key all goes out as it is.
 */
void negotiate(struct response *, const struct etag_key *, const char *accept_encoding, const char *if_none_match);
/* The same for each piece of a stream, and once more when there is none: all of them become one compressed whole, if the client likes one. `packer` is kept from
   one to the next, NULL at first; what is left when a stream was broken off is freed by packer_free. One that has an ETag may become a 304 with its first. */
void negotiate_piece(struct packer **packer, struct response *, const char *accept_encoding, const char *if_none_match);

/* To be called before either: RFC 9110 13.2.2. A 200 that If-Match does not name becomes a 412. NULL: there is no such header. */
void negotiate_match(struct response *, const char *if_match);

#endif
