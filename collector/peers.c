#include "collector/peers.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "collector/counters.h"

#define NETWORKS 4096 /* a power of two: buckets */
#define UNSENT_MAX (64 * 1024) /* bytes of an answer that the kernel holds for who does not read */

/* Where connections come from: an IPv4 address, or the first 64 bits of an IPv6 one. */
struct network {
	struct network *next;
	uint64_t id;
	int64_t n;
};

enum doing { EXPECTS, REQUESTS, WAITS, ANSWERS };

struct peer {
	struct peers *all;
	struct peer *next, **link;
	struct network *network;
	int socket;
	enum doing doing;
	int64_t until; /* of what comes in; when it is too late */
	int64_t marked; /* of an answer: when it had got as far as `acked`; 0: not looked at yet */
	uint64_t acked;
};

struct peers {
	struct peer_limits limits;
	pthread_mutex_t lock;
	struct peer *first;
	int64_t n;
	struct network *networks[NETWORKS];
};

struct peers *
peers_new(const struct peer_limits *limits)
{
	struct peers *all = calloc(1, sizeof *all);

	if (all == NULL)
		return NULL;
	all->limits = *limits;
	pthread_mutex_init(&all->lock, NULL);
	return all;
}

void
peers_free(struct peers *all)
{
	if (all == NULL)
		return;
	pthread_mutex_destroy(&all->lock);
	free(all);
}

static uint64_t
identify(const struct sockaddr *address)
{
	const struct sockaddr_in6 *v6 = (const void *)address;
	const struct sockaddr_in *v4 = (const void *)address;
	uint32_t four = 0;
	uint64_t id = 0;

	if (address == NULL)
		return 0;
	if (address->sa_family == AF_INET)
		four = v4->sin_addr.s_addr;
	else if (address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		memcpy(&four, &v6->sin6_addr.s6_addr[12], sizeof four);
	else if (address->sa_family == AF_INET6)
		memcpy(&id, &v6->sin6_addr, sizeof id);
	return four != 0 ? UINT64_C(0xffff00000000) | four : id;
}

/* Under the lock: where its network stands, or would. */
static struct network **
find(struct peers *all, uint64_t id)
{
	struct network **at = &all->networks[id * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (NETWORKS - 1)];

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

bool
peers_admit(struct peers *all, const struct sockaddr *address)
{
	bool room, own = true;
	struct network *network;

	pthread_mutex_lock(&all->lock);
	room = all->n < all->limits.connections;
	network = *find(all, identify(address));
	if (network != NULL && all->limits.per_address > 0)
		own = network->n < all->limits.per_address;
	pthread_mutex_unlock(&all->lock);
	if (!room)
		counter_add(COUNTER_CONNECTIONS_REFUSED, 1);
	else if (!own)
		counter_add(COUNTER_CONNECTIONS_REFUSED_ADDRESS, 1);
	return room && own;
}

/* Under the lock. */
static struct network *
enter_network(struct peers *all, uint64_t id)
{
	struct network **at = find(all, id);

	if (*at == NULL) {
		*at = calloc(1, sizeof **at);
		if (*at == NULL)
			return NULL;
		(*at)->id = id;
	}
	(*at)->n++;
	return *at;
}

struct peer *
peer_enter(struct peers *all, const struct sockaddr *address, int socket, int64_t now)
{
	struct peer *peer = calloc(1, sizeof *peer);
	int unsent = UNSENT_MAX;

	if (peer == NULL)
		return NULL;
	(void)setsockopt(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
	peer->all = all;
	peer->socket = socket;
	peer->until = now + all->limits.idle_ms + all->limits.request_ms;
	pthread_mutex_lock(&all->lock);
	peer->network = enter_network(all, identify(address));
	if (peer->network != NULL) {
		peer->next = all->first;
		peer->link = &all->first;
		if (peer->next != NULL)
			peer->next->link = &peer->next;
		all->first = peer;
		counter_set(COUNTER_CONNECTIONS, ++all->n);
	}
	pthread_mutex_unlock(&all->lock);
	if (peer->network != NULL)
		return peer;
	free(peer);
	return NULL;
}

void
peer_leave(struct peer *peer)
{
	struct peers *all;
	struct network **at;

	if (peer == NULL)
		return;
	all = peer->all;
	pthread_mutex_lock(&all->lock);
	*peer->link = peer->next;
	if (peer->next != NULL)
		peer->next->link = peer->link;
	counter_set(COUNTER_CONNECTIONS, --all->n);
	if (--peer->network->n == 0) {
		at = find(all, peer->network->id);
		*at = peer->network->next;
		free(peer->network);
	}
	pthread_mutex_unlock(&all->lock);
	free(peer);
}

static void
set(struct peer *peer, enum doing doing, int64_t until)
{
	if (peer == NULL)
		return;
	pthread_mutex_lock(&peer->all->lock);
	peer->doing = doing;
	peer->until = until;
	peer->marked = 0;
	pthread_mutex_unlock(&peer->all->lock);
}

/* A first byte that comes at the end of the idle time has as long as any other. */
void
peer_expect(struct peer *peer, int64_t now)
{
	set(peer, EXPECTS, peer == NULL ? 0 : now + peer->all->limits.idle_ms + peer->all->limits.request_ms);
}

void
peer_request(struct peer *peer, int64_t now)
{
	set(peer, REQUESTS, peer == NULL ? 0 : now + peer->all->limits.request_ms);
}

void
peer_wait(struct peer *peer)
{
	set(peer, WAITS, INT64_MAX);
}

void
peer_answer(struct peer *peer)
{
	set(peer, ANSWERS, INT64_MAX);
}

/* What its client has taken of all that was sent on it. */
static uint64_t
acked(const struct peer *peer)
{
	struct tcp_info info;
	socklen_t len = sizeof info;

	memset(&info, 0, sizeof info);
	(void)getsockopt(peer->socket, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_bytes_acked;
}

static bool
reads_too_slowly(struct peer *peer, int64_t now)
{
	const struct peer_limits *limits = &peer->all->limits;
	uint64_t taken;
	bool slow;

	if (limits->rate == 0 || (peer->marked != 0 && now < peer->marked + limits->idle_ms))
		return false;
	taken = acked(peer);
	slow = peer->marked != 0 && (int64_t)(taken - peer->acked) < (now - peer->marked) * limits->rate / 1000;
	peer->marked = now;
	peer->acked = taken;
	return slow;
}

/* libmicrohttpd sees the end and closes it. What the kernel still holds for the client goes at once. */
static void
end(struct peer *peer)
{
	const struct linger now = {1, 0};

	(void)setsockopt(peer->socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	(void)shutdown(peer->socket, SHUT_RDWR);
	peer->doing = WAITS;
	peer->until = INT64_MAX;
}

void
peers_look(struct peers *all, int64_t now)
{
	pthread_mutex_lock(&all->lock);
	for (struct peer *peer = all->first; peer != NULL; peer = peer->next)
		if (now > peer->until) {
			counter_add(COUNTER_REQUESTS_CUT, 1);
			end(peer);
		} else if (peer->doing == ANSWERS && reads_too_slowly(peer, now)) {
			counter_add(COUNTER_ANSWERS_CUT, 1);
			end(peer);
		}
	pthread_mutex_unlock(&all->lock);
}
