/*
 * The database of rpm, as librpm reads it in a child process: SQLite, ndb, or the former Berkeley DB. librpm is only loaded there.
 */
#ifndef FLEETSTATE_RPM_H
#define FLEETSTATE_RPM_H

#include <stdbool.h>

#include "emitter/child.h"
#include "emitter/text.h"
#include "schema/report.h"

/* Calls `take` for each package; texts are valid during the call only. `directory` is the database's, open. -1 with the reason in `why`. */
int rpm_read(int directory, void (*take)(void *, const struct component *, bool cut), void *context, char why[CHILD_WHY]) WARN_UNUSED;

#define RPM_MARK '\x1f'
/* What the child writes, a line a package: name, [epoch:]version-release, architecture, and the source package's file name, the mark between any two.
   false: it is none. */
bool rpm_line(struct slice line, struct component *) WARN_UNUSED;

#endif
