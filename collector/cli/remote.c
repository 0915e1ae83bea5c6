#include "collector/cli/remote.h"

#include <ctype.h>
#include <getopt.h>
#include <jansson.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/body.h"
#include "collector/cli/cli.h"
#include "collector/cli/show.h"
#include "collector/request.h"

#define OPTIONS_MAX 48
#define NAME_SIZE 32
#define BODY_FILE_MAX (64u << 20)
#define PAGE 1000 /* what a list gives at most */
#define WAIT "30" /* seconds of one long poll */
#define TRIES 4
#define PATIENCE_S 60 /* the longest that a collector's own wish to be asked later is obeyed */

/* What is no parameter of a route. */
enum own {
	JSON,
	CSV,
	FIELDS,
	OUTPUT,
	BODY,
	TYPE,
	FOLLOW,
	IF_MATCH,
	IF_NONE_MATCH,
	IDEMPOTENCY_KEY,
	LAST_EVENT_ID,
	OWNS
};

static const struct {
	const char *name, *argument;
	const char *methods; /* NULL: with all */
	const char *parameter; /* only where the route has it; NULL: anywhere */
	const char *header; /* NULL: it is none */
} owns[OWNS] = {
	[JSON] = {"json", NULL, NULL, NULL, NULL},
	[CSV] = {"csv", NULL, NULL, NULL, NULL},
	[FIELDS] = {"fields", "LIST", NULL, NULL, NULL},
	[OUTPUT] = {"output", "FILE", NULL, NULL, NULL},
	[BODY] = {"body", "FILE", "POST PUT PATCH", NULL, NULL},
	[TYPE] = {"type", "TYPE", "POST PUT PATCH", NULL, NULL},
	[FOLLOW] = {"follow", NULL, "GET", "wait", NULL},
	[IF_MATCH] = {"if-match", "TAG", "PUT PATCH DELETE", NULL, "If-Match"},
	[IF_NONE_MATCH] = {"if-none-match", "TAG", "PUT PATCH DELETE", NULL, "If-None-Match"},
	[IDEMPOTENCY_KEY] = {"idempotency-key", "KEY", "POST", NULL, "Idempotency-Key"},
	[LAST_EVENT_ID] = {"last-event-id", "POSITION", "GET", "cursor", "Last-Event-ID"},
};

/* An option of the command: a parameter's value, or one of `owns`. */
struct chosen {
	char name[NAME_SIZE]; /* as it is written here */
	char parameter[NAME_SIZE]; /* as the route has it; empty: it is one of `owns` */
	bool takes;
	const char *value; /* NULL: not given */
};

struct wish {
	const struct operation *operation;
	const struct server *server;
	struct chosen options[OPTIONS_MAX];
	size_t n;
	char **operands;
	int operands_n;
	struct curl_slist *headers;
	char *body, *type;
	size_t body_len;
	bool raw; /* whatever comes is written as it is */
	struct show show;
};

static bool
is_offered(const struct operation *o, enum own own)
{
	/* A parameter of the route's own counts more. */
	return (owns[own].methods == NULL || strstr(owns[own].methods, o->method) != NULL) &&
	       (owns[own].parameter == NULL || operation_takes(o, owns[own].parameter)) &&
	       !operation_takes(o, owns[own].name);
}

static void
add_option(struct wish *w, const char *name, size_t len, bool takes, bool parameter)
{
	struct chosen *c = &w->options[w->n];

	if (w->n == OPTIONS_MAX || len >= NAME_SIZE)
		abort();
	snprintf(c->name, sizeof c->name, "%.*s", (int)len, name);
	for (char *at = c->name; *at != '\0'; at++)
		if (*at == '_')
			*at = '-';
	snprintf(c->parameter, sizeof c->parameter, "%.*s", parameter ? (int)len : 0, name);
	c->takes = takes;
	w->n++;
}

static void
list_options(struct wish *w)
{
	for (const char *at = operation_parameters(w->operation); *at != '\0'; at += strspn(at, " ")) {
		size_t len = strcspn(at, " ");

		add_option(w, at, len, true, true);
		at += len;
	}
	add_option(w, "tenant", strlen("tenant"), true, true);
	for (enum own own = 0; own < OWNS; own++)
		if (is_offered(w->operation, own))
			add_option(w, owns[own].name, strlen(owns[own].name), owns[own].argument != NULL, false);
}

void
remote_print_name(const struct operation *o, FILE *out)
{
	fprintf(out, "%s%s%s", o->noun, o->verb == NULL ? "" : " ", o->verb == NULL ? "" : o->verb);
	for (const char *at = strchr(o->path, '{'); at != NULL; at = strchr(at, '{')) {
		fputc(' ', out);
		for (at++; *at != '}'; at++)
			fputc(toupper((unsigned char)*at), out);
	}
	if (strcmp(o->method, "GET") != 0 && strcmp(o->method, "DELETE") != 0)
		fputs(" [NAME=TEXT|NAME:=JSON ...]", out);
}

void
remote_list_options(const struct operation *o, void (*tell)(const char *name, const char *values, bool several))
{
	struct wish w = {.operation = o};

	list_options(&w);
	for (size_t i = 0; i < w.n; i++) {
		const struct chosen *c = &w.options[i];
		bool several;
		const char *values = operation_values(o, c->parameter[0] != '\0' ? c->parameter : c->name, &several);

		tell(c->name, c->takes ? values : NULL, several);
	}
}

static void
print_help(const struct operation *o, FILE *out)
{
	struct wish w = {.operation = o};

	fputs("usage: fleetstate --url URL ", out);
	remote_print_name(o, out);
	fprintf(out, "\n%s: %s %s\n      ", o->help, o->method, o->path);
	list_options(&w);
	for (size_t i = 0; i < w.n; i++)
		fprintf(out, " --%s", w.options[i].name);
	fputc('\n', out);
}

static _Noreturn void
refuse(const struct wish *w)
{
	print_help(w->operation, stderr);
	if (w->server->or_database)
		fputs("This asks the collector of FLEETSTATE_URL; --database asks the database, in its own words.\n",
		      stderr);
	exit(CLI_WRONG);
}

/* NULL: not given, or not offered. */
static const char *
option(const struct wish *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->options[i].name, name) == 0)
			return w->options[i].value;
	return NULL;
}

static const char *
own_option(const struct wish *w, enum own own)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->options[i].parameter[0] == '\0' && strcmp(w->options[i].name, owns[own].name) == 0)
			return w->options[i].value;
	return NULL;
}

static void
parse(struct wish *w, int argc, char **argv)
{
	enum { HELP = 'h', FIRST = 256 };
	struct option longs[OPTIONS_MAX + 2] = {{"help", no_argument, NULL, HELP}};
	int c;

	list_options(w);
	for (size_t i = 0; i < w->n; i++)
		longs[i + 1] =
			(struct option){w->options[i].name, w->options[i].takes ? required_argument : no_argument, NULL,
					FIRST + (int)i};
	optind = 0;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == HELP) {
			print_help(w->operation, stdout);
			exit(CLI_YES);
		}
		if (c < FIRST)
			refuse(w);
		w->options[c - FIRST].value = w->options[c - FIRST].takes ? optarg : "";
	}
	w->operands = argv + optind;
	w->operands_n = argc - optind;
	if (w->operands_n < operation_variables(w->operation))
		refuse(w);
}

/* What is asked for. */

static void
put(char **text, const char *more)
{
	char *longer;

	if (asprintf(&longer, "%s%s", *text == NULL ? "" : *text, more) < 0)
		cli_die(CLI_NO, "out of memory");
	free(*text);
	*text = longer;
}

static void
put_quoted(char **text, const char *more)
{
	char *quoted = call_quote(more);

	put(text, quoted);
	free(quoted);
}

static void
put_parameter(char **target, const char *name, const char *value)
{
	put(target, strchr(*target, '?') == NULL ? "?" : "&");
	put(target, name);
	put(target, "=");
	put_quoted(target, value);
}

/* Parameters that a list's pages set themselves are left out. */
static char *
make_target(const struct wish *w, bool list)
{
	char **operand = w->operands, *target = NULL;

	for (const char *at = w->operation->path; *at != '\0';) {
		size_t len = strcspn(at, "{");
		char *part = strndup(at, len);

		if (part == NULL)
			cli_die(CLI_NO, "out of memory");
		put(&target, part);
		free(part);
		at += len;
		if (*at == '{') {
			put_quoted(&target, *operand++);
			at += strcspn(at, "}") + 1;
		}
	}
	for (size_t i = 0; i < w->n; i++) {
		const struct chosen *c = &w->options[i];
		bool paging = list && (strcmp(c->parameter, "limit") == 0 || strcmp(c->parameter, "cursor") == 0 ||
				       strcmp(c->parameter, "after") == 0 || strcmp(c->parameter, "wait") == 0);

		if (c->value != NULL && c->parameter[0] != '\0' && !paging)
			put_parameter(&target, c->parameter, c->value);
	}
	return target;
}

static bool
ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len >= n && strcmp(text + len - n, end) == 0;
}

static void
read_body(struct wish *w, const char *file)
{
	const char *type = own_option(w, TYPE);

	w->body = (char *)cli_read(file, BODY_FILE_MAX, &w->body_len);
	if (w->body_len > BODY_FILE_MAX)
		cli_die(CLI_WRONG, "%s: more than %u bytes", file, BODY_FILE_MAX);
	w->type = strdup(type != NULL ? type : ends_with(file, ".csv") ? "text/csv" : "application/json");
}

/* NAME=TEXT and NAME:=JSON as the members of an object. */
static void
make_body(struct wish *w)
{
	int first = operation_variables(w->operation);
	json_t *body = json_object();

	for (int i = first; i < w->operands_n; i++) {
		char *text = w->operands[i], *value = strchr(text, '=');
		bool is_json = value != NULL && value > text && value[-1] == ':';
		json_t *member;

		if (value == NULL || value == text)
			refuse(w);
		*value++ = '\0';
		if (is_json)
			text[strlen(text) - 1] = '\0';
		member = is_json ? json_loads(value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL)
				 : json_string(value);
		if (member == NULL)
			cli_die(CLI_WRONG, "%s: %s", text, is_json ? "not JSON" : "not UTF-8");
		json_object_set_new(body, text, member);
	}
	if (json_object_size(body) > 0) {
		w->body = json_dumps(body, JSON_COMPACT);
		w->body_len = w->body == NULL ? 0 : strlen(w->body);
		w->type = strdup("application/json");
	}
	json_decref(body);
}

static void
add_header(struct wish *w, const char *name, const char *value)
{
	char *line;

	if (strpbrk(value, "\r\n") != NULL)
		cli_die(CLI_WRONG, "%s: has a line's end", name);
	if (asprintf(&line, "%s: %s", name, value) < 0)
		cli_die(CLI_NO, "out of memory");
	w->headers = curl_slist_append(w->headers, line);
	free(line);
}

/* A POST may be sent again when its connection breaks, as it has a key; but no key goes with a list. */
static bool
takes_key(const struct wish *w)
{
	return strcmp(w->operation->method, "POST") == 0 && (w->type == NULL || !body_is_csv(w->type));
}

static void
make_headers(struct wish *w)
{
	for (enum own own = 0; own < OWNS; own++) {
		const char *value = owns[own].header == NULL ? NULL : own_option(w, own);

		if (value != NULL)
			add_header(w, owns[own].header, value);
	}
	if (takes_key(w) && own_option(w, IDEMPOTENCY_KEY) == NULL) {
		uint8_t bytes[16];
		char key[2 * sizeof bytes + 1];

		if (RAND_bytes(bytes, sizeof bytes) != 1)
			cli_die(CLI_NO, "no random bytes");
		hex_print(bytes, sizeof bytes, key);
		key[2 * sizeof bytes] = '\0';
		add_header(w, "Idempotency-Key", key);
	}
}

static void
prepare(struct wish *w)
{
	const char *file = own_option(w, BODY), *output = own_option(w, OUTPUT), *format = option(w, "format");
	bool writes = strcmp(w->operation->method, "GET") != 0 && strcmp(w->operation->method, "DELETE") != 0;
	bool usual = format == NULL || strcmp(format, "json") == 0 || strcmp(format, "native") == 0;
	bool binary = strstr(w->operation->path, "/reports/{") != NULL;

	if (own_option(w, JSON) != NULL && own_option(w, CSV) != NULL)
		cli_die(CLI_WRONG, "--json or --csv");
	if (w->operands_n > operation_variables(w->operation) && (!writes || file != NULL))
		refuse(w);
	w->show = (struct show){.out = stdout,
				.as = own_option(w, JSON) != NULL  ? SHOW_JSON
				      : own_option(w, CSV) != NULL ? SHOW_CSV
								   : SHOW_TABLE,
				.fields = option(w, "fields"), /* ours, or the route's */
				.members = usual ? operation_items(w->operation) : NULL,
				.lines = own_option(w, FOLLOW) != NULL};
	/* Of events a format is what an item is, else what the whole answer is. */
	w->raw = !usual && !operation_takes(w->operation, "after");
	if (binary && output == NULL && isatty(STDOUT_FILENO))
		cli_die(CLI_WRONG, "signed bytes are not for a terminal: --output FILE");
	if (output != NULL) {
		w->show.out = fopen(output, "we");
		if (w->show.out == NULL)
			cli_die(CLI_WRONG, "%s: %m", output);
	}
	if (file != NULL)
		read_body(w, file);
	else if (writes)
		make_body(w);
	make_headers(w);
}

/* What is told. */

static _Noreturn void
die(int status, const char *format, const char *a, const char *b)
{
	call_progress_end();
	fflush(stdout);
	cli_die(status, format, a, b);
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
	fputc('\n', stderr);
	json_decref(problem);
	exit(told->status >= 500 || told->status == 429 ? CLI_AWAY : CLI_NO);
}

/* Ends the program unless it was answered well. A broken connection, and a collector that wants to be asked later, are tried again. */
static void
ask(const struct wish *w, const char *target, struct told *told)
{
	const struct asked asked = {.method = w->operation->method,
				    .target = target,
				    .body = w->body,
				    .body_len = w->body_len,
				    .type = w->type,
				    .headers = w->headers,
				    .out = w->show.out,
				    .raw = w->raw};
	bool repeatable = !w->raw && (strcmp(asked.method, "GET") == 0 || takes_key(w));
	char why[CALL_WHY_SIZE];

	for (int try = 1;; try++) {
		int rc = call_ask(w->server, &asked, told, why);
		unsigned pause = rc < 0 ? 1 : (unsigned)told->retry_after_s;
		bool again = repeatable && try < TRIES && pause > 0 && pause <= PATIENCE_S &&
			     (rc < 0 || told->status == 429 || told->status == 503);

		if (rc == 0 && told->status >= 200 && told->status <= 300)
			return;
		if (!again && rc < 0)
			die(CLI_AWAY, "%s: %s", w->server->url, why);
		if (!again)
			fail(told);
		told_free(told);
		sleep(pause);
	}
}

static json_t *
read_answer(const struct told *told)
{
	json_t *json = told->body == NULL ? NULL : json_loadb(told->body, told->len, JSON_DECODE_ANY, NULL);

	if (told->body != NULL && json == NULL)
		die(CLI_AWAY, "%s%s", "the answer is not JSON", "");
	return json;
}

/* How many more items are wanted; all: more than there are. */
static long long
wanted(const struct wish *w)
{
	const char *limit = option(w, "limit");
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
	bool ended = json_array_size(json_object_get(page, "items")) == 0 && own_option(w, FOLLOW) == NULL &&
		     operation_takes(w->operation, "wait");

	return left <= 0 || ended ? NULL : next;
}

static void
show_list(struct wish *w)
{
	const char *place = operation_takes(w->operation, "after") ? "after" : "cursor", *begin = option(w, place);
	char *base = make_target(w, true), *at = begin == NULL ? NULL : strdup(begin);
	const char *wait = own_option(w, FOLLOW) != NULL ? WAIT : option(w, "wait");
	long long left = wanted(w);

	do {
		char limit[24], *target = strdup(base);
		struct told told;
		const char *next;
		json_t *page, *items;

		if (target == NULL)
			cli_die(CLI_NO, "out of memory");
		snprintf(limit, sizeof limit, "%lld", left < PAGE ? left : PAGE);
		put_parameter(&target, "limit", limit);
		if (at != NULL)
			put_parameter(&target, place, at);
		if (wait != NULL && operation_takes(w->operation, "wait"))
			put_parameter(&target, "wait", wait);
		ask(w, target, &told);
		page = read_answer(&told);
		items = json_object_get(page, "items");
		if (!json_is_array(items))
			die(CLI_AWAY, "%s%s", "the answer is no list", "");
		show_items(&w->show, items);
		call_progress((long long)json_array_size(items));
		left -= (long long)json_array_size(items);
		next = next_of(w, page, left);
		free(at);
		at = next == NULL ? NULL : strdup(next);
		json_decref(page);
		told_free(&told);
		free(target);
	} while (at != NULL);
	show_end(&w->show);
	free(base);
}

static void
show_one(struct wish *w)
{
	char *target = make_target(w, false);
	struct told told;
	json_t *json, *items;

	ask(w, target, &told);
	json = read_answer(&told);
	items = json_object_get(json, "items");
	if (json_is_array(items) && json_object_size(json) == 1) {
		show_items(&w->show, items);
		show_end(&w->show);
	} else if (json_is_array(items)) {
		show_with_items(&w->show, json);
	} else if (json_is_object(json)) {
		show_object(&w->show, json);
	}
	json_decref(json);
	told_free(&told);
	free(target);
}

int
remote_run(const struct operation *o, const struct server *server, int argc, char **argv)
{
	struct wish w = {.operation = o, .server = server};
	bool good;

	parse(&w, argc, argv);
	prepare(&w);
	if (operation_takes(o, "limit") && !w.raw)
		show_list(&w);
	else
		show_one(&w);
	call_progress_end();
	good = fflush(w.show.out) == 0 && !ferror(w.show.out);
	if (w.show.out != stdout)
		good = fclose(w.show.out) == 0 && good;
	if (!good)
		cli_die(CLI_NO, "the output takes no more");
	show_free(&w.show);
	curl_slist_free_all(w.headers);
	free(w.body);
	free(w.type);
	return CLI_YES;
}
