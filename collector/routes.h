/*
 * The route table (routes.def), and the way from a request to an answer. Whatever is wrong with a request
 * before its function is called is answered here.
 */
#ifndef FLEETSTATE_COLLECTOR_ROUTES_H
#define FLEETSTATE_COLLECTOR_ROUTES_H

#include "collector/request.h"
#include "collector/response.h"

#define ROUTE_PARAMETERS 160

/* A row of routes.def. */
struct route {
	const char *method;
	const char *path;
	enum role least;
	enum scope scope;
	void (*answer)(struct request *, struct response *);
	const char *parameters;
	enum { ROUTE_QUICK, ROUTE_READS, ROUTE_WRITES } how;
};

/* What the server knows of a request beside its target. */
struct arrival {
	const char *method, *target;
	const char *authorization, *accept, *content_type, *content_length, *last_event_id;
	const char *accept_encoding, *if_match, *if_none_match, *idempotency_key;	/* NULL: no such header */
	const char *session;			/* the cookie */
	const char *csrf, *origin, *host;
	bool has_body;
};

/* Finds the route, once the headers are here. True if the response is whole already: something is wrong, or the route is quick. `request` has pool
   and readiness set. */
bool routes_begin(const struct arrival *, struct request *, struct response *) WARN_UNUSED;
/* Whether the list that its headers tell of is wanted, before it comes: it takes disk and a place, which nobody gets who may not send it. False: the
   response is whole. May wait for the database. */
bool routes_expect(struct request *, struct response *) WARN_UNUSED;
/* The rest, once the body is here too, which may wait for the database. The response is always whole afterwards. */
void routes_finish(struct request *, struct response *);

/* For the audit log: what the client of the connection showed, unless there is another credential. */
void routes_note_certificate(struct slice der, struct request *);
/* Whether its answer goes out piece by piece, if there is nothing wrong with it. */
bool routes_streams(const struct request *) WARN_UNUSED;

/* The functions of the table. */
#define ROUTE(method, path, least, scope, answer, parameters, how) void answer(struct request *, struct response *);
#include "collector/routes.def"
#undef ROUTE

#endif
