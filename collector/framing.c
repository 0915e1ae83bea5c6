#include "collector/framing.h"

#include <string.h>
#include <strings.h>

#include "collector/auth.h"

/* RFC 9110 5.6.2. One reader takes "Content-Length " for a length, and another not. */
static bool
is_token(const char *name)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	return name[0] != '\0' && name[strspn(name, token)] == '\0';
}

static bool
is_text(const char *value)
{
	for (; *value != '\0'; value++)
		if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f)
			return false;
	return true;
}

static bool
is_length(const char *value)
{
	return value[0] != '\0' && value[strspn(value, "0123456789")] == '\0';
}

/* One reader takes the first of two, another the last. */
static const char *const once[] = {"Authorization", "Cookie",   "Origin",        "Fleetstate-CSRF", "Idempotency-Key",
				   "Content-Type",  "If-Match", "If-None-Match", "Last-Event-ID"};

static void
count_once(struct framing *framing, const char *name)
{
	for (size_t i = 0; i < sizeof once / sizeof *once; i++)
		if (strcasecmp(name, once[i]) == 0) {
			framing->twice |= (framing->once & 1u << i) != 0;
			framing->once |= 1u << i;
		}
}

/* Sites beside ours can't set it; but who sends two wants one reader to take the other. */
static bool
has_two_sessions(const char *cookies)
{
	const char *first = strstr(cookies, SESSION_COOKIE "=");

	return first != NULL && strstr(first + 1, SESSION_COOKIE "=") != NULL;
}

void
framing_add(struct framing *framing, const char *name, const char *value)
{
	if (value == NULL)
		value = "";
	framing->bad_name |= !is_token(name);
	framing->bad_value |= !is_text(value);
	count_once(framing, name);
	framing->twice |= strcasecmp(name, "Cookie") == 0 && has_two_sessions(value);
	if (strcasecmp(name, "Host") == 0)
		framing->hosts++;
	if (strcasecmp(name, "Content-Length") == 0) {
		framing->lengths++;
		framing->bad_length |= !is_length(value);
	}
	if (strcasecmp(name, "Transfer-Encoding") == 0) {
		framing->encodings++;
		framing->bad_encoding |= strcasecmp(value, "chunked") != 0;
	}
}

const char *
framing_fault(const struct framing *framing, const char *version)
{
	if (framing->bad_name)
		return "A header's name is none";
	if (framing->bad_value)
		return "A header's value has control characters";
	if (framing->hosts > 1)
		return "It names several hosts";
	if (framing->twice)
		return "A header that says who asks, or for what, is there twice";
	if (framing->lengths > 1 || framing->bad_length)
		return "It does not say once how long it is";
	if (framing->encodings > 1 || framing->bad_encoding)
		return "Its Transfer-Encoding is not chunked";
	if (framing->encodings > 0 && framing->lengths > 0)
		return "It says in two ways how long it is";
	if (framing->encodings > 0 && strcmp(version, "HTTP/1.0") == 0)
		return "HTTP/1.0 knows no Transfer-Encoding";
	return NULL;
}
