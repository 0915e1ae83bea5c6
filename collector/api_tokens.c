/* A tenant's tokens, and the sessions of browsers that signed in with one. */
#include <endian.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "collector/client_certificate.h"
#include "collector/draft.h"
#include "collector/page.h"
#include "collector/routes.h"

#define SCOPES_MAX 32

void
api_tokens(struct request *request, struct response *response)
{
	page_list(request, response, QUERY_TOKENS);
}

/* Those that there are, with spaces between; a list that is there names one. */
static bool
join_scopes(const json_t *list, struct draft *out)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));

		if (name == NULL || scope_parse(name, strlen(name)) == SCOPE_ANY)
			return false;
	}
	return (list == NULL || json_array_size(list) > 0) && body_words(list, ' ', out);
}

/* What is wrong with the wish, or NULL. */
static const char *
find_fault(const json_t *body)
{
	const char *role_name = json_string_value(json_object_get(body, "role"));
	const char *expires = json_string_value(json_object_get(body, "expires_at"));
	const char *certificate = json_string_value(json_object_get(body, "certificate"));
	enum role role;

	if (!role_parse(role_name, &role))
		return "role is viewer, analyst, admin or operator";
	if (json_string_length(json_object_get(body, "name")) == 0)
		return "name is empty";
	if (certificate != NULL && !certificate_mark_ok(certificate))
		return "certificate is fingerprint:, uri:, dns:, email: or subject: and what stands in it";
	return expires == NULL || is_time(expires) ? NULL : "expires_at is a time as RFC 3339 has it";
}

/* {"requests": 10} and the like. */
static const char *
quota_fault(const json_t *quota)
{
	static const struct {
		const char *name;
		json_int_t most;
	} rows[] = {{"requests", 1000000}, {"bytes", INT64_C(1) << 36}, {"exports", 1000}};
	const json_t *value;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)quota, key, value)
	{
		size_t i = 0;

		while (i < sizeof rows / sizeof *rows && strcmp(rows[i].name, key) != 0)
			i++;
		if (i == sizeof rows / sizeof *rows || !json_is_integer(value) || json_integer_value(value) < 0 ||
		    json_integer_value(value) > rows[i].most)
			return "quota has requests and bytes a second and exports at once, as numbers";
	}
	return NULL;
}

static void
add(struct request *request, struct response *response, const char *scopes)
{
	const json_t *body = request->body.json;
	const char *certificate = json_string_value(json_object_get(body, "certificate"));
	char *quota = json_dumps(json_object_get(body, "quota"), JSON_COMPACT);
	struct call call = {.query = QUERY_TOKEN_ADD};
	uint8_t hash[DIGEST_SIZE];
	char token[TOKEN_SIZE];
	PGresult *rows;

	if (token_make(TOKEN_PREFIX, token, hash) < 0) {
		response->failed = true;
		goto out;
	}
	call.params[call.n++] = param_bytes(request->token, sizeof request->token);
	call.params[call.n++] = param_bytes(hash, sizeof hash);
	call.params[call.n++] = param_text(json_string_value(json_object_get(body, "role")));
	call.params[call.n++] = param_text(json_string_value(json_object_get(body, "name")));
	call.params[call.n++] = param_text(scopes);
	call.params[call.n++] = param_text(json_string_value(json_object_get(body, "expires_at")));
	call.params[call.n++] = param_text(certificate);
	call.params[call.n++] = param_text(quota);
	if (query_run(request, response, &call, 1, &rows) == 0) {
		response_json(response, (struct slice){NULL, 0});
		response_printf(response, "{\"id\":%" PRId64, query_int8(rows, 0, 0));
		if (certificate == NULL)
			response_printf(response, ",\"token\":\"%s\"", token);
		response_text(response, "}");
		response->status = 201;
		PQclear(rows);
	}
	OPENSSL_cleanse(token, sizeof token);
out:
	free(quota);
}

void
api_token_add(struct request *request, struct response *response)
{
	static const struct member members[] = {
		{"tenant", MEMBER_TEXT, false, 63},     {"role", MEMBER_TEXT, true, 15},
		{"name", MEMBER_TEXT, true, 255},       {"scopes", MEMBER_LIST, false, SCOPES_MAX},
		{"expires_at", MEMBER_TEXT, false, 63}, {"certificate", MEMBER_TEXT, false, 1024},
		{"quota", MEMBER_OBJECT, false, 3},
	};
	const json_t *body = request->body.json;
	struct draft scopes = {0};
	const char *fault;

	if (body_check(body, response, members, sizeof members / sizeof *members) < 0)
		return;
	fault = find_fault(body);
	if (fault == NULL && !join_scopes(json_object_get(body, "scopes"), &scopes))
		fault = "scopes are words like devices or state";
	if (fault == NULL)
		fault = quota_fault(json_object_get(body, "quota"));
	if (fault == NULL)
		add(request, response, scopes.at);
	else
		response_problem(response, PROBLEM_BAD_BODY, "%s.", fault);
	draft_free(&scopes);
}

void
api_token_revoke(struct request *request, struct response *response)
{
	uint64_t id = request_number(request);
	struct call call = {.query = QUERY_TOKEN_REVOKE,
			    {param_bytes(request->token, sizeof request->token), param_bytes(&id, sizeof id)},
			    2};

	query_remove(request, response, &call, "There is no such token.");
}

/* Who is signed in, and with a session what its page has to show. */
static void
answer_session(struct response *response, struct slice item, const char *session)
{
	char csrf[TOKEN_SIZE];

	if (item.at == NULL) { /* revoked meanwhile */
		response_problem(response, PROBLEM_UNAUTHORIZED, "%s", "");
		return;
	}
	response_json(response, (struct slice){item.at, item.len - 1});
	if (session != NULL) {
		session_csrf(session, csrf);
		response_printf(response, ",\"csrf\":\"%s\"", csrf);
	}
	response_text(response, "}");
}

void
api_session(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_SESSION, {param_bytes(request->token, sizeof request->token)}, 1};
	PGresult *rows;

	if (query_run(request, response, &call, 1, &rows) < 0)
		return;
	answer_session(response, query_bytes(rows, 0, 0), request->by_session ? request->session : NULL);
	PQclear(rows);
}

void
api_session_open(struct request *request, struct response *response)
{
	uint8_t hash[DIGEST_SIZE];
	char session[TOKEN_SIZE];
	struct call calls[] = {
		{.query = QUERY_SESSION_OPEN,
		 {param_bytes(request->token, sizeof request->token), param_bytes(hash, sizeof hash)},
		 2},
		{.query = QUERY_SESSION, {param_bytes(hash, sizeof hash)}, 1},
	};
	PGresult *rows[2];

	if (body_check(request->body.json, response, NULL, 0) < 0)
		return;
	if (token_make(SESSION_PREFIX, session, hash) < 0) {
		response->failed = true;
		return;
	}
	if (query_run(request, response, calls, 2, rows) == 0) {
		answer_session(response, query_bytes(rows[1], 0, 0), session);
		response->status = 201;
		response_header(response, "Set-Cookie",
				SESSION_COOKIE "=%s; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=%d", session,
				SESSION_SECONDS);
		PQclear(rows[0]);
		PQclear(rows[1]);
	}
	OPENSSL_cleanse(session, sizeof session);
}

void
api_session_close(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_SESSION_CLOSE, {param_bytes(request->token, sizeof request->token)}, 1};

	query_remove(request, response, &call, "A token is no session.");
	if (response->problem == PROBLEM_NONE)
		response_header(response, "Set-Cookie",
				SESSION_COOKIE "=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
}
