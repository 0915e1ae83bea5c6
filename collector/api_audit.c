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
		response_bad_parameter(response, 1, "kind is read, change, refused, command or lost.");
		return;
	}
	if (since != NULL && !is_time(since))
		response_bad_parameter(response, 1, "since is a time as RFC 3339 writes it.");
	else if (until != NULL && !is_time(until))
		response_bad_parameter(response, 1, "until is a time as RFC 3339 writes it.");
	else
		page_query(request, response, &call);
}
