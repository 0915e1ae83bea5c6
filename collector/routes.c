#include "collector/routes.h"

#include <string.h>

#define DEVICE "/v1/devices/{ueid}"

static const struct route routes[] = {
	{"GET", "/v1/fleet", ROLE_VIEWER, api_fleet, ""},
	{"GET", "/v1/devices", ROLE_VIEWER, api_devices,
	 "posture lifecycle model firmware component component_version q limit cursor"},
	{"GET", DEVICE, ROLE_VIEWER, api_device, ""},
	{"GET", DEVICE "/state", ROLE_VIEWER, api_state, ""},
	{"GET", DEVICE "/inventory", ROLE_VIEWER, api_inventory, "limit cursor"},
	{"GET", DEVICE "/ledger", ROLE_VIEWER, api_ledger, ""},
	{"GET", DEVICE "/reports", ROLE_VIEWER, api_reports, "epoch limit cursor"},
	{"GET", DEVICE "/reports/{epoch}/{seq}", ROLE_VIEWER, api_report_by_seq, ""},
	{"GET", "/v1/reports/{sha256}", ROLE_VIEWER, api_report_by_digest, ""},
	{"GET", "/v1/refusals", ROLE_VIEWER, api_refusals, "ueid reason limit cursor"},
	{"GET", "/metrics", ROLE_VIEWER, api_metrics, ""},
	{"GET", "/healthz", ROLE_NONE, api_healthz, ""},
	{"GET", "/readyz", ROLE_NONE, api_readyz, ""},
	{"GET", "/openapi.yaml", ROLE_NONE, api_asset, ""},
	{"GET", "/", ROLE_NONE, api_asset, ""},
	/* The page's own files. */
	{"GET", "/{file}", ROLE_NONE, api_asset, ""},
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

static void
answer(const struct arrival *arrival, struct request *request, struct response *response)
{
	enum problem problem = request_parse(arrival->target, request);
	const char *unknown;

	if (problem != PROBLEM_NONE) {
		response_problem(response, problem, "%s", "");
		return;
	}
	request->route = find(request);
	if (request->route == NULL) {
		response_problem(response, PROBLEM_NOT_FOUND, "%s", "");
		return;
	}
	if (!is_allowed(arrival->method)) {
		response_problem(response, PROBLEM_METHOD_NOT_ALLOWED, "%s", "");
		response_header(response, "Allow", "GET, HEAD");
		return;
	}
	if (request->route->least != ROLE_NONE && !token_parse(arrival->authorization, request->token)) {
		response_problem(response, PROBLEM_UNAUTHORIZED, "%s", "");
		return;
	}
	unknown = unknown_parameter(request);
	if (unknown != NULL) {
		response_problem(response, PROBLEM_UNKNOWN_PARAMETER, "%.64s", unknown);
		return;
	}
	request->route->answer(request, response);
}

void
routes_answer(const struct arrival *arrival, struct request *request, struct response *response)
{
	answer(arrival, request, response);
	if (response->failed)
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
}
