/*
 * The HTTP server: connections, limits and the way from libmicrohttpd to the route table. The only user of libmicrohttpd.
 */
#ifndef FLEETSTATE_COLLECTOR_SERVE_H
#define FLEETSTATE_COLLECTOR_SERVE_H

#include <stdbool.h>

#include "collector/settings.h"
#include "collector/tls.h"

/* One line of /readyz, beside the database's own. Any thread may ask, so it must be quick and safe. `why` holds 128 bytes
   and is shown when it answers false; what it leaves empty is shown as "not ready". */
struct readiness {
	const char *name;	/* "broker" */
	bool (*ready)(void *context, char *why);
	void *context;
};

struct serve;

/* Listens on http_listen:http_port with one thread for the sockets, and http_threads that wait for database_api, each with a connection of its
   own, made when first needed, and one more thread and connection each for all that wait for events and for the audit log. With `tls`, NULL: without, which beyond loopback http_tls_proxy has
   to allow. Both must outlive it, and the checks too. NULL after logging why. */
struct serve *serve_start(const struct settings *, struct tls *tls, const struct readiness *, size_t n) WARN_UNUSED;
/* Answers what has begun, then stops. NULL is fine. */
void serve_stop(struct serve *);

#endif
