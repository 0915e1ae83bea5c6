#include "collector/page.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/csv.h"
#include "collector/event.h"
#include "collector/routes.h"

#define US_TO_2000 INT64_C(946684800000000) /* from 1970 */

/* What a cursor is bound to: the route, its variables, and its filters in the route's order, each text ended by a NUL. */
struct list {
	uint8_t text[REQUEST_TARGET + 512];
	size_t len;
};

static void
list_add(struct list *list, const char *text)
{
	size_t len = strlen(text) + 1;

	/* It can't be full: all of it but the route's own words came in one target. */
	if (len > sizeof list->text - list->len)
		abort();
	memcpy(list->text + list->len, text, len);
	list->len += len;
}

static bool
is_filter(const char *name)
{
	return strcmp(name, "limit") != 0 && strcmp(name, "cursor") != 0;
}

static struct slice
list_name(const struct request *request, struct list *list)
{
	char names[ROUTE_PARAMETERS], *rest = NULL;

	list->len = 0;
	list_add(list, request->route->path);
	for (size_t i = 0; i < REQUEST_VARIABLES && request->variables[i] != NULL; i++)
		list_add(list, request->variables[i]);
	snprintf(names, sizeof names, "%s", request->route->parameters);
	for (char *name = strtok_r(names, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest)) {
		const char *value = request_parameter(request, name);

		if (value == NULL || !is_filter(name))
			continue;
		list_add(list, name);
		list_add(list, value);
	}
	return (struct slice){list->text, list->len};
}

int
page_limit(const struct request *request, struct response *response, int64_t *limit)
{
	const char *text = request_parameter(request, "limit");

	*limit = PAGE_DEFAULT;
	if (text == NULL || (count_parse(text, PAGE_MAX, limit) && *limit > 0))
		return 0;
	return response_bad_parameter(response, count_fault(text), "limit is a number from 1 to %d.", PAGE_MAX);
}

int
page_open(struct request *request, struct response *response, struct page *page)
{
	const char *text = request_parameter(request, "cursor");
	uint8_t secret[QUERY_SECRET];
	struct list list;

	memset(page, 0, sizeof *page);
	if (page_limit(request, response, &page->limit) < 0)
		return -1;
	if (text == NULL)
		return 0;
	if (query_secret(request->pool, secret) < 0) {
		response_problem(response, PROBLEM_UNAVAILABLE, "%s", "");
		return -1;
	}
	page->after = true;
	if (cursor_parse(text, (struct slice){secret, sizeof secret}, list_name(request, &list), &page->cursor))
		return 0;
	response_problem(response, PROBLEM_BAD_CURSOR, "Begin again without a cursor.");
	return -1;
}

void
page_bind(struct page *page, struct call *call, int keys)
{
	page->wire[0] = htobe64((uint64_t)page->limit + 1);
	for (int i = 0; i < keys; i++)
		page->wire[1 + i] = htobe64((uint64_t)page->cursor.keys[i]);
	for (int i = 0; i <= keys; i++)
		call->params[call->n++] = param_bytes(&page->wire[i], sizeof page->wire[i]);
}

void
page_bind_text(struct page *page, struct call *call, int keys)
{
	page_bind(page, call, keys);
	call->params[call->n++] = param_text(page->after ? page->cursor.text : NULL);
}

static void
append_encoded(struct response *text, const char *value)
{
	for (; *value != '\0'; value++) {
		char c = *value;
		bool plain =
			(c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || strchr("-._~", c) != NULL;

		if (plain)
			response_append(text, &c, 1);
		else
			response_printf(text, "%%%02X", (unsigned char)c);
	}
}

/* The target is put together from what was understood of the request, never copied from it. */
void
page_link(const struct request *request, struct response *response, const char *cursor)
{
	struct response target = {0};

	for (size_t i = 0; i < request->segments_len; i++) {
		response_text(&target, "/");
		append_encoded(&target, request->segments[i]);
	}
	response_printf(&target, "?cursor=%s", cursor);
	for (size_t i = 0; i < request->parameters_len; i++) {
		/* `after` is a feed's other word for it. */
		if (strcmp(request->parameters[i].name, "cursor") == 0 ||
		    strcmp(request->parameters[i].name, "after") == 0)
			continue;
		response_printf(&target, "&%s=", request->parameters[i].name);
		append_encoded(&target, request->parameters[i].value);
	}
	if (target.failed)
		response->failed = true;
	else
		response_header(response, "Link", "<%.*s>; rel=\"next\"", (int)target.len, (const char *)target.body);
	response_free(&target);
}

/* Microseconds since 2000, as a text that the database reads. */
static void
print_when(int64_t us, char text[EVENT_TIME_SIZE])
{
	if (us == INT64_MAX || us == INT64_MIN)
		strcpy(text, us < 0 ? "-infinity" : "infinity");
	else
		event_time(us + US_TO_2000, text);
}

/* The place's key as a text that the database reads: whatever type it has. */
static void
print_key(const PGresult *rows, int row, int column, char text[CURSOR_TEXT + 1])
{
	enum { BYTEA = 17, INT4 = 23, TIMESTAMPTZ = 1184 }; /* pg_type.oid */
	struct slice key = query_bytes(rows, row, column);
	uint32_t number;

	switch (PQftype(rows, column)) {
	case BYTEA:
		assert(2 * key.len + 2 <= CURSOR_TEXT);
		strcpy(text, "\\x");
		hex_print(key.at, key.len, text + 2);
		return;
	case INT4:
		assert(key.len == sizeof number);
		memcpy(&number, key.at, sizeof number);
		snprintf(text, CURSOR_TEXT + 1, "%" PRId32, (int32_t)be32toh(number));
		return;
	case TIMESTAMPTZ:
		print_when(query_int8(rows, row, column), text);
		return;
	default:
		assert(key.len <= CURSOR_TEXT); /* LIMIT_TEXT */
		if (key.len > 0)
			memcpy(text, key.at, key.len);
		text[key.len] = '\0';
	}
}

void
page_place(const PGresult *rows, int row, int keys, struct cursor *cursor)
{
	for (int i = 0; i < keys; i++)
		cursor->keys[i] = query_int8(rows, row, 1 + i);
	if (PQnfields(rows) > 1 + keys)
		print_key(rows, row, 1 + keys, cursor->text);
	else
		cursor->text[0] = '\0';
}

/* The cursor of the page behind that row, and its Link header. -1: the response is the problem. */
static int
make_next(struct request *request, struct response *response, const PGresult *rows, int row, int keys,
	  char text[CURSOR_SIZE])
{
	struct cursor cursor = {.tenant_id = request->tenant_id};
	uint8_t secret[QUERY_SECRET];
	struct list list;

	if (query_secret(request->pool, secret) < 0) {
		response_problem(response, PROBLEM_UNAVAILABLE, "%s", "");
		return -1;
	}
	page_place(rows, row, keys, &cursor);
	cursor_print(&cursor, (struct slice){secret, sizeof secret}, list_name(request, &list), text);
	page_link(request, response, text);
	return 0;
}

/* The items, and the row behind which the next page begins; -1: there is none. */
struct span {
	int n, next;
};

static struct span
find_items(const PGresult *rows, const struct page *page)
{
	int n = PQntuples(rows);

	if (n > 0 && !page->searched && PQgetisnull(rows, n - 1, 0))
		return (struct span){n - 1, n - 1};
	return n > page->limit ? (struct span){(int)page->limit, (int)page->limit - 1} : (struct span){n, -1};
}

/* -1: the response is the problem. */
static int
check_tenant(const struct request *request, struct response *response, const struct page *page)
{
	/* A cursor tells its tenant, so one that was handed on does not begin in the middle of another's list. */
	if (!page->after || page->cursor.tenant_id == request->tenant_id)
		return 0;
	response_problem(response, PROBLEM_BAD_CURSOR, "Begin again without a cursor.");
	return -1;
}

static void
print_item(struct response *response, const struct page *page, const PGresult *rows, int row, const char *columns)
{
	struct slice item = query_bytes(rows, row, 0);

	if (page->print != NULL)
		page->print(response, rows, row, columns != NULL, page->context);
	else if (columns != NULL)
		csv_row(response, item, columns);
	else
		response_append(response, item.at, item.len);
}

/* As many of the items as the page may have bytes, but for one that alone has more. */
static void
print_items(const struct request *request, struct response *response, const struct page *page, const PGresult *rows,
	    struct span *span, const char *columns)
{
	bool first = true;

	for (int i = 0; i < span->n; i++) {
		size_t before = response->len;

		if (PQgetisnull(rows, i, 0))
			continue;
		if (!first && columns == NULL)
			response_text(response, ",");
		print_item(response, page, rows, i, columns);
		if (!first && response->len > request->page_bytes) {
			response->len = before;
			span->next = i - 1;
			return;
		}
		first = false;
	}
}

void
page_answer(struct request *request, struct response *response, const struct page *page, const PGresult *rows, int keys,
	    struct slice head)
{
	struct span span = find_items(rows, page);
	char next[CURSOR_SIZE];

	if (check_tenant(request, response, page) < 0)
		return;
	response_json(response, (struct slice){NULL, 0});
	response_text(response, "{");
	if (head.at != NULL) {
		response_append(response, head.at + 1, head.len - 2); /* without its braces */
		response_text(response, ",");
	}
	response_text(response, "\"items\":[");
	print_items(request, response, page, rows, &span, NULL);
	if (span.next < 0)
		response_text(response, "],\"next\":null}");
	else if (make_next(request, response, rows, span.next, keys, next) == 0)
		response_printf(response, "],\"next\":\"%s\"}", next);
}

void
page_csv(struct request *request, struct response *response, const struct page *page, const PGresult *rows, int keys,
	 const char *columns)
{
	struct span span = find_items(rows, page);
	char next[CURSOR_SIZE];

	if (check_tenant(request, response, page) < 0)
		return;
	response_json(response, (struct slice){NULL, 0});
	response->type = CSV_TYPE;
	csv_head(response, columns);
	print_items(request, response, page, rows, &span, columns);
	if (span.next >= 0)
		(void)make_next(request, response, rows, span.next, keys, next);
}

int
page_judge_place(struct response *response, const PGresult *place, int64_t after)
{
	int64_t oldest = query_int8(place, 0, 0), top = query_int8(place, 0, 1);

	if (after > top) {
		response_problem(response, PROBLEM_BAD_CURSOR, "There is no such position yet: the last is %lld.",
				 (long long)top);
		return -1;
	}
	if (after < oldest - 1) {
		response_problem(response, PROBLEM_GONE, "The oldest event that is kept has position %lld.",
				 (long long)oldest);
		response_member(response, "oldest", oldest);
		return -1;
	}
	return 0;
}

void
page_query(struct request *request, struct response *response, struct call *call)
{
	struct page page;
	PGresult *rows;

	if (page_open(request, response, &page) < 0)
		return;
	page_bind(&page, call, 1);
	if (query_run(request, response, call, 1, &rows) < 0)
		return;
	page_answer(request, response, &page, rows, 1, (struct slice){NULL, 0});
	PQclear(rows);
}

void
page_of_device(struct request *request, struct response *response, struct page *page, struct call calls[2], int keys)
{
	PGresult *results[2];

	page_bind(page, &calls[1], keys);
	if (query_run(request, response, calls, 2, results) < 0)
		return;
	if (PQntuples(results[0]) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	else
		page_answer(request, response, page, results[1], keys, query_bytes(results[0], 0, 0));
	PQclear(results[0]);
	PQclear(results[1]);
}

void
page_list(struct request *request, struct response *response, enum query query)
{
	struct call call = {.query = query};

	page_query(request, response, &call);
}
