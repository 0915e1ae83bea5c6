/* The fleet as a whole: its counts, and what was refused. */
#include <string.h>

#include "collector/page.h"
#include "collector/routes.h"
#include "schema/reason.h"
#include "schema/topics.h"

void
api_fleet(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_FLEET};
	PGresult *rows;

	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	response_json(response, query_bytes(rows, 0, 0));
	PQclear(rows);
}

void
api_refusals(struct request *request, struct response *response)
{
	const char *of = request_parameter(request, "ueid"), *reason = request_parameter(request, "reason");
	struct call call = {.query = QUERY_REFUSALS};
	struct ueid ueid;

	if (of != NULL && !ueid_parse((struct slice){(const uint8_t *)of, strlen(of)}, &ueid)) {
		response_bad_parameter(response, 1, "ueid is 34 lower-case hex digits that begin with 01.");
		return;
	}
	if (reason != NULL && !reason_is(reason)) {
		response_bad_parameter(response, 1,
				       "reason is none for which messages are refused, like bad-signature.");
		return;
	}
	call.params[call.n++] = param_text(reason);
	call.params[call.n++] = of == NULL ? param_text(NULL) : param_bytes(ueid.bytes, sizeof ueid.bytes);
	page_query(request, response, &call);
}
