/*
 * Stores batches, a transaction each: admit, learn, judge, record, commit; the SQL is in store_sql.c. A batch that the environment fails is tried again
 * for as long as it takes, one that holds a row the database refuses is halved until only that row is refused, and one that the database does not take
 * for a reason that may stay is halved until what is at fault is left to its device.
 */
#ifndef FLEETSTATE_COLLECTOR_STORE_H
#define FLEETSTATE_COLLECTOR_STORE_H

#include "collector/judge.h"
#include "collector/settings.h"

struct store;

/* Told after each commit, in the store's thread: dockets are judged and committed, messages have their final reason and verdict. */
typedef void store_committed(void *context, const struct judge *, struct message **, size_t n);

struct store *store_new(const struct settings *, struct keyring *, store_committed *, void *context) WARN_UNUSED;
void store_free(struct store *);

/* Stores a batch. -1: given up, because store_give_up was called and the database does not answer. */
int store_batch(struct store *, struct message **, size_t n) WARN_UNUSED;
/* From any thread: from now on a database that fails is not waited for. */
void store_give_up(struct store *);
/* This device's keys or lifecycle changed, or those of we don't know which: all. Any thread. */
void store_reload(struct store *, const struct ueid *);
void store_reload_all(struct store *);
/* Reads what was so named anew, or some of it: true when there is more; false also when the database fails, and it is for the next call. The thread
   of store_batch, between batches. */
bool store_reload_now(struct store *);

#endif
