/*
 * Asks systemd over its bus. libsystemd is loaded when it is first needed: most devices that run no systemd never load it.
 */
#ifndef FLEETSTATE_SYSTEMD_H
#define FLEETSTATE_SYSTEMD_H

#include <stdbool.h>

#include "schema/slice.h"

/* Calls `take` with the name of each failed unit. `address`: of the bus, as D-Bus spells it; NULL: systemd's own socket or else the system bus.
   -1 with the reason, when it could not be asked or does not answer within a second. */
int
systemd_failed_units(const char *address, void (*take)(void *, const char *unit), void *, const char **why) WARN_UNUSED;

#endif
