#include "collector/serve.h"

#include <microhttpd.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/framing.h"
#include "collector/listen.h"
#include "collector/peers.h"
#include "collector/routes.h"
#include "collector/seal.h"
#include "collector/tls.h"
#include "collector/turns.h"
#include "collector/vault.h"
#include "schema/log.h"

#define STREAM_BLOCK (16 * 1024)
#define BACKLOG 1024
#define KEEP_MS 1000 /* between two looks at connections and certificates */
#define HSTS "max-age=31536000"

/* One thread has the sockets and never waits. What waits for the database is done by the workers of turns.h, with the connection suspended meanwhile. */
struct serve {
	struct MHD_Daemon *daemon;
	struct turns *turns;
	struct peers *peers;
	struct tls *tls; /* NULL: plain */
	int64_t proxies;
	size_t page_bytes;
	struct vault_key vault;
	bool has_vault;
	struct seal *seal; /* NULL: there is no key to sign with */
	const struct readiness *readiness;
	size_t readiness_len;
	size_t target_most, body_most, answer_most; /* bytes */
	pthread_t keeper;
	bool has_keeper;
	pthread_mutex_t lock;
	pthread_cond_t end; /* of the keeper's work */
	bool ending;
};

/* Every answer has these. The page runs only its own scripts and talks only to us. */
static const struct {
	const char *name, *value;
} headers[] = {
	{"Content-Security-Policy",
	 "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
	 "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
	{"Cache-Control", "no-store"},
};

/* Connections. */

static enum MHD_Result
on_accept(void *context, const struct sockaddr *address, socklen_t len)
{
	struct serve *serve = context;

	(void)len;
	return peers_admit(serve->peers, address) ? MHD_YES : MHD_NO;
}

static const union MHD_ConnectionInfo *
info_of(struct MHD_Connection *connection, enum MHD_ConnectionInfoType type)
{
	return MHD_get_connection_info(connection, type);
}

static void
on_connection(void *context, struct MHD_Connection *connection, void **link, enum MHD_ConnectionNotificationCode code)
{
	struct serve *serve = context;

	/* Without memory the connection is there, and has no link: its requests end it. */
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*link = link_open(serve->peers, info_of(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr,
				  info_of(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, serve->tls,
				  serve->tls == NULL
					  ? NULL
					  : info_of(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session);
	} else {
		link_close(*link);
		*link = NULL;
	}
}

/* libmicrohttpd calls it with the request's target before decoding anything. What it returns is *exchange of the handler. */
static void *
on_target(void *context, const char *target, struct MHD_Connection *connection)
{
	struct link *link = info_of(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	struct exchange *exchange = link == NULL ? NULL : calloc(1, sizeof *exchange + strlen(target) + 1);
	struct serve *serve = context;

	if (exchange == NULL)
		return NULL;
	peer_request(link_peer(link), clock_ms());
	exchange->link = link;
	exchange->serve = serve;
	exchange->connection = connection;
	turns_enter(serve->turns, exchange);
	exchange->request.page_bytes = serve->page_bytes;
	exchange->request.target_most = serve->target_most;
	exchange->request.body.most = serve->body_most;
	exchange->response.most = serve->answer_most;
	exchange->request.vault = serve->has_vault ? &serve->vault : NULL;
	exchange->request.seal = serve->seal;
	exchange->request.readiness = serve->readiness;
	exchange->request.readiness_len = serve->readiness_len;
	strcpy(exchange->target, target);
	request_note(target, exchange->request.noted);
	return exchange;
}

static void
on_completed(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	struct exchange *exchange = *state;

	(void)context;
	(void)connection;
	*state = NULL;
	if (exchange == NULL)
		return;
	if (code == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED)
		counter_add(exchange->done ? COUNTER_ANSWERS_CUT : COUNTER_REQUESTS_CUT, 1);
	if (!exchange->begun)
		counter_add(COUNTER_REQUESTS_UNREAD, 1);
	peer_expect(link_peer(exchange->link), clock_ms());
	turns_leave(exchange);
	response_free(&exchange->response);
	request_free(&exchange->request);
	free(exchange);
}

/* Decoding is request.c's; here %00 and the like stay what they are. */
static size_t
keep_escapes(void *context, struct MHD_Connection *connection, char *text)
{
	(void)context;
	(void)connection;
	return strlen(text);
}

/* Takes over the body. */
static struct MHD_Response *
make_response(struct response *response)
{
	struct MHD_Response *made;

	if (response->fixed.at != NULL) {
		union {
			const uint8_t *in;
			void *out; /* it only reads, but does not say so */
		} at = {.in = response->fixed.at};

		made = MHD_create_response_from_buffer(response->fixed.len, at.out, MHD_RESPMEM_PERSISTENT);
	} else {
		made = MHD_create_response_from_buffer(response->len, response->body, MHD_RESPMEM_MUST_FREE);
		if (made != NULL)
			response->body = NULL;
	}
	return made;
}

static void
add_headers(const struct serve *serve, struct MHD_Response *made, const struct response *response)
{
	if (serve->tls != NULL)
		MHD_add_response_header(made, "Strict-Transport-Security", HSTS);
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
		MHD_add_response_header(made, headers[i].name, headers[i].value);
	if (response->type != NULL)
		MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE, response->type);
	for (size_t i = 0; i < response->headers_len; i++)
		MHD_add_response_header(made, response->headers[i].name, response->headers[i].value);
}

static enum MHD_Result
queue_response(struct exchange *exchange, struct MHD_Response *made, const struct response *response)
{
	enum MHD_Result result;

	if (made == NULL)
		return MHD_NO;
	add_headers(exchange->serve, made, response);
	peer_answer(link_peer(exchange->link));
	result = MHD_queue_response(exchange->connection, response->status, made);
	MHD_destroy_response(made);
	return result;
}

static enum MHD_Result
send_response(struct exchange *exchange, struct response *response)
{
	enum MHD_Result result = queue_response(exchange, make_response(response), response);

	response_free(response);
	return result;
}

static const char *
find_header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static bool
has_body(struct MHD_Connection *connection)
{
	const char *len = find_header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return (len != NULL && strcmp(len, "0") != 0) ||
	       find_header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

/* The content reader of a stream: gives what is left of the piece, then has the next one made. */
static ssize_t
read_stream(void *context, uint64_t position, char *to, size_t max)
{
	struct exchange *exchange = context;
	struct response *piece = &exchange->response;
	size_t len = piece->len - exchange->sent;
	bool waits = piece->waits || exchange->kept_until_ms > 0;

	(void)position;
	if (len > 0) {
		len = len < max ? len : max;
		memcpy(to, piece->body + exchange->sent, len);
		exchange->sent += len;
		return (ssize_t)len;
	}
	if (!piece->streams)
		return exchange->broken ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
	response_free(piece);
	exchange->sent = 0;
	return turns_wait(exchange, waits) ? 0 : MHD_CONTENT_READER_END_OF_STREAM;
}

static enum MHD_Result
answer(struct exchange *exchange, const char *method)
{
	const struct response *response = &exchange->response;
	struct MHD_Response *made;
	const char *target = exchange->request.noted;
	int path = (int)strcspn(target, "?"); /* behind it may be whatever somebody took for the place of a secret */

	turns_note(exchange);
	if (response->problem != PROBLEM_NONE)
		counter_problem(response->problem);
	log_debug("serve: method=%s path=%.*s status=%u bytes=%zu", method, path, target, response->status,
		  response->fixed.at != NULL ? response->fixed.len : response->len);
	if (response->status >= 500)
		log_warning("serve: method=%s path=%.*s status=%u", method, path, target, response->status);
	if (!exchange->streaming)
		return send_response(exchange, &exchange->response);
	made = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, exchange, NULL);
	/* To HEAD it would send the last chunk of a body that is not there, and the next answer on the connection would seem to begin with it. */
	if (made != NULL && strcmp(method, "HEAD") == 0)
		MHD_set_response_options(made, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	return queue_response(exchange, made, response);
}

/* A proxy may append a line of its own. */
static enum MHD_Result
collect_forwarded(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	if (value != NULL && strcasecmp(name, "X-Forwarded-For") == 0)
		forwarded_add(context, value);
	return MHD_YES;
}

static void
find_source(struct exchange *exchange)
{
	const union MHD_ConnectionInfo *info = info_of(exchange->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct forwarded forwarded = {.len = 0};

	if (exchange->serve->proxies > 0)
		MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, collect_forwarded, &forwarded);
	source_find(info == NULL ? NULL : info->client_addr, &forwarded, exchange->serve->proxies, exchange->source);
}

/* What its client showed is no good: then nothing is answered, since it is not who it says it is. */
static void
refuse_client(struct exchange *exchange, const char *fault)
{
	struct slice shown = {NULL, 0};

	(void)!link_client(exchange->link, &shown);
	routes_note_certificate(shown, &exchange->request);
	log_debug("serve: a client's certificate is refused source=%s: %s", exchange->source, fault);
	response_problem(&exchange->response, PROBLEM_BAD_CERTIFICATE, "%s.", fault);
}

static bool
begin(struct exchange *exchange, const char *method, bool has_body)
{
	struct arrival arrival = {.method = method, .target = exchange->target, .has_body = has_body};
	const char *fault = exchange_client(exchange);

	arrival.authorization = find_header(exchange->connection, MHD_HTTP_HEADER_AUTHORIZATION);
	arrival.accept = find_header(exchange->connection, MHD_HTTP_HEADER_ACCEPT);
	arrival.accept_encoding = find_header(exchange->connection, MHD_HTTP_HEADER_ACCEPT_ENCODING);
	arrival.content_type = find_header(exchange->connection, MHD_HTTP_HEADER_CONTENT_TYPE);
	arrival.content_length = find_header(exchange->connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
	arrival.last_event_id = find_header(exchange->connection, "Last-Event-ID");
	arrival.session = MHD_lookup_connection_value(exchange->connection, MHD_COOKIE_KIND, SESSION_COOKIE);
	arrival.csrf = find_header(exchange->connection, "Fleetstate-CSRF");
	arrival.origin = find_header(exchange->connection, MHD_HTTP_HEADER_ORIGIN);
	arrival.host = find_header(exchange->connection, MHD_HTTP_HEADER_HOST);
	arrival.if_match = find_header(exchange->connection, MHD_HTTP_HEADER_IF_MATCH);
	arrival.if_none_match = find_header(exchange->connection, MHD_HTTP_HEADER_IF_NONE_MATCH);
	arrival.idempotency_key = find_header(exchange->connection, "Idempotency-Key");
	find_source(exchange);
	exchange->request.source = exchange->source;
	exchange->accepted = true;
	exchange->done = routes_begin(&arrival, &exchange->request, &exchange->response) || fault != NULL;
	if (fault != NULL)
		refuse_client(exchange, fault);
	memcpy(&exchange->credential, exchange->request.token, sizeof exchange->credential);
	exchange->credential |= 1;
	return exchange->done;
}

static enum MHD_Result
add_to_framing(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	framing_add(context, name, value);
	return MHD_YES;
}

/* Nothing of it is done, and what follows on its connection is nobody's request. */
static bool
refuse_framing(struct exchange *exchange, const char *version)
{
	struct framing framing = {0};
	const char *fault;

	MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, add_to_framing, &framing);
	fault = framing_fault(&framing, version);
	if (fault == NULL)
		return false;
	response_problem(&exchange->response, PROBLEM_BAD_FRAMING, "%s.", fault);
	response_header(&exchange->response, "Connection", "close");
	exchange->done = true;
	return true;
}

/* The headers are here. An answer given now ends the connection, so only a request whose body is not wanted gets it. */
static enum MHD_Result
on_headers(struct exchange *exchange, const char *method, const char *version)
{
	bool has = has_body(exchange->connection);

	exchange->begun = true;
	if (refuse_framing(exchange, version))
		return answer(exchange, method);
	if (!has)
		return MHD_YES;
	if (begin(exchange, method, true))
		return answer(exchange, method);
	exchange->asks = exchange->request.body.is_list;
	return !exchange->asks || turns_wait(exchange, false) ? MHD_YES : MHD_NO;
}

/* MHD_NO ends the connection: an answer can't be given between two pieces of a body. */
static enum MHD_Result
on_body(struct exchange *exchange, const char *at, size_t *len)
{
	int rc = body_add(&exchange->request.body, at, *len);

	*len = 0;
	return rc < 0 ? MHD_NO : MHD_YES;
}

/* Called when the headers are here, again when a worker has said whether the body is wanted if that is asked first, for each piece of the body, again when
   the request is whole, and again when a worker is done with it. */
static enum MHD_Result
on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	   const char *upload, size_t *upload_len, void **state)
{
	struct exchange *exchange = *state;

	(void)context;
	(void)connection;
	(void)url;
	if (exchange == NULL)
		return MHD_NO;
	if (!exchange->begun)
		return on_headers(exchange, method, version);
	if (*upload_len > 0)
		return on_body(exchange, upload, upload_len);
	/* Suspended at the headers it is called for them once more. */
	if (exchange->asks && !exchange->done) {
		exchange->asks = false;
		return MHD_YES;
	}
	if (exchange->done || (!exchange->accepted && begin(exchange, method, false)))
		return answer(exchange, method);
	return turns_wait(exchange, false) ? MHD_YES : MHD_NO;
}

static void
on_log(void *context, const char *format, va_list args)
{
	char line[512];

	(void)context;
	vsnprintf(line, sizeof line, format, args);
	line[strcspn(line, "\r\n")] = '\0';
	log_debug("serve: libmicrohttpd: %s", line);
}

static struct MHD_Daemon *
start_daemon(struct serve *serve, const struct settings *settings, const struct peer_limits *limits,
	     struct sockaddr_storage *address)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	const struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_PRIORITIES, 0,
		 (void *)(uintptr_t)(serve->tls == NULL ? "" : tls_priorities(serve->tls))},
		{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, tls_callback()},
		{MHD_OPTION_END, 0, NULL},
	};

	if (address->ss_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	if (serve->tls != NULL)
		flags |= MHD_USE_TLS;
	/* Its own limit is never reached: it would leave who comes waiting, and tell nobody. */
	return MHD_start_daemon(
		flags, (uint16_t)settings->http_port, on_accept, serve, on_request, serve, MHD_OPTION_EXTERNAL_LOGGER,
		on_log, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)address, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)limits->connections + 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)settings->http_header_size, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)settings->http_idle,
		MHD_OPTION_LISTEN_BACKLOG_SIZE, (unsigned)BACKLOG, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_target, serve,
		MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, serve, MHD_OPTION_ARRAY,
		serve->tls == NULL ? tls + 2 : tls, MHD_OPTION_END);
}

static void
suspend(struct exchange *exchange)
{
	MHD_suspend_connection(exchange->connection);
}

/* Where its body is still to come, it has as long for that as any request. */
static void
resume(struct exchange *exchange)
{
	if (exchange->asks)
		peer_request(link_peer(exchange->link), clock_ms());
	MHD_resume_connection(exchange->connection);
}

/* The keeper. */

static void *
keep(void *context)
{
	struct serve *serve = context;
	struct timespec next;

	pthread_mutex_lock(&serve->lock);
	while (!serve->ending) {
		pthread_mutex_unlock(&serve->lock);
		peers_look(serve->peers, clock_ms());
		if (serve->tls != NULL)
			tls_look(serve->tls);
		pthread_mutex_lock(&serve->lock);
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_sec += KEEP_MS / 1000;
		if (!serve->ending)
			(void)pthread_cond_timedwait(&serve->end, &serve->lock, &next);
	}
	pthread_mutex_unlock(&serve->lock);
	return NULL;
}

static int
open_vault(struct serve *serve, const struct settings *settings)
{
	char why[VAULT_WHY_SIZE];

	serve->has_vault = setting_given(settings->secret_key) != NULL;
	if (!serve->has_vault || vault_key_load(&serve->vault, settings->secret_key, why) == 0)
		return 0;
	log_error("serve: secret_key: %s", why);
	return -1;
}

struct serve *
serve_start(const struct settings *settings, struct tls *tls, const struct readiness *readiness, size_t n)
{
	struct peer_limits connections = {settings->http_connections, settings->http_connections_per_address,
					  settings->http_idle * 1000, settings->http_request_time * 1000,
					  settings->http_read_rate};
	const struct turns_switch connection = {suspend, resume};
	struct serve *serve = calloc(1, sizeof *serve);
	struct sockaddr_storage address;
	pthread_condattr_t attributes;

	if (serve == NULL)
		return NULL;
	pthread_mutex_init(&serve->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&serve->end, &attributes);
	pthread_condattr_destroy(&attributes);
	serve->tls = tls;
	serve->readiness = readiness;
	serve->readiness_len = n;
	serve->proxies = settings->http_proxies;
	serve->page_bytes = (size_t)settings->page_bytes;
	serve->target_most = (size_t)settings->http_target_size;
	serve->body_most = (size_t)settings->http_body_size;
	serve->answer_most = (size_t)settings->http_answer_size;
	if (listen_address(settings, tls != NULL, &address) < 0 || open_vault(serve, settings) < 0 ||
	    (settings->receipt_key != NULL && (serve->seal = seal_open(settings)) == NULL))
		goto fail;
	connections.connections = listen_room(connections.connections);
	serve->peers = peers_new(&connections);
	if (serve->peers == NULL)
		goto fail;
	serve->turns = turns_start(settings, &connection);
	if (serve->turns == NULL)
		goto fail;
	serve->has_keeper = pthread_create(&serve->keeper, NULL, keep, serve) == 0;
	if (!serve->has_keeper)
		goto fail;
	serve->daemon = start_daemon(serve, settings, &connections, &address);
	if (serve->daemon == NULL) {
		log_error("serve: can't listen on address=%s port=%d", settings->http_listen, (int)settings->http_port);
		goto fail;
	}
	log_info("serve: listening on address=%s port=%d tls=%s", settings->http_listen, (int)settings->http_port,
		 tls == NULL ? "no" : settings->http_tls);
	return serve;
fail:
	serve_stop(serve);
	return NULL;
}

void
serve_stop(struct serve *serve)
{
	if (serve == NULL)
		return;
	turns_stop(serve->turns);
	pthread_mutex_lock(&serve->lock);
	serve->ending = true;
	pthread_cond_signal(&serve->end);
	pthread_mutex_unlock(&serve->lock);
	if (serve->has_keeper)
		pthread_join(serve->keeper, NULL);
	if (serve->daemon != NULL)
		MHD_stop_daemon(serve->daemon);
	turns_free(serve->turns);
	peers_free(serve->peers);
	seal_free(serve->seal);
	OPENSSL_cleanse(&serve->vault, sizeof serve->vault);
	pthread_cond_destroy(&serve->end);
	pthread_mutex_destroy(&serve->lock);
	free(serve);
}
