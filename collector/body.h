/*
 * What a request carries: JSON, collected up to a bound as it arrives, and judged member by member before a route's function uses it. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_BODY_H
#define FLEETSTATE_COLLECTOR_BODY_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "collector/draft.h"
#include "collector/response.h"

#define BODY_MAX (64 * 1024)	/* unless http_body_size says so: a thousand ids or the longest policy are far below; more is 413 */
#define BODY_READ 16	/* times that of a body that did not say how long it is: read and thrown away, then its connection ends */

struct body {
	size_t most;	/* bytes; 0: BODY_MAX */
	bool is_list;	/* it is no JSON: told apart before it came */
	FILE *file;	/* owned: of a list, which has a place then; NULL: it has none, and nothing of it is taken */
	size_t place;
	char *text;	/* owned */
	size_t len;	/* of all that came */
	json_t *json;	/* owned; NULL: there was none */
};

/* As the value of a Content-Type header: JSON, and in UTF-8 if it says. NULL is not. */
bool body_is_json(const char *content_type) WARN_UNUSED;
size_t body_most(const struct body *) WARN_UNUSED;
bool body_is_csv(const char *content_type) WARN_UNUSED;
/* A list is to go to a file without a name, of at most IMPORT_BYTES; one of a tenant, and not many at once. What is wrong if it can't, or PROBLEM_NONE. */
enum problem body_to_file(struct body *, int32_t tenant_id) WARN_UNUSED;
/* The next piece. -1: the connection is to end. */
int body_add(struct body *, const char *, size_t len) WARN_UNUSED;
/* Once all is here. -1: the response is the problem, and says where. */
int body_parse(struct body *, struct response *) WARN_UNUSED;
void body_free(struct body *);

enum member_kind { MEMBER_TEXT, MEMBER_NUMBER, MEMBER_FLAG, MEMBER_OBJECT, MEMBER_OBJECT_OR_NULL, MEMBER_LIST };

/* What a member of an object may be. */
struct member {
	const char *name;
	enum member_kind kind;
	bool required;
	size_t max;	/* bytes of a text, items of a list */
};

/* Whether `json` is an object of these members only; NULL is one without any. -1: the response is the problem. */
int body_check(const json_t *json, struct response *, const struct member *, size_t n) WARN_UNUSED;
/* ["a", "b"] as "a,b", ended by a zero. NULL is an empty list. False: one is no text, empty or has the separator in it; or memory ran out. */
bool body_words(const json_t *list, char separator, struct draft *) WARN_UNUSED;

#endif
