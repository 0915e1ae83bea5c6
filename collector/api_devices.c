/* Devices: the list, and one with its state, inventory and ledger. */
#include <stdlib.h>
#include <string.h>

#include "collector/device_list.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "schema/topics.h"

void
api_devices(struct request *request, struct response *response)
{
	json_t *filters = json_object();

	device_list(request, response, filters);
	json_decref(filters);
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
