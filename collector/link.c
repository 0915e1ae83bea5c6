#include "collector/link.h"

#include <stdlib.h>
#include <time.h>

#include "collector/clock.h"

#define CLIENT_MS 60000 /* for which what was said of a client's certificate is good */

struct link {
	struct peer *peer;
	struct tls *tls;
	void *session; /* NULL: there is none */
	struct tls_pair *pair;
	int64_t judged_ms; /* 0: not yet */
	unsigned generation;
	const char *fault;
	struct slice certificate;
};

struct link *
link_open(struct peers *peers, const struct sockaddr *address, int socket, struct tls *tls, void *session)
{
	struct link *link = calloc(1, sizeof *link);

	if (link == NULL)
		return NULL;
	link->peer = peer_enter(peers, address, socket, clock_ms());
	if (link->peer == NULL) {
		free(link);
		return NULL;
	}
	if (tls != NULL) {
		link->tls = tls;
		link->session = session;
		link->pair = tls_enter(tls, session);
	}
	return link;
}

void
link_close(struct link *link)
{
	if (link == NULL)
		return;
	peer_leave(link->peer);
	if (link->pair != NULL)
		tls_leave(link->tls, link->pair);
	free(link);
}

struct peer *
link_peer(struct link *link)
{
	return link->peer;
}

const char *
link_client(struct link *link, struct slice *certificate)
{
	int64_t now = clock_ms();
	unsigned generation = link->session == NULL ? 0 : tls_generation(link->tls);

	if (link->session != NULL &&
	    (link->judged_ms == 0 || now > link->judged_ms + CLIENT_MS || generation != link->generation)) {
		link->fault = tls_client(link->tls, link->session, time(NULL), &link->certificate);
		link->judged_ms = now;
		link->generation = generation;
	}
	*certificate = link->certificate;
	return link->fault;
}
