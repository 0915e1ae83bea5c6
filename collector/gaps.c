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
	free(gap);
	g->n--;
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

/* It knows by now, or does not listen. */
static void
drop_most_told(struct gaps *g)
{
	struct gap **most = NULL;

	for (size_t i = 0; i < g->max; i++)
		for (struct gap **link = &g->buckets[i]; *link != NULL; link = &(*link)->next)
			if (most == NULL || (*link)->wait > (*most)->wait)
				most = link;
	drop(g, most);
}

void
gaps_note(struct gaps *g, const struct receipt *receipt, int64_t now)
{
	struct gap **link = find(g, &receipt->ueid), *gap;

	if (*link != NULL && receipt->missing_len > 0) {
		(*link)->receipt = *receipt;
		return;
	}
	if (*link != NULL)
		drop(g, link);
	if (receipt->missing_len == 0)
		return;
	if (g->n == g->max)
		drop_most_told(g);
	gap = calloc(1, sizeof *gap);
	if (gap == NULL)
		return;
	gap->wait = WAIT_FIRST;
	gap->due = now + WAIT_FIRST + 1;
	gap->receipt = *receipt;
	*find(g, &receipt->ueid) = gap;
	g->n++;
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
			gap->wait = gap->wait * 2 > WAIT_MAX ? WAIT_MAX : gap->wait * 2;
			gap->due = now + gap->wait;
		}
}
