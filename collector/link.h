/*
 * One connection to the HTTP interface: its place among its peers, its session of TLS, and what was said of the certificate that its client showed. One
 * thread at a time.
 */
#ifndef FLEETSTATE_COLLECTOR_LINK_H
#define FLEETSTATE_COLLECTOR_LINK_H

#include "collector/peers.h"
#include "collector/tls.h"

struct link;

/* With `tls` NULL there is no session. NULL: no memory. */
struct link *link_open(struct peers *, const struct sockaddr *, int socket, struct tls *tls, void *session) WARN_UNUSED;
void link_close(struct link *);

struct peer *link_peer(struct link *) WARN_UNUSED;
/* What is wrong with the certificate that its client showed, a static text, or NULL; either way `certificate` is its leaf, absent if it showed none.
   Judged anew after a minute, and when other authorities are in force. */
const char *link_client(struct link *, struct slice *certificate) WARN_UNUSED;

#endif
