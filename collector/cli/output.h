/*
 * The file of --output. A regular one has what it had until the new is whole, which is written beside it and then takes its place; anything else, a pipe or
 * a device, is written as it comes. There is one at a time. What can't be done ends the program.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_OUTPUT_H
#define FLEETSTATE_COLLECTOR_CLI_OUTPUT_H

#include <stdio.h>

#define OUTPUT_FULL "the output takes no more"

FILE *output_open(const char *name);
/* What is written, and what comes yet, is in the file's place from now on. Without it nothing is left when the program ends. */
void output_settle(void);
/* Settles it too. */
void output_close(void);

#endif
