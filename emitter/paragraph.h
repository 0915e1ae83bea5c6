/*
 * Debian's control files (deb822(5)), in pieces as they are read: paragraphs of "Name: value" lines, an empty line between two of them.
 */
#ifndef FLEETSTATE_PARAGRAPH_H
#define FLEETSTATE_PARAGRAPH_H

#include <stdbool.h>

#include "emitter/text.h"
#include "schema/slice.h"

#define PARAGRAPH_FIELDS 12
#define PARAGRAPH_TEXT 1024	/* of a value; the rest is cut */

struct paragraph_field {
	uint8_t at[PARAGRAPH_TEXT];
	size_t len;
	bool cut;
};

/* Begin with zeros but for the first four. */
struct paragraphs {
	const char *const *names;	/* of the fields that are wanted, whatever their case */
	size_t len;
	void (*take)(void *, struct paragraphs *);	/* a paragraph that has any field at all ends */
	void *context;
	struct text_feed feed;
	struct paragraph_field fields[PARAGRAPH_FIELDS];
	size_t last;	/* the field that a line beginning with a blank goes on with; `len`: none of ours */
	bool any;
};

void paragraphs_feed(struct paragraphs *, struct slice piece);
void paragraphs_end(struct paragraphs *);	/* the file's end */
/* What the paragraph at hand says; lines of one value are joined by '\n'. Empty: nothing. */
struct slice paragraph_field(const struct paragraphs *, size_t field);

#endif
