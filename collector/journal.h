/*
 * Who read what, and who was refused, on the way to the audit log: kept in memory for some seconds, so that equal ones become one entry and requests
 * do not wait for it, then written by a thread of its own. What a request changed is no business of this: it is logged in its transaction.
 */
#ifndef FLEETSTATE_COLLECTOR_JOURNAL_H
#define FLEETSTATE_COLLECTOR_JOURNAL_H

#include "collector/query.h"

struct journal;

/* NULL if memory or threads ran out. */
struct journal *journal_start(struct query_pool *) WARN_UNUSED;
/* Writes what there is, if the database answers. NULL is fine. */
void journal_stop(struct journal *);

/* A request of a route that asks for a credential is answered so. Any thread. */
void journal_note(struct journal *, const struct request *, unsigned status);

#endif
