/*
 * What a new sink may be: checked, its secret made and sealed, for the command line and HTTP alike.
 */
#ifndef FLEETSTATE_COLLECTOR_SINK_NEW_H
#define FLEETSTATE_COLLECTOR_SINK_NEW_H

#include "collector/sink.h"
#include "collector/vault.h"

#define SINK_BATCH_MAX 1000
#define SINK_WHY_SIZE 1200 /* all types of events */

/* As somebody wishes it. */
struct sink_wish {
	const char *tenant;			/* NULL: an operator's */
	const char *name, *kind, *target;
	const char *format;			/* NULL: the kind's own */
	const char *types, *severity;		/* "device.fork,alert.*", or empty; a severity's name */
	int64_t batch;
	const char *ca, *certificate, *key;	/* PEM, or NULL */
	const char *secret;			/* NULL: one is made, if the kind has one */
};

struct sink_secret {
	char made[65];		/* what has to be told this once; empty: nothing */
	uint8_t *sealed;	/* NULL: it has none */
	size_t len;
};

/* False: `why`, SINK_WHY_SIZE, says what is wrong. */
bool sink_wish_ok(const struct sink_wish *, char *why) WARN_UNUSED;
/* Of one that is ok. `key` NULL: there is none, and only a sink without a secret will do. */
bool sink_wish_seal(const struct sink_wish *, const struct vault_key *key, struct sink_secret *, char *why) WARN_UNUSED;
void sink_secret_free(struct sink_secret *);

#endif
