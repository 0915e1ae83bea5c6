#include "collector/quota.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 2048
#define WAYS 4
#define KNOWN_MS 60000 /* then it is asked for anew: a quota may have been changed */

/* What a credential's hash stands for. */
struct known {
	uint8_t hash[DIGEST_SIZE];
	int64_t token; /* 0: the place is free */
	int64_t since_ms;
};

/* Thousandths of a request or byte that are left; below zero it was overdrawn. */
struct account {
	int64_t token; /* 0: the place is free */
	struct quota_limits limits;
	int64_t requests, bytes;
	int64_t exports; /* under way */
	int64_t at_ms; /* of the last one's filling */
};

struct quotas {
	int64_t burst_s;
	pthread_mutex_t lock;
	struct known known[ROWS][WAYS];
	struct account accounts[ROWS][WAYS];
};

struct quotas *
quotas_new(int64_t burst_s)
{
	struct quotas *q = calloc(1, sizeof *q);

	if (q == NULL)
		return NULL;
	q->burst_s = burst_s;
	pthread_mutex_init(&q->lock, NULL);
	return q;
}

void
quotas_free(struct quotas *q)
{
	if (q == NULL)
		return;
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* Its place, or the oldest one's. Hashes are of secrets, so nobody chooses where they fall. */
static struct known *
find_known(struct quotas *q, const uint8_t hash[DIGEST_SIZE])
{
	struct known *row = q->known[(hash[0] << 8 | hash[1]) % ROWS], *oldest = row;

	for (size_t i = 0; i < WAYS; i++) {
		if (row[i].token != 0 && memcmp(row[i].hash, hash, DIGEST_SIZE) == 0)
			return &row[i];
		if (row[i].since_ms < oldest->since_ms)
			oldest = &row[i];
	}
	return oldest;
}

int64_t
quotas_find(struct quotas *q, const uint8_t hash[DIGEST_SIZE], int64_t now_ms)
{
	const struct known *k;
	int64_t token = 0;

	pthread_mutex_lock(&q->lock);
	k = find_known(q, hash);
	if (k->token != 0 && memcmp(k->hash, hash, DIGEST_SIZE) == 0 && now_ms - k->since_ms < KNOWN_MS)
		token = k->token;
	pthread_mutex_unlock(&q->lock);
	return token;
}

/* Its account; NULL: it has none. */
static struct account *
find_account(struct quotas *q, int64_t token)
{
	struct account *row = q->accounts[(uint64_t)token % ROWS];

	for (size_t i = 0; i < WAYS; i++)
		if (row[i].token == token)
			return &row[i];
	return NULL;
}

/* A new one, full, in the place of one that has nothing under way; NULL: all have. */
static struct account *
open_account(struct quotas *q, int64_t token, const struct quota_limits *limits, int64_t now_ms)
{
	struct account *row = q->accounts[(uint64_t)token % ROWS], *oldest = NULL;

	for (size_t i = 0; i < WAYS; i++)
		if (row[i].exports == 0 && (oldest == NULL || row[i].at_ms < oldest->at_ms))
			oldest = &row[i];
	if (oldest != NULL)
		*oldest = (struct account){.token = token,
					   .limits = *limits,
					   .requests = limits->requests * q->burst_s * 1000,
					   .bytes = limits->bytes * q->burst_s * 1000,
					   .at_ms = now_ms};
	return oldest;
}

void
quotas_learn(struct quotas *q, const uint8_t hash[DIGEST_SIZE], int64_t token, const struct quota_limits *limits,
	     int64_t now_ms)
{
	struct known *k;
	struct account *a;

	pthread_mutex_lock(&q->lock);
	k = find_known(q, hash);
	memcpy(k->hash, hash, DIGEST_SIZE);
	k->token = token;
	k->since_ms = now_ms;
	a = find_account(q, token);
	if (a == NULL)
		(void)open_account(q, token, limits, now_ms);
	else
		a->limits = *limits;
	pthread_mutex_unlock(&q->lock);
}

static void
fill(int64_t *level, int64_t rate, int64_t burst_s, int64_t passed_ms)
{
	int64_t most = rate * burst_s * 1000;

	/* Longer than a burst fills it, so that no product is too large. */
	if (passed_ms >= burst_s * 1000 && *level >= 0)
		*level = most;
	else
		*level += rate * (passed_ms < 86400000 ? passed_ms : 86400000);
	if (*level > most)
		*level = most;
}

static void
refill(const struct quotas *q, struct account *a, int64_t now_ms)
{
	int64_t passed = now_ms - a->at_ms;

	if (passed <= 0)
		return;
	fill(&a->requests, a->limits.requests, q->burst_s, passed);
	fill(&a->bytes, a->limits.bytes, q->burst_s, passed);
	a->at_ms = now_ms;
}

/* Until the level is that high again. */
static int64_t
until(int64_t level, int64_t wanted, int64_t rate)
{
	return level >= wanted ? 0 : (wanted - level + rate - 1) / rate;
}

enum quota
quotas_ask(struct quotas *q, int64_t token, int64_t now_ms, int64_t *wait_ms)
{
	enum quota beyond = QUOTA_NONE;
	struct account *a;

	*wait_ms = 0;
	pthread_mutex_lock(&q->lock);
	a = find_account(q, token);
	if (a != NULL)
		refill(q, a, now_ms);
	if (a != NULL && a->limits.bytes > 0 && a->bytes < 0) {
		beyond = QUOTA_BYTES;
		*wait_ms = until(a->bytes, 0, a->limits.bytes);
	} else if (a != NULL && a->limits.requests > 0) {
		*wait_ms = until(a->requests, 1000, a->limits.requests);
		if (*wait_ms > 0)
			beyond = QUOTA_REQUESTS;
		else
			a->requests -= 1000;
	}
	pthread_mutex_unlock(&q->lock);
	return beyond;
}

int64_t
quotas_spend(struct quotas *q, int64_t token, uint64_t bytes, int64_t now_ms)
{
	struct account *a;
	int64_t wait = 0;

	pthread_mutex_lock(&q->lock);
	a = find_account(q, token);
	if (a != NULL && a->limits.bytes > 0) {
		refill(q, a, now_ms);
		a->bytes -= (int64_t)bytes * 1000;
		wait = until(a->bytes, 0, a->limits.bytes);
	}
	pthread_mutex_unlock(&q->lock);
	return wait;
}

bool
quotas_enter(struct quotas *q, int64_t token)
{
	struct account *a;
	bool room = true;

	pthread_mutex_lock(&q->lock);
	a = find_account(q, token);
	if (a != NULL) {
		room = a->limits.exports == 0 || a->exports < a->limits.exports;
		a->exports += room;
	}
	pthread_mutex_unlock(&q->lock);
	return room;
}

void
quotas_leave(struct quotas *q, int64_t token)
{
	struct account *a;

	pthread_mutex_lock(&q->lock);
	a = find_account(q, token);
	if (a != NULL && a->exports > 0)
		a->exports--;
	pthread_mutex_unlock(&q->lock);
}
