#include "collector/request.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/auth.h"
#include "collector/code_point.h"
#include "collector/packer.h"
#include "collector/words.h"

#define NAME_SIZE 32 /* no parameter of ours has a name as long */

int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Control characters have no business in a name or a filter, and U+0000 would cut it short. */
static const char *
find_fault(const char *text, size_t len, size_t *character)
{
	*character = 1;
	for (size_t at = 0, n; at < len; at += n, ++*character) {
		uint32_t c = code_point((const uint8_t *)text + at, len - at, &n);

		if (c < 0x20 || c == 0x7f)
			return "it is a control character";
		if (c == CODE_POINT_NONE && n == 1)
			return "it is no UTF-8";
	}
	return NULL;
}

const char *
percent_decode(char *text, bool plus, size_t *character)
{
	const char *fault, *cut = NULL;
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		if (*from == '%') {
			int high = hex_digit(from[1]);
			int low = high < 0 ? -1 : hex_digit(from[2]);

			if (low < 0) {
				cut = "two hexadecimal digits follow %";
				break;
			}
			*to++ = (char)(high << 4 | low);
			from += 2;
		} else {
			*to++ = *from == '+' && plus ? ' ' : *from;
		}
	}
	*to = '\0';
	fault = find_fault(text, (size_t)(to - text), character);
	return fault != NULL ? fault : cut;
}

static enum problem __attribute__((format(printf, 3, 4)))
refuse(struct request *request, size_t position, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(request->fault.text, sizeof request->fault.text, format, args);
	va_end(args);
	request->fault.position = position;
	return PROBLEM_BAD_TARGET;
}

static enum problem
parse_path(char *path, struct request *request)
{
	for (char *at = path + 1, *slash;; at = slash + 1) {
		const char *fault;
		size_t position;

		if (request->segments_len == REQUEST_SEGMENTS)
			return PROBLEM_NOT_FOUND;
		slash = strchr(at, '/');
		if (slash != NULL)
			*slash = '\0';
		fault = percent_decode(at, false, &position);
		if (fault != NULL)
			return refuse(request, position, "Segment %zu of the path, from character %zu on: %s.",
				      request->segments_len + 1, position, fault);
		request->segments[request->segments_len++] = at;
		if (slash == NULL)
			return PROBLEM_NONE;
	}
}

/* How its reader knows it. */
static void
call_parameter(const char *text, size_t number, char name[NAME_SIZE])
{
	if (text[0] != '\0' && strlen(text) < NAME_SIZE)
		strcpy(name, text);
	else
		snprintf(name, NAME_SIZE, "Parameter %zu", number);
}

static enum problem
parse_parameter(char *text, struct request *request)
{
	size_t number = request->parameters_len + 1, position;
	char *value = strchr(text, '='), name[NAME_SIZE];
	const char *fault;

	if (value != NULL)
		*value++ = '\0';
	fault = percent_decode(text, true, &position);
	if (fault != NULL)
		return refuse(request, position, "The name of parameter %zu, from character %zu on: %s.", number,
			      position, fault);
	call_parameter(text, number, name);
	if (value == NULL)
		return refuse(request, 0, "%s has no = behind it.", name);
	fault = percent_decode(value, true, &position);
	if (fault != NULL)
		return refuse(request, position, "%s, from character %zu on: %s.", name, position, fault);
	/* Which one counts is anybody's guess. */
	if (request_parameter(request, text) != NULL)
		return refuse(request, 0, "%s is there twice.", name);
	if (request->parameters_len == REQUEST_PARAMETERS)
		return refuse(request, 0, "More than %d parameters.", REQUEST_PARAMETERS);
	request->parameters[request->parameters_len++] = (struct parameter){text, value};
	return PROBLEM_NONE;
}

static enum problem
parse_query(char *query, struct request *request)
{
	char *rest = NULL;

	for (char *one = strtok_r(query, "&", &rest); one != NULL; one = strtok_r(NULL, "&", &rest)) {
		enum problem problem = parse_parameter(one, request);

		if (problem != PROBLEM_NONE)
			return problem;
	}
	return PROBLEM_NONE;
}

enum problem
request_parse(const char *target, struct request *request)
{
	size_t len = strlen(target);
	enum problem problem;
	char *query;

	if (len > REQUEST_TARGET || (request->target_most > 0 && len > request->target_most))
		return PROBLEM_TARGET_TOO_LONG;
	memcpy(request->target, target, len + 1);
	request->segments_len = request->parameters_len = 0;
	request->fault.text[0] = '\0';
	request->fault.position = 0;
	if (request->target[0] != '/')
		return refuse(request, 0, "The path begins with /.");
	query = strchr(request->target, '?');
	if (query != NULL)
		*query++ = '\0';
	problem = parse_path(request->target, request);
	if (problem == PROBLEM_NONE && query != NULL)
		problem = parse_query(query, request);
	return problem;
}

/* The parameter that begins there says only where a reader stands. */
static bool
is_place(const char *at)
{
	return strncmp(at, "cursor=", 7) == 0 || strncmp(at, "after=", 6) == 0;
}

static size_t
note(const char *from, size_t len, char *to, size_t room)
{
	size_t n = 0;

	for (; n < len && n < room; n++)
		to[n] = (char)(from[n] > ' ' && from[n] <= '~' ? from[n] : '?');
	return n;
}

/* Of what looks like a secret only the beginning stays: somebody may have put it into the wrong place. */
static void
hide_secrets(char *text)
{
	static const char *const prefixes[] = {TOKEN_PREFIX, SESSION_PREFIX, "eyJ"};
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		for (char *at = text; (at = strstr(at, prefixes[i])) != NULL; at += strlen(prefixes[i])) {
			size_t len = strspn(at, digits);

			if (len >= HINT_SIZE)
				memmove(at + HINT_SIZE - 1, at + len, strlen(at + len) + 1);
		}
}

void
request_note(const char *target, char noted[NOTED_SIZE])
{
	const char *at = target + strcspn(target, "?");
	size_t len = note(target, (size_t)(at - target), noted, NOTED_SIZE - 1);
	bool first = true;

	while (*at != '\0') {
		size_t n = strcspn(++at, "&");

		if (!is_place(at)) {
			len += note(first ? "?" : "&", 1, noted + len, NOTED_SIZE - 1 - len);
			len += note(at, n, noted + len, NOTED_SIZE - 1 - len);
			first = false;
		}
		at += n;
	}
	noted[len] = '\0';
	hide_secrets(noted);
}

/* As far as the text is like the pattern, in which 0 stands for any digit: what is behind it. NULL: it is not like it. */
static const char *
skip_like(const char *text, const char *pattern)
{
	for (; *pattern != '\0'; pattern++, text++) {
		bool digit = *text >= '0' && *text <= '9';

		if (*pattern == '0' ? !digit : (*text | 0x20) != (*pattern | 0x20))
			return NULL;
	}
	return text;
}

static int
number_at(const char *at, int digits)
{
	int n = 0;

	while (digits-- > 0)
		n = n * 10 + *at++ - '0';
	return n;
}

/* Whether the calendar has the day, and a day the time. */
static bool
is_moment(const char *text)
{
	struct tm said = {0}, found;

	if (strptime(text, "%Y-%m-%d", &said) == NULL || strptime(text + strlen("0000-00-00T"), "%T", &said) == NULL ||
	    said.tm_sec > 60 || number_at(text, 4) == 0)
		return false;
	said.tm_sec = 0; /* 60 is a second, of the next minute for timegm */
	found = said;
	(void)timegm(&found);
	return found.tm_mday == said.tm_mday;
}

bool
is_time(const char *text)
{
	const char *at = strlen(text) > TIME_MAX ? NULL : skip_like(text, "0000-00-00T00:00:00"), *offset;

	if (at == NULL || !is_moment(text))
		return false;
	if (*at == '.') {
		size_t digits = strspn(at + 1, "0123456789");

		if (digits == 0)
			return false;
		at += 1 + digits;
	}
	if (*at == 'Z' || *at == 'z')
		return at[1] == '\0';
	if (*at != '+' && *at != '-')
		return false;
	offset = at + 1; /* of which the database takes no more */
	at = skip_like(offset, "00:00");
	return at != NULL && *at == '\0' && number_at(offset, 2) < 16 && number_at(offset + 3, 2) < 60;
}

int
request_device(const struct request *request, struct response *response, struct ueid *ueid)
{
	const char *text = request->variables[0];

	if (ueid_parse((struct slice){(const uint8_t *)text, strlen(text)}, ueid))
		return 0;
	response_problem(response, PROBLEM_NOT_FOUND, "There is no such device.");
	return -1;
}

size_t
label_fault(const char *text)
{
	const char *equals = strchr(text, '=');

	if (text[0] == '\0' || text[0] == ':')
		return 1;
	return equals == NULL ? 0 : code_points(text, (size_t)(equals - text)) + 1;
}

bool
count_parse(const char *text, int64_t most, int64_t *count)
{
	size_t digits = strspn(text, "0123456789"), room = 1;
	int64_t n;

	for (int64_t left = most; left > 9; left /= 10)
		room++;
	n = digits > 0 && digits <= room && text[digits] == '\0' ? strtoll(text, NULL, 10) : -1;
	if (n < 0 || n > most)
		return false;
	*count = n;
	return true;
}

size_t
count_fault(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return text[digits] == '\0' ? 1 : digits + 1;
}

uint64_t
number_parse(const char *text)
{
	int64_t n;

	return text[0] != '0' && count_parse(text, COUNT_MAX, &n) ? htobe64((uint64_t)n) : 0;
}

uint64_t
request_number(const struct request *request)
{
	return number_parse(request->variables[0]);
}

void
request_free(struct request *request)
{
	body_free(&request->body);
	free(request->reading.components);
	tally_free(request->reading.tally);
	packer_free(request->reading.packer);
}

const char *
request_parameter(const struct request *request, const char *name)
{
	for (size_t i = 0; i < request->parameters_len; i++)
		if (strcmp(request->parameters[i].name, name) == 0)
			return request->parameters[i].value;
	return NULL;
}

int
request_words(const struct request *request, struct response *response, const char *name, const char *words)
{
	const char *text = request_parameter(request, name), *left = text;
	struct slice word;

	while (words_next(&left, &word)) {
		size_t position = (size_t)((const char *)word.at - text) + 1;

		if (!words_have(words, (const char *)word.at, word.len))
			return response_bad_parameter(
				response, position,
				"%s, from character %zu on: it is some of these, with commas between: %s.", name,
				position, words + strspn(words, " "));
	}
	return 0;
}
