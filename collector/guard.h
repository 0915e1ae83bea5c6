/*
 * The one way out: libcurl behind bounds, for sinks and for an identity provider's keys. Where a sink points is a tenant's wish, and what is there a stranger's: https only, no redirect, no proxy, no
 * address of our own networks, answers that end in time and stay small. The address is judged when it is connected to, so that a name that resolves
 * anew gains nothing. The one user of libcurl.
 */
#ifndef FLEETSTATE_COLLECTOR_GUARD_H
#define FLEETSTATE_COLLECTOR_GUARD_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "schema/slice.h"

#define GUARD_WHY_SIZE 256
#define GUARD_ANSWER_MAX (64 * 1024)	/* headers and body together */
#define GUARD_KEPT 1024			/* of the body */

struct guard;

/* `networks`: "10.1.0.0/16, fd00::/8", what may be reached although it is nobody's public address; NULL or empty: none. `http`: also without TLS.
   NULL with `why`, GUARD_WHY_SIZE bytes: not a network, or no memory. */
struct guard *guard_new(const char *networks, bool http, int64_t timeout_s, char *why) WARN_UNUSED;
void guard_free(struct guard *);

/* Whether it may be connected to. `why` names the address and its kind. */
bool guard_allows(const struct guard *, const struct sockaddr *, char *why) WARN_UNUSED;
/* Whether it is an http or https URL with a host, without credentials or fragment. Its form only: no guard is asked, no name is resolved. */
bool guard_url_ok(const char *url, char *why) WARN_UNUSED;

/* One call out, and what came back. */
struct guard_call {
	const struct guard *guard;
	CURL *curl;
	CURLM *multi;			/* that runs it; NULL: it was not begun */
	long status;			/* of HTTP; 0: no answer */
	int64_t retry_after_s;		/* 0: not said */
	char kept[GUARD_KEPT + 1];	/* the body's beginning, ended by a zero */
	size_t kept_len, answer_len;
	char *whole;			/* the caller's, GUARD_ANSWER_MAX bytes, if it wants all of the body; set after guard_open */
	size_t whole_len;
	bool too_large;
	char why[GUARD_WHY_SIZE];	/* what failed; empty: nothing did */
	char error[CURL_ERROR_SIZE];	/* curl's own words */
};

/* Sets a handle up for `url`, with all bounds on it. -1, `why` is filled: the URL is not allowed. The call stays where it is until guard_close. */
int guard_open(const struct guard *, struct guard_call *, const char *url) WARN_UNUSED;
/* Has `multi` run it; `mark` comes with what it tells of it. `ca`: PEM bytes instead of the system's authorities, copied; or NULL. */
int guard_begin(struct guard_call *, CURLM *multi, void *mark, const char *ca) WARN_UNUSED;
/* After curl is done with it: fills in what came back. 0: an HTTP answer that is whole; -1: none, `why` says it. */
int guard_settle(struct guard_call *, CURLcode) WARN_UNUSED;
void guard_close(struct guard_call *);

/* A client's certificate, in PEM, and key. They are copied. */
int guard_present(struct guard_call *, const char *certificate, struct slice key) WARN_UNUSED;

#endif
