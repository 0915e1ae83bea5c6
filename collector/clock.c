#include "collector/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "schema/log.h"

#define UNKNOWN INT64_MIN

static _Atomic int64_t offset = UNKNOWN; /* the database's time less the steady clock's */
static atomic_bool told_apart;

int64_t
clock_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
clock_now_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t
clock_steady_us(void)
{
	return clock_us(CLOCK_BOOTTIME);
}

int64_t
clock_ms(void)
{
	return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_s(void)
{
	return clock_us(CLOCK_MONOTONIC) / 1000000;
}

void
clock_compare(int64_t there_us, int64_t before_us)
{
	/* It was asked for somewhere between; the middle errs by half an answer's time at most. */
	atomic_store(&offset, there_us - before_us - (clock_steady_us() - before_us) / 2);
}

/* Microseconds that ours is ahead of the database's. */
static int64_t
ahead(int64_t known_offset)
{
	return clock_now_us() - clock_steady_us() - known_offset;
}

bool
clock_is_right(void)
{
	int64_t known = atomic_load(&offset), by;
	bool right;

	if (known == UNKNOWN)
		return false;
	by = ahead(known);
	right = by >= -INT64_C(1000000) * CLOCK_APART_MAX && by <= INT64_C(1000000) * CLOCK_APART_MAX;
	if (atomic_exchange(&told_apart, !right) == right) {
		if (right)
			log_info("clock: agrees with the database's again");
		else
			log_error("clock: %lld seconds ahead of the database's: no report is taken in until they agree",
				  (long long)(by / 1000000));
	}
	return right;
}

bool
clock_ready(void *context, char *why)
{
	int64_t known = atomic_load(&offset);

	(void)context;
	if (clock_is_right())
		return true;
	if (known == UNKNOWN)
		snprintf(why, 128, "not compared with the database's yet");
	else
		snprintf(why, 128, "%lld seconds ahead of the database's", (long long)(ahead(known) / 1000000));
	return false;
}
