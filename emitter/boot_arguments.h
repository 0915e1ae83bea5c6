/*
 * What the kernel was started with; of an image, what its boot configuration will start it with.
 */
#ifndef FLEETSTATE_BOOT_ARGUMENTS_H
#define FLEETSTATE_BOOT_ARGUMENTS_H

#include "emitter/probes.h"

typedef void boot_argument(void *, struct slice value);

/* Pure. Calls `take` with the value of each word `name=value` (or with an empty one for the bare `name`), in any text whose words stand between
   blanks and quotes: a command line, an entry of a boot loader, grub.cfg. "-" and "_" are the same in names. */
void boot_arguments_find(struct slice text, const char *name, boot_argument *take, void *);

/* The same in /proc/cmdline or, where there is none, in what an image has for boot configuration. false: there is neither. */
bool boot_arguments(struct probe *, const char *name, boot_argument *take, void *);
/* Whether the last such argument has one of these values, between blanks. */
bool boot_argument_is(struct probe *, const char *name, const char *values);

#endif
