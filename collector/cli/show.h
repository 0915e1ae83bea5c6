/*
 * What a collector told, as a table for people, or as JSON or CSV for scripts: whole, or page by page as it comes.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_SHOW_H
#define FLEETSTATE_COLLECTOR_CLI_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum show_as { SHOW_TABLE, SHOW_JSON, SHOW_CSV };

struct show {
	FILE *out;
	enum show_as as;
	const char *fields; /* those members only, with commas between; NULL: all */
	const char *members; /* what items are known to have, with spaces between; NULL: that is seen from the first page alone */
	const char *usual; /* those columns of a table, if no fields are wanted and it is a list; NULL: all */
	int room; /* how wide a table may be; 0: as wide as it is */
	bool lines; /* JSON: one item a line, of a list without an end */
	/* What it keeps. */
	json_t *columns; /* names, and how wide each is */
	json_t *left_out; /* names, for want of room */
	size_t items;
};

/* The next page of a list. */
void show_items(struct show *, const json_t *items);
/* After the last. */
void show_end(struct show *);
/* An object that is no list; in a table with a line for each member, also of objects in it. */
void show_object(struct show *, const json_t *);
/* One with a list of `items`, and more to say: in a table that comes first, as CSV the items are all. */
void show_with_items(struct show *, const json_t *);
void show_free(struct show *);

/* Characters, not bytes: what stands in a cell is UTF-8. */
int show_width(const char *text);
/* What came from a device must not move the cursor of somebody's terminal. */
void show_cell(FILE *, const char *text, int room);

#endif
