/*
 * The rows of one statement, as arrays, a column each: filled cell by cell, in the order of the statement's columns.
 */
#ifndef FLEETSTATE_COLLECTOR_ROWS_H
#define FLEETSTATE_COLLECTOR_ROWS_H

#include "collector/database.h"
#include "collector/store_sql.h"

struct rows {
	struct pg_array column[COLUMNS_MAX];
	int columns, at;
	size_t n;
};

/* A zeroed struct is fine. Keeps the memory, but for arrays that had grown out of the ordinary. */
void rows_empty(struct rows *, const char *columns);
void rows_free(struct rows *);
/* Whether an array could not hold all of it. */
bool rows_failed(const struct rows *);

/* Begins a row; then one cell after the other. Returns its argument. */
struct rows *row_begin(struct rows *);
void row_int(struct rows *, int64_t);
void row_time(struct rows *, int64_t us);
void row_slice(struct rows *, struct slice);	/* an absent slice is NULL */
void row_bytes(struct rows *, const void *, size_t len);
void row_text(struct rows *, const char *);
void row_null(struct rows *);

#endif
