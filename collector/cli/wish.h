/*
 * What a command of operations.def was called with, its options and operands, and the request that they make. What is called wrongly ends the program.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_WISH_H
#define FLEETSTATE_COLLECTOR_CLI_WISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "collector/cli/call.h"
#include "collector/cli/operation.h"

#define WISH_OPTIONS_MAX 48
#define WISH_NAME_SIZE 32

/* Options that are no parameter of a route. */
enum wish_own {
	WISH_JSON,
	WISH_CSV,
	WISH_FIELDS,
	WISH_OUTPUT,
	WISH_BODY,
	WISH_TYPE,
	WISH_FOLLOW,
	WISH_IF_MATCH,
	WISH_IF_NONE_MATCH,
	WISH_IDEMPOTENCY_KEY,
	WISH_LAST_EVENT_ID,
	WISH_OWNS
};

struct chosen {
	char name[WISH_NAME_SIZE];		/* as it is written here */
	char parameter[WISH_NAME_SIZE];		/* as the route has it */
	enum wish_own own;			/* WISH_OWNS: it is a parameter */
	bool takes;
	const char *value;			/* NULL: not given */
};

struct wish {
	const struct operation *operation;
	const struct server *server;
	struct chosen options[WISH_OPTIONS_MAX];
	size_t n;
	char **operands;
	int operands_n;
	struct curl_slist *headers;		/* of the request */
	char *body, *type;			/* NULL: it has none */
	size_t body_len;
};

/* The options and operands of a wish for `operation`; prints its help where that is asked for. */
void wish_parse(struct wish *, int argc, char **argv);
/* Makes body and headers of them. */
void wish_fill(struct wish *);
void wish_free(struct wish *);

/* An option's value, "" of one that takes none; NULL: it is not given, or not offered. */
const char *wish_option(const struct wish *, const char *name);
const char *wish_own(const struct wish *, enum wish_own);
/* In place of what is not given. */
void wish_set(struct wish *, const char *name, const char *value);
/* The route's own format that WISH_JSON or WISH_CSV stands for; NULL: it has none. */
const char *wish_format(const struct operation *, enum wish_own);
/* Path and query, of a `list` without what its pages set themselves; free() it. */
char *wish_target(const struct wish *, bool list);
void wish_add_parameter(char **target, const char *name, const char *value);
/* A POST may be sent again when its connection breaks, as it has a key; but no key goes with a list. */
bool wish_takes_key(const struct wish *);

/* "device show UEID": name and operands, in one line without its end. */
void wish_print_name(const struct operation *, FILE *);
/* Tells of each option: "limit", and what can stand there, with spaces between, and whether several may, with commas; NULL: much, or nothing. */
void wish_list_options(const struct operation *, void (*tell)(const char *name, const char *values, bool several));

#endif
