#include "schema/reason.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	bool permanent;
} reasons[REASONS] = {
#define REASON(symbol, name, permanent, help) [REASON_##symbol] = {name, permanent},
#include "schema/reasons.def"
#undef REASON
};

const char *
reason_name(enum reason reason)
{
	return (size_t)reason < REASONS ? reasons[reason].name : "unknown";
}

bool
reason_is(const char *name)
{
	for (size_t i = REASON_OK + 1; i < REASONS; i++)
		if (strcmp(reasons[i].name, name) == 0)
			return true;
	return false;
}

bool
reason_permanent(enum reason reason)
{
	return (size_t)reason < REASONS && reasons[reason].permanent;
}
