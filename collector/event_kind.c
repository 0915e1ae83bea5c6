#include "collector/event_kind.h"

#include <string.h>

#include "collector/words.h"

static const struct event_kind kinds[] = {
#define EVENT_KIND(type, class, activity, member, kind, categories, types, title)                                      \
	{type, OCSF_##class, activity, member, kind, categories, types, title},
#include "collector/event_kinds.def"
#undef EVENT_KIND
};

static const struct event_kind other = {"*", OCSF_ENTITY, 99, "", "event", "host", "info", "Something happened"};

const char event_words[] =
#define EVENT_KIND(type, class, activity, member, kind, categories, types, title) " " type
#include "collector/event_kinds.def"
#undef EVENT_KIND
	;

static struct slice
type_of(const struct event_kind *kind)
{
	return (struct slice){(const uint8_t *)kind->type, strlen(kind->type)};
}

bool
event_type_fits(struct slice type, struct slice word)
{
	size_t len = word.len;

	if (len >= 2 && memcmp(word.at + len - 2, ".*", 2) == 0)
		return type.len >= len - 1 && memcmp(type.at, word.at, len - 1) == 0;
	return type.len == len && memcmp(type.at, word.at, len) == 0;
}

const struct event_kind *
event_kind(struct slice type)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (event_type_fits(type, type_of(&kinds[i])))
			return &kinds[i];
	return &other;
}

static bool
is_family(const struct event_kind *kind)
{
	return kind->type[strlen(kind->type) - 1] == '*';
}

#define KIND_DIGITS 20 /* of the greatest number that a report can name a kind by */

/* "device.event." and the number of a kind. */
static bool
is_numbered(struct slice type)
{
	static const char start[] = "device.event.";
	size_t at = sizeof start - 1;

	if (type.len <= at || type.len > at + KIND_DIGITS || memcmp(type.at, start, at) != 0 || type.at[at] == '0')
		return false;
	while (at < type.len && type.at[at] >= '0' && type.at[at] <= '9')
		at++;
	return at == type.len;
}

bool
event_type_is(struct slice type)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!is_family(&kinds[i]) && word_is(type, kinds[i].type))
			return true;
	return is_numbered(type);
}

bool
event_word_is(struct slice word)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (event_type_fits(type_of(&kinds[i]), word))
			return true;
	return is_numbered(word);
}
