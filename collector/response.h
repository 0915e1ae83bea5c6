/*
 * An answer being made: status, headers and a body that grows in memory up to a bound. What can't be appended fails the whole answer, once, at
 * the end.
 */
#ifndef FLEETSTATE_COLLECTOR_RESPONSE_H
#define FLEETSTATE_COLLECTOR_RESPONSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "schema/slice.h"

/* Bytes of a body, unless http_answer_size says so: 1,000 reports or components are far below; two reports of 2 MiB fit. */
#define RESPONSE_MAX (16 * 1024 * 1024)
#define RESPONSE_HEADERS 8
#define NDJSON_TYPE "application/x-ndjson"
#define CYCLONEDX_TYPE "application/vnd.cyclonedx+json; version=1.6"

enum problem {
	PROBLEM_NONE,
#define PROBLEM(symbol, name, status, title) PROBLEM_##symbol,
#include "collector/problems.def"
#undef PROBLEM
	PROBLEMS
};

struct response {
	unsigned status;
	enum problem problem; /* what it tells of, if it does */
	const char *type; /* of the body; static; NULL: there is none */
	struct {
		const char *name;
		char *value; /* owned */
	} headers[RESPONSE_HEADERS];
	size_t headers_len;
	struct slice fixed; /* instead of the body: bytes that stay where they are */
	uint8_t *body; /* owned */
	size_t len, size;
	size_t most; /* bytes of the body; 0: RESPONSE_MAX. Stays when the rest is freed */
	bool waits; /* for events: the route's function is to be called once more when there are some, or at reading.until_ms */
	bool streams; /* the body is a piece: the function is called for the next one when this is sent */
	bool failed; /* memory ran out, or the bound was reached: then it is */
	bool too_large;
};

const char *problem_name(enum problem); /* "not-found"; not of PROBLEM_NONE */

/* A zeroed struct is an empty answer. */
int response_grow(struct response *, size_t more); /* room for so many bytes more; -1: it fails */
static inline void
response_append(struct response *r, const void *at, size_t len)
{
	if (len == 0 || (len > r->size - r->len && response_grow(r, len) < 0))
		return;
	memcpy(r->body + r->len, at, len);
	r->len += len;
}
static inline void
response_text(struct response *r, const char *text)
{
	response_append(r, text, strlen(text));
}
/* A text as JSON has it, in its quotes. */
void response_string(struct response *, struct slice);
void response_printf(struct response *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void
response_header(struct response *, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Whole answers. They forget what was there. */
void response_json(struct response *, struct slice);
void response_empty(struct response *); /* 204 */
void response_problem(struct response *, enum problem, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A parameter that is wrong, which the text names first: from which character of its value on, counted from 1, and 1 too where it is judged whole. 0: it is
   about no place in a value. Always -1. */
int response_bad_parameter(struct response *, size_t position, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* One more member of the problem that was answered (RFC 9457 3.2). */
void response_member(struct response *, const char *name, int64_t);
void response_member_json(struct response *, const char *name, const json_t *);
void response_free(struct response *); /* what it owns; zeroed afterwards */

#endif
