/*
 * The collector's numbers: counters.def, and one counter for each reason to refuse and each problem. Any thread, any time; relaxed atomics.
 */
#ifndef FLEETSTATE_COLLECTOR_COUNTERS_H
#define FLEETSTATE_COLLECTOR_COUNTERS_H

#include <stdint.h>

#include "collector/response.h"
#include "schema/reason.h"

enum counter {
#define COUNTER(symbol, name, kind, unit, help) COUNTER_##symbol,
#include "collector/counters.def"
#undef COUNTER
	COUNTERS
};

enum counter_kind { COUNTER_KIND_counter, COUNTER_KIND_gauge };

struct counter_row {
	const char *name;	/* without the prefix fleetstate_ */
	enum counter_kind kind;
	const char *unit, *help;	/* unit: bytes, seconds, or empty; the name ends with it */
};

void counter_add(enum counter, int64_t);
void counter_set(enum counter, int64_t);	/* gauges */
int64_t counter_get(enum counter);
const struct counter_row *counter_row(enum counter);

/* How long reports took from their arrival to the commit of their batch, in microseconds: counted up to each bound, and above the last. */
#define COUNTER_BOUNDS 13
struct counter_latency {
	int64_t bound_us[COUNTER_BOUNDS];
	int64_t n[COUNTER_BOUNDS + 1];	/* not yet added up */
	int64_t sum_us;
};
void counter_took(int64_t us);
struct counter_latency counter_latency(void);

/* Problems that were answered to HTTP requests. */
void counter_problem(enum problem);
int64_t counter_problem_get(enum problem);

void counter_refused(enum reason);
int64_t counter_refused_get(enum reason);

#endif
