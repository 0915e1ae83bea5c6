#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "emitter/witness_sources.h"

static int
compare(struct slice a, struct slice b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter > 0 ? memcmp(a.at, b.at, shorter) : 0;

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int
by_name(const void *a, const void *b)
{
	const struct component *x = a, *y = b;
	int order = compare(x->name, y->name);

	return order ? order : compare(x->architecture, y->architecture);
}

static int
by_version(const void *a, const void *b)
{
	int order = by_name(a, b);

	return order ? order : compare(((const struct component *)a)->version, ((const struct component *)b)->version);
}

/* The packages of a set, in order. NULL: malformed, or no memory. */
static struct component *
packages_of(struct slice encoded, size_t *n)
{
	struct cbor_reader r;
	size_t all;
	struct component *list;

	cbor_reader_init(&r, encoded);
	all = cbor_read_array(&r, LIMIT_COMPONENTS);
	list = calloc(all + 1, sizeof *list);
	*n = 0;
	for (size_t i = 0; list != NULL && i < all && r.error == REASON_OK; i++) {
		component_decode(&r, &list[*n]);
		*n += list[*n].type <= COMPONENT_RPM;
	}
	if (list == NULL || cbor_reader_end(&r) != REASON_OK) {
		free(list);
		return NULL;
	}
	qsort(list, *n, sizeof *list, by_version);
	return list;
}

/* Takes out of both what both have. */
static void
leave_differences(struct component *a, size_t *a_n, struct component *b, size_t *b_n)
{
	size_t i = 0, k = 0, kept_a = 0, kept_b = 0;

	while (i < *a_n || k < *b_n) {
		int order = i == *a_n ? 1 : k == *b_n ? -1 : by_version(&a[i], &b[k]);

		if (order < 0)
			a[kept_a++] = a[i++];
		else if (order > 0)
			b[kept_b++] = b[k++];
		else
			i++, k++;
	}
	*a_n = kept_a;
	*b_n = kept_b;
}

static void
tell(struct events *events, enum event_kind kind, const struct component *now, const struct component *before)
{
	const struct slice parts[] = {now->name, now->version, before ? before->version : (struct slice){NULL, 0}};

	events_add(events, kind, (uint64_t)time(NULL), 1, parts, before ? 3 : 2);
}

static void
tell_differences(struct events *events, const struct component *old, size_t old_n, const struct component *new,
		 size_t new_n)
{
	size_t i = 0, k = 0;

	while (i < old_n || k < new_n) {
		int order = i == old_n ? 1 : k == new_n ? -1 : by_name(&old[i], &new[k]);

		if (order < 0)
			tell(events, EVENT_PACKAGE_REMOVED, &old[i++], NULL);
		else if (order > 0)
			tell(events, EVENT_PACKAGE_INSTALLED, &new[k++], NULL);
		else
			tell(events, EVENT_PACKAGE_CHANGED, &new[k++], &old[i++]);
	}
}

static struct slice
read_saved(int dir)
{
	struct slice none = {NULL, 0};
	struct stat st;
	uint8_t *bytes;
	ssize_t len;

	if (fstatat(dir, "packages", &st, 0) != 0 || st.st_size > LIMIT_MESSAGE)
		return none;
	bytes = malloc((size_t)st.st_size + 1);
	len = bytes != NULL ? durable_read(dir, "packages", bytes, (size_t)st.st_size) : -1;
	if (len < 0) {
		free(bytes);
		return none;
	}
	return (struct slice){bytes, (size_t)len};
}

/* With nothing to compare with, the first time, nothing happened. */
void
package_source_sweep(int dir, const struct inventory *inventory, struct events *events)
{
	struct slice saved = read_saved(dir);
	size_t old_n = 0, new_n = 0;
	struct component *old = saved.at != NULL ? packages_of(saved, &old_n) : NULL;
	struct component *new =
		old != NULL ? packages_of((struct slice){inventory->encoded, inventory->len}, &new_n) : NULL;

	if (new != NULL) {
		leave_differences(old, &old_n, new, &new_n);
		tell_differences(events, old, old_n, new, new_n);
	} else if (saved.at != NULL) {
		events_say(events, EVENT_LOST, (uint64_t)time(NULL),
			   (const char *const[]){"packages", "saved list unreadable"}, 2);
	}
	free(old);
	free(new);
	free((void *)(uintptr_t)saved.at);
}
