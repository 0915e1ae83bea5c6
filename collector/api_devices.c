/* Devices: the list, and one with its state, inventory and ledger. */
#include <stdlib.h>
#include <string.h>

#include "collector/component_search.h"
#include "collector/csv.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "schema/topics.h"

#define QUERY_TEXT 128 /* bytes of q: longer than any serial number */

/* Which filter leads, in this order: the statement then uses its index, and the others narrow what it finds. */
static const struct {
	const char *parameter;
	enum query query;
} leads[] = {
	{"component", QUERY_DEVICES_COMPONENT},
	{"posture", QUERY_DEVICES_POSTURE},
	{"model", QUERY_DEVICES_MODEL},
	{"firmware", QUERY_DEVICES_FIRMWARE},
};

/* The statements' first parameters. */
static const struct {
	const char *name;
	const char *const *choices; /* NULL: any text */
} filters[DEVICE_FILTER_PARAMS] = {
	{"posture", (const char *const[]){"untrusted", "silent", "degraded", "unknown", "operational", NULL}},
	{"lifecycle", (const char *const[]){"pending", "active", "retired", "revoked", "transferred", NULL}},
	{"model", NULL},
	{"firmware", NULL},
	{"q", NULL},
	{"component", NULL},
	[DEVICE_FILTER_VERSION] = {"component_version", NULL},
	{"policy", NULL},
	{"label", NULL},
};

static bool
is_choice(const char *const *choices, const char *value)
{
	if (choices == NULL || value == NULL)
		return true;
	for (; *choices != NULL; choices++)
		if (strcmp(*choices, value) == 0)
			return true;
	return false;
}

static int
bind_filters(const struct request *request, struct response *response, struct call *call)
{
	for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
		const char *value = request_parameter(request, filters[i].name);

		if (!is_choice(filters[i].choices, value)) {
			response_problem(response, PROBLEM_BAD_PARAMETER, "%s has no such value.", filters[i].name);
			return -1;
		}
		call->params[call->n++] = param_text(value);
	}
	return 0;
}

static int
check_filters(const struct request *request, struct response *response)
{
	const char *q = request_parameter(request, "q");

	if (q != NULL && strlen(q) > QUERY_TEXT) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "q has at most %d bytes.", QUERY_TEXT);
		return -1;
	}
	if (request_parameter(request, "component_version") != NULL &&
	    request_parameter(request, "component") == NULL) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "component_version goes with component.");
		return -1;
	}
	return 0;
}

static enum query
choose(const struct request *request)
{
	for (size_t i = 0; i < sizeof leads / sizeof *leads; i++)
		if (request_parameter(request, leads[i].parameter) != NULL)
			return leads[i].query;
	return QUERY_DEVICES;
}

/* A range of versions becomes a list of components, once for all pieces of an export. -1: the response is the problem. */
static int
bind_range(struct request *request, struct response *response, struct call *call)
{
	const char *version = request_parameter(request, "component_version");
	char **list = &request->reading.components;

	if (version == NULL || !version_range_is(version))
		return 0;
	if (*list == NULL)
		*list = component_search(request, response, request_parameter(request, "component"), NULL,
					 "component_version");
	if (*list == NULL)
		return -1;
	call->query = QUERY_DEVICES_COMPONENTS;
	call->params[DEVICE_FILTER_VERSION] = param_text(*list);
	return 0;
}

/* All that match. -1: the response is the problem. */
static int
check_export(const struct request *request, struct response *response, const char *format)
{
	if (strcmp(format, "csv") != 0 && strcmp(format, "ndjson") != 0)
		response_problem(response, PROBLEM_BAD_PARAMETER, "format is json, csv or ndjson.");
	else if (request_parameter(request, "limit") != NULL || request_parameter(request, "cursor") != NULL)
		response_problem(response, PROBLEM_BAD_PARAMETER,
				 "%s is the whole list: limit and cursor go with json.", format);
	return response->status != 0 ? -1 : 0;
}

void
api_devices(struct request *request, struct response *response)
{
	struct call call = {.query = choose(request)};
	const char *format = request_parameter(request, "format");
	bool whole = format != NULL && strcmp(format, "json") != 0;

	if ((whole && check_export(request, response, format) < 0) || check_filters(request, response) < 0 ||
	    bind_filters(request, response, &call) < 0 || bind_range(request, response, &call) < 0)
		return;
	if (whole)
		page_export(request, response, &call, strcmp(format, "csv") == 0 ? CSV_DEVICE : NULL);
	else
		page_query(request, response, &call);
}

static int
bind_ueid(const struct request *request, struct response *response, struct ueid *ueid, struct call *call)
{
	if (request_device(request, response, ueid) < 0)
		return -1;
	call->params[call->n++] = param_bytes(ueid->bytes, sizeof ueid->bytes);
	return 0;
}

/* One row of one JSON text. No row: no such device; NULL: the device has not told yet. */
static void
answer_document(struct request *request, struct response *response, enum query query)
{
	struct call call = {.query = query};
	struct slice document;
	struct ueid ueid;
	PGresult *rows;

	if (bind_ueid(request, response, &ueid, &call) < 0 || query_run(request, response, &call, 1, &rows) < 0)
		return;
	document = query_bytes(rows, 0, 0);
	if (document.at != NULL)
		response_json(response, document);
	else if (PQntuples(rows) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	else
		response_problem(response, PROBLEM_NOT_FOUND, "The device has not reported its state yet.");
	PQclear(rows);
}

void
api_device(struct request *request, struct response *response)
{
	answer_document(request, response, QUERY_DEVICE);
}

/* Labels alone, as RFC 7396 merges them; what they may be is the database's to judge. */
void
api_device_patch(struct request *request, struct response *response)
{
	static const struct member members[] = {{"labels", MEMBER_OBJECT, true, 0}};
	struct call calls[2] = {{.query = QUERY_DEVICE_LABEL}, {.query = QUERY_DEVICE}};
	PGresult *results[2];
	struct ueid ueid;
	char *labels;

	if (bind_ueid(request, response, &ueid, &calls[0]) < 0 || bind_ueid(request, response, &ueid, &calls[1]) < 0 ||
	    body_check(request->body.json, response, members, 1) < 0)
		return;
	labels = json_dumps(json_object_get(request->body.json, "labels"), JSON_COMPACT);
	calls[0].params[calls[0].n++] = param_text(labels);
	if (query_run(request, response, calls, 2, results) == 0) {
		if (query_int8(results[0], 0, 0) != 0)
			response_json(response, query_bytes(results[1], 0, 0));
		else
			response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
		PQclear(results[0]);
		PQclear(results[1]);
	}
	free(labels);
}

void
api_state(struct request *request, struct response *response)
{
	answer_document(request, response, QUERY_STATE);
}

void
api_ledger(struct request *request, struct response *response)
{
	answer_document(request, response, QUERY_LEDGER);
}
