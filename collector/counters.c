#include "collector/counters.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic int64_t values[COUNTERS];
static _Atomic int64_t refused[REASONS], problems[PROBLEMS];
static _Atomic int64_t took[COUNTER_BOUNDS + 1], took_sum;

static const int64_t bounds[COUNTER_BOUNDS] = {1000,   2500,   5000,    10000,   25000,   50000,   100000,
					       250000, 500000, 1000000, 2500000, 5000000, 10000000};

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
counter_took(int64_t us)
{
	size_t i = 0;

	while (i < COUNTER_BOUNDS && us > bounds[i])
		i++;
	atomic_fetch_add_explicit(&took[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&took_sum, us, memory_order_relaxed);
}

struct counter_latency
counter_latency(void)
{
	struct counter_latency latency = {.sum_us = atomic_load_explicit(&took_sum, memory_order_relaxed)};

	memcpy(latency.bound_us, bounds, sizeof bounds);
	for (size_t i = 0; i <= COUNTER_BOUNDS; i++)
		latency.n[i] = atomic_load_explicit(&took[i], memory_order_relaxed);
	return latency;
}

void
counter_problem(enum problem problem)
{
	atomic_fetch_add_explicit(&problems[problem], 1, memory_order_relaxed);
}

int64_t
counter_problem_get(enum problem problem)
{
	return atomic_load_explicit(&problems[problem], memory_order_relaxed);
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
