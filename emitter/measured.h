/*
 * The files that the maker wants to be measured: their digests, and whether they are what their package installed. What did not change since is
 * not read again.
 */
#ifndef FLEETSTATE_MEASURED_H
#define FLEETSTATE_MEASURED_H

#include "emitter/probes.h"

struct measured;

void measured_free(struct measured *);	/* NULL is fine */
/* Sets integrity.measured_files and packaged_altered, or says why they are not known. What it keeps between sweeps is the probe's `measured`. */
void measured_observe(struct probe *);

/* Pure. A line of dpkg's md5sums: "d41d8cd98f00b204e9800998ecf8427e  usr/bin/x". */
bool md5sums_parse(struct slice line, uint8_t md5[16], struct slice *path) WARN_UNUSED;

#endif
