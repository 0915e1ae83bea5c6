/*
 * Rows of comma-separated values (RFC 4180) from JSON objects, safe to open in a spreadsheet. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CSV_H
#define FLEETSTATE_COLLECTOR_CSV_H

#include "collector/response.h"

#define CSV_TYPE "text/csv; charset=utf-8; header=present"

/* `columns`: names of members, with spaces between. */
void csv_head(struct response *, const char *columns);
/* One row: the members' values, a list's with spaces between. */
void csv_row(struct response *, struct slice object, const char *columns);
/* Whether a spreadsheet would take it for a formula. */
bool csv_is_formula(struct slice);
/* What stands between the quotes of a cell. What a spreadsheet would take for a formula begins with an apostrophe. */
void csv_text(struct response *, struct slice);

#endif
