#include "collector/event_kind.h"

#include <stdbool.h>
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
