/* Components: which there are, who runs them, and in what two devices differ. */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/component_search.h"
#include "collector/device_list.h"
#include "collector/page.h"
#include "collector/purl_search.h"
#include "collector/routes.h"
#include "schema/limits.h"
#include "schema/report.h"
#include "schema/topics.h"

static bool
is_type(const char *text)
{
	if (text == NULL)
		return true;
	for (int i = 0; i < COMPONENT_TYPES; i++)
		if (strcmp(component_type_name((enum component_type)i), text) == 0)
			return true;
	return false;
}

/* named, purl: NULL if they are not asked for. A purl's name leads to it. */
static void
find_components(struct request *request, struct response *response, const char *named, const char *purl)
{
	const char *type = request_parameter(request, "type"), *version = request_parameter(request, "version");
	struct call call = {.query = named != NULL ? QUERY_COMPONENTS_NAME : QUERY_COMPONENTS};
	bool is_range = version != NULL && version_range_is(version);
	char *list = NULL;

	if (is_range) {
		list = component_search(request, response, named, purl, "version");
		if (list == NULL)
			return;
		call.query = QUERY_COMPONENTS_LISTED;
	}
	call.params[call.n++] = param_text(named);
	call.params[call.n++] = param_text(purl);
	call.params[call.n++] = param_text(type);
	call.params[call.n++] = param_text(is_range ? NULL : version);
	call.params[call.n++] = param_text(list);
	page_query(request, response, &call);
	free(list);
}

static bool
check_purl(struct response *response, const char *purl, struct purl_search *search)
{
	const char *why;
	size_t where;

	if (purl_search_parse(purl, search, &where, &why))
		return true;
	response_bad_parameter(response, where + 1, "purl, from character %zu on: %s.", where + 1, why);
	return false;
}

void
api_components(struct request *request, struct response *response)
{
	const char *name = request_parameter(request, "name"), *purl = request_parameter(request, "purl");
	struct purl_search search;

	if (!is_type(request_parameter(request, "type"))) {
		response_bad_parameter(response, 1,
				       "type is dpkg, opkg, apk, rpm, image, container, kernel-module or firmware.");
		return;
	}
	if (request_parameter(request, "version") != NULL && name == NULL && purl == NULL) {
		response_problem(response, PROBLEM_BAD_PARAMETER, "version goes with name or purl.");
		return;
	}
	if (component_version_check(request, response, "version") < 0 ||
	    (purl != NULL && !check_purl(response, purl, &search)))
		return;
	find_components(request, response, name != NULL || purl == NULL ? name : search.name,
			purl == NULL ? NULL : search.text);
}

void
api_component(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_COMPONENT};
	struct slice document;
	PGresult *rows;
	uint64_t id = request_number(request);

	call.params[call.n++] = param_bytes(&id, sizeof id);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	document = query_bytes(rows, 0, 0);
	if (document.at != NULL)
		response_json(response, document);
	else
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such component.");
	PQclear(rows);
}

void
api_component_devices(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_COMPONENT_EXISTS};
	uint64_t id = request_number(request);
	json_t *filters;
	PGresult *rows;
	bool exists;

	call.params[call.n++] = param_bytes(&id, sizeof id);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	exists = PQntuples(rows) == 1;
	PQclear(rows);
	if (!exists) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such component.");
		return;
	}
	filters = json_pack("{s: o}", "components", json_sprintf("{%" PRIu64 "}", be64toh(id)));
	device_list(request, response, filters);
	json_decref(filters);
}

static int
bind_device(const struct request *request, struct response *response, const char *name, struct ueid *ueid,
	    struct call *call)
{
	const char *text = request_parameter(request, name);

	if (text == NULL || !ueid_parse((struct slice){(const uint8_t *)text, strlen(text)}, ueid))
		return response_bad_parameter(response, text == NULL ? 0 : 1,
					      "%s is a device's name: 34 hexadecimal digits.", name);
	call->params[call->n++] = param_bytes(ueid->bytes, sizeof ueid->bytes);
	return 0;
}

/* What no limit narrows is all, if that is no more than the bytes of a page. */
static int
open_diff(struct request *request, struct response *response, struct page *page)
{
	if (page_open(request, response, page) < 0)
		return -1;
	if (request_parameter(request, "limit") == NULL)
		page->limit = 2 * LIMIT_COMPONENTS;
	return 0;
}

void
api_diff(struct request *request, struct response *response)
{
	const uint64_t bytes = htobe64((uint64_t)request->page_bytes);
	struct call calls[2] = {{.query = QUERY_DIFF_HEAD}};
	PGresult *results[2];
	struct page page;
	struct ueid a, b;

	if (bind_device(request, response, "a", &a, &calls[0]) < 0 ||
	    bind_device(request, response, "b", &b, &calls[0]) < 0)
		return;
	if (memcmp(&a, &b, sizeof a) == 0) {
		response_bad_parameter(response, 0, "a and b are the same device.");
		return;
	}
	if (open_diff(request, response, &page) < 0)
		return;
	calls[1] = calls[0];
	calls[1].query = QUERY_DIFF;
	calls[1].params[calls[1].n++] = param_bytes(&bytes, sizeof bytes);
	page_bind(&page, &calls[1], 1);
	if (query_run(request, response, calls, 2, results) < 0)
		return;
	if (query_int8(results[0], 0, 1) < 2)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	else if (query_int8(results[0], 0, 2) < 2)
		response_problem(response, PROBLEM_NOT_FOUND, "One of the devices has not reported its inventory yet.");
	else
		page_answer(request, response, &page, results[1], 1, query_bytes(results[0], 0, 0));
	PQclear(results[0]);
	PQclear(results[1]);
}
