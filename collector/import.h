/*
 * A list of devices as comma-separated values (RFC 4180), to be registered: piece by piece, a document a line, or what is wrong with it. Pure.
 * The first line names the columns, in any order: ueid, which must be there, serial, model, lifecycle, and labels as key=value with spaces between.
 */
#ifndef FLEETSTATE_COLLECTOR_IMPORT_H
#define FLEETSTATE_COLLECTOR_IMPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/slice.h"

#define IMPORT_BYTES (16 * 1024 * 1024)	/* of a list: a hundred thousand devices with all columns filled in */
#define IMPORT_ROWS 100000	/* of a list: what one transaction makes in a minute */
#define IMPORT_CELL 4096	/* bytes: sixteen labels are half of it */
#define IMPORT_BATCH 1000	/* devices that go to the database at once */
#define IMPORT_FAULTS 100	/* that are told of; the others are counted */

struct import;

struct import_sink {
	/* A line's document; only to be read. What may stand in it is the database's to judge. */
	void (*row)(void *context, uint64_t line, const json_t *document);
	/* What is wrong: `column` may be "". */
	void (*fault)(void *context, uint64_t line, const char *column, const char *problem);
	void *context;
};

struct import *import_new(const struct import_sink *) WARN_UNUSED;
void import_free(struct import *);
/* The next bytes. False: nothing more is looked at, as a fault said. */
bool import_feed(struct import *, const char *, size_t len);
/* After the last of them. */
void import_end(struct import *);

/* The faults of a list, in the order in which they were found, as a problem and the command line tell them. Zeroed is empty. */
struct import_faults {
	json_t *list;	/* owned: of at most IMPORT_FAULTS {"line", "column", "problem"} */
	uint64_t n;	/* of all */
};
void import_fault_add(struct import_faults *, uint64_t line, const char *column, const char *problem);
void import_faults_free(struct import_faults *);

#endif
