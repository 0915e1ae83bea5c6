/*
 * The route table: path, method, least role, parameters and function; and the way from a request to an answer. Whatever is wrong with a request
 * before its function is called is answered here.
 */
#ifndef FLEETSTATE_COLLECTOR_ROUTES_H
#define FLEETSTATE_COLLECTOR_ROUTES_H

#include "collector/request.h"
#include "collector/response.h"

#define ROUTE_PARAMETERS 160

struct route {
	const char *method;	/* GET answers HEAD too; the others take a body of JSON */
	const char *path;	/* {x} stands for one segment */
	enum role least;	/* ROLE_NONE: without a token */
	void (*answer)(struct request *, struct response *);
	const char *parameters;	/* names, with spaces between; `tenant` goes with every role */
	enum { ROUTE_QUICK, ROUTE_READS, ROUTE_WRITES } how;	/* from memory, without waiting; in a transaction that can't write; or that can */
};

/* What the server knows of a request beside its target. */
struct arrival {
	const char *method, *target;
	const char *authorization, *accept, *content_type, *content_length, *last_event_id;
	const char *accept_encoding, *if_match, *if_none_match;	/* NULL: no such header */
	bool has_body;
};

/* Finds the route, once the headers are here. True if the response is whole already: something is wrong, or the route is quick. `request` has pool
   and readiness set. */
bool routes_begin(const struct arrival *, struct request *, struct response *) WARN_UNUSED;
/* The rest, once the body is here too, which may wait for the database. The response is always whole afterwards. */
void routes_finish(struct request *, struct response *);

/* The functions of the table, by file. */
void api_fleet(struct request *, struct response *);
void api_refusals(struct request *, struct response *);
void api_devices(struct request *, struct response *);
void api_device(struct request *, struct response *);
void api_state(struct request *, struct response *);
void api_inventory(struct request *, struct response *);
void api_ledger(struct request *, struct response *);
void api_reports(struct request *, struct response *);
void api_device_events(struct request *, struct response *);
void api_report_by_seq(struct request *, struct response *);
void api_report_by_digest(struct request *, struct response *);
void api_policies(struct request *, struct response *);
void api_policy(struct request *, struct response *);
void api_policy_put(struct request *, struct response *);
void api_policy_delete(struct request *, struct response *);
void api_policy_preview(struct request *, struct response *);
void api_alerts(struct request *, struct response *);
void api_alert(struct request *, struct response *);
void api_alert_action(struct request *, struct response *);
void api_alerts_action(struct request *, struct response *);
void api_device_alerts(struct request *, struct response *);
void api_maintenance(struct request *, struct response *);
void api_maintenance_add(struct request *, struct response *);
void api_maintenance_delete(struct request *, struct response *);
void api_events(struct request *, struct response *);
void api_event_stream(struct request *, struct response *);
void api_sinks(struct request *, struct response *);
void api_sink_add(struct request *, struct response *);
void api_sink_delete(struct request *, struct response *);
void api_metrics(struct request *, struct response *);
void api_healthz(struct request *, struct response *);
void api_readyz(struct request *, struct response *);
void api_asset(struct request *, struct response *);

#endif
