/*
 * What apt's files below the root say of updating: shared by the probes of what waits and of how updating is set up.
 */
#ifndef FLEETSTATE_UPDATE_APT_H
#define FLEETSTATE_UPDATE_APT_H

#include "emitter/apt_conf.h"
#include "emitter/probes.h"

/* Each calls its function for what all files of the kind hold, in the order in which apt reads them. */
void apt_each_setting(struct probe *, void (*take)(void *, const char *name, struct slice value), void *);
void apt_each_source(struct probe *, void (*take)(void *, const struct apt_source *), void *);
/* Calls `take` for each path of `directory` whose name ends in one of `ends`, sorted; NULL ends the list, "" is any name that run-parts would take. */
void each_file(struct probe *, const char *directory, const char *const *ends, void (*take)(void *, const char *path), void *);

void apt_pending(struct probe *);	/* pending, pending_security, pending_names */

#endif
