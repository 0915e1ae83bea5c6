/*
 * Our clock against the database's. Reports are dated and certificates judged by ours, so when the two are far apart no report is taken in and no receipt
 * is given: a wrong time would refuse good certificates and be stored for good. Any thread.
 */
#ifndef FLEETSTATE_COLLECTOR_CLOCK_H
#define FLEETSTATE_COLLECTOR_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_APART_MAX 60	/* seconds */

int64_t clock_us(clockid_t);	/* microseconds of any of the system's clocks */
int64_t clock_now_us(void);	/* microseconds since 1970 */
/* The database says that it is `there_us`, asked for between `before_us` and now on clock_steady_us(). Between such times the kernel's steady
   clock stands for the database's, so that a jump of ours shows at once. */
void clock_compare(int64_t there_us, int64_t before_us);
int64_t clock_steady_us(void);	/* goes on through suspension, and is never set */
int64_t clock_ms(void);		/* monotonic: for waits and their ends */
int64_t clock_s(void);		/* the same */
/* Whether ours is within CLOCK_APART_MAX of the database's. False before the first comparison. Logs each change. */
bool clock_is_right(void);
/* The same for /readyz: `why` holds 128 bytes; the context is not used. */
bool clock_ready(void *context, char *why);

#endif
