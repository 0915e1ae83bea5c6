#include "collector/guess.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "collector/source.h"
#include "schema/cose.h"

#define ROWS 1024
#define WAYS 8 /* of one row: who was not seen for the longest time makes room */
#define FIRST_MS 250 /* the first delay; each further one is twice as long */
#define KEY_SIZE 16
#define TEXT_MAX 64

struct suspect {
	uint64_t id; /* 0: none */
	uint64_t failures;
	int64_t last_ms;
};

struct guesses {
	struct guess_limits limits;
	pthread_mutex_t lock;
	uint8_t key[KEY_SIZE]; /* so that nobody can choose whose place is taken */
	struct suspect rows[ROWS][WAYS];
};

struct guesses *
guesses_new(const struct guess_limits *limits)
{
	struct guesses *g = calloc(1, sizeof *g);

	if (g == NULL)
		return NULL;
	g->limits = *limits;
	pthread_mutex_init(&g->lock, NULL);
	if (RAND_bytes(g->key, sizeof g->key) == 1)
		return g;
	guesses_free(g);
	return NULL;
}

void
guesses_free(struct guesses *g)
{
	if (g == NULL)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static uint64_t
identify(const struct guesses *g, char kind, const char *text)
{
	uint8_t bytes[KEY_SIZE + 1 + TEXT_MAX], digest[DIGEST_SIZE];
	size_t len = strnlen(text, TEXT_MAX);
	uint64_t id;

	memcpy(bytes, g->key, KEY_SIZE);
	bytes[KEY_SIZE] = (uint8_t)kind;
	memcpy(bytes + KEY_SIZE + 1, text, len);
	sha256((struct slice){bytes, KEY_SIZE + 1 + len}, digest);
	memcpy(&id, digest, sizeof id);
	return id | 1;
}

/* Its place, or the one that it gets. */
static struct suspect *
find(struct guesses *g, uint64_t id)
{
	struct suspect *row = g->rows[id / 2 % ROWS], *oldest = row;

	for (size_t i = 0; i < WAYS; i++) {
		if (row[i].id == id)
			return &row[i];
		if (row[i].last_ms < oldest->last_ms)
			oldest = &row[i];
	}
	*oldest = (struct suspect){.id = id};
	return oldest;
}

static int64_t
delay(const struct guess_limits *limits, uint64_t failures)
{
	uint64_t longest = (uint64_t)limits->longest_s * 1000, over, ms;

	if (limits->free == 0 || failures <= (uint64_t)limits->free)
		return 0;
	over = failures - (uint64_t)limits->free - 1;
	ms = over < 16 ? (uint64_t)FIRST_MS << over : longest;
	return (int64_t)(ms < longest ? ms : longest);
}

static int64_t
count(struct guesses *g, uint64_t id, int64_t now_ms)
{
	struct suspect *s = find(g, id);

	if (now_ms - s->last_ms > g->limits.window_s * 1000)
		s->failures = 0;
	s->failures++;
	s->last_ms = now_ms;
	return delay(&g->limits, s->failures);
}

int64_t
guesses_failed(struct guesses *g, const char *source, const char *hint, int64_t now_ms)
{
	char network[SOURCE_SIZE];
	int64_t by_source, by_hint;

	source_network(source, network);
	pthread_mutex_lock(&g->lock);
	by_source = count(g, identify(g, 's', network), now_ms);
	by_hint = count(g, identify(g, 'h', hint), now_ms);
	pthread_mutex_unlock(&g->lock);
	return by_source > by_hint ? by_source : by_hint;
}
