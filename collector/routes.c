#include "collector/routes.h"

#include <string.h>

#define DEVICE "/v1/devices/{ueid}"

static const struct route routes[] = {
	{"GET", "/v1/fleet", ROLE_VIEWER, api_fleet, "", false},
	{"GET", "/v1/devices", ROLE_VIEWER, api_devices,
	 "posture lifecycle model firmware component component_version q limit cursor", false},
	{"GET", DEVICE, ROLE_VIEWER, api_device, "", false},
	{"GET", DEVICE "/state", ROLE_VIEWER, api_state, "", false},
	{"GET", DEVICE "/inventory", ROLE_VIEWER, api_inventory, "limit cursor", false},
	{"GET", DEVICE "/ledger", ROLE_VIEWER, api_ledger, "", false},
	{"GET", DEVICE "/reports", ROLE_VIEWER, api_reports, "epoch limit cursor", false},
	{"GET", DEVICE "/reports/{epoch}/{seq}", ROLE_VIEWER, api_report_by_seq, "", false},
	{"GET", "/v1/reports/{sha256}", ROLE_VIEWER, api_report_by_digest, "", false},
	{"GET", "/v1/refusals", ROLE_VIEWER, api_refusals, "ueid reason limit cursor", false},
	{"GET", "/metrics", ROLE_VIEWER, api_metrics, "", false},
	{"GET", "/healthz", ROLE_NONE, api_healthz, "", true},
	{"GET", "/readyz", ROLE_NONE, api_readyz, "", false},
	{"GET", "/openapi.yaml", ROLE_NONE, api_asset, "", true},
	{"GET", "/", ROLE_NONE, api_asset, "", true},
	/* The page's own files. */
	{"GET", "/{file}", ROLE_NONE, api_asset, "", true},
};

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

static const struct route *
find(struct request *request)
{
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if (match(routes[i].path, request))
			return &routes[i];
	return NULL;
}

static bool
is_listed(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (; *names != '\0'; names += strspn(names, " ")) {
		size_t n = strcspn(names, " ");

		if (n == len && memcmp(names, name, n) == 0)
			return true;
		names += n;
	}
	return false;
}

static const char *
unknown_parameter(const struct request *request)
{
	for (size_t i = 0; i < request->parameters_len; i++) {
		const char *name = request->parameters[i].name;

		if (!is_listed(request->route->parameters, name) &&
		    !(request->route->least != ROLE_NONE && strcmp(name, "tenant") == 0))
			return name;
	}
	return NULL;
}

static bool
is_allowed(const char *method)
{
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static bool
refuse(struct response *response, enum problem problem, const char *detail)
{
	response_problem(response, problem, "%.64s", detail);
	return true;
}

bool
routes_begin(const struct arrival *arrival, struct request *request, struct response *response)
{
	enum problem problem = request_parse(arrival->target, request);
	const char *unknown;

	if (problem != PROBLEM_NONE)
		return refuse(response, problem, "");
	request->route = find(request);
	if (request->route == NULL)
		return refuse(response, PROBLEM_NOT_FOUND, "");
	if (!is_allowed(arrival->method)) {
		response_problem(response, PROBLEM_METHOD_NOT_ALLOWED, "%s", "");
		response_header(response, "Allow", "GET, HEAD");
		return true;
	}
	if (request->route->least != ROLE_NONE && !token_parse(arrival->authorization, request->token))
		return refuse(response, PROBLEM_UNAUTHORIZED, "");
	request->openmetrics =
		arrival->accept != NULL && strstr(arrival->accept, "application/openmetrics-text") != NULL;
	unknown = unknown_parameter(request);
	if (unknown != NULL)
		return refuse(response, PROBLEM_UNKNOWN_PARAMETER, unknown);
	if (request->route->quick)
		routes_finish(request, response);
	return request->route->quick;
}

void
routes_finish(struct request *request, struct response *response)
{
	request->route->answer(request, response);
	if (response->failed)
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
}
