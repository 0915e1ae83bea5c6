/* What happened: events by their position, now or as soon as there are some, and as a stream of server-sent events. */
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/event_kind.h"
#include "collector/format_event.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "collector/words.h"
#include "schema/topics.h"

#define WAIT_MAX 60 /* seconds */
#define HEARTBEAT_MS 15000 /* proxies give a silent connection up after 30 s and more */
#define STREAM_PAGE 100

/* Where it begins: a cursor is nothing but a position. -1 in `after`: not said. */
static int
read_after(const struct request *request, struct response *response, int64_t *after)
{
	const char *said = request_parameter(request, "after"), *cursor = request_parameter(request, "cursor");

	*after = -1;
	if (said != NULL && cursor != NULL)
		return response_bad_parameter(response, 0, "after and cursor say the same: give one of them.");
	if (said == NULL)
		said = cursor;
	if (said != NULL && !count_parse(said, COUNT_MAX, after))
		return response_bad_parameter(response, count_fault(said), "%s is a position: a number.",
					      said == cursor ? "cursor" : "after");
	return 0;
}

static int
read_wait(const struct request *request, struct response *response, int64_t *wait)
{
	const char *said = request_parameter(request, "wait");

	*wait = 0;
	if (said != NULL && !count_parse(said, WAIT_MAX, wait))
		return response_bad_parameter(response, count_fault(said), "wait is a number of seconds up to 60.");
	return 0;
}

/* What is told, and how. */
struct filter {
	const struct event_format *format;
	const char *types; /* with commas between */
	bool of_device;
	struct ueid ueid;
};

static int
read_types(const struct request *request, struct response *response, const char **types)
{
	const char *left = request_parameter(request, "type");
	struct slice type;

	*types = left;
	while (words_next(&left, &type)) {
		size_t position = (size_t)((const char *)type.at - *types) + 1;

		if (!event_type_is(type))
			return response_bad_parameter(
				response, position,
				"type, from character %zu on: it is a type of events, or several with commas between, "
				"as device.posture,alert.opened.",
				position);
	}
	return 0;
}

static int
read_filter(const struct request *request, struct response *response, struct filter *filter)
{
	const char *ueid = request_parameter(request, "ueid"), *format = request_parameter(request, "format");

	filter->format = event_format(format == NULL ? "native" : format);
	if (filter->format == NULL)
		return response_bad_parameter(response, 1, "format is " EVENT_FORMATS ".");
	filter->of_device = ueid != NULL;
	if (read_types(request, response, &filter->types) < 0)
		return -1;
	if (ueid != NULL && !ueid_parse((struct slice){(const uint8_t *)ueid, strlen(ueid)}, &filter->ueid))
		return response_bad_parameter(response, 1, "ueid is 34 lower-case hex digits that begin with 01.");
	return 0;
}

/* What one look found. */
struct look {
	PGresult *rows; /* position, id, time, tenant, type, ueid, data */
	int64_t next; /* all up to here is known now */
	int64_t top; /* the last of any tenant's */
	bool all; /* there is no more at the moment */
};

/* -1: the response is the problem. */
static int
look_up(struct request *request, struct response *response, const struct filter *filter, int64_t after, int64_t limit,
	struct look *look)
{
	struct call calls[2] = {{.query = QUERY_EVENT_PLACE}, {.query = QUERY_EVENTS}};
	uint64_t wire[2] = {htobe64((uint64_t)after), htobe64((uint64_t)limit)};
	PGresult *results[2];
	int n;

	for (int i = 0; i < 2; i++) {
		struct call *call = &calls[i];

		call->params[call->n++] = param_bytes(&wire[0], sizeof wire[0]);
		call->params[call->n++] = param_text(filter->types);
		call->params[call->n++] =
			filter->of_device ? param_bytes(filter->ueid.bytes, UEID_SIZE) : param_text(NULL);
	}
	calls[1].params[calls[1].n++] = param_bytes(&wire[1], sizeof wire[1]);
	if (query_run(request, response, calls, 2, results) < 0)
		return -1;
	/* Who does not say where begins with the oldest. */
	if (after >= 0 && page_judge_place(response, results[0], after) < 0) {
		PQclear(results[0]);
		PQclear(results[1]);
		return -1;
	}
	/* The place was looked up before the events were: what came in between is among them. */
	look->next = query_int8(results[0], 0, 2);
	look->top = query_int8(results[0], 0, 1);
	look->all = look->next == look->top;
	PQclear(results[0]);
	look->rows = results[1];
	n = PQntuples(look->rows);
	if (n == limit || (n > 0 && query_int8(look->rows, n - 1, 0) > look->next))
		look->next = query_int8(look->rows, n - 1, 0);
	look->all = look->all && n < limit;
	return 0;
}

/* Whether the answer is to wait: nothing is there, and time is left. */
static bool
waits(struct request *request, const struct look *look, int64_t wait)
{
	if (request->reading.until_ms == 0)
		request->reading.until_ms = clock_ms() + wait * 1000;
	return PQntuples(look->rows) == 0 && look->all && clock_ms() < request->reading.until_ms;
}

/* Its slices live as long as the rows. */
static struct event
read_event(const PGresult *rows, int i)
{
	struct event e = {.position = query_int8(rows, i, 0),
			  .id = query_int8(rows, i, 1),
			  .time_us = result_time_us(rows, i, 2),
			  .tenant = query_bytes(rows, i, 3),
			  .type = query_bytes(rows, i, 4),
			  .ueid = query_bytes(rows, i, 5),
			  .data = query_bytes(rows, i, 6)};

	event_read(&e);
	return e;
}

typedef void printer(const struct event_format *, struct draft *, const struct event *);

static void
print_item(const struct event_format *format, struct draft *d, const struct event *e)
{
	draft_text(d, d->len == 0 ? "" : ",");
	event_format_item(format, d, e);
}

/* As many as a page may have bytes, but for one that alone has more: the others are told next. */
static void
print_all(const struct request *request, struct response *response, const struct filter *filter, struct look *look,
	  printer *print)
{
	struct draft text = {0};

	for (int i = 0; i < PQntuples(look->rows); i++) {
		size_t before = text.len;
		struct event e = read_event(look->rows, i);

		print(filter->format, &text, &e);
		event_clear(&e);
		if (i == 0 || text.len <= request->page_bytes)
			continue;
		text.len = before;
		look->next = query_int8(look->rows, i - 1, 0);
		look->all = false;
		break;
	}
	response_append(response, text.at, text.len);
	response->failed = response->failed || text.failed;
	draft_free(&text);
}

static void
answer_page(struct request *request, struct response *response, const struct filter *filter, struct look *look)
{
	char next[24];

	response_json(response, (struct slice){NULL, 0});
	response_text(response, "{\"items\":[");
	print_all(request, response, filter, look, print_item);
	snprintf(next, sizeof next, "%lld", (long long)look->next);
	response_printf(response, "],\"next\":\"%s\"}", next);
	page_link(request, response, next);
}

void
api_events(struct request *request, struct response *response)
{
	int64_t after, limit, wait;
	struct filter filter;
	struct look look;

	if (read_after(request, response, &after) < 0 || read_wait(request, response, &wait) < 0 ||
	    read_filter(request, response, &filter) < 0 || page_limit(request, response, &limit) < 0)
		return;
	if (request->reading.begun)
		after = request->reading.after;
	if (look_up(request, response, &filter, after, limit, &look) < 0)
		return;
	request->reading.begun = true;
	request->reading.after = look.next;
	if (waits(request, &look, wait))
		response->waits = true;
	else
		answer_page(request, response, &filter, &look);
	PQclear(look.rows);
}

/* Who reconnects says what it had last (the HTML standard, 9.2.5). Without that and without `after`: from now on. */
static int
begin_stream(struct request *request, struct response *response, const struct filter *filter)
{
	struct look look;
	int64_t after;

	if (read_after(request, response, &after) < 0)
		return -1;
	if (request->last_event_id != NULL && !count_parse(request->last_event_id, COUNT_MAX, &after))
		return response_bad_parameter(response, count_fault(request->last_event_id),
					      "Last-Event-ID is a position: a number.");
	if (after < 0) {
		if (look_up(request, response, filter, after, 1, &look) < 0)
			return -1;
		PQclear(look.rows);
		after = look.top;
	}
	request->reading.begun = true;
	request->reading.after = after;
	return 0;
}

/* The HTML standard, 9.2.6. No format has line ends. */
static void
print_event(const struct event_format *format, struct draft *d, const struct event *e)
{
	draft_printf(d, "id: %lld\nevent: ", (long long)e->position);
	draft_slice(d, e->type);
	draft_text(d, "\ndata: ");
	format->write(d, e);
	draft_text(d, "\n\n");
}

/* Called once for each piece of the stream: so a token's end is the stream's too. */
void
api_event_stream(struct request *request, struct response *response)
{
	bool first = !request->reading.begun;
	struct filter filter;
	struct look look;

	if (read_filter(request, response, &filter) < 0 || (first && begin_stream(request, response, &filter) < 0) ||
	    look_up(request, response, &filter, request->reading.after, STREAM_PAGE, &look) < 0)
		return;
	response_json(response, (struct slice){NULL, 0});
	response->type = "text/event-stream";
	response->streams = true;
	if (first) {
		response_header(response, "X-Accel-Buffering", "no"); /* a proxy is not to collect it */
		response_text(response, "retry: 2000\n\n");
	}
	print_all(request, response, &filter, &look, print_event);
	response->waits = look.all;
	/* An id without data moves only the reader's place: else a quiet one would fall behind what is kept. */
	if (PQntuples(look.rows) == 0 && clock_ms() >= request->reading.until_ms)
		response_printf(response, ": alive\nid: %lld\n\n", (long long)look.next);
	if (response->len > 0)
		request->reading.until_ms = clock_ms() + HEARTBEAT_MS;
	request->reading.after = look.next;
	PQclear(look.rows);
}
