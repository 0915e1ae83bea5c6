#include "collector/etag.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct etag {
	bool weak;
	struct slice opaque; /* with its quotation marks */
};

/* RFC 9110 8.8.3: etagc. */
static bool
is_tag_character(char c)
{
	return (unsigned char)c > ' ' && c != '"' && c != 0x7f;
}

static const char *
skip_blanks(const char *at)
{
	return at + strspn(at, " \t");
}

/* Takes the next tag off a list. 0: it is at its end; -1: what comes is none. A tag holds no quotation mark, but may hold a comma. */
static int
next_tag(const char **list, struct etag *tag)
{
	const char *at = *list + strspn(*list, " \t,"), *end;

	if (*at == '\0')
		return 0;
	tag->weak = strncmp(at, "W/", 2) == 0;
	at += tag->weak ? 2 : 0;
	if (*at != '"')
		return -1;
	for (end = at + 1; is_tag_character(*end); end++)
		;
	if (*end != '"')
		return -1;
	tag->opaque = (struct slice){(const uint8_t *)at, (size_t)(++end - at)};
	*list = skip_blanks(end);
	return **list == '\0' || **list == ',' ? 1 : -1;
}

static bool
is_any(const char *list)
{
	list = skip_blanks(list);
	return *list == '*' && *skip_blanks(list + 1) == '\0';
}

bool
etag_list_ok(const char *list)
{
	struct etag tag;
	int next, n = 0;

	if (is_any(list))
		return true;
	while ((next = next_tag(&list, &tag)) > 0)
		n++;
	return next == 0 && n > 0;
}

bool
etag_is_listed(const char *list, const char *etag)
{
	struct etag own, tag;

	if (list == NULL || next_tag(&etag, &own) <= 0 || !etag_list_ok(list))
		return false;
	if (is_any(list))
		return true;
	while (next_tag(&list, &tag) > 0)
		if (tag.opaque.len == own.opaque.len && memcmp(tag.opaque.at, own.opaque.at, own.opaque.len) == 0)
			return true;
	return false;
}

static bool
is_of(const struct etag *tag, int64_t revision)
{
	char start[24];
	size_t len = (size_t)snprintf(start, sizeof start, "\"%" PRId64, revision);

	return tag->opaque.len > len && memcmp(tag->opaque.at, start, len) == 0 &&
	       (tag->opaque.at[len] == '"' || tag->opaque.at[len] == '.');
}

static bool
lists_revision(const char *list, int64_t revision, bool strongly)
{
	struct etag tag;

	if (revision == 0)
		return false;
	if (is_any(list))
		return true;
	while (next_tag(&list, &tag) > 0)
		if (is_of(&tag, revision) && !(strongly && tag.weak))
			return true;
	return false;
}

bool
etag_permits(const char *if_match, const char *if_none_match, int64_t revision)
{
	return (if_match == NULL || lists_revision(if_match, revision, true)) &&
	       (if_none_match == NULL || !lists_revision(if_none_match, revision, false));
}
