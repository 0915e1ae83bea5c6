/* What a device runs: a page of its components, or all of them as a document, in pieces if they are many. */
#include <endian.h>
#include <string.h>

#include "collector/export.h"
#include "collector/format_inventory.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "schema/key.h"

static void
answer_page(struct request *request, struct response *response, const struct ueid *ueid)
{
	struct call calls[2] = {{QUERY_INVENTORY_HEAD, {param_bytes(ueid->bytes, UEID_SIZE)}, 1},
				{QUERY_INVENTORY, {param_bytes(ueid->bytes, UEID_SIZE)}, 1}};
	PGresult *results[2];
	struct slice head;
	struct page page;

	if (page_open(request, response, &page) < 0)
		return;
	page_bind(&page, &calls[1], 1);
	if (query_run(request, response, calls, 2, results) < 0)
		return;
	head = query_bytes(results[0], 0, 0);
	if (head.at != NULL)
		page_answer(request, response, &page, results[1], 1, head);
	else if (PQntuples(results[0]) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	else
		response_problem(response, PROBLEM_NOT_FOUND, "The device has not reported its inventory yet.");
	PQclear(results[0]);
	PQclear(results[1]);
}

/* The columns of QUERY_INVENTORY_DEVICE. */
enum { AT_SET, AT_COMPONENTS, AT_TOLD, AT_CELLS = AT_TOLD + 2 };
/* And what those of QUERY_INVENTORY_PIECE have behind the component's. */
enum { AT_DIGEST = INVENTORY_COLUMNS, AT_COMPONENT };

/* What one call of the route's function reads and prints. */
struct reader {
	struct request *request;
	const struct inventory_format *format;
	struct device_row device;
	struct inventory_of of;
	uint64_t wire[3];
};

/* -1: the response is the problem, since a list of nothing would say that the device runs nothing. */
static int
begin(struct reader *reader, struct response *response, const PGresult *found)
{
	struct request *request = reader->request;

	if (reader->device.cells[DEVICE_INVENTORY_DIGEST].at == NULL)
		response_problem(response, PROBLEM_NOT_FOUND, "The device has not reported its inventory yet.");
	else if (PQgetisnull(found, 0, AT_SET))
		response_problem(response, PROBLEM_NOT_FOUND, "The device's inventory is still on its way.");
	request->reading.inventory.id = query_int8(found, 0, AT_SET);
	request->reading.inventory.components = query_int8(found, 0, AT_COMPONENTS);
	request->reading.inventory.told_ms = query_int8(found, 0, AT_TOLD);
	return response->status != 0 ? -1 : 0;
}

/* The set stays the one that it was at the beginning, whatever the device reports meanwhile. */
static int
read_device(struct reader *reader, struct response *response, const PGresult *found)
{
	struct request *request = reader->request;

	if (PQntuples(found) == 0) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
		return -1;
	}
	query_device(request, response, found, 0, AT_CELLS, &reader->device);
	if (!request->reading.begun && begin(reader, response, found) < 0)
		return -1;
	reader->of = (struct inventory_of){&reader->device, request->reading.inventory.told_ms};
	return 0;
}

static void
print_head(void *context, struct response *response)
{
	const struct reader *reader = context;

	reader->format->head(response, &reader->of);
}

static void
ask(void *context, int64_t rows, struct call *call)
{
	struct reader *reader = context;

	*call = (struct call){.query = QUERY_INVENTORY_PIECE, .n = 3};
	reader->wire[0] = htobe64((uint64_t)reader->request->reading.inventory.id);
	reader->wire[1] = htobe64((uint64_t)reader->request->reading.after);
	reader->wire[2] = htobe64((uint64_t)rows);
	for (int i = 0; i < call->n; i++)
		call->params[i] = param_bytes(&reader->wire[i], sizeof reader->wire[i]);
}

static bool
print_row(void *context, struct response *response, const PGresult *found)
{
	const struct reader *reader = context;
	struct request *request = reader->request;
	struct inventory_row row;

	for (int i = 0; i < INVENTORY_COLUMNS; i++)
		row.cells[i] = query_bytes(found, 0, i);
	row.digest = query_bytes(found, 0, AT_DIGEST);
	reader->format->row(response, &reader->of, &row, request->reading.told == 0);
	request->reading.told++;
	request->reading.after = query_int8(found, 0, AT_COMPONENT);
	return false;
}

/* One that has lost some on the way does not look whole. */
static void
print_tail(void *context, struct response *response)
{
	const struct reader *reader = context;

	reader->format->tail(response);
	if (reader->request->reading.told != (uint64_t)reader->request->reading.inventory.components)
		response->failed = true;
}

/* What is whole with its first piece is no stream. Of any other the piece and the set make the rest, so it has an entity tag as well: weak, since the
   compressed form has the same one. */
static void
settle_first(const struct reader *reader, struct response *response)
{
	uint8_t digests[2 * DIGEST_SIZE] = {0}, digest[DIGEST_SIZE];
	struct slice set = reader->device.cells[DEVICE_INVENTORY_DIGEST];
	char hex[2 * DIGEST_SIZE + 1];

	response->streams = !reader->request->reading.ended;
	if (!response->streams)
		return;
	sha256((struct slice){response->body, response->len}, digests);
	memcpy(digests + DIGEST_SIZE, set.at, set.len < DIGEST_SIZE ? set.len : DIGEST_SIZE);
	sha256((struct slice){digests, sizeof digests}, digest);
	hex_print(digest, DIGEST_SIZE / 2, hex);
	response_header(response, "ETag", "W/\"%s\"", hex);
}

/* Called for each piece. */
static void
answer_whole(struct request *request, struct response *response, const struct inventory_format *format,
	     const struct ueid *ueid)
{
	const struct call call = {QUERY_INVENTORY_DEVICE, {param_bytes(ueid->bytes, UEID_SIZE)}, 1};
	struct reader reader = {.request = request, .format = format};
	const struct export_source source = {.type = format->type,
					     .head = print_head,
					     .ask = ask,
					     .row = print_row,
					     .tail = print_tail,
					     .context = &reader};
	bool first = !request->reading.begun;
	PGresult *found;

	if (request->reading.ended || query_run(request, response, &call, 1, &found) < 0)
		return;
	if (read_device(&reader, response, found) == 0) {
		export_piece(request, response, &source);
		if (first && response->streams)
			settle_first(&reader, response);
	}
	PQclear(found);
}

void
api_inventory(struct request *request, struct response *response)
{
	const char *name = request_parameter(request, "format");
	bool page = name == NULL || strcmp(name, "json") == 0;
	const struct inventory_format *format = page ? NULL : inventory_format(name);
	struct ueid ueid;

	if (!page && format == NULL)
		response_bad_parameter(response, 1, "format is json, " INVENTORY_FORMATS ".");
	else if (!page && (request_parameter(request, "limit") != NULL || request_parameter(request, "cursor") != NULL))
		response_bad_parameter(response, 0, "%s is the whole inventory: limit and cursor go with json.", name);
	else if (request_device(request, response, &ueid) < 0)
		return;
	else if (page)
		answer_page(request, response, &ueid);
	else
		answer_whole(request, response, format, &ueid);
}
