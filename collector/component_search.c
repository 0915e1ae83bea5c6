#include "collector/component_search.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int
find_versions(struct request *request, struct response *response, const char *name, const char *purl, PGresult **rows)
{
	uint64_t limit = htobe64(COMPONENT_VERSIONS_MAX + 1);
	struct call call = {
		.query = QUERY_COMPONENT_VERSIONS,
		.params = {param_text(name), param_text(purl), param_bytes(&limit, sizeof limit)},
		.n = 3,
	};

	if (query_run(request, response, &call, 1, rows) < 0)
		return -1;
	if (PQntuples(*rows) <= COMPONENT_VERSIONS_MAX)
		return 0;
	PQclear(*rows);
	response_problem(response, PROBLEM_BAD_PARAMETER,
			 "More than %d components have that name: ask for single versions.", COMPONENT_VERSIONS_MAX);
	return -1;
}

static char *
list_those_in(const struct version_range *range, const PGresult *rows)
{
	struct response list = {0};
	const char *comma = "";

	response_text(&list, "{");
	for (int i = 0; i < PQntuples(rows); i++)
		if (version_range_has(range, query_bytes(rows, i, 1), query_bytes(rows, i, 2))) {
			response_printf(&list, "%s%" PRId64, comma, query_int8(rows, i, 0));
			comma = ",";
		}
	response_append(&list, "}", 2); /* with its NUL */
	if (list.failed) {
		response_free(&list);
		return NULL;
	}
	return (char *)list.body;
}

char *
component_search(struct request *request, struct response *response, const char *name, const char *purl,
		 const char *parameter)
{
	struct version_range *range = malloc(sizeof *range);
	const char *why;
	char *list = NULL;
	PGresult *rows;
	size_t where;

	if (range == NULL)
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
	else if (!version_range_parse(request_parameter(request, parameter), range, &where, &why)) {
		response_bad_parameter(response, where + 1, "%s, from character %zu on: %s.", parameter, where + 1,
				       why);
	} else if (find_versions(request, response, name, purl, &rows) == 0) {
		list = list_those_in(range, rows);
		PQclear(rows);
		if (list == NULL)
			response_problem(response, PROBLEM_INTERNAL, "%s", "");
	}
	free(range);
	return list;
}

int
component_version_check(const struct request *request, struct response *response, const char *parameter)
{
	const char *text = request_parameter(request, parameter);

	if (text == NULL || strchr("<>=!*", text[0]) == NULL || text[0] == '\0')
		return 0;
	return response_bad_parameter(
		response, 1, "%s, from character 1 on: no version begins so; a range is written as vers:deb/%s is.",
		parameter, "<1.2");
}
