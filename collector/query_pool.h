/*
 * The HTTP interface's connections to the database: as the API's role, with our settings, each for one thread at a time. And the statements that are run on
 * them for no caller of ours.
 */
#ifndef FLEETSTATE_COLLECTOR_QUERY_POOL_H
#define FLEETSTATE_COLLECTOR_QUERY_POOL_H

#include <stdbool.h>

#include "collector/database.h"
#include "collector/etag.h"
#include "collector/quota.h"
#include "schema/key.h"

#define QUERY_SECRET 32

struct query_pool;
struct connection;

/* As many connections as threads will ask at once, and how many previews of policies may run at once, each for so long, and all else for `query_ms` a
   statement. NULL if memory ran out.
   Connects when first needed. */
struct query_pool *query_pool_new(const char *uri, size_t connections, size_t previews, int64_t preview_ms, int64_t query_ms,
	int64_t registrations_max) WARN_UNUSED;
void query_pool_free(struct query_pool *);
int64_t query_pool_ms(const struct query_pool *) WARN_UNUSED;			/* of a statement */
const char *query_pool_registrations_max(const struct query_pool *) WARN_UNUSED;	/* of one tenant, as text */
const char *query_pool_preview_ms(const struct query_pool *) WARN_UNUSED;	/* of a preview, as text */

/* Waits until one is free. */
struct connection *query_pool_take(struct query_pool *) WARN_UNUSED;
void query_pool_give_back(struct query_pool *, struct connection *);
/* It has our settings and is bound by row-level security; with `again` it is the one that it was before. NULL: there is none, which was logged unless it
   is another. */
PGconn *connection_open(struct connection *, bool again) WARN_UNUSED;
/* It is of no use any more. */
void connection_drop(struct connection *);

/* One more preview. False: there are as many as may be; else query_pool_leave is called once. */
bool query_pool_enter(struct query_pool *) WARN_UNUSED;
void query_pool_leave(struct query_pool *);

/* Whether the database answers the API's role at all, for /readyz. */
bool query_ready(struct query_pool *, char *why) WARN_UNUSED;
/* The last position of an event of each tenant; 0: none, or no answer. */
void query_event_tops(struct query_pool *, const int32_t *tenants, size_t n, int64_t *tops);
/* Adds to the audit log what came together; the parameters are audit_noted's. -1: the database does not take it. */
int query_note(struct query_pool *, const struct param *, int n) WARN_UNUSED;
/* The token behind a credential's hash, and in `limits` what it has of its own. 0: there is none; -1: the database does not answer. */
int64_t query_quota(struct query_pool *, const uint8_t hash[DIGEST_SIZE], struct quota_limits *limits) WARN_UNUSED;
/* What signs cursors: one for each database. -1 when the database does not answer. */
int query_secret(struct query_pool *, uint8_t secret[QUERY_SECRET]) WARN_UNUSED;
/* What makes entity tags, of the same secret: whichever collector answers, before its restart or after, tags are the same. Lives as long as the pool; NULL
   when the database does not answer. */
const struct etag_key *query_etag_key(struct query_pool *) WARN_UNUSED;

#endif
