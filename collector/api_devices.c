/* Devices: the list, and one with its state, inventory and ledger. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/api_import.h"
#include "collector/device_list.h"
#include "collector/page.h"
#include "collector/revision.h"
#include "collector/routes.h"
#include "schema/topics.h"

#define REGISTERED_MAX                                                                                                 \
	1024 /* bytes of what is told of a device beforehand; 255 characters, which is the database's to judge */

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

/* The columns of QUERY_DEVICE. */
enum {
	AT_CELLS = 1,
	AT_REVISION = AT_CELLS + DEVICE_WIDTH,
	AT_CHALLENGE,
	AT_LEDGER,
	AT_HOLD = AT_LEDGER + DEVICE_LEDGER
};

static void
answer_device(struct request *request, struct response *response, const PGresult *rows)
{
	struct device_more more = {.challenge = query_bytes(rows, 0, AT_CHALLENGE),
				   .hold = query_bytes(rows, 0, AT_HOLD)};
	struct device_row row = {.gone = false};

	if (PQntuples(rows) == 0) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
		return;
	}
	for (int i = 0; i < DEVICE_LEDGER; i++)
		more.ledger[i] = query_int8(rows, 0, AT_LEDGER + i);
	response_json(response, (struct slice){NULL, 0});
	query_device(request, response, rows, 0, AT_CELLS, &row);
	device_json_more(response, &row, &more);
	revision_tag(request, response, query_int8(rows, 0, AT_REVISION));
}

void
api_device(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_DEVICE};
	struct ueid ueid;
	PGresult *rows;

	if (bind_ueid(request, response, &ueid, &call) < 0 || query_run(request, response, &call, 1, &rows) < 0)
		return;
	answer_device(request, response, rows);
	PQclear(rows);
}

/* What it may become is the database's to judge. */
void
api_device_patch(struct request *request, struct response *response)
{
	static const struct member members[] = {{"labels", MEMBER_OBJECT, false, 0},
						{"legal_hold", MEMBER_OBJECT_OR_NULL, false, 0},
						{"lifecycle", MEMBER_TEXT, false, 15},
						{"tenant", MEMBER_TEXT, false, 63}};
	struct call calls[2] = {{.query = QUERY_DEVICE_CHANGE}, {.query = QUERY_DEVICE}};
	struct ueid ueid;

	if (bind_ueid(request, response, &ueid, &calls[0]) < 0 || bind_ueid(request, response, &ueid, &calls[1]) < 0 ||
	    body_check(request->body.json, response, members, sizeof members / sizeof *members) < 0)
		return;
	revision_change(request, response, calls, answer_device);
}

void
api_device_delete(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_DEVICE_DELETE}, found = {.query = QUERY_DEVICE};
	uint64_t revision;
	struct ueid ueid;

	if (bind_ueid(request, response, &ueid, &call) < 0 || bind_ueid(request, response, &ueid, &found) < 0 ||
	    revision_expect(request, response, &found, TAG_DIGITS, &call, &revision) < 0)
		return;
	query_remove(request, response, &call, "There is no such device.");
}

/* Registers one beforehand. */
void
api_device_add(struct request *request, struct response *response)
{
	static const struct member members[] = {
		{"ueid", MEMBER_TEXT, true, UEID_HEX - 1},     {"serial", MEMBER_TEXT, false, REGISTERED_MAX},
		{"model", MEMBER_TEXT, false, REGISTERED_MAX}, {"labels", MEMBER_OBJECT, false, 0},
		{"lifecycle", MEMBER_TEXT, false, 15},         {"tenant", MEMBER_TEXT, false, 63},
	};
	const char *name = json_string_value(json_object_get(request->body.json, "ueid"));
	struct call calls[2] = {{.query = QUERY_DEVICE_ADD}, {.query = QUERY_DEVICE}};
	PGresult *results[2];
	struct ueid ueid;
	char *document;

	if (request->body.is_list) {
		api_import(request, response);
		return;
	}
	if (request_parameter(request, "dry_run") != NULL) {
		response_bad_parameter(response, 0, "dry_run goes with a list.");
		return;
	}
	if (body_check(request->body.json, response, members, sizeof members / sizeof *members) < 0)
		return;
	if (!ueid_parse((struct slice){(const uint8_t *)name, name == NULL ? 0 : strlen(name)}, &ueid)) {
		response_problem(response, PROBLEM_BAD_BODY, "ueid: 34 lower-case hex digits that begin with 01.");
		return;
	}
	document = json_dumps(request->body.json, JSON_COMPACT);
	calls[0].params[calls[0].n++] = param_text(document);
	calls[0].params[calls[0].n++] = param_text(query_pool_registrations_max(request->pool));
	calls[1].params[calls[1].n++] = param_bytes(ueid.bytes, sizeof ueid.bytes);
	if (query_run(request, response, calls, 2, results) == 0) {
		answer_device(request, response, results[1]);
		response->status = 201;
		response_header(response, "Location", "/v1/devices/%s", name);
		PQclear(results[0]);
		PQclear(results[1]);
	}
	free(document);
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
