#include "collector/cli/wish.h"

#include <ctype.h>
#include <getopt.h>
#include <jansson.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "collector/body.h"
#include "collector/cli/cli.h"
#include "collector/request.h"
#include "collector/words.h"

#define BODY_FILE_MAX (64u << 20)
#define HELP_AT 28 /* the column of what is said of an option */

static const struct {
	const char *name, *argument, *help;
	const char *methods; /* NULL: with all */
	const char *parameter; /* only where the route has it; NULL: anywhere */
	const char *header; /* only where the route takes it; NULL: it is none */
} owns[WISH_OWNS] = {
	[WISH_JSON] = {"json", NULL, "JSON, of a list an array of all items", NULL, NULL, NULL},
	[WISH_CSV] = {"csv", NULL, "comma-separated values, with a line of names", NULL, NULL, NULL},
	[WISH_FIELDS] = {"fields", "LIST", "those members only, with commas between", NULL, NULL, NULL},
	[WISH_OUTPUT] = {"output", "FILE", "write there; a file stays as it is until all has come", NULL, NULL, NULL},
	[WISH_BODY] = {"body", "FILE", "send the file, or standard input as -", "POST PUT PATCH", NULL, NULL},
	[WISH_TYPE] = {"type", "TYPE", "what the file is, if neither JSON nor named .csv", "POST PUT PATCH", NULL,
		       NULL},
	[WISH_FOLLOW] = {"follow", NULL, "wait for what happens next, for ever", "GET", "wait", NULL},
	[WISH_IF_MATCH] = {"if-match", "TAG", NULL, NULL, NULL, "If-Match"},
	[WISH_IF_NONE_MATCH] = {"if-none-match", "TAG", NULL, NULL, NULL, "If-None-Match"},
	[WISH_IDEMPOTENCY_KEY] = {"idempotency-key", "KEY", NULL, NULL, NULL, "Idempotency-Key"},
	[WISH_LAST_EVENT_ID] = {"last-event-id", "POSITION", NULL, NULL, NULL, "Last-Event-ID"},
};

const char *
wish_format(const struct operation *o, enum wish_own own)
{
	static const struct {
		enum wish_own own;
		const char *format;
	} same[] = {{WISH_JSON, "json"}, {WISH_JSON, "ndjson"}, {WISH_CSV, "csv"}};
	bool several;
	const char *formats = operation_values(o, "format", &several);

	for (size_t i = 0; i < sizeof same / sizeof *same; i++)
		if (formats != NULL && same[i].own == own &&
		    words_have(formats, same[i].format, strlen(same[i].format)))
			return same[i].format;
	return NULL;
}

/* What is JSON is shown as is wished; of what is not, only another of its own formats can be asked for. */
static bool
is_shown(const struct operation *o, enum wish_own own)
{
	return operation_answer(o) == ANSWER_JSON || wish_format(o, own) != NULL;
}

static bool
is_offered(const struct operation *o, enum wish_own own)
{
	if ((own == WISH_JSON || own == WISH_CSV || own == WISH_FIELDS) && !is_shown(o, own))
		return false;
	/* A parameter of the route's own counts more. */
	return (owns[own].methods == NULL || strstr(owns[own].methods, o->method) != NULL) &&
	       (owns[own].header == NULL ||
		words_have(operation_headers(o), owns[own].header, strlen(owns[own].header))) &&
	       (owns[own].parameter == NULL || operation_takes(o, owns[own].parameter)) &&
	       !operation_takes(o, owns[own].name);
}

/* `own` WISH_OWNS: a parameter of the route. */
static void
add_option(struct wish *w, const char *name, size_t len, enum wish_own own)
{
	struct chosen *c = &w->options[w->n];

	if (w->n == WISH_OPTIONS_MAX || len >= WISH_NAME_SIZE)
		abort();
	snprintf(c->name, sizeof c->name, "%.*s", (int)len, name);
	snprintf(c->parameter, sizeof c->parameter, "%.*s", (int)len, name);
	for (char *at = c->name; *at != '\0'; at++)
		if (*at == '_')
			*at = '-';
	c->own = own;
	c->takes = own == WISH_OWNS || owns[own].argument != NULL;
	w->n++;
}

static void
list_options(struct wish *w)
{
	for (const char *at = operation_parameters(w->operation); *at != '\0'; at += strspn(at, " ")) {
		size_t len = strcspn(at, " ");

		add_option(w, at, len, WISH_OWNS);
		at += len;
	}
	add_option(w, "tenant", strlen("tenant"), WISH_OWNS);
	for (enum wish_own own = 0; own < WISH_OWNS; own++)
		if (is_offered(w->operation, own))
			add_option(w, owns[own].name, strlen(owns[own].name), own);
}

void
wish_print_name(const struct operation *o, FILE *out)
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
wish_list_options(const struct operation *o, void (*tell)(const char *name, const char *values, bool several))
{
	struct wish w = {.operation = o};

	list_options(&w);
	for (size_t i = 0; i < w.n; i++) {
		bool several;
		const char *values = operation_values(o, w.options[i].parameter, &several);

		tell(w.options[i].name, w.options[i].takes ? values : NULL, several);
	}
}

/* What can stand behind it. */
static int
print_argument(const struct operation *o, const struct chosen *c, FILE *out)
{
	bool several;
	const char *values = operation_values(o, c->parameter, &several);
	int n = 0;

	if (!c->takes)
		return 0;
	if (values == NULL)
		return fprintf(out, " %s", c->own == WISH_OWNS ? "VALUE" : owns[c->own].argument);
	for (n += fprintf(out, " "); *values != '\0'; values++)
		n += fprintf(out, "%c", *values != ' ' ? *values : several ? ',' : '|');
	return n;
}

static void
print_option(const struct operation *o, const struct chosen *c, FILE *out)
{
	int n = fprintf(out, "  --%s", c->name) + print_argument(o, c, out);
	const char *format = operation_answer(o) == ANSWER_JSON ? NULL : wish_format(o, c->own);

	if (c->own != WISH_OWNS)
		fprintf(out, "%*s", n < HELP_AT ? HELP_AT - n : 2, "");
	if (format != NULL)
		fprintf(out, "%s, as --format %s", c->own == WISH_JSON ? "JSON lines" : "comma-separated values",
			format);
	else if (c->own != WISH_OWNS)
		fprintf(out, "%s%s", owns[c->own].header == NULL ? owns[c->own].help : "the header ",
			owns[c->own].header == NULL ? "" : owns[c->own].header);
	fputc('\n', out);
}

static void
print_members(const struct operation *o, FILE *out)
{
	const char *needed = operation_members(o, true), *wanted = operation_members(o, false);

	if (needed != NULL)
		fprintf(out, "  needed NAMEs: %s\n", needed);
	if (wanted != NULL)
		fprintf(out, "  other NAMEs: %s\n", wanted);
	if (needed != NULL || wanted != NULL)
		fputc('\n', out);
}

static void
print_help(const struct operation *o, FILE *out)
{
	struct wish w = {.operation = o};

	fputs("usage: fleetstate --url URL ", out);
	wish_print_name(o, out);
	fprintf(out, " [OPTION ...]\n%s: %s %s\n\n", o->help, o->method, o->path);
	print_members(o, out);
	list_options(&w);
	for (size_t i = 0; i < w.n; i++)
		print_option(o, &w.options[i], out);
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

const char *
wish_option(const struct wish *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->options[i].name, name) == 0)
			return w->options[i].value;
	return NULL;
}

const char *
wish_own(const struct wish *w, enum wish_own own)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->options[i].own == own)
			return w->options[i].value;
	return NULL;
}

void
wish_set(struct wish *w, const char *name, const char *value)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->options[i].name, name) == 0)
			w->options[i].value = value;
}

void
wish_parse(struct wish *w, int argc, char **argv)
{
	enum { HELP = 'h', FIRST = 256 };
	static char program[] = "fleetstate";
	struct option longs[WISH_OPTIONS_MAX + 2] = {{"help", no_argument, NULL, HELP}};
	int c;

	list_options(w);
	for (size_t i = 0; i < w->n; i++)
		longs[i + 1] =
			(struct option){w->options[i].name, w->options[i].takes ? required_argument : no_argument, NULL,
					FIRST + (int)i};
	argv[0] = program; /* as whoever complains of an option calls it */
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
	if (w->operands_n < operation_variables(w->operation)) {
		fprintf(stderr, "fleetstate: %d more operand%s wanted\n",
			operation_variables(w->operation) - w->operands_n,
			operation_variables(w->operation) - w->operands_n == 1 ? " is" : "s are");
		refuse(w);
	}
}

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

void
wish_add_parameter(char **target, const char *name, const char *value)
{
	put(target, strchr(*target, '?') == NULL ? "?" : "&");
	put(target, name);
	put(target, "=");
	put_quoted(target, value);
}

char *
wish_target(const struct wish *w, bool list)
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

		if (c->value != NULL && c->own == WISH_OWNS && !paging)
			wish_add_parameter(&target, c->parameter, c->value);
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
	const char *type = wish_own(w, WISH_TYPE);

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

bool
wish_takes_key(const struct wish *w)
{
	return strcmp(w->operation->method, "POST") == 0 && (w->type == NULL || !body_is_csv(w->type));
}

static void
make_headers(struct wish *w)
{
	for (enum wish_own own = 0; own < WISH_OWNS; own++) {
		const char *value = owns[own].header == NULL ? NULL : wish_own(w, own);

		if (value != NULL)
			add_header(w, owns[own].header, value);
	}
	if (wish_takes_key(w) && wish_own(w, WISH_IDEMPOTENCY_KEY) == NULL) {
		uint8_t bytes[16];
		char key[2 * sizeof bytes + 1];

		if (RAND_bytes(bytes, sizeof bytes) != 1)
			cli_die(CLI_NO, "no random bytes");
		hex_print(bytes, sizeof bytes, key);
		key[2 * sizeof bytes] = '\0';
		add_header(w, "Idempotency-Key", key);
	}
}

void
wish_fill(struct wish *w)
{
	const char *file = wish_own(w, WISH_BODY);
	bool writes = strcmp(w->operation->method, "GET") != 0 && strcmp(w->operation->method, "DELETE") != 0;

	if (w->operands_n > operation_variables(w->operation) && (!writes || file != NULL))
		refuse(w);
	if (file != NULL)
		read_body(w, file);
	else if (writes)
		make_body(w);
	make_headers(w);
}

void
wish_free(struct wish *w)
{
	curl_slist_free_all(w->headers);
	free(w->body);
	free(w->type);
}
