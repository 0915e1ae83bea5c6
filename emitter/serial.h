/*
 * Serial lines on which the kernel listens or somebody can log in.
 */
#ifndef FLEETSTATE_SERIAL_H
#define FLEETSTATE_SERIAL_H

#include "emitter/probes.h"

/* Pure. "ttyS0", "ttyAMA1", "hvc0": no virtual terminal ("tty1"), nothing longer than 31 bytes. */
bool serial_is(struct slice terminal);
/* Pure. The terminal that a line of inittab(5) starts a log-in on: a serial one, or "console" for the kernel's. false: none. */
bool inittab_parse(struct slice line, struct slice *terminal) WARN_UNUSED;

/* Sets interfaces.serial_consoles, or says why they are not known. */
void serial_observe(struct probe *);

#endif
