#include "emitter/glob.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORIES 256 /* that one pattern may look into */
#define NAMES 4096 /* that may match in one directory */

struct search {
	struct source *source;
	size_t max, given, directories;
	bool (*take)(void *, const char *);
	void *context;
	bool stopped, failed;
};

/* What one directory has for one component of the pattern. */
struct names {
	const char *pattern;
	char **at;
	size_t len, size, max;
	bool full;
};

static bool
note(void *context, int directory, const char *name)
{
	struct names *names = context;
	char **moved;

	(void)directory;
	if (fnmatch(names->pattern, name, FNM_PERIOD) != 0)
		return true;
	if (names->len == names->max) {
		names->full = true;
		return false;
	}
	if (names->len == names->size) {
		moved = realloc(names->at, (names->size ? 2 * names->size : 16) * sizeof *moved);
		names->full = !moved;
		if (!moved)
			return false;
		names->at = moved;
		names->size = names->size ? 2 * names->size : 16;
	}
	names->at[names->len] = strdup(name);
	names->full = !names->at[names->len];
	names->len += !names->full;
	return !names->full;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
give(struct search *s, const char *path)
{
	if (!source_exists(s->source, path))
		return;
	if (s->given == s->max) {
		s->failed = s->stopped = true;
		return;
	}
	s->given++;
	s->stopped = !s->take(s->context, path);
}

/* `done` is a path without wildcards, `rest` what still follows it. */
static void
look(struct search *s, const char *done, const char *rest)
{
	char path[PATH_MAX], component[NAME_MAX + 1];
	size_t len = strcspn(rest, "/"), slashes = strspn(rest + len, "/");
	struct names names = {.pattern = component, .max = NAMES};

	if (len > NAME_MAX) {
		s->failed = true;
		return;
	}
	memcpy(component, rest, len);
	component[len] = '\0';
	if (!strpbrk(component, "*?[")) {
		if ((size_t)snprintf(path, sizeof path, "%s%s%s", done, done[0] ? "/" : "", component) >= sizeof path)
			s->failed = true;
		else if (rest[len + slashes] == '\0')
			give(s, path);
		else
			look(s, path, rest + len + slashes);
		return;
	}
	if (s->directories++ >= DIRECTORIES) {
		s->failed = s->stopped = true;
		return;
	}
	if (source_list(s->source, done[0] ? done : ".", SOURCE_NAMES, note, &names) < 0 && !source_missing(s->source))
		s->failed = true;
	s->failed = s->failed || names.full;
	if (names.len > 0)
		qsort(names.at, names.len, sizeof names.at[0], by_name);
	for (size_t i = 0; i < names.len; i++) {
		if (s->stopped)
			continue;
		if ((size_t)snprintf(path, sizeof path, "%s%s%s", done, done[0] ? "/" : "", names.at[i]) >= sizeof path)
			s->failed = true;
		else if (rest[len + slashes] == '\0')
			give(s, path);
		else
			look(s, path, rest + len + slashes);
	}
	for (size_t i = 0; i < names.len; i++)
		free(names.at[i]);
	free(names.at);
}

int
source_glob(struct source *source, const char *pattern, size_t max, bool (*take)(void *, const char *), void *context)
{
	struct search s = {.source = source, .max = max, .take = take, .context = context};

	look(&s, "", pattern + strspn(pattern, "/"));
	return s.failed ? -1 : 0;
}
