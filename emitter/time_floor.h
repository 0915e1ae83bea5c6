/*
 * A time that is known to be over, whatever the device's clock says: this program was built then, the certificate that it signs with was made, or the
 * collector wrote a receipt. It goes on with the steady clock. Our own reports say nothing here: a clock that once was ahead would never be right again.
 */
#ifndef FLEETSTATE_TIME_FLOOR_H
#define FLEETSTATE_TIME_FLOOR_H

#include <stdint.h>

struct time_floor {
	uint64_t known;		/* seconds since 1970 */
	int64_t known_at;	/* milliseconds of the monotonic clock */
};

void time_floor_init(struct time_floor *, int64_t now);
void time_floor_raise(struct time_floor *, uint64_t seconds, int64_t now);	/* if that is later */
uint64_t time_floor_at(const struct time_floor *, int64_t now);

#endif
