/* The collector's signed word on an export, for whoever has its bytes. */
#include <string.h>

#include "collector/query.h"
#include "collector/routes.h"

void
api_manifest(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_MANIFEST};
	const char *text = request->variables[0];
	uint8_t digest[DIGEST_SIZE];
	PGresult *rows;

	if (strlen(text) != sizeof digest * 2 ||
	    !hex_parse((struct slice){(const uint8_t *)text, strlen(text)}, digest, sizeof digest)) {
		response_problem(response, PROBLEM_NOT_FOUND, "That is no SHA-256.");
		return;
	}
	call.params[call.n++] = param_bytes(digest, sizeof digest);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	if (PQntuples(rows) == 0) {
		response_problem(response, PROBLEM_NOT_FOUND,
				 "None of the last exports with manifest=true has these bytes.");
	} else {
		response_json(response, query_bytes(rows, 0, 0));
		response->type = "application/cwt";
		response_header(response, "Content-Disposition", "attachment; filename=\"%s.manifest\"", text);
	}
	PQclear(rows);
}
