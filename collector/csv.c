#include "collector/csv.h"

#include <jansson.h>
#include <string.h>

#define NAME_SIZE 64

/* The next of the names; false at the end. */
static bool
next_name(const char **columns, char name[NAME_SIZE])
{
	size_t len;

	*columns += strspn(*columns, " ");
	len = strcspn(*columns, " ");
	if (len == 0 || len >= NAME_SIZE)
		return false;
	memcpy(name, *columns, len);
	name[len] = '\0';
	*columns += len;
	return true;
}

static void
print_escaped(struct response *response, const char *text)
{
	for (const char *quote; (quote = strchr(text, '"')) != NULL; text = quote + 1) {
		response_append(response, text, (size_t)(quote - text) + 1);
		response_text(response, "\"");
	}
	response_text(response, text);
}

/* OWASP's list of what begins a formula, once the cell's own spaces are left away. */
static bool
is_formula(const char *text)
{
	text += strspn(text, " ");
	return text[0] != '\0' && strchr("=+-@\t\r\n", text[0]) != NULL;
}

static void
print_text(struct response *response, const char *text)
{
	if (is_formula(text))
		response_text(response, "'");
	print_escaped(response, text);
}

static void
print_value(struct response *response, const json_t *value)
{
	size_t i;
	json_t *item;

	if (json_is_string(value))
		print_text(response, json_string_value(value));
	else if (json_is_integer(value))
		response_printf(response, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_boolean(value))
		response_text(response, json_is_true(value) ? "true" : "false");
	else if (json_is_array(value))
		json_array_foreach((json_t *)(uintptr_t)value, i, item)
		{
			response_text(response, i == 0 ? "" : " ");
			print_value(response, item);
		}
}

void
csv_head(struct response *response, const char *columns)
{
	char name[NAME_SIZE];

	for (bool first = true; next_name(&columns, name); first = false)
		response_printf(response, "%s%s", first ? "" : ",", name);
	response_text(response, "\r\n");
}

void
csv_row(struct response *response, struct slice object, const char *columns)
{
	json_t *json = json_loadb((const char *)object.at, object.len, 0, NULL);
	char name[NAME_SIZE];

	if (json == NULL)
		response->failed = true;
	for (bool first = true; next_name(&columns, name); first = false) {
		response_text(response, first ? "\"" : ",\"");
		print_value(response, json_object_get(json, name));
		response_text(response, "\"");
	}
	response_text(response, "\r\n");
	json_decref(json);
}
