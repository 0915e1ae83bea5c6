#include "collector/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>

#include "schema/log.h"

#define FILES 512 /* descriptors beside connections: the database's, the broker's, sinks', logs */

static int
parse_address(const struct settings *settings, struct sockaddr_storage *address)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;

	memset(address, 0, sizeof *address);
	if (inet_pton(AF_INET, settings->http_listen, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)settings->http_port);
		return 0;
	}
	if (inet_pton(AF_INET6, settings->http_listen, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)settings->http_port);
		return 0;
	}
	log_error("serve: http_listen=%s is no IP address", settings->http_listen);
	return -1;
}

static bool
is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

	return address->ss_family == AF_INET ? ntohl(v4->sin_addr.s_addr) >> 24 == 127
					     : IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) != 0;
}

/* Tokens and facts do not go over a network as they are. */
int
listen_address(const struct settings *settings, bool tls, struct sockaddr_storage *address)
{
	if (parse_address(settings, address) < 0)
		return -1;
	if (tls || settings->http_tls_proxy || is_loopback(address))
		return 0;
	log_error("serve: http_listen=%s is beyond loopback and there is no TLS: set http_certificate and http_key, or "
		  "http_tls_proxy=yes if a proxy in front of it speaks TLS",
		  settings->http_listen);
	return -1;
}

/* Each connection is a descriptor. Where we may not have so many, fewer connections are taken: better than none that can be accepted. */
int64_t
listen_room(int64_t connections)
{
	rlim_t want = (rlim_t)connections + FILES;
	struct rlimit files, more;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= want)
		return connections;
	more = (struct rlimit){want, files.rlim_max > want ? files.rlim_max : want};
	if (setrlimit(RLIMIT_NOFILE, &more) == 0)
		return connections;
	more = (struct rlimit){files.rlim_max, files.rlim_max};
	if (setrlimit(RLIMIT_NOFILE, &more) == 0)
		files.rlim_cur = files.rlim_max;
	connections = files.rlim_cur > 2 * FILES ? (int64_t)files.rlim_cur - FILES : (int64_t)files.rlim_cur / 2;
	log_warning("serve: %lld descriptors may be open: no more than %lld connections are taken (RLIMIT_NOFILE, "
		    "LimitNOFILE= of the unit)",
		    (long long)files.rlim_cur, (long long)connections);
	return connections;
}
