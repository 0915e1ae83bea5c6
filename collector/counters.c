#include "collector/counters.h"

#include <stdatomic.h>

static _Atomic int64_t values[COUNTERS];
static _Atomic int64_t refused[REASONS];

static const struct counter_row rows[COUNTERS] = {
#define COUNTER(symbol, name, kind, unit, help) {name, COUNTER_KIND_##kind, unit, help},
#include "collector/counters.def"
#undef COUNTER
};

void
counter_add(enum counter counter, int64_t n)
{
	atomic_fetch_add_explicit(&values[counter], n, memory_order_relaxed);
}

void
counter_set(enum counter counter, int64_t value)
{
	atomic_store_explicit(&values[counter], value, memory_order_relaxed);
}

int64_t
counter_get(enum counter counter)
{
	return atomic_load_explicit(&values[counter], memory_order_relaxed);
}

const struct counter_row *
counter_row(enum counter counter)
{
	return &rows[counter];
}

void
counter_refused(enum reason reason)
{
	atomic_fetch_add_explicit(&refused[reason], 1, memory_order_relaxed);
}

int64_t
counter_refused_get(enum reason reason)
{
	return atomic_load_explicit(&refused[reason], memory_order_relaxed);
}
