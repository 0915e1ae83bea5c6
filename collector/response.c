#include "collector/response.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/code_point.h"

#define DETAIL_SIZE 1280 /* all types of events */

static const struct {
	const char *name;
	unsigned status;
	const char *title;
} problems[PROBLEMS] = {
#define PROBLEM(symbol, name, status, title) [PROBLEM_##symbol] = {name, status, title},
#include "collector/problems.def"
#undef PROBLEM
};

const char *
problem_name(enum problem problem)
{
	return problems[problem].name;
}

int
response_grow(struct response *r, size_t more)
{
	size_t most = r->most > 0 ? r->most : RESPONSE_MAX, size = r->size == 0 ? 4096 : r->size;
	uint8_t *body;

	if (r->failed)
		return -1;
	r->failed = true;
	r->too_large = more > most - r->len;
	if (r->too_large)
		return -1;
	while (size - r->len < more)
		size *= 2;
	size = size < most ? size : most; /* what is appended within it is not looked at again */
	body = realloc(r->body, size);
	if (body == NULL)
		return -1;
	r->failed = false;
	r->body = body;
	r->size = size;
	return 0;
}

void
response_string(struct response *out, struct slice text)
{
	static const char digits[] = "0123456789abcdef";
	size_t from = 0;

	response_append(out, "\"", 1);
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];

		if (c >= ' ' && c != '"' && c != '\\')
			continue;
		char escape[6] = {'\\', c < ' ' ? 'u' : (char)c, '0', '0', digits[c >> 4], digits[c & 15]};

		response_append(out, text.at + from, i - from);
		response_append(out, escape, c < ' ' ? 6 : 2);
		from = i + 1;
	}
	response_append(out, text.at + from, text.len - from);
	response_append(out, "\"", 1);
}

void
response_printf(struct response *r, const char *format, ...)
{
	va_list args;
	char *text;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0) {
		r->failed = true;
		return;
	}
	response_append(r, text, (size_t)len);
	free(text);
}

void
response_header(struct response *r, const char *name, const char *format, ...)
{
	va_list args;
	char *value;
	int len;

	va_start(args, format);
	len = vasprintf(&value, format, args);
	va_end(args);
	if (len < 0 || r->headers_len == RESPONSE_HEADERS) {
		r->failed = true;
		if (len >= 0)
			free(value);
		return;
	}
	r->headers[r->headers_len].name = name;
	r->headers[r->headers_len++].value = value;
}

void
response_json(struct response *r, struct slice json)
{
	response_free(r);
	r->status = 200;
	r->type = "application/json";
	response_append(r, json.at, json.len);
}

void
response_empty(struct response *r)
{
	response_free(r);
	r->status = 204;
}

/* What was cut inside a character ends before it. */
static void
end_whole(char *text)
{
	size_t len = strlen(text), last = len > 0 ? len - 1 : 0, n;

	while (last > 0 && ((unsigned char)text[last] & 0xc0) == 0x80)
		last--;
	if (len > 0 && code_point((const uint8_t *)text + last, len - last, &n) == CODE_POINT_NONE && n == 1)
		text[last] = '\0';
}

void
response_problem(struct response *r, enum problem problem, const char *format, ...)
{
	char detail[DETAIL_SIZE], type[64];
	va_list args;
	char *text;

	va_start(args, format);
	vsnprintf(detail, sizeof detail, format, args);
	va_end(args);
	end_whole(detail);
	snprintf(type, sizeof type, "urn:fleetstate:problem:%s", problems[problem].name);
	response_free(r);
	r->problem = problem;
	r->status = problems[problem].status;
	r->type = "application/problem+json";
	if (problem == PROBLEM_UNAUTHORIZED)
		response_header(r, "WWW-Authenticate", "Bearer realm=\"fleetstate\"");
	json_t *json = json_pack("{s:s, s:s, s:i, s:s*}", "type", type, "title", problems[problem].title, "status",
				 (int)problems[problem].status, "detail", detail[0] == '\0' ? NULL : detail);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	if (text == NULL)
		return;
	response_text(r, text);
	free(text);
}

void
response_member(struct response *r, const char *name, int64_t number)
{
	if (r->len == 0)
		return;
	r->len--;
	response_printf(r, ",\"%s\":%" PRId64 "}", name, number);
}

int
response_bad_parameter(struct response *r, size_t position, const char *format, ...)
{
	char detail[DETAIL_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof detail, format, args);
	va_end(args);
	response_problem(r, PROBLEM_BAD_PARAMETER, "%s", detail);
	if (position > 0)
		response_member(r, "position", (int64_t)position);
	return -1;
}

void
response_member_json(struct response *r, const char *name, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	if (r->len > 0 && text != NULL) {
		r->len--;
		response_printf(r, ",\"%s\":", name);
		response_text(r, text);
		response_text(r, "}");
	}
	free(text);
}

void
response_free(struct response *r)
{
	size_t most = r->most;

	for (size_t i = 0; i < r->headers_len; i++)
		free(r->headers[i].value);
	free(r->body);
	memset(r, 0, sizeof *r);
	r->most = most;
}
