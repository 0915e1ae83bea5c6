/* Alerts: lists, one, and what people do to them. */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/page.h"
#include "collector/routes.h"
#include "collector/words.h"
#include "schema/topics.h"

#define IDS_MAX 1000
#define COMMENT_MAX 16384 /* bytes; the database wants at most 4,096 characters */

#define COLUMNS                                                                                                        \
	"id ueid policy severity state opened_at title element reasons scope devices acknowledged_by acknowledged_at " \
	"silenced_until resolved_at resolved_by comment remediation"

#define STATES "open acknowledged silenced resolved"
#define SEVERITIES "low medium high critical"
#define FORMATS "json csv"

/* What a list is narrowed by, as the statements take it. */
struct filters {
	struct ueid ueid;
	uint64_t group;
};

/* A list of one device shows what stands under a group too, one of a model as well: a group has no model. */
static enum query
choose(const struct request *request)
{
	const char *state = request_parameter(request, "state");

	if (request_parameter(request, "ueid") != NULL || request->variables[0] != NULL)
		return QUERY_ALERTS_DEVICE;
	if (request_parameter(request, "group") != NULL)
		return QUERY_ALERTS_GROUP;
	if (request_parameter(request, "model") != NULL)
		return QUERY_ALERTS_MODEL;
	return state == NULL || strstr(state, "resolved") != NULL ? QUERY_ALERTS : QUERY_ALERTS_OPEN;
}

static int
bind_filters(const struct request *request, struct response *response, struct filters *filters, struct call *call)
{
	const char *state = request_parameter(request, "state"), *severity = request_parameter(request, "severity");
	const char *since = request_parameter(request, "since"), *group = request_parameter(request, "group");
	const char *format = request_parameter(request, "format"), *ueid = request_parameter(request, "ueid");

	if (request_words(request, response, "state", STATES) < 0 ||
	    request_words(request, response, "severity", SEVERITIES) < 0)
		return -1;
	if (format != NULL && !words_have(FORMATS, format, strlen(format)))
		return response_bad_parameter(response, 1, "format is json or csv.");
	if (since != NULL && !is_time(since))
		return response_bad_parameter(response, 1, "since is a time as RFC 3339 writes it.");
	if (group != NULL && (filters->group = number_parse(group)) == 0)
		return response_bad_parameter(response, count_fault(group), "group is the number of an alert.");
	if (ueid == NULL)
		ueid = request->variables[0];
	if (ueid != NULL && !ueid_parse((struct slice){(const uint8_t *)ueid, strlen(ueid)}, &filters->ueid))
		return response_bad_parameter(response, 1, "ueid is 34 lower-case hex digits that begin with 01.");
	call->params[call->n++] = param_text(state);
	call->params[call->n++] = param_text(severity);
	call->params[call->n++] = param_text(request_parameter(request, "policy"));
	call->params[call->n++] = ueid == NULL ? param_text(NULL) : param_bytes(filters->ueid.bytes, UEID_SIZE);
	call->params[call->n++] = param_text(request_parameter(request, "model"));
	call->params[call->n++] = param_text(since);
	call->params[call->n++] =
		group == NULL ? param_text(NULL) : param_bytes(&filters->group, sizeof filters->group);
	return 0;
}

static void
answer_list(struct request *request, struct response *response, const struct page *page, const PGresult *rows)
{
	const char *format = request_parameter(request, "format");

	if (format != NULL && strcmp(format, "csv") == 0)
		page_csv(request, response, page, rows, 1, COLUMNS);
	else
		page_answer(request, response, page, rows, 1, (struct slice){NULL, 0});
}

void
api_alerts(struct request *request, struct response *response)
{
	struct call call = {.query = choose(request)};
	struct filters filters;
	struct page page;
	PGresult *rows;

	if (bind_filters(request, response, &filters, &call) < 0 || page_open(request, response, &page) < 0)
		return;
	page_bind(&page, &call, 1);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	answer_list(request, response, &page, rows);
	PQclear(rows);
}

void
api_device_alerts(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_DEVICE_EXISTS}, {.query = QUERY_ALERTS_DEVICE}};
	struct filters filters;
	PGresult *results[2];
	struct page page;

	if (request_device(request, response, &filters.ueid) < 0)
		return;
	if (bind_filters(request, response, &filters, &calls[1]) < 0 || page_open(request, response, &page) < 0)
		return;
	calls[0].params[calls[0].n++] = param_bytes(filters.ueid.bytes, UEID_SIZE);
	page_bind(&page, &calls[1], 1);
	if (query_run(request, response, calls, 2, results) < 0)
		return;
	if (PQntuples(results[0]) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	else
		answer_list(request, response, &page, results[1]);
	PQclear(results[0]);
	PQclear(results[1]);
}

static int
read_id(const struct request *request, struct response *response, uint64_t *id)
{
	*id = request_number(request);
	if (*id != 0)
		return 0;
	response_problem(response, PROBLEM_NOT_FOUND, "There is no such alert.");
	return -1;
}

void
api_alert(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_ALERT};
	PGresult *rows;
	uint64_t id;

	if (read_id(request, response, &id) < 0)
		return;
	call.params[call.n++] = param_bytes(&id, sizeof id);
	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	if (PQntuples(rows) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such alert.");
	else
		response_json(response, query_bytes(rows, 0, 0));
	PQclear(rows);
}

/* What can be done: the statement, and whether the body says until when, or has to have a comment. */
static const struct action {
	const char *name; /* the path's last segment */
	enum query query;
	bool until, comment;
} actions[] = {
	{"acknowledge", QUERY_ALERT_ACKNOWLEDGE, false, false},
	{"silence", QUERY_ALERT_SILENCE, true, false},
	{"resolve", QUERY_ALERT_RESOLVE, false, false},
	{"comment", QUERY_ALERT_COMMENT, false, true},
};

/* The route's path ends with one of them. */
static const struct action *
find_action(const struct request *request)
{
	const char *name = request->segments[request->segments_len - 1];
	size_t i = 0;

	while (strcmp(actions[i].name, name) != 0)
		i++;
	return &actions[i];
}

static const char *
read_text(const struct request *request, const char *name)
{
	return json_string_value(json_object_get(request->body.json, name));
}

/* One of the words, if it is there at all: what is none selects nothing, which would read as if all were done. */
static int
check_filter(const struct request *request, struct response *response, const char *name, const char *words)
{
	const json_t *value = json_object_get(json_object_get(request->body.json, "filter"), name);

	if (value == NULL || json_is_null(value) ||
	    (json_is_string(value) && words_have(words, json_string_value(value), json_string_length(value))))
		return 0;
	response_problem(response, PROBLEM_BAD_BODY, "filter.%s: one of these: %s.", name, words);
	return -1;
}

/* The members that each action has, and for many alerts which ones. */
static int
check_body(const struct request *request, struct response *response, const struct action *action, bool bulk)
{
	struct member members[4] = {{"comment", MEMBER_TEXT, action->comment, COMMENT_MAX}};
	const char *until = read_text(request, "until");
	size_t n = 1;

	if (action->until)
		members[n++] = (struct member){"until", MEMBER_TEXT, true, TIME_MAX};
	if (bulk) {
		members[n++] = (struct member){"ids", MEMBER_LIST, false, IDS_MAX};
		members[n++] = (struct member){"filter", MEMBER_OBJECT, false, 0};
	}
	if (body_check(request->body.json, response, members, n) < 0 ||
	    check_filter(request, response, "severity", SEVERITIES) < 0 ||
	    check_filter(request, response, "state", STATES) < 0)
		return -1;
	if (until == NULL || is_time(until))
		return 0;
	response_problem(response, PROBLEM_BAD_BODY, "until: a time as RFC 3339 writes it.");
	return -1;
}

static void
bind_action(const struct request *request, const struct action *action, struct call *call)
{
	call->query = action->query;
	call->params[call->n++] = param_text(read_text(request, "comment"));
	if (action->until)
		call->params[call->n++] = param_text(read_text(request, "until"));
}

/* It is there, but was not changed. */
static void
answer_unchanged(struct response *response, bool resolved)
{
	if (resolved)
		response_problem(response, PROBLEM_CONFLICT, "The alert is resolved.");
	else
		response_problem(response, PROBLEM_FORBIDDEN, "The alert is the system's: an operator's to deal with.");
}

void
api_alert_action(struct request *request, struct response *response)
{
	const struct action *action = find_action(request);
	struct call calls[2] = {{.n = 0}, {.query = QUERY_ALERT}};
	struct pg_array ids = {0};
	PGresult *results[2];
	uint64_t id;

	if (read_id(request, response, &id) < 0 || check_body(request, response, action, false) < 0)
		return;
	pg_array_begin(&ids, ARRAY_INT8);
	pg_array_int(&ids, (int64_t)be64toh(id));
	calls[0].params[calls[0].n++] = pg_array_param(&ids);
	calls[0].params[calls[0].n++] = param_text(NULL);
	bind_action(request, action, &calls[0]);
	calls[1].params[calls[1].n++] = param_bytes(&id, sizeof id);
	if (query_run(request, response, calls, 2, results) == 0) {
		if (PQntuples(results[1]) == 0)
			response_problem(response, PROBLEM_NOT_FOUND, "There is no such alert.");
		else if (query_int8(results[0], 0, 1) == 0)
			answer_unchanged(response, query_int8(results[1], 0, 1) != 0);
		else
			response_json(response, query_bytes(results[1], 0, 0));
		PQclear(results[0]);
		PQclear(results[1]);
	}
	pg_array_free(&ids);
}

/* -1: one of them is no number. */
static int
read_ids(const json_t *list, struct pg_array *ids)
{
	size_t i;
	json_t *item;

	pg_array_begin(ids, ARRAY_INT8);
	json_array_foreach((json_t *)(uintptr_t)list, i, item)
	{
		if (!json_is_integer(item) || json_integer_value(item) <= 0)
			return -1;
		pg_array_int(ids, json_integer_value(item));
	}
	return 0;
}

/* Those of the ids that are there and open; or all open ones that the filter takes. */
void
api_alerts_action(struct request *request, struct response *response)
{
	const struct action *action = find_action(request);
	const json_t *list = json_object_get(request->body.json, "ids");
	const json_t *filter = json_object_get(request->body.json, "filter");
	struct pg_array ids = {0};
	struct call call = {.n = 0};
	char *text = NULL;
	PGresult *rows;

	if (check_body(request, response, action, true) < 0)
		return;
	if ((list == NULL) == (filter == NULL)) {
		response_problem(response, PROBLEM_BAD_BODY, "Either ids or filter says which alerts.");
		return;
	}
	if (list != NULL && read_ids(list, &ids) < 0) {
		response_problem(response, PROBLEM_BAD_BODY, "ids: numbers of alerts.");
		goto out;
	}
	text = filter == NULL ? NULL : json_dumps(filter, JSON_COMPACT);
	call.params[call.n++] = list == NULL ? param_text(NULL) : pg_array_param(&ids);
	call.params[call.n++] = param_text(text);
	bind_action(request, action, &call);
	if (query_run(request, response, &call, 1, &rows) == 0) {
		response_json(response, query_bytes(rows, 0, 0));
		PQclear(rows);
	}
out:
	free(text);
	pg_array_free(&ids);
}
