/*
 * `fleetstate verify --manifest`: whether an export is what the collector gave out.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_VERIFY_MANIFEST_H
#define FLEETSTATE_COLLECTOR_CLI_VERIFY_MANIFEST_H

#include <stdbool.h>

/* The export's file (- is standard input) against the manifest's. Prints the outcome; CLI_YES or CLI_NO. Ends the program when a file can't be read. */
int verify_manifest(const char *file, const char *manifest, const char *operator_ca, bool json);

#endif
