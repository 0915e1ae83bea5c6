/*
 * Commands that ask a collector over HTTP instead of its database: a row of operations.def, with the route's parameters as options.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_REMOTE_H
#define FLEETSTATE_COLLECTOR_CLI_REMOTE_H

#include "collector/cli/call.h"
#include "collector/cli/operation.h"

/* argv[0] is the last word of its name. Returns the program's status, or ends it. */
int remote_run(const struct operation *, const struct server *, int argc, char **argv);

#endif
