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

/* Rows that are read at once: few at first, which come soon, then so many that what a piece costs beside them is little. An answer takes more of them only
   while it is below so many bytes: devices may have filled their texts to the brim. */
#define FIRST_PIECE 1000
#define PIECE 4000
#define PIECE_BYTES (4 * 1024 * 1024)
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

static int
read_piece(struct request *request, struct response *response, bool changes, int64_t most, PGresult **rows)
{
	uint64_t wire[3] = {htobe64((uint64_t)request->reading.after), htobe64((uint64_t)most),
			    htobe64((uint64_t)request->reading.document.position)};
	struct call call = {.query = changes ? QUERY_ASSET_CHANGES : QUERY_ASSETS, .n = changes ? 3 : 2};

	for (int i = 0; i < call.n; i++)
		call.params[i] = param_bytes(&wire[i], sizeof wire[i]);
	return query_run(request, response, &call, 1, rows);
}

/* The columns of both statements. */
enum { AT_KEY, AT_EVENTS, AT_UEID, AT_DEVICE, AT_CELLS };

static void
read_row(const PGresult *rows, int i, struct device_row *row)
{
	row->gone = query_bytes(rows, i, AT_DEVICE).at == NULL;
	for (int k = 0; k < DEVICE_COLUMNS; k++)
		row->cells[k] = query_bytes(rows, i, AT_CELLS + k);
	row->cells[DEVICE_UEID] = query_bytes(rows, i, AT_UEID);
}

/* The last piece of all if there are fewer than `most` rows; of changes, fewer events. */
static void
print_piece(struct request *request, struct response *response, const struct asset_format *format, bool changes,
	    int64_t most, const PGresult *rows)
{
	const struct asset_document *document = &request->reading.document;
	int n = PQntuples(rows), i;
	struct device_row row;

	for (i = 0; i < n && response->len < PIECE_BYTES; i++) {
		read_row(rows, i, &row);
		format->row(response, document, &row, !request->reading.rows);
		request->reading.rows = true;
	}
	if (i > 0)
		request->reading.after = query_int8(rows, i - 1, AT_KEY);
	request->reading.ended = i == n && (changes && n > 0 ? query_int8(rows, 0, AT_EVENTS) : n) < most;
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
	int64_t since, most = request->reading.begun ? PIECE : FIRST_PIECE;
	PGresult *rows;

	if (request->reading.ended)
		return;
	if (format == NULL) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "format is %s.", ASSET_FORMATS);
		return;
	}
	if (read_since(request, response, &since) < 0 || (first && begin(request, response, since) < 0) ||
	    read_piece(request, response, since >= 0, most, &rows) < 0)
		return;
	response_json(response, (struct slice){NULL, 0});
	response->type = format->type;
	response->streams = true;
	if (first) {
		response_header(response, "Fleetstate-Position", "%" PRId64, request->reading.document.position);
		format->head(response, &request->reading.document);
	}
	request->reading.begun = true;
	print_piece(request, response, format, since >= 0, most, rows);
	PQclear(rows);
}
