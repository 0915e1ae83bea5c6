/* A tenant's sinks. */
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/draft.h"
#include "collector/page.h"
#include "collector/routes.h"
#include "collector/sink_new.h"

#define BATCH_DEFAULT 100
#define TYPES_MAX 32

void
api_sinks(struct request *request, struct response *response)
{
	page_list(request, response, QUERY_SINKS);
}

static const char *
text_of(const json_t *body, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(body, name));

	return text == NULL ? otherwise : text;
}

static void
read_wish(const json_t *body, const char *types, struct sink_wish *w)
{
	const json_t *batch = json_object_get(body, "batch");

	*w = (struct sink_wish){.name = text_of(body, "name", ""),
				.kind = text_of(body, "kind", ""),
				.target = text_of(body, "target", ""),
				.format = text_of(body, "format", NULL),
				.types = types,
				.severity = text_of(body, "severity", "info"),
				.batch = batch == NULL ? BATCH_DEFAULT : json_integer_value(batch),
				.ca = text_of(body, "ca", NULL),
				.certificate = text_of(body, "certificate", NULL),
				.key = text_of(body, "key", NULL),
				.secret = text_of(body, "secret", NULL)};
}

static void
answer_added(struct response *response, int64_t id, const struct sink_secret *secret)
{
	char text[128];
	int len = snprintf(text, sizeof text,
			   secret->made[0] == '\0' ? "{\"id\": %" PRId64 "}"
						   : "{\"id\": %" PRId64 ", \"secret\": \"%s\"}",
			   id, secret->made);

	response_json(response, (struct slice){(const uint8_t *)text, (size_t)len});
	response->status = 201;
}

/* The secret is bound to the tenant's name, which the database knows. */
static void
add(struct request *request, struct response *response, struct sink_wish *w, bool backlog)
{
	struct call tenant = {.query = QUERY_TENANT}, call = {.query = QUERY_SINK_ADD};
	struct sink_secret secret;
	char why[SINK_WHY_SIZE];
	uint64_t batch = htobe64((uint64_t)w->batch);
	PGresult *rows;
	char *name;

	if (query_run(request, response, &tenant, 1, &rows) < 0)
		return;
	name = strndup((const char *)query_bytes(rows, 0, 0).at, query_bytes(rows, 0, 0).len);
	PQclear(rows);
	w->tenant = name;
	if (!sink_wish_seal(w, request->vault, &secret, why)) {
		response_problem(response, PROBLEM_CONFLICT, "%s.", why);
		free(name);
		return;
	}
	call.params[call.n++] = param_text(w->name);
	call.params[call.n++] = param_text(w->kind);
	call.params[call.n++] = param_text(w->target);
	call.params[call.n++] = param_text(w->ca);
	call.params[call.n++] = param_text(w->certificate);
	call.params[call.n++] = secret.sealed == NULL ? param_text(NULL) : param_bytes(secret.sealed, secret.len);
	call.params[call.n++] = param_text(w->types);
	call.params[call.n++] = param_text(w->severity);
	call.params[call.n++] = param_bytes(&batch, sizeof batch);
	call.params[call.n++] = param_text(backlog ? "true" : "false");
	call.params[call.n++] = param_text(w->format != NULL ? w->format : sink_kind(w->kind)->format);
	if (query_run(request, response, &call, 1, &rows) == 0) {
		answer_added(response, query_int8(rows, 0, 0), &secret);
		PQclear(rows);
	}
	sink_secret_free(&secret);
	free(name);
}

void
api_sink_add(struct request *request, struct response *response)
{
	static const struct member members[] = {
		{"name", MEMBER_TEXT, true, 63},
		{"kind", MEMBER_TEXT, true, 63},
		{"format", MEMBER_TEXT, false, 63},
		{"target", MEMBER_TEXT, true, 2048},
		{"types", MEMBER_LIST, false, TYPES_MAX},
		{"severity", MEMBER_TEXT, false, 63},
		{"batch", MEMBER_NUMBER, false, 0},
		{"ca", MEMBER_TEXT, false, 16384},
		{"certificate", MEMBER_TEXT, false, 16384},
		{"key", MEMBER_TEXT, false, 16384},
		{"secret", MEMBER_TEXT, false, 1024},
		{"backlog", MEMBER_FLAG, false, 0},
	};
	const json_t *body = request->body.json;
	struct draft types = {0};
	struct sink_wish wish;
	char why[SINK_WHY_SIZE] = "types are words like device.fork or alert.*";

	if (body_check(body, response, members, sizeof members / sizeof *members) < 0)
		return;
	if (body_words(json_object_get(body, "types"), ',', &types)) {
		read_wish(body, types.at, &wish);
		if (sink_wish_ok(&wish, why))
			why[0] = '\0';
	}
	if (why[0] == '\0')
		add(request, response, &wish, json_is_true(json_object_get(body, "backlog")));
	else
		response_problem(response, PROBLEM_BAD_BODY, "%s.", why);
	draft_free(&types);
}

void
api_sink_delete(struct request *request, struct response *response)
{
	uint64_t id = request_number(request);
	struct call call = {.query = QUERY_SINK_DELETE, {param_bytes(&id, sizeof id)}, 1};

	query_remove(request, response, &call, "There is no such sink.");
}
