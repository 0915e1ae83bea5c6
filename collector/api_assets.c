/* The whole fleet for asset systems, or what has changed in it since a position of the feed, as a stream. */
#include <endian.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "collector/export.h"
#include "collector/format_asset.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "collector/seal.h"
#include "schema/manifest.h"

/* What one call of the route's function reads and prints. */
struct reader {
	struct request *request;
	const struct asset_format *format;
	bool changes;
	int64_t asked;
	uint64_t wire[3];
};

static int
read_since(const struct request *request, struct response *response, int64_t *since)
{
	const char *text = request_parameter(request, "changed_since");

	*since = -1;
	if (text == NULL || count_parse(text, COUNT_MAX, since))
		return 0;
	return response_bad_parameter(
		response, count_fault(text),
		"changed_since is a position, as the header Fleetstate-Position of the last export has it.");
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

static void
ask(void *context, int64_t rows, struct call *call)
{
	struct reader *reader = context;

	*call = (struct call){.query = reader->changes ? QUERY_ASSET_CHANGES : QUERY_ASSETS,
			      .n = reader->changes ? 3 : 2};
	reader->asked = rows;
	reader->wire[0] = htobe64((uint64_t)reader->request->reading.after);
	reader->wire[1] = htobe64((uint64_t)rows);
	reader->wire[2] = htobe64((uint64_t)reader->request->reading.document.position);
	for (int i = 0; i < call->n; i++)
		call->params[i] = param_bytes(&reader->wire[i], sizeof reader->wire[i]);
}

/* The columns of both statements, and what that of changes has behind them. */
enum { AT_DEVICE, AT_CELLS, AT_POSITION = AT_CELLS + DEVICE_WIDTH, AT_EVENTS, AT_UEID };

static void
read_row(const struct request *request, struct response *response, const PGresult *rows, struct device_row *row)
{
	row->gone = query_bytes(rows, 0, AT_DEVICE).at == NULL;
	query_device(request, response, rows, 0, AT_CELLS, row);
	if (row->gone)
		row->cells[DEVICE_UEID] = query_bytes(rows, 0, AT_UEID);
}

static void
print_head(void *context, struct response *response)
{
	const struct reader *reader = context;
	const struct asset_document *document = &reader->request->reading.document;

	response_header(response, "Fleetstate-Position", "%" PRId64, document->position);
	reader->format->head(response, document);
}

static bool
print_row(void *context, struct response *response, const PGresult *found)
{
	const struct reader *reader = context;
	struct request *request = reader->request;
	struct device_row row = {.left_out = 0};

	read_row(reader->request, response, found, &row);
	response_text(response, request->reading.told == 0 ? "" : reader->format->between);
	reader->format->row(response, &request->reading.document, &row);
	request->reading.told++;
	request->reading.after = query_int8(found, 0, reader->changes ? AT_POSITION : AT_DEVICE);
	/* Of so many events as were asked for, however few devices they are about. */
	return reader->changes && query_int8(found, 0, AT_EVENTS) == reader->asked;
}

static void
print_tail(void *context, struct response *response)
{
	const struct reader *reader = context;

	reader->format->tail(response);
}

/* -1: the response is the problem. */
static int
read_manifest(struct request *request, struct response *response)
{
	const char *text = request_parameter(request, "manifest");

	if (text == NULL || strcmp(text, "false") == 0)
		return 0;
	if (strcmp(text, "true") != 0)
		return response_bad_parameter(response, 1, "manifest is true or false.");
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

/* Called for each piece. */
void
api_assets(struct request *request, struct response *response)
{
	const char *name = request_parameter(request, "format");
	struct reader reader = {.request = request, .format = asset_format(name == NULL ? "ndjson" : name)};
	struct export_source source = {
		.head = print_head, .ask = ask, .row = print_row, .tail = print_tail, .context = &reader};
	bool first = !request->reading.begun;
	int64_t since;

	if (request->reading.ended)
		return;
	if (reader.format == NULL) {
		response_bad_parameter(response, 1, "format is %s.", ASSET_FORMATS);
		return;
	}
	if (read_since(request, response, &since) < 0 || (first && begin(request, response, since) < 0) ||
	    (first && read_manifest(request, response) < 0))
		return;
	reader.changes = since >= 0;
	source.type = reader.format->type;
	export_piece(request, response, &source);
	if (response->streams && request->reading.tally != NULL && !response->failed)
		account(request, response, reader.format->name, since);
}
