/*
 * TLS of the HTTP interface: its certificate and key, read again when they change, and the certificates that clients show. The one user of GnuTLS,
 * whose sessions libmicrohttpd makes; what a client's certificate is worth is client_trust.h's.
 */
#ifndef FLEETSTATE_COLLECTOR_TLS_H
#define FLEETSTATE_COLLECTOR_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/settings.h"
#include "schema/slice.h"

#define TLS_WHY 384 /* bytes of what is said of files */

struct tls;
/* What a session began with; sessions go on with theirs when another is read. */
struct tls_pair;

/* Reads the files of the settings, which must outlive it. NULL after logging what is wrong with them. */
struct tls *tls_open(const struct settings *) WARN_UNUSED;
void tls_free(struct tls *);

/* Reads them again. What can't be used is logged and told by tls_trouble, and the former stays in use. Any thread, like all below. */
void tls_reload(struct tls *);
/* The same if they have changed, and not since the last look: a pair is two files. To be called about every second. */
void tls_look(struct tls *);
/* Whether what lies in the files is not in use, or the lists are past their time at `now` (seconds since 1970). */
bool tls_trouble(struct tls *, int64_t now, char why[TLS_WHY]) WARN_UNUSED;

/* What libmicrohttpd is told: the versions and suites, and a callback that finds no certificate, since each session is set up by tls_enter. */
const char *tls_priorities(const struct tls *) WARN_UNUSED;
void *tls_callback(void) WARN_UNUSED;

/* Before its handshake: the session has the pair, which tls_leave takes back once it has ended. */
struct tls_pair *tls_enter(struct tls *, void *session) WARN_UNUSED;
void tls_leave(struct tls *, struct tls_pair *);

/* What a session's client has shown and holds the key of: the leaf of its chain, in DER, for as long as the session lives, also if it is no good; absent if it
   showed none or is asked for none. Returned is NULL, or what is wrong with it by what is in force now, a static text. */
const char *tls_client(struct tls *, void *session, int64_t now, struct slice *leaf) WARN_UNUSED;
/* Another number whenever something else is in force: what tls_client said before is to be asked for again. */
unsigned tls_generation(struct tls *) WARN_UNUSED;

#endif
