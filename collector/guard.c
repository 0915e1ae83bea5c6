#include "collector/guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 5000L
#define NETWORKS_MAX 64
#define V4_AT 96 /* of 128 bits: where an IPv4 address stands in ::ffff:0:0/96 */

/* IPv4 as ::ffff:a.b.c.d, so that there is one kind of address. */
struct network {
	uint8_t at[16];
	unsigned bits;
};

struct guard {
	bool http;
	int64_t timeout_s;
	struct network allowed[NETWORKS_MAX];
	size_t n;
};

/* What is not the public internet (IANA's special-purpose registries). An IPv4 address inside an IPv6 one is judged as what it is: `inner` bits lie
   before it. */
/* clang-format off */
static const struct {
	const char *network, *kind;
	unsigned inner;
} special[] = {
	{"0.0.0.0/8", "this host", 0}, {"10.0.0.0/8", "private", 0}, {"100.64.0.0/10", "carrier-grade NAT", 0}, {"127.0.0.0/8", "loopback", 0},
	{"169.254.0.0/16", "link-local", 0}, {"172.16.0.0/12", "private", 0}, {"192.0.0.0/24", "reserved", 0}, {"192.0.2.0/24", "documentation", 0},
	{"192.88.99.0/24", "reserved", 0}, {"192.168.0.0/16", "private", 0}, {"198.18.0.0/15", "benchmarking", 0},
	{"198.51.100.0/24", "documentation", 0}, {"203.0.113.0/24", "documentation", 0}, {"224.0.0.0/4", "multicast", 0}, {"240.0.0.0/4", "reserved", 0},
	{"::/128", "this host", 0}, {"::1/128", "loopback", 0}, {"::/96", "IPv4 in IPv6", 96}, {"64:ff9b::/96", "IPv4 in IPv6", 96},
	{"64:ff9b:1::/48", "private", 0}, {"100::/64", "discard", 0}, {"2001::/23", "reserved", 0}, {"2001:db8::/32", "documentation", 0},
	{"2002::/16", "IPv4 in IPv6", 16}, {"3fff::/20", "documentation", 0}, {"fc00::/7", "private", 0}, {"fe80::/10", "link-local", 0},
	{"fec0::/10", "private", 0}, {"ff00::/8", "multicast", 0},
};
/* clang-format on */

static bool
read_network(const char *text, size_t len, struct network *network)
{
	char buffer[64], *slash, *end;
	struct in_addr four;
	unsigned long bits;

	if (len == 0 || len >= sizeof buffer)
		return false;
	memcpy(buffer, text, len);
	buffer[len] = '\0';
	slash = strchr(buffer, '/');
	if (slash != NULL)
		*slash++ = '\0';
	memset(network, 0, sizeof *network);
	if (inet_pton(AF_INET, buffer, &four) == 1) {
		network->at[10] = network->at[11] = 0xff;
		memcpy(network->at + 12, &four, 4);
		network->bits = V4_AT;
	} else if (inet_pton(AF_INET6, buffer, network->at) != 1) {
		return false;
	}
	if (slash == NULL) {
		network->bits = 128;
		return true;
	}
	if (*slash < '0' || *slash > '9')
		return false;
	bits = strtoul(slash, &end, 10);
	if (*end != '\0' || bits > 128 - network->bits)
		return false;
	network->bits += (unsigned)bits;
	return true;
}

static bool
holds(const struct network *network, const uint8_t at[16])
{
	unsigned whole = network->bits / 8, rest = network->bits % 8;

	if (memcmp(network->at, at, whole) != 0)
		return false;
	return rest == 0 || (network->at[whole] ^ at[whole]) >> (8 - rest) == 0;
}

static bool
allowed_by_operator(const struct guard *g, const uint8_t at[16])
{
	for (size_t i = 0; i < g->n; i++)
		if (holds(&g->allowed[i], at))
			return true;
	return false;
}

/* NULL: a public address. */
static const char *
kind_of(const uint8_t at[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
		struct network network;
		uint8_t inner[16];

		if (!read_network(special[i].network, strlen(special[i].network), &network) || !holds(&network, at))
			continue;
		if (special[i].inner == 0)
			return special[i].kind;
		memcpy(inner, mapped, sizeof mapped);
		memcpy(inner + 12, at + special[i].inner / 8, 4);
		return kind_of(inner);
	}
	/* Of IPv6 only 2000::/3 has been given out. */
	if (memcmp(at, mapped, sizeof mapped) != 0 && at[0] >> 5 != 1)
		return "reserved";
	return NULL;
}

bool
guard_allows(const struct guard *g, const struct sockaddr *address, char *why)
{
	char text[INET6_ADDRSTRLEN] = "";
	uint8_t at[16] = {[10] = 0xff, [11] = 0xff};
	const char *kind;

	if (address->sa_family == AF_INET) {
		memcpy(at + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
		inet_ntop(AF_INET, at + 12, text, sizeof text);
	} else if (address->sa_family == AF_INET6) {
		memcpy(at, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
		inet_ntop(AF_INET6, at, text, sizeof text);
	} else {
		snprintf(why, GUARD_WHY_SIZE, "not an internet address");
		return false;
	}
	kind = kind_of(at);
	if (kind == NULL || allowed_by_operator(g, at))
		return true;
	snprintf(why, GUARD_WHY_SIZE, "%s is not allowed: %s address", text, kind);
	return false;
}

struct guard *
guard_new(const char *networks, bool http, int64_t timeout_s, char *why)
{
	static const char between[] = ", \t";
	struct guard *g = calloc(1, sizeof *g);
	const char *at = networks == NULL ? "" : networks;

	if (g == NULL) {
		snprintf(why, GUARD_WHY_SIZE, "out of memory");
		return NULL;
	}
	g->http = http;
	g->timeout_s = timeout_s;
	for (at += strspn(at, between); *at != '\0'; at += strspn(at, between)) {
		size_t len = strcspn(at, between);

		if (g->n == NETWORKS_MAX || !read_network(at, len, &g->allowed[g->n])) {
			snprintf(why, GUARD_WHY_SIZE, "%.*s: %s", len > 64 ? 64 : (int)len, at,
				 g->n == NETWORKS_MAX ? "too many networks" : "not a network");
			free(g);
			return NULL;
		}
		g->n++;
		at += len;
	}
	return g;
}

void
guard_free(struct guard *g)
{
	free(g);
}

/* URLs. */

static bool
url_has(CURLU *url, CURLUPart part)
{
	char *text = NULL;
	bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK && text[0] != '\0';

	curl_free(text);
	return has;
}

static bool
url_is(CURLU *url, const char *scheme)
{
	char *text = NULL;
	bool is = curl_url_get(url, CURLUPART_SCHEME, &text, 0) == CURLUE_OK && strcmp(text, scheme) == 0;

	curl_free(text);
	return is;
}

/* Only of bytes that need no thought in a log or a header. */
static bool
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 0x7f || *text == '\\')
			return false;
	return true;
}

static const char *
url_fault(const char *text, bool http)
{
	CURLU *url;
	const char *fault = NULL;

	if (strlen(text) > 2048 || !is_plain(text))
		return "a URL is at most 2048 characters of visible ASCII";
	url = curl_url();
	if (url == NULL)
		return "out of memory";
	if (curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
	    !url_has(url, CURLUPART_HOST))
		fault = "not a URL";
	else if (!url_is(url, "https") && !url_is(url, "http"))
		fault = "the scheme is not https";
	else if (!http && !url_is(url, "https"))
		fault = "http without TLS is not allowed";
	else if (url_has(url, CURLUPART_USER) || url_has(url, CURLUPART_PASSWORD) || url_has(url, CURLUPART_FRAGMENT))
		fault = "no credentials and no fragment in the URL";
	curl_url_cleanup(url);
	return fault;
}

bool
guard_url_ok(const char *url, char *why)
{
	const char *fault = url_fault(url, true);

	if (fault != NULL)
		snprintf(why, GUARD_WHY_SIZE, "%s", fault);
	return fault == NULL;
}

/* A call. */

/* Here and not where the name is looked up: this address is the one that is connected to. */
static curl_socket_t
open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct guard_call *call = context;

	(void)purpose;
	if (!guard_allows(call->guard, &address->addr, call->why))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Less than was given ends the transfer. */
static size_t
count(struct guard_call *call, size_t len)
{
	call->answer_len += len;
	call->too_large = call->answer_len > GUARD_ANSWER_MAX;
	return call->too_large ? 0 : len;
}

static size_t
take_header(char *at, size_t one, size_t len, void *context)
{
	(void)at;
	return count(context, one * len);
}

static size_t
take_body(char *at, size_t one, size_t len, void *context)
{
	struct guard_call *call = context;
	size_t room = GUARD_KEPT - call->kept_len, part = one * len < room ? one * len : room;

	memcpy(call->kept + call->kept_len, at, part);
	call->kept_len += part;
	call->kept[call->kept_len] = '\0';
	if (count(call, one * len) == 0)
		return 0;
	if (call->whole != NULL)
		memcpy(call->whole + call->whole_len, at, one * len);
	call->whole_len += one * len;
	return one * len;
}

static int
bound(const struct guard *g, struct guard_call *call, const char *url)
{
	CURL *c = call->curl;
	bool failed = false;

#define SET(option, value) failed = curl_easy_setopt(c, option, value) != CURLE_OK || failed
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PROTOCOLS_STR, g->http ? "http,https" : "https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* a name that nobody resolves is left to the thread that waits for it */
	SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	SET(CURLOPT_TIMEOUT_MS, (long)(g->timeout_s * 1000));
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, call);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, call);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_ERRORBUFFER, call->error);
	SET(CURLOPT_USERAGENT, "fleetstate/" FLEETSTATE_VERSION);
#undef SET
	return failed ? -1 : 0;
}

int
guard_open(const struct guard *g, struct guard_call *call, const char *url)
{
	const char *fault = url_fault(url, g->http);

	memset(call, 0, sizeof *call);
	call->guard = g;
	if (fault == NULL)
		call->curl = curl_easy_init();
	if (call->curl != NULL && bound(g, call, url) == 0)
		return 0;
	snprintf(call->why, sizeof call->why, "%s", fault == NULL ? "out of memory" : fault);
	guard_close(call);
	return -1;
}

void
guard_close(struct guard_call *call)
{
	if (call->multi != NULL)
		curl_multi_remove_handle(call->multi, call->curl);
	call->multi = NULL;
	curl_easy_cleanup(call->curl);
	call->curl = NULL;
}

static int
set_blob(struct guard_call *call, CURLoption option, const void *at, size_t len)
{
	struct curl_blob blob = {.data = (void *)(uintptr_t)at, .len = len, .flags = CURL_BLOB_COPY};

	return curl_easy_setopt(call->curl, option, &blob) == CURLE_OK ? 0 : -1;
}

int
guard_begin(struct guard_call *call, CURLM *multi, void *mark, const char *ca)
{
	if ((ca != NULL && set_blob(call, CURLOPT_CAINFO_BLOB, ca, strlen(ca)) < 0) ||
	    curl_easy_setopt(call->curl, CURLOPT_PRIVATE, mark) != CURLE_OK ||
	    curl_multi_add_handle(multi, call->curl) != CURLM_OK)
		return -1;
	call->multi = multi;
	return 0;
}

int
guard_present(struct guard_call *call, const char *certificate, struct slice key)
{
	return set_blob(call, CURLOPT_SSLCERT_BLOB, certificate, strlen(certificate)) < 0 ||
			       set_blob(call, CURLOPT_SSLKEY_BLOB, key.at, key.len) < 0
		       ? -1
		       : 0;
}

int
guard_settle(struct guard_call *call, CURLcode code)
{
	curl_off_t after = 0;

	curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &call->status);
	if (curl_easy_getinfo(call->curl, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
		call->retry_after_s = after;
	/* Who says yes at too great length has said yes. */
	if (code == CURLE_OK || (call->too_large && call->status >= 200)) {
		call->why[0] = '\0';
		return 0;
	}
	call->status = 0;
	if (call->too_large)
		snprintf(call->why, sizeof call->why, "the answer is too large");
	else if (call->why[0] == '\0')
		snprintf(call->why, sizeof call->why, "%s",
			 call->error[0] != '\0' ? call->error : curl_easy_strerror(code));
	return -1;
}
