#include "collector/device_list.h"

#include <stdlib.h>
#include <string.h>

#include "collector/code_point.h"
#include "collector/component_search.h"
#include "collector/csv.h"
#include "collector/event.h"
#include "collector/export.h"
#include "collector/format_device.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "collector/words.h"

#define KEYS 2 /* the device, and up to when the first page saw devices move; then a text */
#define FILTER_TEXT 1024 /* characters of what is looked for: what a device says of itself has no more */
#define QUERY_TEXT 128 /* characters of q: longer than any serial number */
#define WHERE_TEXT 2048 /* as a policy's */
#define QUICK 2 /* statements before the one that always has the page */

#define POSTURES "untrusted silent degraded unknown operational"
#define LIFECYCLES "pending active retired revoked transferred"
#define SORTS "enrolled ueid serial model firmware posture posture_since first_seen last_seen"
#define ENROLLED "enrolled"
#define HEARD "last_seen"

/* The filters that are parameters. */
static const struct {
	const char *name;
	const char *words; /* some of these, with commas between; NULL: any text */
	size_t most; /* characters of the text; 0: it is a time */
} filters_known[] = {
	{"posture", POSTURES, FILTER_TEXT},
	{"lifecycle", LIFECYCLES, FILTER_TEXT},
	{"model", NULL, FILTER_TEXT},
	{"firmware", NULL, FILTER_TEXT},
	{"q", NULL, QUERY_TEXT},
	{"label", NULL, QUERY_TEXT},
	{"policy", NULL, QUERY_TEXT},
	{"component", NULL, FILTER_TEXT},
	{"component_version", NULL, FILTER_TEXT},
	{"where", NULL, WHERE_TEXT},
	{"changed_since", NULL, 0},
	{"as_of", NULL, 0},
};

static int
refuse(struct response *response, const char *name, const char *detail)
{
	return response_bad_parameter(response, 1, "%s%s", name, detail);
}

static int
read_filter(const struct request *request, struct response *response, size_t i, json_t *filters)
{
	const char *name = filters_known[i].name, *text = request_parameter(request, name);
	json_t *value;

	if (text == NULL)
		return 0;
	if (filters_known[i].most == 0 && !is_time(text))
		return refuse(response, name, " is a time as RFC 3339 writes it.");
	if (filters_known[i].most > 0 && code_points(text, strlen(text)) > filters_known[i].most)
		return response_bad_parameter(response, filters_known[i].most + 1, "%s has at most %zu characters.",
					      name, filters_known[i].most);
	if (filters_known[i].words != NULL && request_words(request, response, name, filters_known[i].words) < 0)
		return -1;
	value = filters_known[i].words == NULL ? json_string(text) : words_array(text);
	return value == NULL || json_object_set_new(filters, name, value) < 0 ? -1 : 0;
}

/* A range of versions becomes a list of components, once for all pieces of an export. */
static int
read_range(struct request *request, struct response *response, json_t *filters)
{
	const char *version = request_parameter(request, "component_version");
	char **list = &request->reading.components;

	if (version == NULL)
		return 0;
	if (request_parameter(request, "component") == NULL)
		return response_bad_parameter(response, 0, "component_version goes with component.");
	if (component_version_check(request, response, "component_version") < 0)
		return -1;
	if (!version_range_is(version))
		return 0;
	if (*list == NULL)
		*list = component_search(request, response, request_parameter(request, "component"), NULL,
					 "component_version");
	if (*list == NULL)
		return -1;
	json_object_del(filters, "component");
	json_object_del(filters, "component_version");
	return json_object_set_new(filters, "components", json_string(*list));
}

static int
read_filters(struct request *request, struct response *response, json_t *filters)
{
	const char *q = request_parameter(request, "q"), *label = request_parameter(request, "label");
	size_t bad_label = label == NULL ? 0 : label_fault(label);

	if (q != NULL && q[0] == '\0')
		return refuse(response, "q", " is empty.");
	if (bad_label > 0)
		return response_bad_parameter(response, bad_label,
					      "label, from character %zu on: it is " LABEL_WANTED ".", bad_label);
	for (size_t i = 0; i < sizeof filters_known / sizeof *filters_known; i++)
		if (read_filter(request, response, i, filters) < 0)
			return -1;
	return read_range(request, response, filters);
}

static bool
is_wanted(const char *fields, const char *name, size_t len)
{
	struct slice field;

	while (words_next(&fields, &field))
		if (field.len == len && memcmp(field.at, name, len) == 0)
			return true;
	return false;
}

/* The members that are wanted, in their own order, with spaces between as csv_head takes them; and which are left out. */
static int
read_fields(const struct request *request, struct response *response, char fields[sizeof CSV_DEVICE],
	    uint32_t *left_out)
{
	const char *text = request_parameter(request, "fields");
	uint32_t bit = 1;
	size_t len = 0;

	strcpy(fields, CSV_DEVICE);
	*left_out = 0;
	if (text == NULL)
		return 0;
	if (request_words(request, response, "fields", CSV_DEVICE) < 0)
		return -1;
	for (const char *at = &CSV_DEVICE[strspn(CSV_DEVICE, " ")]; *at != '\0'; at += strspn(at, " ")) {
		size_t n = strcspn(at, " ");

		if (is_wanted(text, at, n)) {
			if (len > 0)
				fields[len++] = ' ';
			memcpy(fields + len, at, n);
			len += n;
		} else {
			*left_out |= bit;
		}
		bit <<= 1;
		at += n;
	}
	fields[len] = '\0';
	return 0;
}

/* What the statement takes before the page's own parameters. */
struct question {
	const struct request *request;
	struct call call;
	struct call quick[QUICK]; /* those whose n is not 0 are asked first, in this order, until one has the page */
	uint32_t left_out;
	bool limited;
	bool along; /* an index, to its end */
};

/* Of a statement whose rows end in a device's columns. */
static void
print_row(struct response *response, const PGresult *rows, int at, bool csv, const void *context)
{
	const struct question *question = context;
	struct device_row row = {.left_out = question->left_out};

	query_device(question->request, response, rows, at, PQnfields(rows) - DEVICE_WIDTH, &row);
	if (csv)
		device_csv(response, &row, false);
	else
		device_json(response, &row);
}

static int
ask_one(struct request *request, struct response *response, struct page *page, const struct question *question,
	struct call call, PGresult **rows)
{
	page_bind_text(page, &call, KEYS);
	return question->limited ? query_limited(request, response, &call, rows)
				 : query_run(request, response, &call, 1, rows);
}

/* Near its place a page may have been left short; of a search one row without a place says that it is not known. */
static bool
has_page(const struct page *page, const struct call *call, const PGresult *rows)
{
	int n = PQntuples(rows);

	if (call->query == QUERY_DEVICES_SEARCH || call->query == QUERY_DEVICES_SEARCH_DOWN)
		return n != 1 || !PQgetisnull(rows, 0, 1);
	return n > page->limit;
}

static int
ask(struct request *request, struct response *response, struct page *page, const struct question *question,
    PGresult **rows)
{
	page->searched = true;
	for (size_t i = 0; i < QUICK; i++) {
		if (question->quick[i].n == 0)
			continue;
		if (ask_one(request, response, page, question, question->quick[i], rows) < 0)
			return -1;
		if (has_page(page, &question->quick[i], *rows))
			return 0;
		PQclear(*rows);
	}
	page->searched = question->along;
	return ask_one(request, response, page, question, question->call, rows);
}

/* Nothing violates a policy that there is not, which would read as if all were well. */
static int
check_policy(struct request *request, struct response *response)
{
	const char *policy = request_parameter(request, "policy");
	struct call call = {QUERY_POLICY_FOUND, {param_text(policy)}, 1};
	PGresult *rows;
	bool found;

	if (policy == NULL)
		return 0;
	if (query_run(request, response, &call, 1, &rows) < 0)
		return -1;
	found = PQntuples(rows) == 1;
	PQclear(rows);
	return found ? 0 : refuse(response, "policy", ": there is none of that name.");
}

#define ORDERED_AT "{\"ordered_at\":\"%.23sZ\"}" /* to the millisecond, as devices have their times */

/* Of a list in the order in which devices were heard: by when, as a member of the answer. */
static struct slice
print_ordered(const struct request *request, const PGresult *rows, char text[sizeof ORDERED_AT + EVENT_TIME_SIZE])
{
	const char *sort = request_parameter(request, "sort");
	char time[EVENT_TIME_SIZE];

	/* Of devices that were never heard it is the beginning of all time. */
	if (sort == NULL || strcmp(sort + (sort[0] == '-'), HEARD) != 0 || PQntuples(rows) == 0 ||
	    query_int8(rows, 0, 2) == 1)
		return (struct slice){NULL, 0};
	event_time(query_int8(rows, 0, 2), time);
	return (struct slice){(const uint8_t *)text, (size_t)sprintf(text, ORDERED_AT, time)};
}

static void
answer_page(struct request *request, struct response *response, const struct question *question)
{
	char ordered[sizeof ORDERED_AT + EVENT_TIME_SIZE];
	struct page page;
	PGresult *rows;

	if (page_open(request, response, &page) < 0 || ask(request, response, &page, question, &rows) < 0)
		return;
	if (PQntuples(rows) == 0 && check_policy(request, response) < 0) {
		PQclear(rows);
		return;
	}
	page.print = print_row;
	page.context = question;
	page_answer(request, response, &page, rows, KEYS, print_ordered(request, rows, ordered));
	PQclear(rows);
}

/* All that match. */
struct whole {
	const struct question *question;
	struct request *request;
	const char *fields; /* as comma-separated values; NULL: as lines of JSON */
	struct page page;
};

static void
begin_whole(void *context, struct response *response)
{
	const struct whole *whole = context;

	if (whole->fields != NULL)
		csv_head(response, whole->fields);
}

static void
ask_rows(void *context, int64_t rows, struct call *call)
{
	struct whole *whole = context;

	/* A search looks at so many devices between two looks at the clock, and always says where to go on. */
	if (!whole->question->along && rows > PAGE_MAX)
		rows = PAGE_MAX;
	whole->page = (struct page){
		.limit = rows - 1, .after = whole->request->reading.begun, .cursor = whole->request->reading.place};
	*call = whole->question->call;
	page_bind_text(&whole->page, call, KEYS);
}

static bool
take_row(void *context, struct response *response, const PGresult *row)
{
	const struct whole *whole = context;
	bool told = !PQgetisnull(row, 0, 0);

	page_place(row, 0, KEYS, &whole->request->reading.place);
	if (told) {
		print_row(response, row, 0, whole->fields != NULL, whole->question);
		response_append(response, "\n", whole->fields == NULL);
		whole->request->reading.told++;
	}
	/* Without an item it says where to go on, but along an index, where it has moved meanwhile. */
	return !told && !whole->question->along;
}

static void
end_whole(void *context, struct response *response)
{
	(void)context;
	(void)response;
}

static void
answer_whole(struct request *request, struct response *response, const struct question *question, const char *format,
	     const char *fields)
{
	bool csv = strcmp(format, "csv") == 0;
	struct whole whole = {.question = question, .request = request, .fields = csv ? fields : NULL};
	const struct export_source source = {.type = csv ? CSV_TYPE : NDJSON_TYPE,
					     .limited = question->limited,
					     .head = begin_whole,
					     .ask = ask_rows,
					     .row = take_row,
					     .tail = end_whole,
					     .context = &whole};

	if (!csv && strcmp(format, "ndjson") != 0)
		(void)refuse(response, "format", " is json, csv or ndjson.");
	else if (request_parameter(request, "limit") != NULL || request_parameter(request, "cursor") != NULL)
		response_bad_parameter(response, 0, "%s is the whole list: limit and cursor go with json.", format);
	else if (request->reading.begun || check_policy(request, response) == 0)
		export_piece(request, response, &source);
}

/* The lists that have statements of their own: of all devices in an order, and of one filter in the order of enrolment. */
static const struct {
	const char *name;
	enum query up;
} orders[] =
	{
#define ORDER_ROW(symbol, name, key, type, least, last, moved, latest) {name, QUERY_DEVICES_BY_##symbol},
		DEVICE_ORDERS(ORDER_ROW)},
  narrows[] =
	  {
#define NARROW_ROW(symbol, name, from, in_order, condition) {name, QUERY_DEVICES_OF_##symbol},
		  DEVICE_NARROWS(NARROW_ROW)},
  nears[] = {
#define NEAR_ROW(symbol, name, from, in_order, condition) {name, QUERY_DEVICES_NEAR_##symbol},
	  DEVICE_NEARS(NEAR_ROW, "", "", "", "", "", "")};

static const char *
one_value(json_t *filters, const char *name)
{
	const json_t *value = json_object_get(filters, name);

	if (json_is_array(value))
		value = json_array_size(value) == 1 ? json_array_get(value, 0) : NULL;
	return json_string_value(value);
}

/* False: no index has it all. */
static bool
find_along(json_t *filters, const char *sort, struct call *call)
{
	bool down = sort[0] == '-', enrolled = strcmp(sort + down, ENROLLED) == 0;
	const char *value = NULL;
	size_t i;

	if (json_object_size(filters) == 0 && !enrolled) {
		for (i = 0; i < sizeof orders / sizeof *orders; i++)
			if (strcmp(orders[i].name, sort + down) == 0)
				break;
		if (i == sizeof orders / sizeof *orders)
			return false;
		call->query = orders[i].up;
	} else if (json_object_size(filters) <= 1 && enrolled) {
		for (i = 0; i < sizeof narrows / sizeof *narrows; i++)
			if (json_object_size(filters) == 0 || (value = one_value(filters, narrows[i].name)) != NULL)
				break;
		/* Most are active, so no index has those. */
		if (i == sizeof narrows / sizeof *narrows || (value != NULL && strcmp(value, "active") == 0))
			return false;
		call->query = narrows[i].up;
	} else {
		return false;
	}
	call->query += down;
	call->params[0] = param_text(value);
	call->n = 1;
	return true;
}

/* filters: of two only the one that the other goes with. */
static void
find_quick(json_t *filters, const char *text, const char *sort, struct call quick[QUICK])
{
	bool down = sort[0] == '-';
	const char *value = NULL;
	size_t n = json_object_size(filters);

	if (strcmp(sort + down, HEARD) == 0 && n == 0)
		quick[0] = (struct call){QUERY_DEVICES_HEARD + down, {param_text(NULL)}, 1};
	if (strcmp(sort + down, ENROLLED) != 0 || n > 2)
		return;
	value = one_value(filters, "q");
	if (n == 1 && value != NULL)
		quick[0] = (struct call){QUERY_DEVICES_SEARCH + down, {param_text(value)}, 1};
	for (size_t i = 0; i < sizeof nears / sizeof *nears; i++) {
		if ((n == 2) != (nears[i].up == QUERY_DEVICES_NEAR_VERSION))
			continue;
		value = one_value(filters, nears[i].name);
		if (value == NULL || (n == 2 && json_object_get(filters, "component") == NULL))
			continue;
		quick[0] = (struct call){nears[i].up + down, {param_text(n == 2 ? text : value)}, 1};
		if (nears[i].up == QUERY_DEVICES_NEAR_COMPONENTS)
			quick[1] = (struct call){QUERY_DEVICES_NEAR_COMPONENTS_SHARED + down, {param_text(value)}, 1};
		return;
	}
}

static bool
is_sort(const char *text)
{
	text += text[0] == '-';
	return words_have(SORTS, text, strlen(text));
}

void
device_list(struct request *request, struct response *response, json_t *filters)
{
	const char *sort = request_parameter(request, "sort"), *format = request_parameter(request, "format");
	struct question question = {.request = request, .limited = request_parameter(request, "where") != NULL};
	char fields[sizeof CSV_DEVICE], *text;

	if (sort == NULL)
		sort = ENROLLED;
	if (!is_sort(sort)) {
		(void)refuse(response, "sort", " is one of these, with - before it the other way round: " SORTS ".");
		return;
	}
	if (read_fields(request, response, fields, &question.left_out) < 0 ||
	    read_filters(request, response, filters) < 0)
		return;
	text = json_dumps(filters, JSON_COMPACT);
	question.call = (struct call){request_parameter(request, "as_of") != NULL ? QUERY_DEVICES_THEN : QUERY_DEVICES,
				      {param_text(text), param_text(sort)},
				      2};
	question.along = find_along(filters, sort, &question.call);
	if (!question.along)
		find_quick(filters, text, sort, question.quick);
	if (text == NULL)
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
	else if (format != NULL && strcmp(format, "json") != 0)
		answer_whole(request, response, &question, format, fields);
	else
		answer_page(request, response, &question);
	free(text);
}
