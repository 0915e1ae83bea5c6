/*
 * Devices as the database has them: each with its keys, the head of its ledger and its gaps.
 */
#ifndef FLEETSTATE_COLLECTOR_KEYRING_ROWS_H
#define FLEETSTATE_COLLECTOR_KEYRING_ROWS_H

#include "collector/keyring.h"

/* Its one parameter: ueids. */
extern const struct statement keyring_select;

/* A device's rows of its result: [from, to). */
struct keyring_rows {
	const PGresult *res;
	int from, to;
};

/* From {res, 0, 0} on: those of the next device, and who it is. False: there is none. */
bool keyring_rows_next(struct keyring_rows *, struct ueid *);
/* All but ueid and shard, into a struct of zeros. -1 when memory ran out: nothing is owned then. */
int keyring_rows_read(struct keyring_rows, struct device *) WARN_UNUSED;

#endif
