#include "collector/api_import.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/import.h"
#include "collector/routes.h"

#define PIECE 65536 /* bytes of the file at a time */

struct list {
	struct import *import;
	FILE *file;
	struct import_faults faults;
	json_t *batch; /* of documents; and the line of each */
	uint64_t lines[PIECE]; /* a document has two bytes at least */
	size_t from; /* of the batch, what was sent */
	char *sent; /* the call's text */
	size_t sent_n;
	uint64_t devices;
	int64_t left; /* how many may be registered */
	bool dry, ended;
};

static void
on_document(void *context, uint64_t line, const json_t *document)
{
	struct list *list = context;

	list->lines[json_array_size(list->batch)] = line;
	json_array_append_new(list->batch, json_deep_copy(document));
}

static void
on_fault(void *context, uint64_t line, const char *column, const char *problem)
{
	struct list *list = context;

	import_fault_add(&list->faults, line, column, problem);
}

/* Until there is something to send, or nothing more to read. */
static void
read_on(struct list *list)
{
	char piece[PIECE];

	while (!list->ended && json_array_size(list->batch) == 0) {
		size_t n = fread(piece, 1, sizeof piece, list->file);

		if (n == 0)
			import_end(list->import);
		list->ended = n == 0 || !import_feed(list->import, piece, n);
	}
}

/* The next of what was read, as JSON. */
static void
take_batch(struct list *list)
{
	size_t n = json_array_size(list->batch);
	json_t *part = json_array();

	free(list->sent);
	list->sent_n = n - list->from < IMPORT_BATCH ? n - list->from : IMPORT_BATCH;
	for (size_t i = 0; i < list->sent_n; i++)
		json_array_append(part, json_array_get(list->batch, list->from + i));
	list->sent = json_dumps(part, JSON_COMPACT);
	json_decref(part);
}

/* What the next call is; false: there is none. */
static bool
next(struct list *list, struct call *call)
{
	if (list->from == json_array_size(list->batch)) {
		json_array_clear(list->batch);
		list->from = 0;
		read_on(list);
	}
	if (json_array_size(list->batch) == 0)
		return false;
	take_batch(list);
	*call = (struct call){
		QUERY_DEVICES_IMPORT, {param_text(list->sent), param_text(list->dry ? "true" : "false")}, 2};
	return true;
}

static void
took(struct list *list, const PGresult *rows)
{
	for (int i = 0; i < PQntuples(rows); i++) {
		struct slice member = query_bytes(rows, i, 1), fault = query_bytes(rows, i, 2);
		char column[16], problem[512];

		snprintf(column, sizeof column, "%.*s", (int)member.len, (const char *)member.at);
		snprintf(problem, sizeof problem, "%.*s", (int)fault.len, (const char *)fault.at);
		import_fault_add(&list->faults, list->lines[list->from + (size_t)query_int8(rows, i, 0)], column,
				 problem);
	}
	list->from += list->sent_n;
	list->devices += list->sent_n;
}

/* In one transaction. -1: the response is the problem. */
static int
take_in(struct request *request, struct response *response, struct list *list)
{
	const char *most = query_pool_registrations_max(request->pool);
	struct call call = {QUERY_REGISTRATIONS_LEFT, {param_text(most)}, 1};
	PGresult *rows;

	if (query_run(request, response, &call, 1, &rows) < 0)
		return -1;
	list->left = query_int8(rows, 0, 0);
	PQclear(rows);
	while (next(list, &call)) {
		if ((int64_t)(list->devices + list->sent_n) > list->left) {
			query_undo(request, response);
			response_problem(response, PROBLEM_TOO_MANY_REGISTRATIONS, "At most %s, so %" PRId64 " more.",
					 most, list->left > 0 ? list->left : 0);
			return -1;
		}
		if (query_run(request, response, &call, 1, &rows) < 0)
			return -1;
		took(list, rows);
		PQclear(rows);
	}
	if (list->faults.n > 0 || list->dry)
		query_undo(request, response);
	return response->status != 0 ? -1 : 0;
}

static void
answer(struct response *response, const struct list *list)
{
	if (list->faults.n > 0) {
		response_problem(response, PROBLEM_BAD_IMPORT, "%" PRIu64 " %s wrong.", list->faults.n,
				 list->faults.n == 1 ? "thing is" : "things are");
		response_member_json(response, "errors", list->faults.list);
		return;
	}
	response_json(response, (struct slice){NULL, 0});
	response_printf(response, "{\"devices\":%" PRIu64 ",\"dry_run\":%s}", list->devices,
			list->dry ? "true" : "false");
	response->status = list->dry ? 200 : 201;
}

/* A long list has its worker for a minute, so that there are fewer at work than workers, with what else is slow. */
static void
take_turn(struct request *request, struct response *response, struct list *list)
{
	if (!query_pool_enter(request->pool)) {
		response_problem(response, PROBLEM_TOO_MANY_IMPORTS,
				 "As many lists and previews are worked on as may at once.");
		response_header(response, "Retry-After", "10");
		return;
	}
	if (take_in(request, response, list) == 0)
		answer(response, list);
	query_pool_leave(request->pool);
}

void
api_import(struct request *request, struct response *response)
{
	const char *dry = request_parameter(request, "dry_run");
	struct list *list = calloc(1, sizeof *list);

	if (dry != NULL && strcmp(dry, "true") != 0 && strcmp(dry, "false") != 0) {
		response_bad_parameter(response, 1, "dry_run is true or false.");
		free(list);
		return;
	}
	if (list == NULL || fseek(request->body.file, 0, SEEK_SET) != 0) {
		response->failed = true;
		free(list);
		return;
	}
	list->file = request->body.file;
	list->dry = request->tries = dry != NULL && strcmp(dry, "true") == 0;
	list->batch = json_array();
	list->import = import_new(&(struct import_sink){on_document, on_fault, list});
	if (list->batch == NULL || list->import == NULL)
		response->failed = true;
	else
		take_turn(request, response, list);
	body_free(&request->body); /* whoever hears the answer can send the next one */
	import_free(list->import);
	import_faults_free(&list->faults);
	json_decref(list->batch);
	free(list->sent);
	free(list);
}
