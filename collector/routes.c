#include "collector/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/etag.h"
#include "collector/import.h"
#include "collector/jwt.h"
#include "collector/negotiate.h"
#include "collector/query.h"
#include "collector/repeat.h"
#include "collector/words.h"

static const struct route routes[] = {
#define ROUTE(method, path, least, scope, answer, parameters, how)                                                     \
	{method, path, ROLE_##least, SCOPE_##scope, answer, parameters, ROUTE_##how},
#include "collector/routes.def"
#undef ROUTE
};
#define ROUTES (sizeof routes / sizeof *routes)

static bool
is_variable(const char *pattern)
{
	return pattern[0] == '{';
}

/* Compares segment by segment, and keeps what the variables stand for. */
static bool
match(const char *path, struct request *request)
{
	size_t variables = 0;

	for (size_t i = 0; i < request->segments_len; i++) {
		const char *segment = request->segments[i];
		size_t len;

		if (*path++ != '/')
			return false;
		len = strcspn(path, "/");
		if (is_variable(path)) {
			if (segment[0] == '\0')
				return false;
			request->variables[variables++] = segment;
		} else if (strlen(segment) != len || memcmp(segment, path, len) != 0) {
			return false;
		}
		path += len;
	}
	request->variables[variables] = NULL;
	return *path == '\0';
}

/* GET's row answers HEAD. */
static bool
is_method(const struct route *route, const char *method)
{
	return strcmp(route->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* The first row whose path it is; NULL: none. Rows of the same path stand together. */
static const struct route *
find_path(struct request *request)
{
	for (size_t i = 0; i < ROUTES; i++)
		if (match(routes[i].path, request))
			return &routes[i];
	return NULL;
}

static bool
is_same_path(const struct route *route, const struct route *first)
{
	return route < routes + ROUTES && strcmp(route->path, first->path) == 0;
}

static const struct route *
find_method(const struct route *first, const char *method)
{
	for (const struct route *route = first; is_same_path(route, first); route++)
		if (is_method(route, method))
			return route;
	return NULL;
}

/* RFC 9110 15.5.6 */
static void
refuse_method(struct response *response, const struct route *first)
{
	char allow[64] = "";
	size_t len = 0;

	response_problem(response, PROBLEM_METHOD_NOT_ALLOWED, "%s", "");
	for (const struct route *route = first; is_same_path(route, first); route++)
		len += (size_t)snprintf(allow + len, sizeof allow - len, "%s%s%s", len == 0 ? "" : ", ", route->method,
					is_method(route, "HEAD") ? ", HEAD" : "");
	response_header(response, "Allow", "%s", allow);
}

static bool
refuse_unknown_parameter(const struct request *request, struct response *response)
{
	for (size_t i = 0; i < request->parameters_len; i++) {
		const char *name = request->parameters[i].name;

		if (words_have(request->route->parameters, name, strlen(name)) ||
		    (request->route->least != ROLE_NONE && strcmp(name, "tenant") == 0))
			continue;
		if (name[0] == '\0')
			response_problem(response, PROBLEM_UNKNOWN_PARAMETER, "Parameter %zu has no name.", i + 1);
		else
			response_problem(response, PROBLEM_UNKNOWN_PARAMETER, "%.64s", name);
		return true;
	}
	return false;
}

static bool
refuse(struct response *response, enum problem problem, const char *detail)
{
	response_problem(response, problem, "%.64s", detail);
	return true;
}

/* What its headers say of a body. */
static enum problem
judge_body(const struct arrival *arrival, const struct route *route, struct body *body)
{
	bool list = route->answer == api_device_add && body_is_csv(arrival->content_type);

	if (!arrival->has_body)
		return PROBLEM_NONE;
	if (is_method(route, "GET"))
		return PROBLEM_BAD_BODY;
	if (!list && !body_is_json(arrival->content_type))
		return PROBLEM_UNSUPPORTED_TYPE;
	if (arrival->content_length != NULL &&
	    strtoull(arrival->content_length, NULL, 10) > (list ? IMPORT_BYTES : body_most(body)))
		return PROBLEM_CONTENT_TOO_LARGE;
	body->is_list = list;
	return PROBLEM_NONE;
}

/* Filters that tell of more than the list does. */
static const struct {
	const char *parameter;
	enum scope scope;
} telling[] = {
	{"component", SCOPE_INVENTORY},
	{"component_version", SCOPE_INVENTORY},
	{"where", SCOPE_STATE},
};

bool
routes_streams(const struct request *request)
{
	const char *format = request_parameter(request, "format");

	return request->route->answer == api_assets || request->route->answer == api_event_stream ||
	       (request->route->answer == api_inventory && format != NULL && strcmp(format, "json") != 0) ||
	       (format != NULL && (strcmp(format, "csv") == 0 || strcmp(format, "ndjson") == 0));
}

static void
note_needs(struct request *request)
{
	enum scope scope = request->route->scope;

	request->needs = scope == SCOPE_ANY ? 0 : SCOPE_BIT(scope);
	for (size_t i = 0; i < sizeof telling / sizeof *telling; i++)
		if (request_parameter(request, telling[i].parameter) != NULL)
			request->needs |= SCOPE_BIT(telling[i].scope);
}

/* A browser has the cookie sent whoever's page makes the request, so what changes something has to show more. Of a certificate the same is true; but most of
   those who have one are no browsers, which all name the page's origin. */
static bool
is_forged(const struct arrival *arrival, const struct request *request)
{
	bool own = origin_is(arrival->origin, arrival->host);

	if (is_method(request->route, "GET"))
		return false;
	if (request->by_certificate)
		return arrival->origin != NULL && !own;
	return request->by_session && !(own && session_csrf_fits(arrival->session, arrival->csrf));
}

/* Printable, whatever it is. What is none of ours may be somebody's password. */
static void
note_hint(const char *shown, char hint[HINT_SIZE])
{
	bool ours = strncmp(shown, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0 ||
		    strncmp(shown, SESSION_PREFIX, strlen(SESSION_PREFIX)) == 0;
	size_t len;

	if (!ours)
		shown = "-";
	len = strnlen(shown, HINT_SIZE - 1);
	for (size_t i = 0; i < len; i++)
		hint[i] = (char)(shown[i] > ' ' && shown[i] <= '~' ? shown[i] : '?');
	hint[len] = '\0';
}

/* Of what is long, or no secret, the beginning says nothing: that of its hash does. */
static void
note_digest(const char *prefix, struct slice shown, struct request *request)
{
	char text[4 * DIGEST_SIZE / 3 + 2];

	sha256(shown, request->token);
	base64url_encode(request->token, sizeof request->token, text);
	snprintf(request->hint, sizeof request->hint, "%s%.6s", prefix, text);
}

void
routes_note_certificate(struct slice der, struct request *request)
{
	if (request->hint[0] == '\0')
		note_digest("crt_", der, request);
}

#define WANTED "The request shows a token as \"Authorization: Bearer <token>\"."

/* Keeps what the caller shows: a credential, else a session, else the connection's certificate. What can't be good is refused later, like what is not known: see routes_finish. */
static enum problem
judge_credential(const struct arrival *arrival, struct request *request)
{
	if (request->route->least == ROLE_NONE)
		return PROBLEM_NONE;
	request->by_session = arrival->authorization == NULL && arrival->session != NULL;
	if (arrival->authorization == NULL && arrival->session == NULL) {
		if (request->certificate.at == NULL)
			return PROBLEM_UNAUTHORIZED;
		request->by_certificate = true;
		routes_note_certificate(request->certificate, request);
		return is_forged(arrival, request) ? PROBLEM_FORGED : PROBLEM_NONE;
	}
	request->session = arrival->session;
	if (!request->by_session && bearer(arrival->authorization) != arrival->authorization &&
	    jwt_has_form(bearer(arrival->authorization))) {
		const char *jwt = bearer(arrival->authorization);

		request->jwt = jwt;
		note_digest("jwt_", (struct slice){(const uint8_t *)jwt, strlen(jwt)}, request);
		return PROBLEM_NONE;
	}
	note_hint(request->by_session ? arrival->session : bearer(arrival->authorization), request->hint);
	if (request->by_session)
		request->malformed = session_parse(arrival->session, request->token)
					     ? NULL
					     : "The cookie has not the form of a session's.";
	else if (bearer(arrival->authorization) == arrival->authorization)
		request->malformed = "The word Bearer is missing. " WANTED;
	else
		request->malformed = token_parse(arrival->authorization, request->token)
					     ? NULL
					     : "What follows Bearer has not the form of a token.";
	return request->malformed == NULL && is_forged(arrival, request) ? PROBLEM_FORGED : PROBLEM_NONE;
}

bool
routes_begin(const struct arrival *arrival, struct request *request, struct response *response)
{
	enum problem problem = request_parse(arrival->target, request);
	const struct route *first;

	if (problem != PROBLEM_NONE) {
		response_problem(response, problem, "%s", request->fault.text);
		if (request->fault.position > 0)
			response_member(response, "position", (int64_t)request->fault.position);
		return true;
	}
	first = find_path(request);
	if (first == NULL)
		return refuse(response, PROBLEM_NOT_FOUND, "");
	request->route = find_method(first, arrival->method);
	if (request->route == NULL) {
		refuse_method(response, first);
		return true;
	}
	problem = judge_credential(arrival, request);
	if (problem != PROBLEM_NONE) {
		response_problem(response, problem, "%s", problem == PROBLEM_UNAUTHORIZED ? WANTED : "");
		return true;
	}
	request->accept_encoding = arrival->accept_encoding;
	request->if_match = arrival->if_match;
	request->if_none_match = arrival->if_none_match;
	request->last_event_id = arrival->last_event_id;
	/* A session's cookie is not kept: whoever may only read could fill the table with them. */
	if (is_method(request->route, "POST") && request->route->answer != api_session_open)
		request->idempotency_key = arrival->idempotency_key;
	if (request->idempotency_key != NULL && !repeat_key_ok(request->idempotency_key))
		return refuse(response, PROBLEM_BAD_PARAMETER, "Idempotency-Key is 1 to 255 visible characters.");
	request->openmetrics =
		arrival->accept != NULL && strstr(arrival->accept, "application/openmetrics-text") != NULL;
	if (refuse_unknown_parameter(request, response))
		return true;
	request->tenant = request_parameter(request, "tenant");
	/* There the path says which; of another's id nobody is told whether it is there. */
	if (request->tenant == NULL &&
	    (request->route->answer == api_tenant || request->route->answer == api_tenant_patch))
		request->tenant = request->variables[0];
	note_needs(request);
	problem = judge_body(arrival, request->route, &request->body);
	if (problem != PROBLEM_NONE)
		return refuse(response, problem, "");
	if (request->body.is_list && request->idempotency_key != NULL)
		return refuse(response, PROBLEM_BAD_PARAMETER, "Idempotency-Key does not go with a list.");
	if (request->route->how == ROUTE_QUICK)
		routes_finish(request, response);
	return request->route->how == ROUTE_QUICK;
}

/* Who may not write hears so whatever is in the body. What reads is signed in with its query. */
static bool
may_begin(struct request *request, struct response *response)
{
	if (request->malformed != NULL) {
		response_problem(response, PROBLEM_UNAUTHORIZED, "%s", request->malformed);
		return false;
	}
	return request->route->how != ROUTE_WRITES || query_may(request, response);
}

bool
routes_expect(struct request *request, struct response *response)
{
	enum problem problem;

	if (!may_begin(request, response))
		return false;
	problem = body_to_file(&request->body, request->tenant_id);
	if (problem == PROBLEM_NONE)
		return true;
	response_problem(response, problem, "%s", "");
	response_header(response, "Retry-After", "10");
	return false;
}

/* What only an operator may is often about no tenant. Of tokens those without one are meant then, which are operators'. */
static bool
is_of_none(const struct request *request)
{
	const char *role = json_string_value(json_object_get(request->body.json, "role"));

	if (request->route->answer == api_token_add)
		return role != NULL && strcmp(role, role_name(ROLE_OPERATOR)) == 0;
	return request->route->least == ROLE_OPERATOR || request->route->answer == api_tokens ||
	       request->route->answer == api_token_revoke;
}

/* What is made may say in its body whose it is. */
static bool
is_of_tenant(struct request *request, struct response *response, const char *in_body)
{
	if (in_body == NULL || strcmp(in_body, request->tenant) == 0)
		return true;
	response_problem(response, PROBLEM_BAD_BODY, "tenant: not the one that the parameter names.");
	return false;
}

/* What is answered from memory has nobody's texts in it, and waits for no database. */
static const struct etag_key *
etag_key(const struct request *request, const struct response *response)
{
	static const struct etag_key known;

	if (request->route->how == ROUTE_QUICK)
		return &known;
	return response->status == 200 ? query_etag_key(request->pool) : NULL;
}

/* What writes without looking at a revision has no ETag for If-Match to name, so it is not done (RFC 9110 13.1.1). */
static bool
is_matched(const struct request *request, struct response *response)
{
	void (*const revised[])(struct request *, struct response *) = {
		api_device_patch, api_device_delete, api_policy_put, api_policy_delete, api_tenant_patch};

	if (request->if_match == NULL || is_method(request->route, "GET") || etag_is_matched(request->if_match, NULL))
		return true;
	for (size_t i = 0; i < sizeof revised / sizeof *revised; i++)
		if (request->route->answer == revised[i])
			return true;
	response_problem(response, PROBLEM_PRECONDITION_FAILED, "There is no ETag here that If-Match could name.");
	return false;
}

void
routes_finish(struct request *request, struct response *response)
{
	bool good = body_parse(&request->body, response) == 0, makes = strcmp(request->route->method, "POST") == 0;
	const char *in_body = makes ? json_string_value(json_object_get(request->body.json, "tenant")) : NULL;

	if (request->tenant == NULL)
		request->tenant = in_body;
	request->of_none = is_of_none(request);
	if (may_begin(request, response) && good && is_of_tenant(request, response, in_body) &&
	    is_matched(request, response))
		request->route->answer(request, response);
	query_end(request, response);
	if (is_method(request->route, "GET"))
		negotiate_match(response, request->if_match);
	if (response->streams || request->reading.packer != NULL)
		negotiate_piece(&request->reading.packer, response, request->accept_encoding, request->if_none_match);
	else if (strcmp(request->route->method, "GET") == 0)
		negotiate(response, etag_key(request, response), request->accept_encoding, request->if_none_match);
	if (response->failed)
		response_problem(response, response->too_large ? PROBLEM_ANSWER_TOO_LARGE : PROBLEM_INTERNAL, "%s", "");
}
