/*
 * One request to a collector and its answer: the command line's one user of libcurl.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_CALL_H
#define FLEETSTATE_COLLECTOR_CLI_CALL_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>

#include "schema/slice.h"

#define CALL_ANSWER_MAX (256u << 20) /* bytes of an answer that is held in memory */
#define CALL_WHY_SIZE 512

/* Whom to ask, and as whom. */
struct server {
	const char *url;			/* without a slash at its end */
	const char *token;			/* NULL: none */
	const char *ca, *certificate, *key;	/* files in PEM; NULL: the system's, none */
	bool or_database;			/* FLEETSTATE_URL named it, and the database could be asked the same */
};

struct asked {
	const char *method;
	const char *target;			/* path and query */
	const char *body, *type;		/* NULL: none */
	size_t body_len;
	struct curl_slist *headers;		/* more of them */
	FILE *out;				/* where an answer that is no JSON is written as it comes */
	bool raw;				/* and JSON too */
	void (*begin)(void);			/* before the first of it; NULL: nothing is to do */
};

struct told {
	long status;
	char type[64];				/* without parameters; "": none */
	long retry_after_s;			/* when it wants to be asked again; 0: it does not say */
	char position[24];			/* Fleetstate-Position; "": it has none */
	char *body;				/* owned; NULL: there was none, or it was written to `out` */
	size_t len;
	bool written;				/* something to `out` */
};

/* -1: there was no whole answer, and `why`, CALL_WHY_SIZE, says so; of `told` only `written` counts then. */
int call_ask(const struct server *, const struct asked *, struct told *, char *why) WARN_UNUSED;
void told_free(struct told *);
/* `text` as it stands in a URL; free() it. */
char *call_quote(const char *text);

/* On standard error while something long goes on, if that is a terminal; `items`: of what was told so far. */
void call_progress(long long items);
void call_progress_end(void);

#endif
