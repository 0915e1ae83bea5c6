#include "schema/reason.h"

#include <stddef.h>

static const struct {
	const char *name, *help;
	bool permanent;
} reasons[REASONS] = {
#define REASON(symbol, name, permanent, help) [REASON_##symbol] = {name, help, permanent},
#include "schema/reasons.def"
#undef REASON
};

const char *
reason_name(enum reason reason)
{
	return (size_t)reason < REASONS ? reasons[reason].name : "unknown";
}

const char *
reason_help(enum reason reason)
{
	return (size_t)reason < REASONS ? reasons[reason].help : "no reason of this list";
}

bool
reason_permanent(enum reason reason)
{
	return (size_t)reason < REASONS && reasons[reason].permanent;
}
