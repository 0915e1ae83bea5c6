/*
 * One sink's way through the events: what is next, how far it got, when to try again, what the receiver will never take. Its cursor is stored after the
 * delivery, so that whoever leads the sink next may repeat something and skips nothing.
 */
#ifndef FLEETSTATE_COLLECTOR_LANE_H
#define FLEETSTATE_COLLECTOR_LANE_H

#include "collector/database.h"
#include "collector/vault.h"
#include "collector/sink.h"

struct lane;

/* Its statements, for the connection that the lanes share and that holds their locks. */
extern const struct statement lane_statements[];
extern const size_t lane_statements_n;

/* `row` of `sinks` as LANE_SINKS gives it; `key` NULL: no secret can be opened. NULL: the database fails, or memory. */
#define LANE_SINKS "lane_sinks"
enum { LANE_SINK_ID, LANE_TENANT, LANE_NAME, LANE_KIND, LANE_TARGET, LANE_CA, LANE_CERTIFICATE, LANE_SECRET, LANE_TYPES, LANE_SEVERITY,
	LANE_BATCH, LANE_TENANT_ID, LANE_TEST, LANE_FORMAT };
struct lane *lane_new(struct database *, const struct sink_ground *, const struct vault_key *, const PGresult *sinks, int row) WARN_UNUSED;
void lane_free(struct lane *);
int64_t lane_id(const struct lane *);

/* Carries on what can be. -1: the database fails, and with it the lock. 1: the sink is no longer ours. */
int lane_run(struct lane *, struct database *, int64_t now_ms) WARN_UNUSED;
/* There may be new events; a test is wanted. */
void lane_wake(struct lane *);
void lane_test(struct lane *);
/* When it has something to do by itself. */
int64_t lane_due(const struct lane *, int64_t now_ms);
bool lane_wait(const struct lane *, struct curl_waitfd *);
/* Sends nothing more, and stores what was still delivered. False: something is still on its way. */
bool lane_end(struct lane *, struct database *, int64_t now_ms);

#endif
