/*
 * Brings the database to this program's version: numbered migrations, each in one transaction, forward only. The SQL is in the binary.
 */
#ifndef FLEETSTATE_COLLECTOR_MIGRATE_H
#define FLEETSTATE_COLLECTOR_MIGRATE_H

#include "schema/slice.h"

/* Runs what is missing, as the owner, one program at a time. -1, logged: the database can't be reached, refuses, or is newer than this program. */
int migrate_run(const char *owner_uri) WARN_UNUSED;
/* Only looks, as any role. -1, logged: another version, or no answer. */
int migrate_check(const char *uri) WARN_UNUSED;
/* What migrate_run brings it to. */
int migrate_version(void);

#endif
