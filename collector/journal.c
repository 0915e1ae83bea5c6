#include "collector/journal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/routes.h"
#include "collector/source.h"
#include "schema/log.h"

#define ENTRIES 4096 /* between two writings; a power of two */
#define STRANGERS (ENTRIES / 16) /* of these: whose credential is not good */
#define PERIOD_MS 5000
#define TENANT_SIZE 64
#define TRIES 5 /* of a book, before it is asked whether the database answers at all */
#define WHY_SIZE 128

struct entry {
	/* What makes two of them equal. */
	struct {
		uint8_t hash[DIGEST_SIZE];
		char hint[HINT_SIZE], tenant[TENANT_SIZE], source[SOURCE_SIZE], target[NOTED_SIZE];
		const char *kind, *method;
		unsigned status;
	} what;
	uint64_t n; /* 0: the place is free */
	int64_t first_us, last_us;
};

struct book {
	struct entry entries[ENTRIES];
	size_t len, strangers;
	uint64_t lost;
};

struct journal {
	struct query_pool *pool;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	struct book *open, *closed; /* what is being filled; what is being written */
	unsigned failures; /* to write the closed one */
};

static const char *
kind_of(const struct request *request, unsigned status)
{
	if (status == 401 || status == 403)
		return "refused";
	if (request->route->how != ROUTE_WRITES || request->tries)
		return "read";
	return status < 400 ? "used" : "change";
}

/* Wrong requests read nothing. */
static bool
is_noted(const struct request *request, unsigned status)
{
	return request->route != NULL && request->route->least != ROLE_NONE && request->hint[0] != '\0' &&
	       (status < 400 || status == 401 || status == 403 || status == 404 || status == 409 || status == 412);
}

/* FNV-1a */
static size_t
place_of(const void *what, size_t len)
{
	const uint8_t *at = what;
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * UINT64_C(1099511628211);
	return (size_t)(hash ^ hash >> 32) % ENTRIES;
}

/* Its entry, or the free place for it; NULL: there is no room. */
static struct entry *
find(struct book *book, const struct entry *wanted)
{
	size_t at = place_of(&wanted->what, sizeof wanted->what);

	for (; book->entries[at].n > 0; at = (at + 1) % ENTRIES)
		if (memcmp(&book->entries[at].what, &wanted->what, sizeof wanted->what) == 0)
			return &book->entries[at];
	return book->len < ENTRIES - 1 ? &book->entries[at] : NULL;
}

/* Under the lock. */
static void
enter(struct book *book, const struct entry *fresh)
{
	struct entry *entry = find(book, fresh);
	bool stranger = fresh->what.status == 401;

	if (entry == NULL || (entry->n == 0 && stranger && book->strangers == STRANGERS)) {
		book->lost++;
		counter_add(COUNTER_AUDIT_LOST, 1);
		return;
	}
	if (entry->n == 0) {
		*entry = *fresh;
		book->len++;
		book->strangers += stranger;
	}
	entry->n++;
	entry->last_us = fresh->last_us;
}

/* Whoever asks writes what he likes there: only what may be a tenant's name is kept. */
static void
keep_tenant(char kept[TENANT_SIZE], const char *tenant)
{
	size_t len = tenant == NULL ? 0 : strspn(tenant, "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (len > 0 && len < TENANT_SIZE && tenant[len] == '\0')
		memcpy(kept, tenant, len);
}

void
journal_note(struct journal *j, const struct request *request, unsigned status)
{
	struct entry fresh;

	if (!is_noted(request, status))
		return;
	memset(&fresh, 0, sizeof fresh); /* padding is compared, too */
	memcpy(fresh.what.hash, request->token, sizeof fresh.what.hash);
	memcpy(fresh.what.hint, request->hint, sizeof fresh.what.hint);
	keep_tenant(fresh.what.tenant, request->tenant);
	memcpy(fresh.what.source, request->source, strlen(request->source));
	memcpy(fresh.what.target, request->noted, strlen(request->noted));
	fresh.what.kind = kind_of(request, status);
	fresh.what.method = request->route->method;
	fresh.what.status = status;
	fresh.first_us = fresh.last_us = clock_now_us();
	pthread_mutex_lock(&j->lock);
	enter(j->open, &fresh);
	if (j->open->len == ENTRIES / 2)
		pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
}

/* Writing. */

enum column { HASH, HINT, TENANT, KIND, METHOD, TARGET, SOURCE, STATUS, COUNT, FIRST, LAST, COLUMNS };

static const enum array_type types[COLUMNS] = {
	[HASH] = ARRAY_BYTEA,  [HINT] = ARRAY_TEXT,         [TENANT] = ARRAY_TEXT,      [KIND] = ARRAY_TEXT,
	[METHOD] = ARRAY_TEXT, [TARGET] = ARRAY_TEXT,       [SOURCE] = ARRAY_TEXT,      [STATUS] = ARRAY_INT4,
	[COUNT] = ARRAY_INT8,  [FIRST] = ARRAY_TIMESTAMPTZ, [LAST] = ARRAY_TIMESTAMPTZ,
};

static void
add_text(struct pg_array *array, const char *text)
{
	pg_array_bytes(array, (struct slice){(const uint8_t *)text, strlen(text)});
}

static void
add_entry(struct pg_array *columns, const struct entry *e)
{
	pg_array_bytes(&columns[HASH], (struct slice){e->what.hash, DIGEST_SIZE});
	add_text(&columns[HINT], e->what.hint);
	add_text(&columns[TENANT], e->what.tenant);
	add_text(&columns[KIND], e->what.kind);
	add_text(&columns[METHOD], e->what.method);
	add_text(&columns[TARGET], e->what.target);
	add_text(&columns[SOURCE], e->what.source);
	pg_array_int(&columns[STATUS], e->what.status);
	pg_array_int(&columns[COUNT], (int64_t)e->n);
	pg_array_time_us(&columns[FIRST], e->first_us);
	pg_array_time_us(&columns[LAST], e->last_us);
}

/* That there is something which the log does not tell has to be in the log. */
static void
add_lost(struct pg_array *columns, uint64_t n)
{
	struct entry lost = {.what = {.kind = "lost", .method = "", .hint = "", .target = ""},
			     .n = n,
			     .first_us = clock_now_us(),
			     .last_us = clock_now_us()};

	strcpy(lost.what.source, "-");
	add_entry(columns, &lost);
}

static int
write_book(struct journal *j, const struct book *book)
{
	struct pg_array columns[COLUMNS];
	struct param params[COLUMNS];
	int rc;

	memset(columns, 0, sizeof columns);
	for (int i = 0; i < COLUMNS; i++)
		pg_array_begin(&columns[i], types[i]);
	for (size_t i = 0; i < ENTRIES; i++)
		if (book->entries[i].n > 0)
			add_entry(columns, &book->entries[i]);
	if (book->lost > 0)
		add_lost(columns, book->lost);
	for (int i = 0; i < COLUMNS; i++)
		params[i] = pg_array_param(&columns[i]);
	rc = query_note(j->pool, params, COLUMNS);
	for (int i = 0; i < COLUMNS; i++)
		pg_array_free(&columns[i]);
	return rc;
}

/* A database that answers but does not take it never will: the log tells that something is lost, and goes on. */
static void
give_up(struct journal *j)
{
	uint64_t lost = j->closed->lost + j->closed->len;

	log_error("journal: the database refuses entries=%zu of the audit log: they are lost", j->closed->len);
	counter_add(COUNTER_AUDIT_LOST, (int64_t)j->closed->len);
	memset(j->closed, 0, sizeof *j->closed);
	j->closed->lost = lost;
	j->failures = 0;
}

/* Only when the one before is written is the next one closed: until then what does not fit is lost, and counted. */
static void
turn(struct journal *j)
{
	char why[WHY_SIZE];
	struct book *full;

	if (j->closed->len == 0 && j->closed->lost == 0) {
		pthread_mutex_lock(&j->lock);
		full = j->open;
		j->open = j->closed;
		j->closed = full;
		pthread_mutex_unlock(&j->lock);
	}
	if (j->closed->len == 0 && j->closed->lost == 0)
		return;
	if (write_book(j, j->closed) == 0) {
		memset(j->closed, 0, sizeof *j->closed);
		j->failures = 0;
	} else if (++j->failures < TRIES || !query_ready(j->pool, why)) {
		log_error("journal: the audit log can't be written; it is tried again");
	} else {
		give_up(j);
	}
}

static void *
run(void *argument)
{
	struct journal *j = argument;
	struct timespec until;
	bool stop;

	do {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += PERIOD_MS / 1000;
		pthread_mutex_lock(&j->lock);
		if (!j->stop)
			pthread_cond_timedwait(&j->wake, &j->lock, &until);
		stop = j->stop;
		pthread_mutex_unlock(&j->lock);
		turn(j);
	} while (!stop);
	turn(j); /* what came in while the first was written */
	return NULL;
}

static void
journal_free(struct journal *j)
{
	pthread_cond_destroy(&j->wake);
	pthread_mutex_destroy(&j->lock);
	free(j->open);
	free(j->closed);
	free(j);
}

struct journal *
journal_start(struct query_pool *pool)
{
	struct journal *j = calloc(1, sizeof *j);
	pthread_condattr_t attributes;

	if (j == NULL)
		return NULL;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&j->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&j->lock, NULL);
	j->pool = pool;
	j->open = calloc(1, sizeof *j->open);
	j->closed = calloc(1, sizeof *j->closed);
	if (j->open != NULL && j->closed != NULL && pthread_create(&j->thread, NULL, run, j) == 0)
		return j;
	journal_free(j);
	return NULL;
}

void
journal_stop(struct journal *j)
{
	if (j == NULL)
		return;
	pthread_mutex_lock(&j->lock);
	j->stop = true;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	journal_free(j);
}
