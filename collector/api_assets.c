/* The whole fleet for asset systems, or what has changed in it since a position of the feed, as a stream. */
#include <endian.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/format_asset.h"
#include "collector/page.h"
#include "collector/routes.h"

#define PIECE 1000 /* rows at once */
#define POSITION_DIGITS 16 /* below 2^53 */

static int
read_since(const struct request *request, struct response *response, int64_t *since)
{
	const char *text = request_parameter(request, "changed_since");
	size_t digits = text == NULL ? 0 : strspn(text, "0123456789");

	*since = -1;
	if (text == NULL)
		return 0;
	if (digits > 0 && digits <= POSITION_DIGITS && text[digits] == '\0') {
		*since = strtoll(text, NULL, 10);
		return 0;
	}
	response_problem(response, PROBLEM_BAD_PARAMETER,
			 "changed_since is a position, as the header Fleetstate-Position of the last export has it.");
	return -1;
}

/* What the whole document is of: the tenant, and the position of the feed up to which the rows are at least as new. */
static int
begin(struct request *request, struct response *response, int64_t since)
{
	struct call calls[2] = {{.query = QUERY_EVENT_PLACE, .n = 3}, {.query = QUERY_TENANT}};
	uint64_t wire = htobe64((uint64_t)since);
	struct asset_document *document = &request->reading.document;
	PGresult *results[2];
	struct slice tenant;
	int rc = 0;

	calls[0].params[0] = param_bytes(&wire, sizeof wire);
	if (query_run(request, response, calls, 2, results) < 0)
		return -1;
	if (since >= 0)
		rc = page_judge_place(response, results[0], since);
	tenant = query_bytes(results[1], 0, 0);
	document->position = query_int8(results[0], 0, 1);
	document->time_ms = (int64_t)time(NULL) * 1000;
	snprintf(document->tenant, sizeof document->tenant, "%.*s", (int)tenant.len, (const char *)tenant.at);
	PQclear(results[0]);
	PQclear(results[1]);
	if (rc == 0 && RAND_bytes(document->id, sizeof document->id) != 1) {
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
		rc = -1;
	}
	request->reading.after = since < 0 ? 0 : since;
	return rc;
}

/* Rows of (item, key to go on after). The last of all if there are fewer than `PIECE`, as the last column counts them. */
static int
read_piece(struct request *request, struct response *response, bool changes, PGresult **rows)
{
	uint64_t wire[3] = {htobe64((uint64_t)request->reading.after), htobe64(PIECE),
			    htobe64((uint64_t)request->reading.document.position)};
	struct call call = {.query = changes ? QUERY_ASSET_CHANGES : QUERY_ASSETS, .n = changes ? 3 : 2};

	for (int i = 0; i < call.n; i++)
		call.params[i] = param_bytes(&wire[i], sizeof wire[i]);
	return query_run(request, response, &call, 1, rows);
}

static void
print_piece(struct request *request, struct response *response, const struct asset_format *format, bool changes,
	    const PGresult *rows)
{
	const struct asset_document *document = &request->reading.document;
	int n = PQntuples(rows);

	for (int i = 0; i < n; i++) {
		format->row(response, document, query_bytes(rows, i, 0), !request->reading.rows);
		request->reading.rows = true;
	}
	request->reading.ended = (changes ? (n == 0 ? 0 : query_int8(rows, 0, 2)) : n) < PIECE;
	if (n > 0)
		request->reading.after = query_int8(rows, n - 1, 1);
	if (request->reading.ended)
		format->tail(response);
}

/* Called for each piece, as page_export is. */
void
api_assets(struct request *request, struct response *response)
{
	const char *name = request_parameter(request, "format");
	const struct asset_format *format = asset_format(name == NULL ? "ndjson" : name);
	bool first = !request->reading.begun;
	PGresult *rows;
	int64_t since;

	if (request->reading.ended)
		return;
	if (format == NULL) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "format is %s.", ASSET_FORMATS);
		return;
	}
	if (read_since(request, response, &since) < 0 || (first && begin(request, response, since) < 0) ||
	    read_piece(request, response, since >= 0, &rows) < 0)
		return;
	response_json(response, (struct slice){NULL, 0});
	response->type = format->type;
	response->streams = true;
	if (first) {
		response_header(response, "Fleetstate-Position", "%" PRId64, request->reading.document.position);
		format->head(response, &request->reading.document);
	}
	request->reading.begun = true;
	print_piece(request, response, format, since >= 0, rows);
	PQclear(rows);
}
