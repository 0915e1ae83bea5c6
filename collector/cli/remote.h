/*
 * Commands that ask a collector over HTTP instead of its database: a row of operations.def, with the route's parameters as options.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_REMOTE_H
#define FLEETSTATE_COLLECTOR_CLI_REMOTE_H

#include <stdio.h>

#include "collector/cli/call.h"
#include "collector/cli/operation.h"

/* argv[0] is the last word of its name. Returns the program's status, or ends it. */
int remote_run(const struct operation *, const struct server *, int argc, char **argv);
/* "device show UEID": name and operands, in one line without its end. */
void remote_print_name(const struct operation *, FILE *);
/* Tells of each of its options: "limit", and what can stand there, with spaces between, and whether several may, with commas; NULL: much, or nothing. */
void remote_list_options(const struct operation *, void (*tell)(const char *name, const char *values, bool several));

#endif
