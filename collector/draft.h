/*
 * A text that grows: what formats write into. When memory runs out it stays as it was, and says so in the end.
 */
#ifndef FLEETSTATE_COLLECTOR_DRAFT_H
#define FLEETSTATE_COLLECTOR_DRAFT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "schema/slice.h"

struct draft {
	char *at;	/* not ended by a zero */
	size_t len, size;
	bool failed;
};

void draft_empty(struct draft *);	/* keeps the memory; a zeroed struct is fine */
void draft_free(struct draft *);
void draft_add(struct draft *, const void *, size_t);
void draft_text(struct draft *, const char *);
void draft_slice(struct draft *, struct slice);
void draft_printf(struct draft *, const char *format, ...) __attribute__((format(printf, 2, 3)));	/* at most 255 bytes */
void draft_hex(struct draft *, struct slice);
/* With its quotes. Of UTF-8, as the database gives it: anything below a space, the quote and the backslash are escaped. */
void draft_json_string(struct draft *, struct slice);
/* Takes the value over. NULL fails, as a want of memory does. */
void draft_json(struct draft *, json_t *);

#endif
