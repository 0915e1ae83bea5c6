/*
 * Rows of comma-separated values (RFC 4180) from JSON objects, safe to open in a spreadsheet. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CSV_H
#define FLEETSTATE_COLLECTOR_CSV_H

#include "collector/response.h"

#define CSV_TYPE "text/csv; charset=utf-8; header=present"

/* The members of a device as lists have it (openapi.yaml, Device), in the order of their columns; only ever appended. */
#define CSV_DEVICE                                                                                                     \
	"ueid tenant serial vendor hwmodel hwversion oemid swname swversion kernel lifecycle posture reasons "         \
	"posture_since first_seen last_seen epoch seq interval_s support_until end_of_life state_digest "              \
	"inventory_digest unknowns labels"

/* `columns`: names of members, with spaces between. */
void csv_head(struct response *, const char *columns);
/* One row: the members' values, a list's with spaces between. What a spreadsheet would take for a formula begins with an apostrophe. */
void csv_row(struct response *, struct slice object, const char *columns);

#endif
