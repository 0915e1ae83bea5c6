/* The audit log: who did or read what. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "collector/page.h"
#include "collector/routes.h"

static bool
is_kind(const char *text)
{
	static const char *const kinds[] = {"read", "change", "refused", "command", "lost"};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(kinds[i], text) == 0)
			return true;
	return false;
}

void
api_audit(struct request *request, struct response *response)
{
	const char *kind = request_parameter(request, "kind"), *since = request_parameter(request, "since"),
		   *until = request_parameter(request, "until");
	struct call call = {.query = QUERY_AUDIT, {param_text(kind), param_text(since), param_text(until)}, 3};

	if (kind != NULL && !is_kind(kind)) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "kind is read, change, refused, command or lost.");
		return;
	}
	if ((since != NULL && !is_time(since)) || (until != NULL && !is_time(until))) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "since and until are times as RFC 3339 has them.");
		return;
	}
	page_query(request, response, &call);
}
