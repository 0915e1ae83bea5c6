/*
 * Where a request comes from: the peer's address, or with trusted proxies in front the one that they tell of. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_SOURCE_H
#define FLEETSTATE_COLLECTOR_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SOURCE_SIZE 46	/* INET6_ADDRSTRLEN */
#define FORWARDED_SIZE 1024	/* the end of it counts */

/* What X-Forwarded-For says in all. Begin with zeros. */
struct forwarded {
	char text[FORWARDED_SIZE];
	size_t len;
};

/* One more line of it. Of what does not fit the beginning is lost, which nobody vouches for. */
void forwarded_add(struct forwarded *, const char *line);
/* The source's text; an IPv4 address that is mapped into IPv6 is written as IPv4. Each proxy has appended whom it heard, so with n proxies the n-th from the
   end is whom the outermost heard: what stands before it anybody may have written. The peer's own when there is no such address. "-": not known. */
void source_find(const struct sockaddr *peer, const struct forwarded *, int64_t proxies, char out[SOURCE_SIZE]);
/* What one customer of a provider has: of an IPv6 address the first 64 bits, else the address. */
void source_network(const char *source, char out[SOURCE_SIZE]);

#endif
