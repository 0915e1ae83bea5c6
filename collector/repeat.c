#include "collector/repeat.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "collector/routes.h"
#include "collector/vault.h"

/* The headers and types of what POST answers. */
static const char *const headers[] = {"Location", "ETag"};
static const char *const types[] = {"application/json", "application/problem+json"};

/* Ours, which stays where it is; NULL: none of them. */
static const char *
find(const char *const *words, size_t n, const char *word)
{
	for (size_t i = 0; word != NULL && i < n; i++)
		if (strcmp(words[i], word) == 0)
			return words[i];
	return NULL;
}
#define FIND(words, word) find(words, sizeof words / sizeof *words, word)

bool
repeat_key_ok(const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < len; i++)
		if (key[i] < '!' || key[i] > '~')
			return false;
	return len >= 1 && len <= REPEAT_KEY_MAX;
}

static void
hash_with(const char *purpose, const char *key, uint8_t hash[DIGEST_SIZE])
{
	uint8_t text[64 + REPEAT_KEY_MAX];
	size_t n = strlen(purpose), len = strlen(key);

	memcpy(text, purpose, n);
	memcpy(text + n, key, len);
	sha256((struct slice){text, n + len}, hash);
	OPENSSL_cleanse(text, sizeof text);
}

void
repeat_key_hash(const char *key, uint8_t hash[DIGEST_SIZE])
{
	hash_with("fleetstate repeat ", key, hash);
}

/* With its end, so that no two lists of texts are the same bytes. */
static void
add(struct draft *d, const char *text)
{
	draft_add(d, text, strlen(text) + 1);
}

void
repeat_digest(const struct request *request, uint8_t digest[DIGEST_SIZE])
{
	struct draft all = {0};

	add(&all, request->route->method);
	for (size_t i = 0; i < request->segments_len; i++)
		add(&all, request->segments[i]);
	add(&all, "?");
	for (size_t i = 0; i < request->parameters_len; i++) {
		add(&all, request->parameters[i].name);
		add(&all, request->parameters[i].value);
	}
	add(&all, "");
	draft_add(&all, request->body.text, request->body.len);
	/* Out of memory it is a request like no other: nothing is repeated, nothing done twice. */
	if (all.failed)
		memset(digest, 0, DIGEST_SIZE);
	else
		sha256((struct slice){(const uint8_t *)all.at, all.len}, digest);
	draft_free(&all);
}

static void
sealing_key(const struct request *request, struct vault_key *key)
{
	_Static_assert(sizeof key->at == DIGEST_SIZE, "the key is a hash");
	hash_with("fleetstate answer ", request->idempotency_key, key->at);
}

static json_t *
pack(const struct response *response)
{
	json_t *list = json_array();

	for (size_t i = 0; i < response->headers_len; i++)
		if (FIND(headers, response->headers[i].name) != NULL)
			json_array_append_new(
				list, json_pack("[s, s]", response->headers[i].name, response->headers[i].value));
	return json_pack("{s:i, s:i, s:s*, s:o, s:s%}", "status", (int)response->status, "problem",
			 (int)response->problem, "type", response->type, "headers", list, "body",
			 response->body == NULL ? "" : (const char *)response->body, response->len);
}

int
repeat_close(const struct request *request, const struct response *response, uint8_t **sealed, size_t *len)
{
	struct slice binding = {request->token, sizeof request->token};
	struct draft text = {0};
	struct vault_key key;

	*sealed = NULL;
	*len = 0;
	draft_json(&text, pack(response));
	if (!text.failed)
		*sealed = malloc(text.len + VAULT_OVERHEAD);
	if (*sealed != NULL) {
		sealing_key(request, &key);
		*len = vault_close(&key, binding, (struct slice){(const uint8_t *)text.at, text.len}, *sealed);
		OPENSSL_cleanse(&key, sizeof key);
	}
	if (text.at != NULL)
		OPENSSL_cleanse(text.at, text.size);
	draft_free(&text);
	return *len > 0 ? 0 : -1;
}

static int
unpack(const json_t *json, struct response *response)
{
	const json_t *list = json_object_get(json, "headers"), *body = json_object_get(json, "body");

	if (!json_is_string(body))
		return -1;
	response_free(response);
	response->status = (unsigned)json_integer_value(json_object_get(json, "status"));
	response->problem = (enum problem)json_integer_value(json_object_get(json, "problem"));
	response->type = FIND(types, json_string_value(json_object_get(json, "type")));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *pair = json_array_get(list, i);
		const char *name = FIND(headers, json_string_value(json_array_get(pair, 0)));
		const char *value = json_string_value(json_array_get(pair, 1));

		if (name != NULL && value != NULL)
			response_header(response, name, "%s", value);
	}
	response_header(response, "Idempotency-Replayed", "true");
	response_append(response, json_string_value(body), json_string_length(body));
	return 0;
}

int
repeat_open(const struct request *request, struct slice sealed, struct response *response)
{
	struct slice binding = {request->token, sizeof request->token};
	uint8_t *text = malloc(sealed.len + 1);
	struct vault_key key;
	json_t *json = NULL;
	int n = -1, rc;

	if (text != NULL) {
		sealing_key(request, &key);
		n = vault_open(&key, binding, sealed, text);
		OPENSSL_cleanse(&key, sizeof key);
	}
	if (n > 0)
		json = json_loadb((const char *)text, (size_t)n, 0, NULL);
	rc = unpack(json, response);
	json_decref(json);
	if (text != NULL)
		OPENSSL_cleanse(text, sealed.len);
	free(text);
	return rc;
}
