#include "collector/cli/remote.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "collector/cli/cli.h"
#include "collector/cli/output.h"
#include "collector/cli/show.h"
#include "collector/cli/wish.h"
#include "collector/request.h"

#define PAGE 1000 /* what a list gives at most */
#define WAIT "30" /* seconds of one long poll */
#define TRIES 4
#define PATIENCE_S 60 /* the longest that a collector's own wish to be asked later is obeyed */

struct remote {
	struct wish wish;
	struct show show;
	bool raw; /* whatever comes is written as it is */
	int64_t position; /* where the next export goes on; -1: it is not said */
};

/* What --json and --csv stand for where the answer has formats of its own; of events those are what an item is. */
static void
agree_on_format(struct remote *r)
{
	const struct operation *o = r->wish.operation;
	enum wish_own own = r->show.as == SHOW_CSV ? WISH_CSV : WISH_JSON;
	const char *format = wish_option(&r->wish, "format");
	const char *same = r->show.as == SHOW_TABLE ? NULL : wish_format(o, own);

	if (format != NULL && same != NULL && strcmp(format, same) != 0)
		cli_die(CLI_WRONG, "--%s and --format %s: one of them", own == WISH_CSV ? "csv" : "json", format);
	if (format == NULL && same != NULL && operation_answer(o) != ANSWER_JSON)
		wish_set(&r->wish, "format", same);
	else if (format != NULL && strcmp(format, "json") == 0)
		r->show.as = SHOW_JSON;
}

/* Of standard output; 0: it is none. */
static int
terminal_width(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ? 0 : size.ws_col;
}

/* Whose answer has no end: only streams take that header. */
static bool
is_endless(const struct wish *w)
{
	return wish_own(w, WISH_FOLLOW) != NULL || strstr(operation_headers(w->operation), "Last-Event-ID") != NULL;
}

static void
prepare(struct remote *r)
{
	struct wish *w = &r->wish;
	const char *output = wish_own(w, WISH_OUTPUT), *format;
	bool usual;

	if (wish_own(w, WISH_JSON) != NULL && wish_own(w, WISH_CSV) != NULL)
		cli_die(CLI_WRONG, "--json and --csv: one of them");
	r->show = (struct show){.out = stdout,
				.as = wish_own(w, WISH_JSON) != NULL  ? SHOW_JSON
				      : wish_own(w, WISH_CSV) != NULL ? SHOW_CSV
								      : SHOW_TABLE,
				.fields = wish_option(w, "fields"), /* ours, or the route's */
				.lines = wish_own(w, WISH_FOLLOW) != NULL};
	agree_on_format(r);
	format = wish_option(w, "format");
	usual = format == NULL || strcmp(format, "json") == 0 || strcmp(format, "native") == 0;
	r->show.members = usual ? operation_items(w->operation) : NULL;
	r->show.usual = usual ? w->operation->columns : NULL;
	r->raw = !usual && !operation_takes(w->operation, "after");
	if (r->raw && wish_own(w, WISH_FIELDS) != NULL)
		cli_die(CLI_WRONG, "--fields and --format %s: one of them", format);
	if (operation_answer(w->operation) == ANSWER_BYTES && output == NULL && isatty(STDOUT_FILENO))
		cli_die(CLI_WRONG, "signed bytes are not for a terminal: --output FILE");
	wish_fill(w);
	if (output != NULL) {
		r->show.out = output_open(output);
	} else {
		r->show.room = terminal_width();
	}
}

static _Noreturn void
die(int status, const char *format, const char *a, const char *b)
{
	call_progress_end();
	fflush(stdout);
	cli_die(status, format, a, b);
}

static json_t *
read_answer(const struct told *told)
{
	json_t *json = told->body == NULL ? NULL : json_loadb(told->body, told->len, JSON_DECODE_ANY, NULL);

	if (told->body != NULL && json == NULL)
		die(CLI_AWAY, "%s%s", "the answer is not JSON", "");
	return json;
}

/* RFC 9110 15.4.1: it is more than one report. */
static _Noreturn void
fail_of_choices(const struct told *told)
{
	json_t *answer = read_answer(told), *item;
	size_t i;

	fputs("fleetstate: 300: more than one report has this number; `report show` takes one of", stderr);
	json_array_foreach(json_object_get(answer, "items"), i, item)
	{
		const char *sha256 = json_string_value(json_object_get(item, "sha256"));

		fputc(' ', stderr);
		show_cell(stderr, sha256 == NULL ? "?" : sha256, 0);
	}
	fputc('\n', stderr);
	json_decref(answer);
	exit(CLI_NO);
}

/* What of it is this program's own to name. */
static const char *
hint_of(const char *type)
{
	static const struct {
		const char *type, *hint;
	} hints[] = {
		{"tenant-required", " That is --tenant ID."},
		{"unauthorized", " The token is that of --token-file, --token or FLEETSTATE_TOKEN."},
	};

	for (size_t i = 0; type != NULL && i < sizeof hints / sizeof *hints; i++)
		if (strcmp(hints[i].type, type) == 0)
			return hints[i].hint;
	return "";
}

/* The problem (RFC 9457) in one line. */
static _Noreturn void
fail(const struct told *told)
{
	static const char prefix[] = "urn:fleetstate:problem:";
	json_t *problem = told->body == NULL ? NULL : json_loadb(told->body, told->len, 0, NULL);
	const char *type = json_string_value(json_object_get(problem, "type"));
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	char name[128];

	if (detail == NULL)
		detail = json_string_value(json_object_get(problem, "title"));
	if (type != NULL && strncmp(type, prefix, sizeof prefix - 1) == 0)
		type += sizeof prefix - 1;
	snprintf(name, sizeof name, "%ld%s%s", told->status, type == NULL ? "" : " ", type == NULL ? "" : type);
	call_progress_end();
	fflush(stdout);
	fputs("fleetstate: ", stderr);
	show_cell(stderr, name, 0);
	fputs(": ", stderr);
	show_cell(stderr, detail == NULL ? "the answer does not say why" : detail, 0);
	fprintf(stderr, "%s\n", hint_of(type));
	json_decref(problem);
	exit(told->status >= 500 || told->status == 429 ? CLI_AWAY : CLI_NO);
}

/* Ends the program unless it was answered well. A broken connection, and a collector that wants to be asked later, are tried again, but not behind a part
   of an answer that is written already. */
static void
ask(const struct remote *r, const char *target, struct told *told)
{
	const struct wish *w = &r->wish;
	const struct asked asked = {.method = w->operation->method,
				    .target = target,
				    .body = w->body,
				    .body_len = w->body_len,
				    .type = w->type,
				    .headers = w->headers,
				    .out = r->show.out,
				    .raw = r->raw,
				    .begin = is_endless(w) ? output_settle : NULL};
	bool repeatable = strcmp(asked.method, "GET") == 0 || wish_takes_key(w);
	char why[CALL_WHY_SIZE];

	for (int try = 1;; try++) {
		int rc = call_ask(w->server, &asked, told, why);
		unsigned pause = rc < 0 ? 1 : (unsigned)told->retry_after_s;
		bool again = repeatable && !told->written && try < TRIES && pause > 0 && pause <= PATIENCE_S &&
			     (rc < 0 || told->status == 429 || told->status == 503);

		if (rc == 0 && told->status >= 200 && told->status < 300) {
			if (asked.begin != NULL)
				asked.begin();
			return;
		}
		if (ferror(r->show.out))
			die(CLI_NO, "%s%s", OUTPUT_FULL, "");
		if (!again && rc < 0)
			die(CLI_AWAY, "%s: %s", w->server->url, why);
		if (told->status == 300)
			fail_of_choices(told);
		if (!again)
			fail(told);
		told_free(told);
		sleep(pause);
	}
}

/* How many more items are wanted; all: more than there are. */
static long long
wanted(const struct wish *w)
{
	const char *limit = wish_option(w, "limit");
	int64_t n;

	if (limit == NULL)
		return INT64_MAX;
	if (!count_parse(limit, COUNT_MAX, &n) || n == 0)
		cli_die(CLI_WRONG, "--limit is a number from 1 on");
	return n;
}

/* Where the next page begins; NULL: this was the last. Positions of events go on for ever. */
static const char *
next_of(const struct wish *w, const json_t *page, long long left)
{
	const char *next = json_string_value(json_object_get(page, "next"));
	bool ended = json_array_size(json_object_get(page, "items")) == 0 && wish_own(w, WISH_FOLLOW) == NULL &&
		     operation_takes(w->operation, "wait");

	return left <= 0 || ended ? NULL : next;
}

static void
show_list(struct remote *r)
{
	const struct wish *w = &r->wish;
	const char *place = operation_takes(w->operation, "after") ? "after" : "cursor", *begin = wish_option(w, place);
	char *base = wish_target(w, true), *at = begin == NULL ? NULL : strdup(begin);
	const char *wait = wish_own(w, WISH_FOLLOW) != NULL ? WAIT : wish_option(w, "wait");
	long long left = wanted(w);

	do {
		char limit[24], *target = strdup(base);
		struct told told;
		const char *next;
		json_t *page, *items;

		if (target == NULL)
			cli_die(CLI_NO, "out of memory");
		snprintf(limit, sizeof limit, "%lld", left < PAGE ? left : PAGE);
		wish_add_parameter(&target, "limit", limit);
		if (at != NULL)
			wish_add_parameter(&target, place, at);
		if (wait != NULL && operation_takes(w->operation, "wait"))
			wish_add_parameter(&target, "wait", wait);
		ask(r, target, &told);
		page = read_answer(&told);
		items = json_object_get(page, "items");
		if (!json_is_array(items))
			die(CLI_AWAY, "%s%s", "the answer is no list", "");
		show_items(&r->show, items);
		call_progress((long long)json_array_size(items));
		left -= (long long)json_array_size(items);
		next = next_of(w, page, left);
		free(at);
		at = next == NULL ? NULL : strdup(next);
		json_decref(page);
		told_free(&told);
		free(target);
	} while (at != NULL);
	show_end(&r->show);
	free(base);
}

/* The items of the pages behind it, which is then all. */
static void
add_pages(struct remote *r, const char *first, json_t *all)
{
	const char *next;

	while ((next = json_string_value(json_object_get(all, "next"))) != NULL) {
		char *target = strdup(first);
		struct told told;
		json_t *page;

		if (target == NULL)
			cli_die(CLI_NO, "out of memory");
		wish_add_parameter(&target, "cursor", next);
		ask(r, target, &told);
		page = read_answer(&told);
		if (json_array_extend(json_object_get(all, "items"), json_object_get(page, "items")) < 0 ||
		    json_object_set(all, "next", json_object_get(page, "next")) < 0)
			die(CLI_AWAY, "%s%s", "the answer is no list", "");
		json_decref(page);
		told_free(&told);
		free(target);
	}
}

static void
show_one(struct remote *r)
{
	char *target = wish_target(&r->wish, false);
	struct told told;
	json_t *json, *items;

	ask(r, target, &told);
	if (!count_parse(told.position, COUNT_MAX, &r->position))
		r->position = -1;
	json = read_answer(&told);
	items = json_object_get(json, "items");
	if (json_is_array(items) && operation_takes(r->wish.operation, "cursor") &&
	    wish_option(&r->wish, "limit") == NULL && wish_option(&r->wish, "cursor") == NULL)
		add_pages(r, target, json);
	if (json_is_array(items) && json_object_size(json) == 1) {
		show_items(&r->show, items);
		show_end(&r->show);
	} else if (json_is_array(items)) {
		show_with_items(&r->show, json);
	} else if (json_is_object(json)) {
		show_object(&r->show, json);
	}
	json_decref(json);
	told_free(&told);
	free(target);
}

/* Of a difference, what is told beside its items counts as much. */
static bool
is_list(const struct operation *o)
{
	return operation_takes(o, "limit") && strcmp(o->path, "/v1/diff") != 0;
}

int
remote_run(const struct operation *o, const struct server *server, int argc, char **argv)
{
	struct remote r = {.wish = {.operation = o, .server = server}, .position = -1};

	wish_parse(&r.wish, argc, argv);
	prepare(&r);
	if (is_list(o) && !r.raw)
		show_list(&r);
	else
		show_one(&r);
	call_progress_end();
	if (fflush(r.show.out) != 0 || ferror(r.show.out))
		cli_die(CLI_NO, OUTPUT_FULL);
	if (r.show.out != stdout)
		output_close();
	if (r.position >= 0)
		fprintf(stderr, "Fleetstate-Position: %" PRId64 "\n", r.position);
	show_free(&r.show);
	wish_free(&r.wish);
	return CLI_YES;
}
