#include "collector/body.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "collector/import.h"

#define PLACES 8 /* of lists at once */

static size_t
skip_spaces(const char *at)
{
	return strspn(at, " \t");
}

/* That type, and in UTF-8 if it says. */
static bool
is_type(const char *content_type, const char *type)
{
	static const char charset[] = "charset=";
	size_t len;

	if (content_type == NULL || strncasecmp(content_type, type, strlen(type)) != 0)
		return false;
	content_type += strlen(type);
	content_type += skip_spaces(content_type);
	if (*content_type == '\0')
		return true;
	if (*content_type++ != ';')
		return false;
	content_type += skip_spaces(content_type);
	if (strncasecmp(content_type, charset, sizeof charset - 1) != 0)
		return false;
	content_type += sizeof charset - 1;
	len = strlen(content_type);
	return (len == 5 && strcasecmp(content_type, "utf-8") == 0) ||
	       (len == 7 && strcasecmp(content_type, "\"utf-8\"") == 0);
}

bool
body_is_json(const char *content_type)
{
	return is_type(content_type, "application/json");
}

bool
body_is_csv(const char *content_type)
{
	return is_type(content_type, "text/csv");
}

static pthread_mutex_t places_lock = PTHREAD_MUTEX_INITIALIZER;
static int32_t places[PLACES]; /* whose list is there; 0: nobody's */

/* PLACES: there is none, or the tenant has one already. */
static size_t
take_place(int32_t tenant_id)
{
	size_t place = PLACES;

	pthread_mutex_lock(&places_lock);
	for (size_t i = 0; i < PLACES; i++)
		if (places[i] == tenant_id) {
			place = PLACES;
			break;
		} else if (places[i] == 0) {
			place = i;
		}
	if (place < PLACES)
		places[place] = tenant_id;
	pthread_mutex_unlock(&places_lock);
	return place;
}

static void
leave_place(size_t place)
{
	pthread_mutex_lock(&places_lock);
	places[place] = 0;
	pthread_mutex_unlock(&places_lock);
}

enum problem
body_to_file(struct body *body, int32_t tenant_id)
{
	size_t place = take_place(tenant_id);

	if (place == PLACES)
		return PROBLEM_TOO_MANY_IMPORTS;
	body->file = tmpfile();
	if (body->file == NULL) {
		leave_place(place);
		return PROBLEM_INTERNAL;
	}
	body->place = place;
	return PROBLEM_NONE;
}

static int
add_to_list(struct body *body, const char *at, size_t len)
{
	if (body->file == NULL || len > IMPORT_BYTES - body->len || fwrite(at, 1, len, body->file) != len)
		return -1;
	body->len += len;
	return 0;
}

size_t
body_most(const struct body *body)
{
	return body->most > 0 ? body->most : BODY_MAX;
}

int
body_add(struct body *body, const char *at, size_t len)
{
	if (body->is_list)
		return add_to_list(body, at, len);
	if (len > BODY_READ * body_most(body) - body->len)
		return -1;
	if (body->text == NULL && (body->text = malloc(body_most(body))) == NULL)
		return -1;
	if (body->len + len <= body_most(body))
		memcpy(body->text + body->len, at, len);
	body->len += len;
	return 0;
}

int
body_parse(struct body *body, struct response *response)
{
	json_error_t error;

	if (body->len == 0 || body->is_list)
		return 0;
	if (body->len > body_most(body)) {
		response_problem(response, PROBLEM_CONTENT_TOO_LARGE, "A body has at most %zu bytes.", body_most(body));
		return -1;
	}
	body->json = json_loadb(body->text, body->len, JSON_REJECT_DUPLICATES, &error);
	if (body->json != NULL)
		return 0;
	/* jansson quotes what stands there, which may be anything. */
	error.text[strcspn(error.text, "'\r\n")] = '\0';
	response_problem(response, PROBLEM_BAD_BODY, "Line %d, column %d: %s.", error.line, error.column, error.text);
	response_member(response, "position", error.position);
	return -1;
}

void
body_free(struct body *body)
{
	if (body->file != NULL) {
		fclose(body->file);
		leave_place(body->place);
	}
	json_decref(body->json);
	free(body->text);
	memset(body, 0, sizeof *body);
}

static const struct member *
find(const char *name, const struct member *members, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

static const char *
wrong_with(const json_t *value, const struct member *member)
{
	switch (member->kind) {
	case MEMBER_TEXT:
		if (!json_is_string(value))
			return "a text is wanted";
		return json_string_length(value) > member->max ? "too long" : NULL;
	case MEMBER_NUMBER:
		return json_is_integer(value) ? NULL : "a whole number is wanted";
	case MEMBER_FLAG:
		return json_is_boolean(value) ? NULL : "true or false is wanted";
	case MEMBER_OBJECT:
		return json_is_object(value) ? NULL : "an object is wanted";
	case MEMBER_OBJECT_OR_NULL:
		return json_is_object(value) || json_is_null(value) ? NULL : "an object or null is wanted";
	case MEMBER_LIST:
		if (!json_is_array(value))
			return "a list is wanted";
		return json_array_size(value) > member->max ? "too many items" : NULL;
	}
	return NULL;
}

static int
refuse(struct response *response, const char *name, const char *why)
{
	response_problem(response, PROBLEM_BAD_BODY, "%.64s: %s.", name, why);
	return -1;
}

int
body_check(const json_t *json, struct response *response, const struct member *members, size_t n)
{
	if (json != NULL && !json_is_object(json))
		return refuse(response, "body", "an object is wanted");
	for (void *at = json_object_iter((json_t *)(uintptr_t)json); at != NULL;
	     at = json_object_iter_next((json_t *)(uintptr_t)json, at)) {
		const struct member *member = find(json_object_iter_key(at), members, n);
		const char *why =
			member == NULL ? "there is no such member" : wrong_with(json_object_iter_value(at), member);

		if (why != NULL)
			return refuse(response, json_object_iter_key(at), why);
	}
	for (size_t i = 0; i < n; i++)
		if (members[i].required && json_object_get(json, members[i].name) == NULL)
			return refuse(response, members[i].name, "it is missing");
	return 0;
}

bool
body_words(const json_t *list, char separator, struct draft *out)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *word = json_string_value(json_array_get(list, i));

		if (word == NULL || word[0] == '\0' || strchr(word, separator) != NULL)
			return false;
		draft_add(out, &separator, i > 0);
		draft_text(out, word);
	}
	draft_add(out, "", 1);
	return !out->failed;
}
