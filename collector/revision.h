/*
 * What people decide about is at a revision, which its entity tag tells: nobody changes what is not as he saw it (RFC 9110 13.1).
 */
#ifndef FLEETSTATE_COLLECTOR_REVISION_H
#define FLEETSTATE_COLLECTOR_REVISION_H

#include "collector/query.h"

/* What If-Match and If-None-Match want becomes the last parameter of the call that writes: the revision at which it may, NULL: at any. `found` tells in its
   column `revision` at which one it is; no row: it is not there. `digits`: as etag_permits has them. -1: the response is the problem. `revision` has to live as
   long as the call. */
int revision_expect(struct request *, struct response *, const struct call *found, size_t digits, struct call *, uint64_t *revision) WARN_UNUSED;
/* Answers a request whose checked body is a change: the first call makes it, and takes the body and the revision that the caller expects behind its own
   parameters; the second asks what it is then, which is answered. */
typedef void revision_answer(struct request *, struct response *, const PGresult *);	/* where there is no row, a problem */
void revision_change(struct request *, struct response *, struct call calls[2], revision_answer *);
/* The entity tag of the body: the revision, of what people decide about it, and so many digits of a digest, since what is reported changes the rest. */
#define TAG_DIGITS 16
void revision_tag(const struct request *, struct response *, int64_t revision);

#endif
