#include "collector/source.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static void
print_v6(const struct in6_addr *address, char out[SOURCE_SIZE])
{
	if (IN6_IS_ADDR_V4MAPPED(address))
		inet_ntop(AF_INET, &address->s6_addr[12], out, SOURCE_SIZE);
	else
		inet_ntop(AF_INET6, address, out, SOURCE_SIZE);
}

static void
print_peer(const struct sockaddr *peer, char out[SOURCE_SIZE])
{
	strcpy(out, "-");
	if (peer != NULL && peer->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, out, SOURCE_SIZE);
	else if (peer != NULL && peer->sa_family == AF_INET6)
		print_v6(&((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, out);
}

/* The n-th of the list from the end, without spaces around it. */
static bool
find_entry(const char *list, int64_t n, const char **at, size_t *len)
{
	const char *end = list + strlen(list), *begin;

	for (;; end = begin - 1) {
		for (begin = end; begin > list && begin[-1] != ',';)
			begin--;
		if (--n == 0)
			break;
		if (begin == list)
			return false;
	}
	while (begin < end && (*begin == ' ' || *begin == '\t'))
		begin++;
	while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*at = begin;
	*len = (size_t)(end - begin);
	return true;
}

/* 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] or [2001:db8::1]:80. */
static bool
parse_entry(const char *at, size_t len, char out[SOURCE_SIZE])
{
	char text[SOURCE_SIZE + 2];
	struct in6_addr v6;
	struct in_addr v4;
	const char *end;

	if (len >= 1 && at[0] == '[') {
		end = memchr(at, ']', len);
		if (end == NULL)
			return false;
		at++;
		len = (size_t)(end - at);
	} else if ((end = memchr(at, ':', len)) != NULL && memchr(end + 1, ':', len - (size_t)(end + 1 - at)) == NULL) {
		len = (size_t)(end - at);
	}
	if (len >= sizeof text)
		return false;
	memcpy(text, at, len);
	text[len] = '\0';
	if (inet_pton(AF_INET, text, &v4) == 1)
		inet_ntop(AF_INET, &v4, out, SOURCE_SIZE);
	else if (inet_pton(AF_INET6, text, &v6) == 1)
		print_v6(&v6, out);
	else
		return false;
	return true;
}

void
forwarded_add(struct forwarded *f, const char *line)
{
	size_t len = strlen(line);

	if (len == 0)
		return;
	if (len > sizeof f->text - 2) {
		line += len - (sizeof f->text - 2);
		len = sizeof f->text - 2;
	}
	if (f->len + len + 2 > sizeof f->text)
		f->len = 0;
	if (f->len > 0)
		f->text[f->len++] = ',';
	memcpy(f->text + f->len, line, len);
	f->len += len;
	f->text[f->len] = '\0';
}

void
source_find(const struct sockaddr *peer, const struct forwarded *forwarded, int64_t proxies, char out[SOURCE_SIZE])
{
	const char *at;
	size_t len;

	if (proxies > 0 && forwarded->len > 0 && find_entry(forwarded->text, proxies, &at, &len) &&
	    parse_entry(at, len, out))
		return;
	print_peer(peer, out);
}

void
source_network(const char *source, char out[SOURCE_SIZE])
{
	struct in6_addr v6;

	strncpy(out, source, SOURCE_SIZE - 1);
	out[SOURCE_SIZE - 1] = '\0';
	if (inet_pton(AF_INET6, source, &v6) != 1)
		return;
	memset(&v6.s6_addr[8], 0, 8);
	inet_ntop(AF_INET6, &v6, out, SOURCE_SIZE);
}
