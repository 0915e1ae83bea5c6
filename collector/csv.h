/*
 * Rows of comma-separated values (RFC 4180) from JSON objects, safe to open in a spreadsheet. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CSV_H
#define FLEETSTATE_COLLECTOR_CSV_H

#include "collector/response.h"

/* `columns`: names of members, with spaces between. */
void csv_head(struct response *, const char *columns);
/* One row: the members' values, a list's with spaces between. What a spreadsheet would take for a formula begins with an apostrophe. */
void csv_row(struct response *, struct slice object, const char *columns);

#endif
