/*
 * One transaction of ingest: the rows that it writes and the questions asked before it, on a connection of its own. Two round trips, all of the
 * statements in the first and the COMMIT in the second; and it can be told afterwards whether a COMMIT that nobody answered went through.
 */
#ifndef FLEETSTATE_COLLECTOR_TRANSACTION_H
#define FLEETSTATE_COLLECTOR_TRANSACTION_H

#include "collector/rows.h"

struct transaction;

enum outcome {
	DONE,
	AGAIN,	/* the environment: as it is, later */
	STUCK,	/* the database says no and may go on saying it: as it is a few times, then in halves */
	LARGE,	/* more than a statement can hold: in halves */
	MOVED,	/* another collector moved a row: read anew, judge anew */
	DATA,	/* the database refuses a row */
	DOUBT,	/* the connection was lost after COMMIT was sent: ask transaction_fate */
};

enum fate { FATE_UNKNOWN, FATE_ABORTED, FATE_COMMITTED };

struct transaction *transaction_new(const char *uri) WARN_UNUSED;
void transaction_free(struct transaction *);
/* From any thread: from now on no answer is waited for long. */
void transaction_give_up(struct transaction *);

/* Connected, and set up. -1: not now. */
int transaction_connect(struct transaction *) WARN_UNUSED;
/* For what reads through the same connection. */
struct database *transaction_database(struct transaction *);

/* Forgets all rows. */
void transaction_empty(struct transaction *);
struct rows *transaction_row(struct transaction *, enum write);	/* begins one */
struct rows *transaction_question(struct transaction *, enum read);	/* likewise */
/* Without a row there is nothing to ask or to write. */
bool transaction_asks(const struct transaction *, enum read);
bool transaction_writes(const struct transaction *, enum write first, enum write end);

/* NULL, logged, if it failed. */
PGresult *transaction_ask(struct transaction *, enum read) WARN_UNUSED;
/* Runs those of the statements that have rows, from `first` up to but not `end`. */
enum outcome transaction_run(struct transaction *, enum write first, enum write end) WARN_UNUSED;
/* Rows that a statement of the last one affected. */
long transaction_affected(const struct transaction *, enum write);
/* After DOUBT, with the rows as they were. */
enum fate transaction_fate(struct transaction *) WARN_UNUSED;

#endif
