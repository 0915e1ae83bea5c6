#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emitter/probes.h"
#include "emitter/runner.h"
#include "emitter/stated.h"

#define RUN_MAX 8 /* executables; each may take RUNNER_MS */
#define FACTS_MAX 64 /* that the configuration states */
#define RUN_AGAIN_S 3600 /* what one printed is good for so long, unless the file changes */

/* What an executable said last. */
struct said {
	char path[STATED_VALUE + 1], value[RUNNER_OUTPUT + 1], why[256];
	struct source_stamp stamp;
	time_t at; /* of the monotonic clock */
	bool ran;
};

static struct fact_field
text_field(struct slice text)
{
	return (struct fact_field){.kind = text.at ? FIELD_TEXT : FIELD_ABSENT, .bytes = text};
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void
state(struct probe *p, struct slice name, struct slice value, struct slice from)
{
	const struct fact_field row[] = {text_field(name), text_field(value), text_field(from)};

	facts_add_row(p->facts, FACT_DECLARED_FACTS, row, sizeof row / sizeof *row);
}

static void
state_configured(struct probe *p, const char *declare)
{
	struct slice text = string(declare), name, value;
	const char *why;
	size_t n = 0;
	enum stated got;

	while (n++ < FACTS_MAX && (got = stated_next(&text, &name, &value, &why)) != STATED_END)
		if (got == STATED_ONE)
			state(p, name, value, string("configuration"));
}

static time_t
monotonic_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Again when another file lies there, or the time has come. */
static void
run(struct probe *p, struct said *said)
{
	struct source_stamp stamp;
	time_t now = monotonic_s();
	int result;

	source_stamp(p->source, said->path + 1, &stamp);
	if (said->at != 0 && now - said->at < RUN_AGAIN_S && memcmp(&stamp, &said->stamp, sizeof stamp) == 0)
		return;
	result = runner_run(p->self->runner, said->path, said->value, said->why);
	said->ran = result == 0;
	said->stamp = stamp;
	said->at = result == -2 ? 0 : now > 0 ? now : 1;
}

/* The row of that path, the old one if it was run before: the configuration may have been read again. */
static struct said *
said_of(struct said *rows, size_t i, struct slice path)
{
	struct said *said = &rows[i];

	if (!text_is(path, said->path)) {
		memset(said, 0, sizeof *said);
		memcpy(said->path, path.at, path.len);
	}
	return said;
}

static void
state_run(struct probe *p, const char *declare_run)
{
	struct slice text = string(declare_run), name, value, absent = {NULL, 0};
	char from[STATED_VALUE + 264];
	const char *why;
	size_t n = 0;
	enum stated got;

	if (!p->said)
		p->said = calloc(RUN_MAX, sizeof *p->said);
	if (!p->said) {
		p->no_memory = true;
		return;
	}
	while (n < RUN_MAX && (got = stated_next(&text, &name, &value, &why)) != STATED_END) {
		struct said *said;

		if (got != STATED_ONE || value.at[0] != '/')
			continue;
		said = said_of(p->said, n++, value);
		if (!source_is_live(p->source))
			snprintf(said->why, sizeof said->why, COLLECT_IMAGE);
		else if (!p->self->runner)
			snprintf(said->why, sizeof said->why, "nothing is run here");
		else
			run(p, said);
		if (said->ran)
			state(p, name, string(said->value), string(said->path));
		else {
			snprintf(from, sizeof from, "%s: %s", said->path, said->why);
			state(p, name, absent, string(from));
		}
	}
}

void
probe_declared(struct probe *p)
{
	const struct settings *s = p->self ? p->self->settings : NULL;

	source_trace_transient(p->source);
	if (!s || (!self_is_set(s->declare) && !self_is_set(s->declare_run))) {
		facts_unknown(p->facts, FACT_DECLARED_FACTS, "the maker declares nothing");
		return;
	}
	facts_begin_list(p->facts, FACT_DECLARED_FACTS);
	if (self_is_set(s->declare))
		state_configured(p, s->declare);
	if (self_is_set(s->declare_run))
		state_run(p, s->declare_run);
}
