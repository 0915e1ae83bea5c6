/* Policies and maintenance windows. What may stand in their documents is the database's to judge, so that the command line is held to the same. */
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/page.h"
#include "collector/revision.h"
#include "collector/routes.h"

#define PREDICATE_MAX BODY_MAX /* what is too long for a policy is the database's to say, with the place */
#define OUTCOME_MAX 16
#define PREVIEW_DEFAULT 100
#define PREVIEW_MAX 1000

void
api_policies(struct request *request, struct response *response)
{
	page_list(request, response, QUERY_POLICIES);
}

static void
answer_policy(struct response *response, const PGresult *rows)
{
	response_json(response, query_bytes(rows, 0, 0));
	response_header(response, "ETag", "\"%" PRId64 "\"", query_int8(rows, 0, 1));
}

void
api_policy(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_POLICY, {param_text(request->variables[0])}, 1};
	PGresult *rows;

	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	if (PQntuples(rows) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such policy.");
	else
		answer_policy(response, rows);
	PQclear(rows);
}

/* Whose policy is meant, and at which revision: the last two parameters of what writes one. */
static int
bind_target(struct request *request, struct response *response, struct call *call, uint64_t *revision)
{
	const char *everyone = request_parameter(request, "everyone");
	struct call found = {QUERY_POLICY_REVISION, {param_text(request->variables[0])}, 1};

	if (everyone == NULL)
		everyone = "false";
	if (strcmp(everyone, "false") != 0 && strcmp(everyone, "true") != 0)
		return response_bad_parameter(response, 1, "everyone is true or false.");
	call->params[call->n++] = found.params[found.n++] = param_text(everyone);
	return revision_expect(request, response, &found, 0, call, revision);
}

/* An absent body is an empty object: then the database names what is missing. */
static char *
dump(const struct request *request)
{
	return request->body.json == NULL ? strdup("{}")
					  : json_dumps(request->body.json, JSON_COMPACT | JSON_ENCODE_ANY);
}

void
api_policy_put(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_POLICY_PUT, {param_text(request->variables[0])}, 1},
				{.query = QUERY_POLICY, {param_text(request->variables[0])}, 1}};
	PGresult *results[2];
	uint64_t revision;
	char *document = dump(request);

	calls[0].params[calls[0].n++] = param_text(document);
	if (bind_target(request, response, &calls[0], &revision) == 0 &&
	    query_run(request, response, calls, 2, results) == 0) {
		answer_policy(response, results[1]);
		response->status = query_int8(results[0], 0, 0) != 0 ? 201 : 200;
		PQclear(results[0]);
		PQclear(results[1]);
	}
	free(document);
}

void
api_policy_delete(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_POLICY_DELETE, {param_text(request->variables[0])}, 1},
				{.query = QUERY_POLICY, {param_text(request->variables[0])}, 1}};
	PGresult *results[2];
	uint64_t revision;

	if (body_check(request->body.json, response, NULL, 0) < 0 ||
	    bind_target(request, response, &calls[0], &revision) < 0 ||
	    query_run(request, response, calls, 2, results) < 0)
		return;
	if (query_int8(results[0], 0, 0) != 0)
		response_empty(response);
	else if (PQntuples(results[1]) > 0)
		response_problem(response, PROBLEM_FORBIDDEN, "The policy is the operator's.");
	else
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such policy.");
	PQclear(results[0]);
	PQclear(results[1]);
}

void
api_policy_preview(struct request *request, struct response *response)
{
	static const struct member members[] = {
		{"when", MEMBER_TEXT, true, PREDICATE_MAX},
		{"as_of", MEMBER_TEXT, false, TIME_MAX},
		{"outcome", MEMBER_TEXT, false, OUTCOME_MAX},
		{"limit", MEMBER_NUMBER, false, 0},
	};
	const json_t *body = request->body.json;
	const char *as_of = json_string_value(json_object_get(body, "as_of"));
	const char *outcome = json_string_value(json_object_get(body, "outcome"));
	const json_t *said = json_object_get(body, "limit");
	int64_t limit = said == NULL ? PREVIEW_DEFAULT : json_integer_value(said);
	uint64_t wire = htobe64((uint64_t)limit);
	struct call call = {.query = QUERY_POLICY_PREVIEW};
	PGresult *rows;

	if (body_check(body, response, members, sizeof members / sizeof *members) < 0)
		return;
	if ((as_of != NULL && !is_time(as_of)) || limit < 0 || limit > PREVIEW_MAX) {
		response_problem(response, PROBLEM_BAD_BODY,
				 "as_of is a time as RFC 3339 writes it, limit a number up to %d.", PREVIEW_MAX);
		return;
	}
	call.params[call.n++] = param_text(json_string_value(json_object_get(body, "when")));
	call.params[call.n++] = param_text(as_of);
	call.params[call.n++] = param_bytes(&wire, sizeof wire);
	call.params[call.n++] = param_text(outcome == NULL ? "not_met" : outcome);
	if (query_limited(request, response, &call, &rows) < 0)
		return;
	if (query_bytes(rows, 0, 0).at != NULL)
		response_json(response, query_bytes(rows, 0, 0));
	else
		(void)query_refuse_preview(response, "Another one of the tenant's runs.");
	PQclear(rows);
}

void
api_maintenance(struct request *request, struct response *response)
{
	page_list(request, response, QUERY_MAINTENANCE);
}

void
api_maintenance_add(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_MAINTENANCE_ADD}, {.query = QUERY_MAINTENANCE_ADDED}};
	char *document = dump(request);
	PGresult *results[2];

	calls[0].params[calls[0].n++] = param_text(document);
	if (query_run(request, response, calls, 2, results) == 0) {
		response_json(response, query_bytes(results[1], 0, 0));
		response->status = 201;
		response_header(response, "Location", "/v1/maintenance/%" PRId64, query_int8(results[1], 0, 1));
		PQclear(results[0]);
		PQclear(results[1]);
	}
	free(document);
}

void
api_maintenance_delete(struct request *request, struct response *response)
{
	uint64_t id = request_number(request);
	struct call call = {.query = QUERY_MAINTENANCE_DELETE, {param_bytes(&id, sizeof id)}, 1};

	query_remove(request, response, &call, "There is no such window.");
}
