#include "collector/purl_search.h"

#include <string.h>
#include <strings.h>

#include "collector/request.h"
#include "collector/words.h"
#include "schema/purl.h"

#define SCHEME "pkg:"
/* Types whose namespaces, and those whose names too, are written small. */
#define SMALL_NAMESPACES "deb apk rpm opkg"
#define SMALL_NAMES "deb apk"

static char
small(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool
is_letter(char c)
{
	return small(c) >= 'a' && small(c) <= 'z';
}

static void
put(struct purl_search *p, char c)
{
	p->text[p->len++] = c;
}

/* Up to `end`, decoded and encoded again. NULL: it is empty, or has a % that is none; else `end`. */
static const char *
put_part(struct purl_search *p, const char *at, const char *end, bool is_small)
{
	if (at == end)
		return NULL;
	for (; at < end; at++) {
		char c = *at;

		if (c == '%') {
			int high = hex_digit(at[1]), low = high < 0 ? -1 : hex_digit(at[2]);

			if (low < 0 || (high << 4 | low) == 0)
				return NULL;
			c = (char)(high << 4 | low);
			at += 2;
		}
		p->len += purl_encode((uint8_t)(is_small ? small(c) : c), p->text + p->len);
	}
	return end;
}

static const char *
end_of(const char *at, const char *ends)
{
	return at + strcspn(at, ends);
}

/* "deb/": small letters. NULL: it is none. */
static const char *
take_type(struct purl_search *p, const char *at)
{
	const char *end = end_of(at, "/@?#");

	if (*end != '/' || !is_letter(*at))
		return NULL;
	for (; at < end; at++) {
		if (!is_letter(*at) && !(*at >= '0' && *at <= '9') && *at != '.' && *at != '-')
			return NULL;
		put(p, small(*at));
	}
	put(p, '/');
	return end + 1;
}

/* Each part of the namespace, and the name. NULL: there is no name, or a part is none. */
static const char *
take_name(struct purl_search *p, const char *at, const char *type, size_t len)
{
	bool small_namespace = words_have(SMALL_NAMESPACES, type, len), small_name = words_have(SMALL_NAMES, type, len);
	const char *end = end_of(at, "/@?#");
	size_t begin, where;

	for (; *end == '/'; at = end + 1, end = end_of(at, "/@?#")) {
		if (put_part(p, at, end, small_namespace) == NULL)
			return NULL;
		put(p, '/');
	}
	begin = p->len;
	if (put_part(p, at, end, small_name) == NULL || p->len - begin >= sizeof p->name)
		return NULL;
	memcpy(p->name, p->text + begin, p->len - begin);
	p->name[p->len - begin] = '\0';
	return percent_decode(p->name, false, &where) == NULL ? end : NULL;
}

/* "?arch=amd64&distro=bookworm". NULL: one of them has no value. */
static const char *
take_qualifiers(struct purl_search *p, const char *at)
{
	const char *equals, *end;

	do {
		put(p, *at++);
		end = end_of(at, "&#");
		equals = memchr(at, '=', (size_t)(end - at));
		if (equals == NULL || put_part(p, at, equals, true) == NULL)
			return NULL;
		put(p, '=');
		if (put_part(p, equals + 1, end, false) == NULL)
			return NULL;
		at = end;
	} while (*at == '&');
	return at;
}

bool
purl_search_parse(const char *text, struct purl_search *p, size_t *where, const char **why)
{
	const char *at = text, *next;
	size_t type, type_len;

	p->len = *where = 0;
	*why = "it has more than 1,024 bytes";
	if (strlen(text) > LIMIT_PURL)
		return false;
	*why = "it begins with pkg: and a type, as pkg:deb/debian/openssl does";
	if (strncasecmp(text, SCHEME, strlen(SCHEME)) != 0)
		return false;
	for (const char *c = SCHEME; *c != '\0'; c++)
		put(p, *c);
	at += strlen(SCHEME);
	at += strspn(at, "/"); /* clause 5.6.1 */
	type = p->len;
	next = take_type(p, at);
	if (next != NULL) {
		type_len = p->len - 1 - type;
		*why = "a part of a name is not empty, and in UTF-8; behind % stand two hexadecimal digits";
		at = next;
		next = take_name(p, at, p->text + type, type_len);
	}
	if (next != NULL && *next == '@') {
		*why = "behind @ stands a version";
		at = next + 1;
		put(p, '@');
		next = put_part(p, at, end_of(at, "?#"), false);
	}
	if (next != NULL && *next == '?') {
		*why = "qualifiers are key=value, with & between";
		at = next;
		next = take_qualifiers(p, at);
	}
	if (next != NULL && *next == '#') {
		*why = "of what lies within a package nothing is known";
		at = next;
		next = NULL;
	}
	p->text[p->len] = '\0';
	*where = (size_t)(at - text);
	return next != NULL;
}
