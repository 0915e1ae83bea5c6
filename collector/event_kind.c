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

static bool
fits(const char *row, struct slice type)
{
	size_t len = strlen(row);

	if (row[len - 1] == '*')
		return type.len >= len - 1 && memcmp(row, type.at, len - 1) == 0;
	return word_is(type, row);
}

const struct event_kind *
event_kind(struct slice type)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (fits(kinds[i].type, type))
			return &kinds[i];
	return &other;
}

static bool
is_family(const struct event_kind *kind)
{
	return kind->type[strlen(kind->type) - 1] == '*';
}

/* "device.event." and the number of a kind. */
static bool
is_numbered(struct slice type)
{
	static const char start[] = "device.event.";
	size_t at = sizeof start - 1;

	if (type.len <= at || memcmp(type.at, start, at) != 0 || type.at[at] == '0')
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
