/* The whole fleet for asset systems, or what has changed in it since a position of the feed, as a stream. */
#include <endian.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "collector/format_asset.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "collector/seal.h"
#include "schema/manifest.h"

/* Rows that are read at once. More are asked for while the piece has less than PIECE_BYTES; it takes none beyond PIECE_MOST, for devices may have filled
   their texts to the brim. */
#define ROWS 1000
#define PIECE_BYTES (2 * 1024 * 1024)
#define PIECE_MOST (4 * 1024 * 1024)

/* What one call of the route's function reads and prints. */
struct piece {
	struct request *request;
	struct response *response;
	const struct asset_format *format;
	bool changes;
	bool first; /* of the whole document: it has few rows, and comes soon */
	uint64_t wire[3];
};

static int
read_since(const struct request *request, struct response *response, int64_t *since)
{
	const char *text = request_parameter(request, "changed_since");

	*since = -1;
	if (text == NULL || count_parse(text, COUNT_MAX, since))
		return 0;
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

static struct call
ask_after(struct piece *piece, int64_t after)
{
	struct call call = {.query = piece->changes ? QUERY_ASSET_CHANGES : QUERY_ASSETS, .n = piece->changes ? 3 : 2};

	piece->wire[0] = htobe64((uint64_t)after);
	piece->wire[1] = htobe64((uint64_t)ROWS);
	piece->wire[2] = htobe64((uint64_t)piece->request->reading.document.position);
	for (int i = 0; i < call.n; i++)
		call.params[i] = param_bytes(&piece->wire[i], sizeof piece->wire[i]);
	return call;
}

/* The columns of both statements, and what that of changes has behind them. */
enum { AT_DEVICE, AT_CELLS, AT_POSITION = AT_CELLS + DEVICE_COLUMNS, AT_EVENTS, AT_UEID };

/* Where to go on behind a row. */
static int64_t
key_of(const struct piece *piece, const PGresult *rows, int i)
{
	return query_int8(rows, i, piece->changes ? AT_POSITION : AT_DEVICE);
}

/* Fewer than were asked for: devices, or events about them. */
static bool
is_last(const struct piece *piece, const PGresult *rows)
{
	int n = PQntuples(rows);

	return (piece->changes && n > 0 ? query_int8(rows, 0, AT_EVENTS) : n) < ROWS;
}

static bool
follow(void *context, const PGresult *rows, struct call *call)
{
	struct piece *piece = context;

	if (is_last(piece, rows) || piece->first || piece->response->len >= PIECE_BYTES)
		return false;
	*call = ask_after(piece, key_of(piece, rows, PQntuples(rows) - 1));
	return true;
}

static void
read_row(const PGresult *rows, int i, struct device_row *row)
{
	row->gone = query_bytes(rows, i, AT_DEVICE).at == NULL;
	for (int k = 0; k < DEVICE_COLUMNS; k++)
		row->cells[k] = query_bytes(rows, i, AT_CELLS + k);
	if (row->gone)
		row->cells[DEVICE_UEID] = query_bytes(rows, i, AT_UEID);
}

static void
begin_piece(const struct piece *piece)
{
	struct response *response = piece->response;

	response_json(response, (struct slice){NULL, 0});
	response->type = piece->format->type;
	response->streams = true;
	if (!piece->first)
		return;
	response_header(response, "Fleetstate-Position", "%" PRId64, piece->request->reading.document.position);
	piece->format->head(response, &piece->request->reading.document);
}

static bool
print_rows(void *context, const PGresult *rows)
{
	const struct piece *piece = context;
	struct request *request = piece->request;
	struct response *response = piece->response;
	int n = PQntuples(rows), i;
	struct device_row row = {.left_out = 0};

	if (response->type == NULL)
		begin_piece(piece);
	for (i = 0; i < n && response->len < PIECE_MOST && !response->failed; i++) {
		read_row(rows, i, &row);
		response_text(response, request->reading.told == 0 ? "" : piece->format->between);
		piece->format->row(response, &request->reading.document, &row);
		request->reading.told++;
	}
	if (i > 0)
		request->reading.after = key_of(piece, rows, i - 1);
	request->reading.ended = i == n && is_last(piece, rows);
	if (request->reading.ended)
		piece->format->tail(response);
	return i == n;
}

/* -1: the response is the problem. */
static int
read_manifest(struct request *request, struct response *response)
{
	const char *text = request_parameter(request, "manifest");

	if (text == NULL || strcmp(text, "false") == 0)
		return 0;
	if (strcmp(text, "true") != 0) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "manifest is true or false.");
		return -1;
	}
	if (request->seal == NULL) {
		response_problem(response, PROBLEM_CONFLICT, "This collector has no key to sign with.");
		return -1;
	}
	request->reading.tally = tally_new();
	if (request->reading.tally != NULL)
		return 0;
	response_problem(response, PROBLEM_INTERNAL, "%s", "");
	return -1;
}

/* What is sent is counted; and when it is all that there is, the manifest is kept before the last of it goes out: who has it all can ask for it. A
   response that became a problem breaks the stream off. */
static void
account(struct request *request, struct response *response, const char *format, int64_t since)
{
	const struct asset_document *document = &request->reading.document;
	struct manifest manifest = {.iat = (uint64_t)time(NULL),
				    .rows = request->reading.told,
				    .position = (uint64_t)document->position,
				    .has_since = since >= 0,
				    .since = since < 0 ? 0 : (uint64_t)since};
	uint8_t payload[LIMIT_MANIFEST], message[LIMIT_MANIFEST];
	struct call call = {.query = QUERY_MANIFEST_KEEP};
	struct cbor_writer w;
	PGresult *kept;
	size_t len = 0;

	tally_add(request->reading.tally, (struct slice){response->body, response->len});
	if (!request->reading.ended)
		return;
	snprintf(manifest.tenant, sizeof manifest.tenant, "%s", document->tenant);
	snprintf(manifest.format, sizeof manifest.format, "%s", format);
	if (tally_end(request->reading.tally, manifest.sha256, &manifest.size)) {
		cbor_writer_init(&w, payload, sizeof payload);
		manifest_encode(&manifest, &w);
		len = w.overflow ? 0
				 : seal_sign(request->seal, (struct slice){payload, w.len}, message, sizeof message);
	}
	if (len == 0) {
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
		return;
	}
	call.params[call.n++] = param_bytes(manifest.sha256, DIGEST_SIZE);
	call.params[call.n++] = param_bytes(message, len);
	if (query_write(request, response, &call, 1, &kept) == 0)
		PQclear(kept);
}

/* Called for each piece, as page_export is. */
void
api_assets(struct request *request, struct response *response)
{
	const char *name = request_parameter(request, "format");
	struct piece piece = {.request = request,
			      .response = response,
			      .format = asset_format(name == NULL ? "ndjson" : name),
			      .first = !request->reading.begun};
	struct series series = {.follow = follow, .take = print_rows, .context = &piece};
	int64_t since;

	if (request->reading.ended)
		return;
	if (piece.format == NULL) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "format is %s.", ASSET_FORMATS);
		return;
	}
	if (read_since(request, response, &since) < 0 || (piece.first && begin(request, response, since) < 0) ||
	    (piece.first && read_manifest(request, response) < 0))
		return;
	piece.changes = since >= 0;
	series.call = ask_after(&piece, request->reading.after);
	if (query_series(request, response, &series) < 0)
		return;
	request->reading.begun = true;
	if (request->reading.tally != NULL && !response->failed)
		account(request, response, piece.format->name, since);
}
