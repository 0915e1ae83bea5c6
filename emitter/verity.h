#ifndef FLEETSTATE_VERITY_H
#define FLEETSTATE_VERITY_H

#include "emitter/probes.h"

/* Sets boot.verity, or says why it is not known. */
void verity_observe(struct probe *);

#endif
