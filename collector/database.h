/*
 * A connection to PostgreSQL that comes back by itself, and the small amount of libpq that everybody needs. Not for sharing between threads.
 */
#ifndef FLEETSTATE_COLLECTOR_DATABASE_H
#define FLEETSTATE_COLLECTOR_DATABASE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/slice.h"

struct statement {
	const char *name, *sql;
	int params;
};

struct database;

/* Does not connect yet. The statements are prepared on every new connection; the table must outlive it. */
struct database *database_new(const char *uri, const struct statement *, size_t n) WARN_UNUSED;
void database_free(struct database *);
/* A working connection, or NULL after logging why (once per change) ; retries at most once a second. */
PGconn *database_connect(struct database *) WARN_UNUSED;
/* Which one that was: the first is 1. The server's process is no such number: a restarted server may give the same one again. */
unsigned database_connection(const struct database *);
/* Drops the connection after an error on it, so that the next connect starts anew. */
void database_drop(struct database *);
/* Whether the server ended the idle connection that database_connect gave, which shows without asking; waits so long for it to show. */
bool database_ended(struct database *, int wait_ms) WARN_UNUSED;
/* Drops one that the server ended while it was idle, so that the next statement does not fail for it. For who keeps nothing in its session: locks and what
   it listens to would be gone unnoticed. */
void database_recheck(struct database *);

/* Runs a prepared statement with text or binary parameters. Results are BINARY: read them with the result_ functions below. NULL, logged, if it
   failed; sqlstate is then in `state` when not NULL (6 bytes, "" when there is none: the connection broke). */
struct param {
	const void *at;		/* NULL: SQL NULL */
	int len;
	bool binary;
};
#define PARAM_NUMBER 24	/* bytes of its text, which lives as long as the parameter */
struct param param_number(char text[PARAM_NUMBER], int64_t) WARN_UNUSED;
struct param param_text(const char *) WARN_UNUSED;	/* NULL: SQL NULL */
struct param param_bytes(const void *, size_t) WARN_UNUSED;
PGresult *database_run(struct database *, const char *statement, const struct param *, int n, char *state) WARN_UNUSED;
/* The same for a statement that a module keeps to itself: prepared when first run on a connection. The statement must outlive the database. */
PGresult *database_query(struct database *, const struct statement *, const struct param *, int n, char *state) WARN_UNUSED;
int database_exec(struct database *, const char *sql) WARN_UNUSED;	/* BEGIN, COMMIT ...: 0/-1 */

/* One field of a binary result. NULL reads as 0, false or an absent slice; a field of another size than the type has asserts. Slices live as
   long as the result. Text and jsonb sent as ::text come as bytes. */
bool result_null(const PGresult *, int row, int column);
int64_t result_int(const PGresult *, int row, int column);		/* int2, int4, int8; of a bool 1 or 0 */
bool result_bool(const PGresult *, int row, int column);
int64_t result_time_us(const PGresult *, int row, int column);	/* timestamptz: microseconds since 1970; infinity: INT64_MAX, -MIN */
struct slice result_bytes(const PGresult *, int row, int column);	/* bytea, text */

/* Binary one-dimensional arrays for unnest(): one growing buffer each, reused from batch to batch. */
enum array_type { ARRAY_INT4, ARRAY_INT8, ARRAY_BYTEA, ARRAY_TEXT, ARRAY_TIMESTAMPTZ, ARRAY_BOOL, ARRAY_JSONB };
struct pg_array {
	enum array_type type;
	uint8_t *at;
	size_t len, size;
	int32_t items;
	bool failed;		/* memory ran out, or over 1 GiB: the statement it is given to then fails, nothing is cut short */
};
void pg_array_begin(struct pg_array *, enum array_type);	/* empties it, keeps the memory; zeroed struct is fine */
void pg_array_int(struct pg_array *, int64_t);			/* int4, int8, bool */
void pg_array_bytes(struct pg_array *, struct slice);		/* bytea, text, jsonb; an absent slice is NULL */
void pg_array_time_us(struct pg_array *, int64_t us_since_1970);
void pg_array_null(struct pg_array *);
struct param pg_array_param(struct pg_array *);
void pg_array_free(struct pg_array *);

#endif
