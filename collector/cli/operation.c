#include "collector/cli/operation.h"

#include <stdlib.h>
#include <string.h>

#include "collector/words.h"

const struct operation operations[] = {
#define OPERATION(noun, verb, method, path, help, columns) {noun, verb, method, path, help, columns},
#include "collector/cli/operations.def"
#undef OPERATION
};
const size_t operations_n = sizeof operations / sizeof *operations;

static const struct {
	const char *method, *path, *parameters;
} routes[] = {
#define ROUTE(method, path, least, scope, answer, parameters, how) {method, path, parameters},
#include "collector/routes.def"
#undef ROUTE
};

/* Made from schema/openapi.yaml. */
enum said { ITEMS, ANSWER, HEADERS, NEEDED, WANTED, VALUES };

static const struct {
	const char *method, *path;
	enum said said;
	const char *parameter; /* whose values they are; else "" */
	const char *words;
	bool several;
} described[] = {
#define DESCRIBED(method, path, said, parameter, words, several) {method, path, said, parameter, words, several},
#include "described.def"
#undef DESCRIBED
};

/* What is said of it, NULL: nothing. */
static const char *
find(const struct operation *o, enum said said, const char *parameter, bool *several)
{
	for (size_t i = 0; i < sizeof described / sizeof *described; i++)
		if (described[i].said == said && strcmp(described[i].method, o->method) == 0 &&
		    strcmp(described[i].path, o->path) == 0 && strcmp(described[i].parameter, parameter) == 0) {
			*several = described[i].several;
			return described[i].words;
		}
	*several = false;
	return NULL;
}

const struct operation *
operation_find(int argc, char **argv)
{
	for (size_t i = 0; argc > 0 && i < operations_n; i++) {
		const struct operation *o = &operations[i];

		if (strcmp(o->noun, argv[0]) == 0 && (o->verb == NULL || (argc > 1 && strcmp(o->verb, argv[1]) == 0)))
			return o;
	}
	return NULL;
}

const char *
operation_parameters(const struct operation *o)
{
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if (strcmp(routes[i].method, o->method) == 0 && strcmp(routes[i].path, o->path) == 0)
			return routes[i].parameters;
	abort(); /* an operation without a route: tests/lint/tables compares them */
}

const char *
operation_items(const struct operation *o)
{
	return find(o, ITEMS, "", &(bool){false});
}

const char *
operation_headers(const struct operation *o)
{
	const char *names = find(o, HEADERS, "", &(bool){false});

	return names == NULL ? "" : names;
}

const char *
operation_members(const struct operation *o, bool needed)
{
	return find(o, needed ? NEEDED : WANTED, "", &(bool){false});
}

enum operation_answer
operation_answer(const struct operation *o)
{
	const char *answer = find(o, ANSWER, "", &(bool){false});

	return answer == NULL ? ANSWER_JSON : strcmp(answer, "text") == 0 ? ANSWER_TEXT : ANSWER_BYTES;
}

const char *
operation_values(const struct operation *o, const char *parameter, bool *several)
{
	const char *words = find(o, VALUES, parameter, several);

	if (strcmp(parameter, "fields") != 0)
		return words;
	*several = true;
	return operation_items(o);
}

bool
operation_takes(const struct operation *o, const char *parameter)
{
	return words_have(operation_parameters(o), parameter, strlen(parameter));
}

int
operation_variables(const struct operation *o)
{
	int n = 0;

	for (const char *at = o->path; *at != '\0'; at++)
		n += *at == '{';
	return n;
}
