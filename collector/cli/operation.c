#include "collector/cli/operation.h"

#include <stdlib.h>
#include <string.h>

#include "collector/words.h"

const struct operation operations[] = {
#define OPERATION(noun, verb, method, path, help) {noun, verb, method, path, help},
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
static const struct {
	const char *method, *path, *members;
} lists[] = {
#define ITEMS(method, path, members) {method, path, members},
#define VALUES(method, path, parameter, values, several)
#define ANSWER(method, path, answer)
#include "described.def"
#undef ITEMS
#undef VALUES
#undef ANSWER
};
static const struct {
	const char *method, *path, *parameter, *values;
	bool several;
} choices[] = {
#define ITEMS(method, path, members)
#define VALUES(method, path, parameter, values, several) {method, path, parameter, values, several},
#define ANSWER(method, path, answer)
#include "described.def"
#undef ITEMS
#undef VALUES
#undef ANSWER
};
static const struct {
	const char *method, *path;
	enum operation_answer answer;
} answers[] = {
#define ITEMS(method, path, members)
#define VALUES(method, path, parameter, values, several)
#define ANSWER(method, path, answer) {method, path, ANSWER_##answer},
#include "described.def"
#undef ITEMS
#undef VALUES
#undef ANSWER
};

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
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		if (strcmp(lists[i].method, o->method) == 0 && strcmp(lists[i].path, o->path) == 0)
			return lists[i].members;
	return NULL;
}

enum operation_answer
operation_answer(const struct operation *o)
{
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
		if (strcmp(answers[i].method, o->method) == 0 && strcmp(answers[i].path, o->path) == 0)
			return answers[i].answer;
	return ANSWER_JSON;
}

const char *
operation_values(const struct operation *o, const char *parameter, bool *several)
{
	*several = strcmp(parameter, "fields") == 0;
	if (*several)
		return operation_items(o);
	for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
		if (strcmp(choices[i].method, o->method) == 0 && strcmp(choices[i].path, o->path) == 0 &&
		    strcmp(choices[i].parameter, parameter) == 0) {
			*several = choices[i].several;
			return choices[i].values;
		}
	return NULL;
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
