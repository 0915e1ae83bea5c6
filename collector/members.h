/*
 * JSON that is written as it goes: members, and what stands in them.
 */
#ifndef FLEETSTATE_COLLECTOR_MEMBERS_H
#define FLEETSTATE_COLLECTOR_MEMBERS_H

#include "collector/response.h"

/* Nothing after a bracket, else a comma. */
void member_comma(struct response *);
/* Nothing of what is not known. */
void member_text(struct response *, const char *name, struct slice);
void member_number(struct response *, const char *name, int64_t);

struct slice text_slice(const char *);
/* Where another system wants a text, and the device has not said it. */
struct slice or_unknown(struct slice);

#endif
