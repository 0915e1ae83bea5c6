#include "emitter/time_floor.h"

#include "schema/limits.h"

#ifndef FLEETSTATE_BUILT
#define FLEETSTATE_BUILT UINT64_C(1767225600) /* 2026 */
#endif

void
time_floor_init(struct time_floor *f, int64_t now)
{
	f->known = FLEETSTATE_BUILT;
	f->known_at = now;
}

void
time_floor_raise(struct time_floor *f, uint64_t seconds, int64_t now)
{
	if (seconds <= time_floor_at(f, now) || seconds > LIMIT_IAT)
		return;
	f->known = seconds;
	f->known_at = now;
}

uint64_t
time_floor_at(const struct time_floor *f, int64_t now)
{
	return f->known + (uint64_t)(now - f->known_at) / 1000;
}
