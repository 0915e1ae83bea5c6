/*
 * A whole list that goes out in pieces, one for each call of its route's function. A piece is made by one statement, whose rows are printed as they come;
 * no transaction is open while it is sent.
 */
#ifndef FLEETSTATE_COLLECTOR_EXPORT_H
#define FLEETSTATE_COLLECTOR_EXPORT_H

#include "collector/query.h"

struct export_source {
	const char *type; /* of the body; static */
	bool limited; /* its statement looks into many states, as a preview does */
	void (*head)(void *context, struct response *); /* of the first piece: what goes before its rows */
	/* The statement of so many rows from where the reading stands. What it points to lives as the context does. */
	void (*ask)(void *context, int64_t rows, struct call *);
	/* Prints a row, counts it in reading.told if it is one to be told, and notes where to go on behind it. True: there is more behind it, even if it is
	   the last that came and they are fewer than were asked for. */
	bool (*row)(void *context, struct response *, const PGresult *);
	void (*tail)(void *context, struct response *); /* behind the last row of all */
	void *context;
};

/* Makes the next piece: an answer that streams, or a problem; nothing if the reading has ended. */
void export_piece(struct request *, struct response *, const struct export_source *);

#endif
