/*
 * What the emitter knows of itself: its settings, and what only it can tell; or, when it looks at an image, the settings that lie in it.
 */
#ifndef FLEETSTATE_SELF_H
#define FLEETSTATE_SELF_H

#include <stdbool.h>
#include <stdint.h>

#include "emitter/settings.h"

#define SELF_CONFIGURATION "etc/fleetstate/emitter.conf"	/* in an image */

struct runner;

struct self {
	const struct settings *settings;
	const char *configuration;	/* the file that they come from; NULL: none */
	struct runner *runner;		/* runs declared executables; NULL: nobody does */
	bool hears;			/* receipts */
	uint64_t receipts_ahead;	/* as in struct pipeline_status */
};

/* Whether a text option is set. */
bool self_is_set(const char *option);
/* Where a key lies: "file", "tpm2" or "pkcs11". */
const char *self_key_place(const char *uri);
/* The key's file, out of the same URI; NULL when it lies elsewhere, or none is set. */
const char *self_key_file(const char *uri);

#endif
