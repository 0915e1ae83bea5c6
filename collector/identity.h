/*
 * Who calls, and how much he may ask: what is found out about a request before its route's function runs. Tokens and sessions the database knows by their
 * hash. A client certificate, or somebody for whom an identity provider vouches, it knows by a handle, which the ingest role is given for what was verified
 * here: so whoever has the API's role alone can stand for none of them.
 */
#ifndef FLEETSTATE_COLLECTOR_IDENTITY_H
#define FLEETSTATE_COLLECTOR_IDENTITY_H

#include "collector/query.h"
#include "collector/settings.h"

struct identity;

/* NULL after logging why. */
struct identity *identity_start(const struct settings *, struct query_pool *) WARN_UNUSED;
void identity_stop(struct identity *);

/* Once for each request of a route that asks for a role, by a thread that may wait for the database. False: the response is the problem. */
bool identity_settle(struct identity *, struct request *, struct response *) WARN_UNUSED;
/* The same once more, before a later piece of its answer: whether he is still who he was. */
bool identity_renew(struct identity *, struct request *, struct response *) WARN_UNUSED;

/* So many bytes go out to the caller: for how many milliseconds no more of this answer should. */
int64_t identity_spend(struct identity *, const struct request *, uint64_t bytes);
/* It is answered: what was taken for it is given back. */
void identity_leave(struct identity *, struct request *);

#endif
