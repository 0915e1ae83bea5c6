/*
 * An HTTP request as the routes see it: its target taken apart and decoded, and who asks. Pure; libmicrohttpd's part is in serve.c.
 */
#ifndef FLEETSTATE_COLLECTOR_REQUEST_H
#define FLEETSTATE_COLLECTOR_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/auth.h"
#include "collector/body.h"
#include "collector/cursor.h"
#include "collector/format_asset.h"
#include "collector/response.h"
#include "collector/tally.h"
#include "schema/cose.h"
#include "schema/topics.h"

#define REQUEST_TARGET 8192	/* bytes as sent at most, whatever http_target_size says; a cursor has at most 1,425 */
#define REQUEST_SEGMENTS 8	/* our longest path has 6 */
#define REQUEST_PARAMETERS 24	/* more than any list has */
#define NOTED_SIZE 256
#define FAULT_SIZE 128
#define TENANT_NAME 63		/* bytes of tenant.id at most */
#define HINT_SIZE 11	/* the prefix and six more, which is too little to be of use to anybody */
#define TIME_MAX 40		/* bytes of an RFC 3339 time, with more digits than anybody needs */
#define REQUEST_VARIABLES 4	/* the most is 3, and a NULL behind them */

struct parameter {
	const char *name, *value;
};

struct request {
	size_t target_most;	/* bytes; 0: REQUEST_TARGET */
	char target[REQUEST_TARGET + 1];	/* what the slices below point into */
	const char *segments[REQUEST_SEGMENTS];	/* of the path, decoded; "/" has one, empty */
	size_t segments_len;
	struct parameter parameters[REQUEST_PARAMETERS];
	size_t parameters_len;
	struct {
		char text[FAULT_SIZE];	/* what is wrong with the target, and where; empty: nothing, or the problem says it all */
		size_t position;	/* the character, from 1, of what the text names; 0: it is about no one character */
	} fault;
	/* What routes_answer adds. */
	const struct route *route;
	const char *variables[REQUEST_VARIABLES];	/* the {x} of the route's path, in order */
	struct query_pool *pool;
	size_t page_bytes;			/* of a list: more than one item has no more */
	struct connection *writing;		/* whose transaction is this request's; NULL: none yet */
	struct seal *seal;			/* what manifests are signed with; NULL: there is nothing */
	const struct vault_key *vault;		/* what secrets are sealed under; NULL: there is none */
	const struct readiness *readiness;
	size_t readiness_len;
	struct body body;
	/* Headers; NULL: no such one. They live as long as the connection's request. */
	const char *last_event_id, *accept_encoding, *if_match, *if_none_match, *idempotency_key;
	/* Where a reader of events or of a whole list stands, from one call of its route's function to the next. */
	struct {
		bool begun;
		bool ended;		/* nothing is left of it */
		struct asset_document document;
		struct tally *tally;	/* owned: of what goes out; NULL: nobody wants a manifest */
		struct packer *packer;	/* owned: what compresses it; NULL: nothing does */
		uint64_t told;		/* rows of it so far */
		int64_t rows;		/* that its next piece is asked for; 0: it is the first */
		char *components;	/* owned: those that a range of versions stands for */
		int64_t after;		/* the position up to which it was told; of an inventory the last component */
		struct {
			int64_t id, components; /* the set that it is, and how many it has */
			int64_t told_ms; /* since 1970: when the state that names it was received */
		} inventory;
		struct cursor place;	/* the same of a list of devices */
		int64_t until_ms;	/* when it is told that there is nothing, as clock_ms counts */
	} reading;
	bool openmetrics;	/* whether the Accept header names it */
	uint8_t token[DIGEST_SIZE];	/* the hash of what the caller showed, and once it is settled who that is, what the database knows him by */
	bool by_session;	/* it was a browser's session */
	bool by_operator;	/* it is an operator's, as the database says */
	bool by_certificate;	/* it was the connection's certificate, and nothing else */
	const char *jwt;	/* it looks like a JSON Web Token, and this is it; else NULL. Lives as the headers do */
	char noted[NOTED_SIZE];	/* the target, for the audit log */
	const char *source;	/* where it comes from */
	/* What the client of a TLS connection has shown and holds the key of: DER of a certificate that was good by http_client_ca and http_client_crl
	   when it was looked at, within the last minute. Absent: it has shown none. Lives as long as the request; of a stream it is judged anew for each
	   piece. */
	struct slice certificate;
	char hint[HINT_SIZE];	/* how it begins; "-": not as ours do; "": nothing was shown */
	const char *malformed;	/* why it was nothing that could be good; NULL: it may be */
	const char *session;	/* the session's cookie; NULL: none. Lives as the headers do */
	const char *tenant;	/* which one the caller wants, by parameter or in the body; NULL: its own */
	bool of_none;		/* an operator need name none */
	uint32_t needs;		/* scopes, as bits */
	bool tries;		/* it changes nothing, though its route may */
	int64_t quota_token;	/* which one its quota is counted for; 0: none */
	bool exports;		/* it is counted as a long answer */
	/* What the database says of the token, once a query ran: the tenant, and the id that people know it by, without a NUL. */
	int32_t tenant_id;
	char tenant_name[TENANT_NAME];
	size_t tenant_name_len;
};

/* Takes a target ("/a/b?c=d") apart. Every text is UTF-8 without control characters afterwards. PROBLEM_NONE, or what is wrong, of which
   `fault` says more. */
enum problem request_parse(const char *target, struct request *) WARN_UNUSED;
/* A target as the audit log has it: printable, of bounded length, and without where a reader stands in a list, since the list is one, nor
   more than the beginning of a secret. */
void request_note(const char *target, char noted[NOTED_SIZE]);
/* Frees what it owns. */
void request_free(struct request *);
/* Whether it is a time as RFC 3339 5.6 writes it, in its form; that its month has as many days is the database's to judge. */
bool is_time(const char *) WARN_UNUSED;
/* The device that the path names first. -1: the response is the problem, since a name that can't be a device's is one that no device has. */
int request_device(const struct request *, struct response *, struct ueid *) WARN_UNUSED;
/* What devices are listed by: from which character on, counted from 1, a text is no label; 0: it is one. */
#define LABEL_WANTED "a key, or key:value, as site:bonn for what a device shows as site=bonn"
size_t label_fault(const char *) WARN_UNUSED;
#define COUNT_MAX ((INT64_C(1) << 53) - 1) /* what JSON's readers keep whole */
/* Digits and nothing else, no more of them than `most` has, of a number up to it; it is at most COUNT_MAX. */
bool count_parse(const char *text, int64_t most, int64_t *) WARN_UNUSED;
/* From which character on, counted from 1, a text is no number; 1: it is one, but too large or too small, or there is nothing. */
size_t count_fault(const char *) WARN_UNUSED;
/* A number that names something, in the order of bytes that statements take; 0, which nothing has, if it is none. And the one that the path names first. */
uint64_t number_parse(const char *) WARN_UNUSED;
uint64_t request_number(const struct request *) WARN_UNUSED;
/* 0 to 15; -1: it is no hexadecimal digit. */
int hex_digit(char) WARN_UNUSED;
/* RFC 3986 2.1, in place. `plus`: a plus sign is a space, as forms write it. NULL: it is UTF-8 without control characters. Else what is wrong from which
   character on, counted from 1 in what it stands for. */
const char *percent_decode(char *, bool plus, size_t *character) WARN_UNUSED;
/* NULL if it was not given. */
const char *request_parameter(const struct request *, const char *name);
/* A parameter, if it was given, that is some of the words, with commas between; they are listed with spaces. -1: the response says which is none of them. */
int request_words(const struct request *, struct response *, const char *name, const char *words) WARN_UNUSED;

#endif
