/*
 * Records of wtmp and btmp, utmp(5), as this machine's C library lays them out. Pure.
 */
#ifndef FLEETSTATE_UTMP_H
#define FLEETSTATE_UTMP_H

#include <stdbool.h>

#include "schema/slice.h"

struct utmp_record {
	bool is_login;		/* of a user; else a boot, a log-out, a terminal that waits; in btmp all are log-ins that failed */
	struct slice user, line, host;	/* absent when empty */
	uint64_t at;		/* seconds since 1970 */
};

size_t utmp_record_size(void);
/* The next whole record; false: there is none. */
bool utmp_next(struct slice *bytes, struct utmp_record *) WARN_UNUSED;

#endif
