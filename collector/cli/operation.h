/*
 * The table of what can be asked of a collector over HTTP: operations.def, with the parameters that routes.def gives each route, and what openapi.yaml
 * says of both.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_OPERATION_H
#define FLEETSTATE_COLLECTOR_CLI_OPERATION_H

#include <stdbool.h>
#include <stddef.h>

struct operation {
	const char *noun, *verb;	/* verb NULL: the noun is all */
	const char *method, *path;
	const char *help;
	const char *columns;		/* of a table, with commas between; NULL: all that there are */
};

enum operation_answer {
	ANSWER_JSON,	/* or nothing, or what a format asks for instead */
	ANSWER_TEXT,	/* of a form of its own */
	ANSWER_BYTES
};

extern const struct operation operations[];
extern const size_t operations_n;

/* The one that the words begin with, or NULL. */
const struct operation *operation_find(int argc, char **argv);
/* Names of its parameters, with spaces between, beside the tenant's. */
const char *operation_parameters(const struct operation *);
/* Names of what the items of its answer have, likewise; NULL: it is no list. */
const char *operation_items(const struct operation *);
/* Names of the headers that it takes, likewise; "": none. */
const char *operation_headers(const struct operation *);
/* Names of what its body must have, or may, likewise; NULL: nothing. */
const char *operation_members(const struct operation *, bool needed);
enum operation_answer operation_answer(const struct operation *);
/* What a parameter can be, likewise, and whether several of it may be given at once, with commas between; NULL: much. */
const char *operation_values(const struct operation *, const char *parameter, bool *several);
bool operation_takes(const struct operation *, const char *parameter);
/* How many variables its path has. */
int operation_variables(const struct operation *);

#endif
