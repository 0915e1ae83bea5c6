#include "collector/budget.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "schema/log.h"

#define ENTRIES 1024 /* devices of which something was refused lately; a power of two */

struct entry {
	struct ueid ueid;
	int64_t left, at; /* thousandths of messages, at this time */
	bool used, over;
};

struct budget {
	int64_t per_second;
	pthread_mutex_t lock;
	atomic_int over; /* how many have used it up: with none, nobody is looked up */
	struct entry entries[ENTRIES];
};

struct budget *
budget_new(int64_t per_second)
{
	struct budget *b = calloc(1, sizeof *b);

	if (b == NULL)
		return NULL;
	b->per_second = per_second;
	pthread_mutex_init(&b->lock, NULL);
	return b;
}

void
budget_free(struct budget *b)
{
	if (b == NULL)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static int64_t
burst(const struct budget *b)
{
	return b->per_second * 1000 * BUDGET_BURST;
}

static struct entry *
entry_of(struct budget *b, const struct ueid *ueid)
{
	uint32_t n;

	memcpy(&n, ueid->bytes + 1, sizeof n);
	return &b->entries[n % ENTRIES];
}

static void
set_over(struct budget *b, struct entry *e, bool over)
{
	char name[UEID_HEX];

	if (e->over == over)
		return;
	e->over = over;
	atomic_fetch_add(&b->over, over ? 1 : -1);
	ueid_print(&e->ueid, name);
	if (over)
		log_warning("subscribe: too much of %.*s is refused: the rest is given up unread", UEID_HEX - 1, name);
}

/* Over until half of it is there again: so that it is not told of each second. */
static void
refill(struct budget *b, struct entry *e, int64_t now)
{
	int64_t most = burst(b), due = most - e->left, gained = (now - e->at) * b->per_second;

	e->left += gained < due ? gained : due;
	e->at = now;
	if (e->left >= most / 2)
		set_over(b, e, false);
}

void
budget_refused(struct budget *b, const struct ueid *ueid, int64_t now)
{
	struct entry *e = entry_of(b, ueid);

	if (b->per_second == 0)
		return;
	pthread_mutex_lock(&b->lock);
	if (e->used)
		refill(b, e, now);
	/* Two that share a place: the one that is over it keeps it. */
	if (memcmp(&e->ueid, ueid, sizeof *ueid) != 0 && !e->over)
		*e = (struct entry){*ueid, burst(b), now, true, false};
	if (memcmp(&e->ueid, ueid, sizeof *ueid) == 0) {
		e->left -= e->left > 0 ? 1000 : 0;
		if (e->left <= 0)
			set_over(b, e, true);
	}
	pthread_mutex_unlock(&b->lock);
}

bool
budget_allows(struct budget *b, struct slice topic, int64_t now)
{
	struct ueid ueid;
	struct entry *e;
	bool allows = true;

	if (atomic_load(&b->over) == 0 || topic_parse_report(topic, &ueid) == REASON_TOPIC_MALFORMED)
		return true;
	pthread_mutex_lock(&b->lock);
	e = entry_of(b, &ueid);
	if (e->over && memcmp(&e->ueid, &ueid, sizeof ueid) == 0) {
		refill(b, e, now);
		allows = !e->over;
	}
	pthread_mutex_unlock(&b->lock);
	return allows;
}
