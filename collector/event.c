#include "collector/event.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "collector/event_kind.h"
#include "collector/words.h"

static const char *const severity_names[SEVERITIES] = {"info", "low", "medium", "high", "critical"};

/* What an event says of its severity itself comes first: alerts have their policy's. NULL: whatever the member says, or no member at all. */
static const struct {
	const char *type, *member, *value;
	enum severity severity;
} table[] = {
	{"device.fork", NULL, NULL, SEVERITY_CRITICAL},
	{"device.second-epoch", NULL, NULL, SEVERITY_CRITICAL},
	{"device.posture", "posture", "untrusted", SEVERITY_CRITICAL},
	{"device.posture", "posture", "degraded", SEVERITY_HIGH},
	{"device.posture", "posture", "silent", SEVERITY_MEDIUM},
	{"device.posture", "posture", "unknown", SEVERITY_LOW},
	{"device.lifecycle", "lifecycle", "revoked", SEVERITY_HIGH},
	{"device.lifecycle", "lifecycle", "deleted", SEVERITY_MEDIUM},
	{"challenge.unanswered", NULL, NULL, SEVERITY_HIGH},
	{"device.refused", NULL, NULL, SEVERITY_MEDIUM},
	{"device.rekeyed", NULL, NULL, SEVERITY_LOW},
	{"device.key-revoked", NULL, NULL, SEVERITY_HIGH},
	{"device.key-retired", NULL, NULL, SEVERITY_LOW},
	{"device.reprovision", NULL, NULL, SEVERITY_LOW},
};

const char *
severity_name(enum severity severity)
{
	return severity_names[severity];
}

bool
severity_parse(struct slice text, enum severity *severity)
{
	for (enum severity s = 0; s < SEVERITIES; s++)
		if (word_is(text, severity_names[s])) {
			*severity = s;
			return true;
		}
	return false;
}

static enum severity
judge(const struct event *e)
{
	const char *said = json_string_value(json_object_get(e->fields, "severity"));
	enum severity severity;

	if (said != NULL && severity_parse((struct slice){(const uint8_t *)said, strlen(said)}, &severity))
		return severity;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		const char *value =
			table[i].member == NULL ? NULL : json_string_value(json_object_get(e->fields, table[i].member));

		if (word_is(e->type, table[i].type) &&
		    (table[i].value == NULL || (value != NULL && strcmp(value, table[i].value) == 0)))
			return table[i].severity;
	}
	return SEVERITY_INFO;
}

void
event_read(struct event *e)
{
	e->fields = json_loadb((const char *)e->data.at, e->data.len, JSON_ALLOW_NUL, NULL);
	e->severity = judge(e);
}

void
event_clear(struct event *e)
{
	json_decref(e->fields);
	e->fields = NULL;
}

void
event_time(int64_t us, char *text)
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	if (gmtime_r(&s, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 8099)
		memset(&tm, 0, sizeof tm);
	n = strftime(text, EVENT_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, EVENT_TIME_SIZE - n, ".%06dZ", (int)(us % 1000000));
}

static const char *
first_member(const struct event *e, const char *const *names, size_t n)
{
	const char *text = NULL;

	for (size_t i = 0; text == NULL && i < n; i++)
		text = json_string_value(json_object_get(e->fields, names[i]));
	return text;
}

void
event_message(const struct event *e, struct draft *d)
{
	static const char *const names[] = {"title", "posture", "lifecycle", "reason", "policy"};
	const char *word = first_member(e, names, sizeof names / sizeof *names);

	draft_text(d, event_kind(e->type)->title);
	if (word != NULL) {
		draft_text(d, ": ");
		draft_text(d, word);
	}
}

void
event_reasons(const struct event *e, struct draft *d)
{
	static const char *const names[] = {"reason", "why"};
	const char *one = first_member(e, names, sizeof names / sizeof *names);
	const json_t *list = json_object_get(e->fields, "reasons");

	if (one != NULL)
		draft_text(d, one);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *word = json_string_value(json_array_get(list, i));

		if (word == NULL)
			continue;
		draft_text(d, d->len == 0 ? "" : ", ");
		draft_text(d, word);
	}
}

const char *
event_actor(const struct event *e)
{
	static const char *const names[] = {"by", "who"};

	return first_member(e, names, sizeof names / sizeof *names);
}

bool
event_wanted(const struct event *e, const char *types, enum severity least)
{
	bool wanted = types[0] == '\0';
	struct slice word;

	while (!wanted && words_next(&types, &word))
		wanted = event_type_fits(e->type, word);
	return wanted && e->severity >= least;
}
