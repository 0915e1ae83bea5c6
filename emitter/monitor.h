/*
 * The device's own verdict: from the facts, the status of each key element of NISTIR 8259 Table 1, and whether the device is as expected.
 */
#ifndef FLEETSTATE_MONITOR_H
#define FLEETSTATE_MONITOR_H

#include "schema/facts.h"

/* Sets the facts of `elements` and `verdict` from all the others. Pure. */
void monitor_judge(struct facts *);

#endif
