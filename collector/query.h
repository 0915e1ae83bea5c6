/*
 * How the HTTP interface runs its SQL: sign-in and query in one transaction, so that no statement ever runs without the caller's tenant. What reads
 * goes in one round trip and can't write; what writes runs only after the role is known, in one transaction of all the request's calls.
 */
#ifndef FLEETSTATE_COLLECTOR_QUERY_H
#define FLEETSTATE_COLLECTOR_QUERY_H

#include "collector/format_device.h"
#include "collector/query_pool.h"
#include "collector/query_sql.h"
#include "collector/request.h"

#define QUERY_PARAMS 12
#define QUERY_CALLS 2 /* of one request */

struct call {
	enum query query;
	struct param params[QUERY_PARAMS];
	int n;
};

/* Signs the request in and runs the calls in order; results[i] (binary) is the caller's to PQclear. On -1 there are no results and the response
   is the problem: token, tenant, role, database. */
int query_run(struct request *, struct response *, const struct call *, size_t n, PGresult **results) WARN_UNUSED;
/* What a route that writes did is committed once its answer is whole, with an entry in the audit log, and with the answer if the request may be repeated.
   If that fails nothing was done, and the response is the problem. */
void query_end(struct request *, struct response *);
/* On a route that reads: the rows of one call are taken one by one as they come, while the database makes the next ones. */
typedef bool query_taker(void *context, const PGresult *row);	/* False: it takes no more of them */
/* `limited`: as query_limited has it. Otherwise as query_run; what was taken before a problem is the caller's to forget. */
int query_rows(struct request *, struct response *, const struct call *, bool limited, query_taker *, void *context) WARN_UNUSED;
/* As query_run on a route that writes, for one that only reads, but leaves a trace. */
int query_write(struct request *, struct response *, const struct call *, size_t n, PGresult **results) WARN_UNUSED;
/* As query_run, for what looks into many states, as a preview does: within its limit of time, and only so many at once; refuses the rest. */
int query_limited(struct request *, struct response *, const struct call *, PGresult **result) WARN_UNUSED;
int query_refuse_preview(struct response *, const char *detail); /* -1 */
/* Nothing of what the route wrote so far stands. The response is the problem if that fails. */
void query_undo(struct request *, struct response *);
/* Answers a request without a body by a call whose one number says whether there was what it removes. `missing` is told where there was not. */
void query_remove(struct request *, struct response *, const struct call *, const char *missing);
/* Whether the caller's role and scopes allow the route at all. False: the response is the problem. */
bool query_may(struct request *, struct response *) WARN_UNUSED;
/* Counts of every tenant that the token may see, or of the one that the request names: rows of (family, tenant, label, value, n). Otherwise as
   query_run. */
int query_fleet_metrics(struct request *, struct response *, PGresult **result) WARN_UNUSED;

/* Reading binary results. */
struct slice query_bytes(const PGresult *, int row, int column);	/* absent when NULL */
/* A device's columns, from one on; its tenant is the one that is signed in. Columns that are none fail the response. */
void query_device(const struct request *, struct response *, const PGresult *, int row, int column, struct device_row *);
int64_t query_int8(const PGresult *, int row, int column);		/* also timestamptz; 0 when NULL */

#endif
