/*
 * How much a caller may ask: requests and bytes a second, each with some seconds' worth at once, and long answers at the same time. Counted in memory by the
 * token that stands behind a credential; of bounded size, whoever calls. The caller has the clock.
 */
#ifndef FLEETSTATE_COLLECTOR_QUOTA_H
#define FLEETSTATE_COLLECTOR_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/key.h"
#include "schema/slice.h"

/* 0: any number. */
struct quota_limits {
	int64_t requests, bytes;	/* a second */
	int64_t exports;		/* at once */
};

struct quotas;

/* `burst_s`: so many seconds' worth may be asked for at once. NULL if memory ran out. */
struct quotas *quotas_new(int64_t burst_s) WARN_UNUSED;
void quotas_free(struct quotas *);

/* The token that stands behind a credential's hash, as it was learnt not long ago; 0: ask the database. Any thread, like the rest. */
int64_t quotas_find(struct quotas *, const uint8_t hash[DIGEST_SIZE], int64_t now_ms) WARN_UNUSED;
void quotas_learn(struct quotas *, const uint8_t hash[DIGEST_SIZE], int64_t token, const struct quota_limits *, int64_t now_ms);

enum quota { QUOTA_NONE, QUOTA_REQUESTS, QUOTA_BYTES };

/* One more request: QUOTA_NONE, or what it goes beyond, and in how many milliseconds it would not. */
enum quota quotas_ask(struct quotas *, int64_t token, int64_t now_ms, int64_t *wait_ms) WARN_UNUSED;
/* So many bytes go out: for how many milliseconds no further ones should. */
int64_t quotas_spend(struct quotas *, int64_t token, uint64_t bytes, int64_t now_ms);
/* One more long answer. False: there are as many as may be; else quotas_leave is called once. */
bool quotas_enter(struct quotas *, int64_t token) WARN_UNUSED;
void quotas_leave(struct quotas *, int64_t token);

#endif
