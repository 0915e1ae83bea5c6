/* Evidence: which reports are here, and their signed bytes as they came. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "collector/page.h"
#include "collector/routes.h"
#include "schema/topics.h"

#define EAT "application/eat+cwt" /* RFC 9782 */
#define EPOCH_SIZE 8

static bool
parse_epoch(const char *text, uint8_t epoch[EPOCH_SIZE])
{
	return strlen(text) == 2 * EPOCH_SIZE &&
	       hex_parse((struct slice){(const uint8_t *)text, 2 * EPOCH_SIZE}, epoch, EPOCH_SIZE);
}

/* As the statement takes it. */
static bool
parse_seq(const char *text, uint64_t *wire)
{
	*wire = number_parse(text);
	return *wire != 0 && be64toh(*wire) <= LIMIT_SEQ;
}

void
api_reports(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_DEVICE_EXISTS}, {.query = QUERY_REPORTS}};
	const char *epoch_text = request_parameter(request, "epoch");
	uint8_t epoch[EPOCH_SIZE];
	struct ueid ueid;
	struct page page;

	if (request_device(request, response, &ueid) < 0)
		return;
	if (epoch_text != NULL && !parse_epoch(epoch_text, epoch)) {
		response_bad_parameter(response, 1, "epoch is 16 lower-case hex digits.");
		return;
	}
	if (page_open(request, response, &page) < 0)
		return;
	calls[0].params[calls[0].n++] = param_bytes(ueid.bytes, sizeof ueid.bytes);
	calls[1].params[calls[1].n++] = param_bytes(ueid.bytes, sizeof ueid.bytes);
	calls[1].params[calls[1].n++] = epoch_text == NULL ? param_text(NULL) : param_bytes(epoch, sizeof epoch);
	page_of_device(request, response, &page, calls, 3);
}

/* What the device told that happened on it. */
void
api_device_events(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_DEVICE_EXISTS}, {.query = QUERY_DEVICE_EVENTS}};
	struct ueid ueid;
	struct page page;

	if (request_device(request, response, &ueid) < 0)
		return;
	if (page_open(request, response, &page) < 0)
		return;
	for (size_t i = 0; i < 2; i++)
		calls[i].params[calls[i].n++] = param_bytes(ueid.bytes, sizeof ueid.bytes);
	page_of_device(request, response, &page, calls, 1);
}

/* The bytes never change under their digest, so it is their entity tag, and they may be kept for ever. */
static void
answer_report(struct response *response, struct slice message, const char *sha256)
{
	response_json(response, message);
	response->type = EAT;
	response_header(response, "ETag", "\"%s\"", sha256);
	response_header(response, "Content-Disposition", "attachment; filename=\"%s.cbor\"", sha256);
}

/* RFC 9110 15.4.1: two reports claim to be the same one, and the choice is the reader's. */
static void
answer_choices(struct response *response, const PGresult *rows)
{
	response_json(response, (struct slice){NULL, 0});
	response->status = 300;
	response_text(response, "{\"items\":[");
	for (int i = 0; i < PQntuples(rows); i++) {
		struct slice item = query_bytes(rows, i, 2);

		if (i > 0)
			response_text(response, ",");
		response_append(response, item.at, item.len);
	}
	response_text(response, "],\"next\":null}");
}

void
api_report_by_seq(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_REPORT_BY_SEQ}, {.query = QUERY_REPORT_EXPIRED}};
	char sha256[2 * DIGEST_SIZE + 1];
	uint8_t epoch[EPOCH_SIZE];
	PGresult *results[2], *rows;
	struct ueid ueid;
	uint64_t seq;

	if (request_device(request, response, &ueid) < 0)
		return;
	if (!parse_epoch(request->variables[1], epoch) || !parse_seq(request->variables[2], &seq)) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such report.");
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		calls[i].params[calls[i].n++] = param_bytes(ueid.bytes, sizeof ueid.bytes);
		calls[i].params[calls[i].n++] = param_bytes(epoch, sizeof epoch);
		calls[i].params[calls[i].n++] = param_bytes(&seq, sizeof seq);
	}
	if (query_run(request, response, calls, 2, results) < 0)
		return;
	rows = results[0];
	if (PQntuples(rows) == 0 && PQntuples(results[1]) > 0) {
		response_problem(response, PROBLEM_GONE, "The report was here, and its retention is over.");
	} else if (PQntuples(rows) == 0) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such report.");
	} else if (PQntuples(rows) > 1) {
		answer_choices(response, rows);
	} else {
		hex_print(query_bytes(rows, 0, 1).at, DIGEST_SIZE, sha256);
		answer_report(response, query_bytes(rows, 0, 0), sha256);
	}
	PQclear(rows);
	PQclear(results[1]);
}

void
api_report_by_digest(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_REPORT_BY_DIGEST};
	const char *text = request->variables[0];
	uint8_t digest[DIGEST_SIZE];
	PGresult *rows;

	if (strlen(text) != sizeof digest * 2 ||
	    !hex_parse((struct slice){(const uint8_t *)text, strlen(text)}, digest, sizeof digest)) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such report.");
		return;
	}
	call.params[call.n++] = param_bytes(digest, sizeof digest);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	if (PQntuples(rows) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such report.");
	else
		answer_report(response, query_bytes(rows, 0, 0), text);
	PQclear(rows);
}
