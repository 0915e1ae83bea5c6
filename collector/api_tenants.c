/* Tenants, and the authorities that vouch for their devices: the operator's. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "collector/enrol.h"
#include "collector/page.h"
#include "collector/revision.h"
#include "collector/routes.h"

#define TENANT_ID_MAX 63
#define NAME_MAX_BYTES 1024 /* 255 characters, which is the database's to judge */
#define PEM_MAX (32 * 1024) /* one certificate is a few KiB */

void
api_tenants(struct request *request, struct response *response)
{
	page_list(request, response, QUERY_TENANTS);
}

/* What was made, told by the call after the one that made it. */
static void
make(struct request *request, struct response *response, struct call call, enum query added)
{
	struct call calls[2] = {call, {.query = added}};
	PGresult *rows[2];

	if (query_run(request, response, calls, 2, rows) < 0)
		return;
	response_json(response, query_bytes(rows[1], 0, 0));
	response->status = 201;
	PQclear(rows[0]);
	PQclear(rows[1]);
}

void
api_tenant_add(struct request *request, struct response *response)
{
	static const struct member members[] = {{"id", MEMBER_TEXT, true, TENANT_ID_MAX},
						{"name", MEMBER_TEXT, true, NAME_MAX_BYTES}};
	const json_t *body = request->body.json;

	if (body_check(body, response, members, sizeof members / sizeof *members) == 0)
		make(request, response,
		     (struct call){QUERY_TENANT_ADD,
				   {param_text(json_string_value(json_object_get(body, "id"))),
				    param_text(json_string_value(json_object_get(body, "name")))},
				   2},
		     QUERY_TENANT_ADDED);
}

static void
answer_tenant(struct request *request, struct response *response, const PGresult *rows)
{
	if (PQntuples(rows) == 0) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such tenant.");
		return;
	}
	response_json(response, query_bytes(rows, 0, 0));
	revision_tag(request, response, query_int8(rows, 0, 1));
}

void
api_tenant(struct request *request, struct response *response)
{
	struct call call = {QUERY_TENANT_ITEM, {param_text(request->variables[0])}, 1};
	PGresult *rows;

	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	answer_tenant(request, response, rows);
	PQclear(rows);
}

#define PERSONAL_MAX 4 /* bytes: keep, hash or omit, which is the database's to judge */

void
api_tenant_patch(struct request *request, struct response *response)
{
	static const struct member members[] = {{"legal_hold", MEMBER_OBJECT_OR_NULL, false, 0},
						{"retention", MEMBER_OBJECT_OR_NULL, false, 0},
						{"personal", MEMBER_TEXT, false, PERSONAL_MAX}};
	struct call calls[2] = {{QUERY_TENANT_CHANGE, {param_text(request->variables[0])}, 1},
				{QUERY_TENANT_ITEM, {param_text(request->variables[0])}, 1}};

	if (body_check(request->body.json, response, members, sizeof members / sizeof *members) < 0)
		return;
	revision_change(request, response, calls, answer_tenant);
}

void
api_trust_anchors(struct request *request, struct response *response)
{
	page_list(request, response, QUERY_TRUST_ANCHORS);
}

void
api_trust_anchor_add(struct request *request, struct response *response)
{
	static const struct member members[] = {{"tenant", MEMBER_TEXT, false, TENANT_ID_MAX},
						{"name", MEMBER_TEXT, true, NAME_MAX_BYTES},
						{"certificate", MEMBER_TEXT, true, PEM_MAX},
						{"enrol", MEMBER_TEXT, false, 7}};
	const json_t *body = request->body.json, *enrol = json_object_get(body, "enrol");
	const char *how = enrol == NULL ? "admit" : json_string_value(enrol);
	struct slice der;
	char why[256];

	if (body_check(body, response, members, sizeof members / sizeof *members) < 0)
		return;
	if (strcmp(how, "admit") != 0 && strcmp(how, "hold") != 0) {
		response_problem(response, PROBLEM_BAD_BODY, "enrol: admit or hold.");
		return;
	}
	if (json_string_length(json_object_get(body, "name")) == 0) {
		response_problem(response, PROBLEM_BAD_BODY, "name: it is empty.");
		return;
	}
	if (anchor_from_text(json_string_value(json_object_get(body, "certificate")), &der, why) < 0) {
		response_problem(response, PROBLEM_BAD_BODY, "%s.", why);
		return;
	}
	make(request, response,
	     (struct call){QUERY_TRUST_ANCHOR_ADD,
			   {param_bytes(der.at, der.len), param_text(json_string_value(json_object_get(body, "name"))),
			    param_text(how)},
			   3},
	     QUERY_TRUST_ANCHOR_ADDED);
	OPENSSL_free((void *)(uintptr_t)der.at);
}

void
api_trust_anchor_remove(struct request *request, struct response *response)
{
	uint64_t id = request_number(request);
	struct call call = {.query = QUERY_TRUST_ANCHOR_REMOVE, {param_bytes(&id, sizeof id)}, 1};

	query_remove(request, response, &call, "There is no such trust anchor.");
}
