#include "emitter/lockout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/pam.h"
#include "emitter/text.h"

#define DEPTH_MAX 8
#define FILES_MAX 64 /* a stack that includes itself twice would double with each level */

#define FAILLOCK_TRIES 3 /* pam_faillock(8) */
#define FAILLOCK_S 600
#define UNIX_DELAY_S 2 /* pam_unix(8), unless "nodelay" */

struct walk {
	struct source *source;
	struct lockout *out;
	unsigned files;
};

static void
fail(struct walk *w, const char *why)
{
	if (!w->out->why[0])
		snprintf(w->out->why, sizeof w->out->why, "%s", why);
}

static void
set_number(struct slice text, uint64_t *out)
{
	if (text_is(text, "never"))
		*out = 0;
	else
		(void)!text_number(text, 10, out);
}

/* Several modules in one stack: the strictest locks. */
static void
lock_after(struct lockout *out, uint64_t tries, uint64_t unlock_s)
{
	if (tries == 0 || (out->locks && out->tries <= tries))
		return;
	out->locks = true;
	out->tries = tries;
	out->unlock_s = unlock_s;
}

static void
take_faillock(struct walk *w, struct slice arguments)
{
	uint64_t tries = FAILLOCK_TRIES, unlock_s = FAILLOCK_S;
	char path[256] = "etc/security/faillock.conf";
	struct slice value, text;
	bool named = pam_argument(arguments, "conf", &value) && value.len > 0 && value.len < sizeof path;
	struct slice tries_text = {NULL, 0}, unlock_text = {NULL, 0};
	bool has_tries = pam_argument(arguments, "deny", &tries_text),
	     has_unlock = pam_argument(arguments, "unlock_time", &unlock_text);

	if (named)
		snprintf(path, sizeof path, "%.*s", (int)value.len, (const char *)value.at);
	if (has_tries)
		set_number(tries_text, &tries);
	if (has_unlock)
		set_number(unlock_text, &unlock_s);
	text = source_read(w->source, path, SOURCE_ATTRIBUTE);
	if (!text.at && !source_missing(w->source))
		fail(w, source_why(w->source));
	if (text.at && !has_tries && setting_find(text, "deny", &value))
		set_number(value, &tries);
	if (text.at && !has_unlock && setting_find(text, "unlock_time", &value))
		set_number(value, &unlock_s);
	lock_after(w->out, tries, unlock_s);
}

/* pam_tally2, and pam_tally before it: nothing is locked unless "deny" says so. */
static void
take_tally(struct walk *w, struct slice arguments)
{
	uint64_t tries = 0, unlock_s = 0;
	struct slice value;

	if (pam_argument(arguments, "deny", &value))
		set_number(value, &tries);
	if (pam_argument(arguments, "unlock_time", &value))
		set_number(value, &unlock_s);
	lock_after(w->out, tries, unlock_s);
}

/* PAM waits for the longest that any module asks for. */
static void
wait_for(struct lockout *out, double seconds)
{
	if (seconds > out->delay_s)
		out->delay_s = seconds;
}

static void
take_faildelay(struct walk *w, struct slice arguments)
{
	uint64_t number = 0;
	struct slice value, text;

	if (pam_argument(arguments, "delay", &value) && text_number(value, 10, &number)) {
		wait_for(w->out, (double)number / 1e6);
		return;
	}
	text = source_read(w->source, "etc/login.defs", SOURCE_FILE);
	if (text.at && setting_find(text, "FAIL_DELAY", &value) && text_number(value, 10, &number))
		wait_for(w->out, (double)number);
}

static void
take_unix(struct walk *w, struct slice arguments)
{
	struct slice value;

	if (!pam_argument(arguments, "nodelay", &value))
		wait_for(w->out, UNIX_DELAY_S);
}

static const struct {
	const char *name;
	void (*take)(struct walk *, struct slice arguments);
} modules[] = {
	{"pam_faillock.so", take_faillock},   {"pam_tally2.so", take_tally}, {"pam_tally.so", take_tally},
	{"pam_faildelay.so", take_faildelay}, {"pam_unix.so", take_unix},
};

static bool
read_service(struct walk *w, const char *name, unsigned depth)
{
	static const char *const directories[] = {"etc/pam.d", "usr/lib/pam.d", "usr/etc/pam.d"};
	struct slice text = {NULL, 0}, rest, line;
	char path[300], joined[PAM_LINE], inner[256];
	struct pam_line parsed;
	uint8_t *copy;

	if (depth == DEPTH_MAX || w->files++ >= FILES_MAX) {
		fail(w, "a PAM stack includes too much");
		return true;
	}
	for (size_t i = 0; i < sizeof directories / sizeof directories[0] && !text.at; i++) {
		if (name[0] == '/')
			snprintf(path, sizeof path, "%s", name);
		else
			snprintf(path, sizeof path, "%s/%s", directories[i], name);
		text = source_read(w->source, path, SOURCE_ATTRIBUTE);
		if (!text.at && !source_missing(w->source))
			fail(w, source_why(w->source));
	}
	if (!text.at)
		return false;
	copy = malloc(text.len + 1);
	if (!copy) {
		fail(w, "memory ran out");
		return true;
	}
	memcpy(copy, text.at, text.len);
	rest = (struct slice){copy, text.len};
	while (pam_next_line(&rest, joined, &line)) {
		if (!pam_parse(line, &parsed) || (!parsed.every_type && parsed.type != PAM_AUTH))
			continue;
		if (parsed.include && parsed.module.len < sizeof inner) {
			snprintf(inner, sizeof inner, "%.*s", (int)parsed.module.len, (const char *)parsed.module.at);
			(void)read_service(w, inner, depth + 1);
			continue;
		}
		for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
			if (text_is(parsed.module, modules[i].name))
				modules[i].take(w, parsed.arguments);
	}
	free(copy);
	return true;
}

bool
lockout_read(struct source *source, const char *service, struct lockout *out)
{
	struct walk w = {.source = source, .out = out};

	memset(out, 0, sizeof *out);
	return read_service(&w, service, 0);
}
