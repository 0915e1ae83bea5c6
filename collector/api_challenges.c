/* Challenges: asks a device to prove itself now, and tells what became of it. */
#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "collector/page.h"
#include "collector/routes.h"
#include "schema/topics.h"

#define EXPIRES_DEFAULT 86400 /* seconds that a question stays open for a device that is away */
#define EXPIRES_MIN 1
#define EXPIRES_MAX (30 * 86400)

/* The seconds as the statement takes them. */
static int
read_expires(const struct request *request, struct response *response, uint64_t *wire)
{
	static const struct member members[] = {{"expires_s", MEMBER_NUMBER, false, 0}};
	const json_t *given = json_object_get(request->body.json, "expires_s");
	json_int_t seconds = given == NULL ? EXPIRES_DEFAULT : json_integer_value(given);

	if (body_check(request->body.json, response, members, 1) < 0)
		return -1;
	if (seconds < EXPIRES_MIN || seconds > EXPIRES_MAX) {
		response_problem(response, PROBLEM_BAD_BODY, "expires_s: a number from %d to %d.", EXPIRES_MIN,
				 EXPIRES_MAX);
		return -1;
	}
	*wire = htobe64((uint64_t)seconds);
	return 0;
}

void
api_challenge_ask(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_CHALLENGE_ASK};
	struct slice item;
	struct ueid ueid;
	uint64_t seconds;
	PGresult *rows;

	if (request_device(request, response, &ueid) < 0 || read_expires(request, response, &seconds) < 0)
		return;
	call.params[call.n++] = param_bytes(ueid.bytes, UEID_SIZE);
	call.params[call.n++] = param_bytes(&seconds, sizeof seconds);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	item = query_bytes(rows, 0, 0);
	if (item.at == NULL) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	} else {
		response_json(response, item);
		response->status = query_int8(rows, 0, 1) != 0 ? 201 : 200;
	}
	PQclear(rows);
}

/* The newest first, and how many nonces answered nothing. */
void
api_challenges(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_CHALLENGES_HEAD}, {.query = QUERY_CHALLENGES}};
	struct ueid ueid;
	struct page page;

	if (request_device(request, response, &ueid) < 0 || page_open(request, response, &page) < 0)
		return;
	for (size_t i = 0; i < 2; i++)
		calls[i].params[calls[i].n++] = param_bytes(ueid.bytes, UEID_SIZE);
	page_of_device(request, response, &page, calls, 1);
}
