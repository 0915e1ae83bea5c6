/*
 * What a maker states in the configuration: "name=value; name=value". Pure, and bounded by the text.
 */
#ifndef FLEETSTATE_STATED_H
#define FLEETSTATE_STATED_H

#include "schema/slice.h"

#define STATED_NAME 64	/* bytes of a name: letters, digits and ._- */
#define STATED_VALUE 256	/* bytes of a value, which has no control characters */

enum stated { STATED_END, STATED_ONE, STATED_WRONG };

/* Takes the next statement off `text`: its parts, without blanks around them, or STATED_WRONG and why. Empty ones are passed over. */
enum stated stated_next(struct slice *text, struct slice *name, struct slice *value, const char **why) WARN_UNUSED;

#endif
