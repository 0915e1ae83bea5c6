#include "collector/revision.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/etag.h"

#define NO_REVISION (-1) /* at which nothing ever is */

void
revision_tag(const struct request *request, struct response *response, int64_t revision)
{
	const struct etag_key *key = query_etag_key(request->pool);
	char hex[TAG_DIGITS + 1];

	if (key != NULL && etag_hash(key, (struct slice){response->body, response->len}, TAG_DIGITS / 2, hex) == 0)
		response_header(response, "ETag", "\"%" PRId64 ".%s\"", revision, hex);
}

int
revision_expect(struct request *request, struct response *response, const struct call *found, size_t digits,
		struct call *call, uint64_t *revision)
{
	const char *match = request->if_match, *none_match = request->if_none_match;
	int64_t at = 0;
	PGresult *rows;

	call->params[call->n++] = param_text(NULL);
	if (match == NULL && none_match == NULL)
		return 0;
	if ((match != NULL && !etag_list_ok(match)) || (none_match != NULL && !etag_list_ok(none_match))) {
		response_problem(response, PROBLEM_BAD_PARAMETER,
				 "%s is *, or entity tags as ETag gives them, with commas between.",
				 match != NULL && !etag_list_ok(match) ? "If-Match" : "If-None-Match");
		return -1;
	}
	if (query_run(request, response, found, 1, &rows) < 0)
		return -1;
	if (PQntuples(rows) > 0)
		at = query_int8(rows, 0, PQfnumber(rows, "revision"));
	PQclear(rows);
	*revision = htobe64((uint64_t)(etag_permits(match, none_match, at, digits) ? at : NO_REVISION));
	call->params[call->n - 1] = param_bytes(revision, sizeof *revision);
	return 0;
}

void
revision_change(struct request *request, struct response *response, struct call calls[2], revision_answer *answer)
{
	PGresult *results[2];
	uint64_t revision;
	char *changes;

	changes = request->body.json == NULL ? strdup("{}") : json_dumps(request->body.json, JSON_COMPACT);
	calls[0].params[calls[0].n++] = param_text(changes);
	if (revision_expect(request, response, &calls[1], TAG_DIGITS, &calls[0], &revision) == 0 &&
	    query_run(request, response, calls, 2, results) == 0) {
		/* Of what is not there nothing was changed, and nothing is to be told. */
		if (PQntuples(results[1]) == 0)
			query_undo(request, response);
		answer(request, response, results[1]);
		PQclear(results[0]);
		PQclear(results[1]);
	}
	free(changes);
}
