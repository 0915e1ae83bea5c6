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

/* OWASP's list of what begins a formula, once the cell's own spaces are left away; and how East Asian spreadsheets write the same. */
bool
csv_is_formula(struct slice text)
{
	static const char *const wide[] = {"\uff1d", "\uff0b", "\uff0d", "\uff20"};

	while (text.len > 0 && text.at[0] == ' ')
		text = (struct slice){text.at + 1, text.len - 1};
	if (text.len == 0)
		return false;
	for (size_t i = 0; text.at[0] == 0xef && text.len >= 3 && i < sizeof wide / sizeof *wide; i++)
		if (memcmp(text.at, wide[i], 3) == 0)
			return true;
	return memchr("=+-@\t\r\n", text.at[0], 7) != NULL;
}

void
csv_text(struct response *response, struct slice text)
{
	const uint8_t *quote;

	if (csv_is_formula(text))
		response_append(response, "'", 1);
	while (text.len > 0 && (quote = memchr(text.at, '"', text.len)) != NULL) {
		size_t len = (size_t)(quote - text.at) + 1;

		response_append(response, text.at, len);
		response_append(response, "\"", 1);
		text = (struct slice){text.at + len, text.len - len};
	}
	response_append(response, text.at, text.len);
}

static void
print_value(struct response *response, const json_t *value)
{
	size_t i;
	json_t *item;

	if (json_is_string(value))
		csv_text(response,
			 (struct slice){(const uint8_t *)json_string_value(value), json_string_length(value)});
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
