/* What a device runs: a page of its components, or all of them as a document. */
#include <string.h>

#include "collector/format_inventory.h"
#include "collector/page.h"
#include "collector/routes.h"

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

/* The statement's columns: whether the set is here, when the state that names it was received, the device's key, its columns. -1: the response is the
   problem, since a list of nothing would say that the device runs nothing. */
static int
read_device(const struct request *request, struct response *response, const PGresult *row, struct device_row *device,
	    int64_t *told_ms)
{
	if (PQntuples(row) == 0) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
		return -1;
	}
	device->gone = false;
	*told_ms = query_int8(row, 0, 1);
	query_device(request, response, row, 0, 3, device);
	if (device->cells[DEVICE_INVENTORY_DIGEST].at == NULL)
		response_problem(response, PROBLEM_NOT_FOUND, "The device has not reported its inventory yet.");
	else if (query_int8(row, 0, 0) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "The device's inventory is still on its way.");
	return response->status != 0 ? -1 : 0;
}

/* A report may have come between the two statements. -1: the response is the problem. */
static int
check_same(struct response *response, const struct device_row *device, const PGresult *rows)
{
	struct slice told = device->cells[DEVICE_INVENTORY_DIGEST],
		     listed = query_bytes(rows, 0, INVENTORY_COLUMNS + 1);

	if (listed.at == NULL || (listed.len == told.len && memcmp(listed.at, told.at, told.len) == 0))
		return 0;
	response_problem(response, PROBLEM_UNAVAILABLE, "The inventory changed just now. Ask again.");
	response_header(response, "Retry-After", "1");
	return -1;
}

static void
answer_whole(struct request *request, struct response *response, const struct inventory_format *format,
	     const struct ueid *ueid)
{
	struct call calls[2] = {{QUERY_INVENTORY_DEVICE, {param_bytes(ueid->bytes, UEID_SIZE)}, 1},
				{QUERY_INVENTORY_WHOLE, {param_bytes(ueid->bytes, UEID_SIZE)}, 1}};
	struct inventory_row row;
	struct device_row device = {.left_out = 0};
	struct inventory_of of = {.device = &device};
	PGresult *results[2];

	if (query_run(request, response, calls, 2, results) < 0)
		return;
	if (read_device(request, response, results[0], &device, &of.told_ms) == 0 &&
	    check_same(response, &device, results[1]) == 0) {
		response_json(response, (struct slice){NULL, 0});
		response->type = format->type;
		format->head(response, &of);
		for (int i = 0; i < PQntuples(results[1]); i++) {
			for (int k = 0; k < INVENTORY_COLUMNS; k++)
				row.cells[k] = query_bytes(results[1], i, k);
			row.digest = query_bytes(results[1], i, INVENTORY_COLUMNS);
			format->row(response, &of, &row, i == 0);
		}
		format->tail(response);
	}
	PQclear(results[0]);
	PQclear(results[1]);
}

void
api_inventory(struct request *request, struct response *response)
{
	const char *name = request_parameter(request, "format");
	bool page = name == NULL || strcmp(name, "json") == 0;
	const struct inventory_format *format = page ? NULL : inventory_format(name);
	struct ueid ueid;

	if (!page && format == NULL)
		response_problem(response, PROBLEM_BAD_PARAMETER, "format is json, " INVENTORY_FORMATS ".");
	else if (!page && (request_parameter(request, "limit") != NULL || request_parameter(request, "cursor") != NULL))
		response_problem(response, PROBLEM_BAD_PARAMETER,
				 "%s is the whole inventory: limit and cursor go with json.", name);
	else if (request_device(request, response, &ueid) < 0)
		return;
	else if (page)
		answer_page(request, response, &ueid);
	else
		answer_whole(request, response, format, &ueid);
}
