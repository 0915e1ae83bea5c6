#include "collector/gaps.h"

#include <stdlib.h>
#include <string.h>

#include "schema/topics.h"

#define WAIT_FIRST 2 /* seconds: a gap is younger when reports merely overtook each other */
#define WAIT_MAX 3600

struct gap {
	struct gap *next;
	int64_t due, wait; /* seconds */
	struct receipt receipt;
};

struct gaps {
	size_t n, max;
	size_t told; /* of them, told at least once */
	size_t hand; /* the bucket where the last one had to go */
	struct gap *buckets[]; /* `max` of them */
};

struct gaps *
gaps_new(size_t max)
{
	struct gaps *g = calloc(1, sizeof *g + max * sizeof g->buckets[0]);

	if (g != NULL)
		g->max = max;
	return g;
}

/* Where the device's gap is, or would be. */
static struct gap **
find(struct gaps *g, const struct ueid *ueid)
{
	struct gap **link;
	uint32_t n;

	memcpy(&n, ueid->bytes + 1, sizeof n);
	link = &g->buckets[n % g->max];
	while (*link != NULL && memcmp(&(*link)->receipt.ueid, ueid, sizeof *ueid) != 0)
		link = &(*link)->next;
	return link;
}

static void
drop(struct gaps *g, struct gap **link)
{
	struct gap *gap = *link;

	*link = gap->next;
	g->n--;
	g->told -= gap->wait > WAIT_FIRST;
	free(gap);
}

void
gaps_free(struct gaps *g)
{
	if (g == NULL)
		return;
	for (size_t i = 0; i < g->max; i++)
		while (g->buckets[i] != NULL)
			drop(g, &g->buckets[i]);
	free(g);
}

/* One that knows by now, or does not listen: each in its turn. False: there is none. */
static bool
drop_told(struct gaps *g)
{
	struct gap **link;

	if (g->told == 0)
		return false;
	for (;; g->hand = (g->hand + 1) % g->max)
		for (link = &g->buckets[g->hand]; *link != NULL; link = &(*link)->next)
			if ((*link)->wait > WAIT_FIRST) {
				drop(g, link);
				return true;
			}
}

bool
gaps_note(struct gaps *g, const struct receipt *receipt, int64_t now)
{
	struct gap **link = find(g, &receipt->ueid), *gap;

	if (*link != NULL && receipt->missing_len > 0) {
		(*link)->receipt = *receipt;
		return true;
	}
	if (*link != NULL)
		drop(g, link);
	if (receipt->missing_len == 0)
		return true;
	if (g->n == g->max && !drop_told(g))
		return false;
	gap = calloc(1, sizeof *gap);
	if (gap == NULL)
		return false;
	gap->wait = WAIT_FIRST;
	gap->due = now + WAIT_FIRST + 1;
	gap->receipt = *receipt;
	*find(g, &receipt->ueid) = gap;
	g->n++;
	return true;
}

void
gaps_forget_shard(struct gaps *g, unsigned shard)
{
	for (size_t i = 0; i < g->max; i++)
		for (struct gap **link = &g->buckets[i]; *link != NULL;)
			if (ueid_shard(&(*link)->receipt.ueid) == shard)
				drop(g, link);
			else
				link = &(*link)->next;
}

void
gaps_tell(struct gaps *g, int64_t now, void (*tell)(void *context, const struct receipt *), void *context)
{
	for (size_t i = 0; i < g->max; i++)
		for (struct gap *gap = g->buckets[i]; gap != NULL; gap = gap->next) {
			if (gap->due > now)
				continue;
			tell(context, &gap->receipt);
			g->told += gap->wait == WAIT_FIRST;
			gap->wait = gap->wait * 2 > WAIT_MAX ? WAIT_MAX : gap->wait * 2;
			gap->due = now + gap->wait;
		}
}
