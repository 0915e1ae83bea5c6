/*
 * Where the HTTP interface listens, and for how many connections there is room.
 */
#ifndef FLEETSTATE_COLLECTOR_LISTEN_H
#define FLEETSTATE_COLLECTOR_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "collector/settings.h"

/* http_listen and http_port. -1 after logging why not: it is no address, or it is beyond loopback and nobody speaks TLS there. */
int listen_address(const struct settings *, bool tls, struct sockaddr_storage *) WARN_UNUSED;
/* Raises the number of descriptors that may be open, so that so many connections may be; returns how many may, and logs when they are fewer. */
int64_t listen_room(int64_t connections) WARN_UNUSED;

#endif
