#include "emitter/monitor.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "emitter/collect.h"
#include "emitter/stated.h"
#include "emitter/text.h"
#include "schema/limits.h"

#define FIRST FACT_ELEMENTS_DI_1
#define LAST FACT_ELEMENTS_CS_5
#define WHY (2 * LIMIT_SENT_WHY) /* cut at LIMIT_SENT_WHY when it is set */

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_UNKNOWN };

/* What the rules of one element have found so far. */
struct finding {
	enum status status;
	char why[WHY];
	bool unseen; /* a fact that could have told otherwise is not known, and why: */
	char unseen_why[WHY];
	bool image; /* something was passed over that an image does not have */
};

/* ---- one rule ---- */

static enum answer
yes_if(bool condition)
{
	return condition ? ANSWER_YES : ANSWER_NO;
}

static enum answer
ask_flag(const struct facts *facts, const struct rule *rule)
{
	bool flag;

	if (!facts_bool(facts, rule->fact, &flag))
		return ANSWER_UNKNOWN;
	return yes_if(flag == (rule->test == TEST_TRUE));
}

static enum answer
ask_text(const struct facts *facts, const struct rule *rule)
{
	const char *text = facts_text(facts, rule->fact);
	size_t len = strlen(rule->text) + (rule->test == TEST_IS);

	return text ? yes_if(strncmp(text, rule->text, len) == 0) : ANSWER_UNKNOWN;
}

static enum answer
ask_number(const struct facts *facts, const struct rule *rule)
{
	double number;

	if (!facts_number(facts, rule->fact, &number))
		return ANSWER_UNKNOWN;
	return yes_if(rule->test == TEST_ABOVE ? number > rule->number : number < rule->number);
}

/* A list that is not wholly known can show what is in it, never what is not. */
static enum answer
ask_list(const struct facts *facts, const struct rule *rule)
{
	bool whole = facts_has(facts, rule->fact) && !facts_why(facts, rule->fact);
	struct slice text;
	size_t at = 0;

	if (rule->test != TEST_LISTS) {
		bool some = facts_count(facts, rule->fact) > 0;

		return some || whole ? yes_if(some == (rule->test == TEST_SOME)) : ANSWER_UNKNOWN;
	}
	while (facts_next_text(facts, rule->fact, &at, &text))
		if (memmem(text.at, text.len, rule->text, strlen(rule->text)))
			return ANSWER_YES;
	return whole ? ANSWER_NO : ANSWER_UNKNOWN;
}

static enum answer
ask(const struct facts *facts, const struct rule *rule)
{
	switch (rule->test) {
	case TEST_KNOWN:
		return facts_has(facts, rule->fact) ? ANSWER_YES : ANSWER_UNKNOWN;
	case TEST_TRUE:
	case TEST_FALSE:
		return ask_flag(facts, rule);
	case TEST_IS:
	case TEST_BEGINS:
		return ask_text(facts, rule);
	case TEST_ABOVE:
	case TEST_BELOW:
		return ask_number(facts, rule);
	case TEST_SOME:
	case TEST_NONE:
	case TEST_LISTS:
		return ask_list(facts, rule);
	}
	return ANSWER_UNKNOWN;
}

/* ---- why ---- */

/* The first of a list's texts as they will be sent, and how many more; but how many of those that are personal. */
static void
tell_list(const struct facts *facts, enum fact fact, char *out, size_t size)
{
	size_t n = facts_count(facts, fact), at = 0;
	struct slice first = {NULL, 0}, text;
	int len = (int)LIMIT_SENT_WHY / 2;

	if (fact_row(fact)->personal || strcmp(fact_row(fact)->type, "TEXTS") != 0) {
		snprintf(out, size, "%zu", n);
		return;
	}
	while (facts_next_text(facts, fact, &at, &text)) {
		size_t both = text.len < first.len ? text.len : first.len;
		int order = first.at ? memcmp(text.at, first.at, both) : -1;

		if (order < 0 || (order == 0 && text.len < first.len))
			first = text;
	}
	len = first.len < (size_t)len ? (int)first.len : len;
	if (n > 1)
		snprintf(out, size, "%.*s and %zu more", len, (const char *)first.at, n - 1);
	else
		snprintf(out, size, "%.*s", len, first.at ? (const char *)first.at : "");
}

static void
tell_value(const struct facts *facts, enum fact fact, char *out, size_t size)
{
	const char *type = fact_row(fact)->type;
	double number;

	out[0] = '\0';
	if (strcmp(type, "TEXT") == 0)
		snprintf(out, size, "%s", facts_text(facts, fact));
	else if (strcmp(type, "UINT") == 0 || strcmp(type, "NUMBER") == 0)
		snprintf(out, size, "%.10g", facts_number(facts, fact, &number) ? number : NAN);
	else
		tell_list(facts, fact, out, size);
}

static void
tell(const struct facts *facts, const struct rule *rule, char why[WHY])
{
	const char *mark = strchr(rule->words, '%');
	char value[WHY];

	if (!mark) {
		snprintf(why, WHY, "%s", rule->words);
		return;
	}
	tell_value(facts, rule->fact, value, sizeof value);
	snprintf(why, WHY, "%.*s%.*s%s", (int)(mark - rule->words), rule->words, (int)LIMIT_SENT_WHY, value, mark + 1);
}

/* ---- one element ---- */

static bool
is_adverse(enum status status)
{
	return status != STATUS_IN_EFFECT && status != STATUS_NOT_APPLICABLE && status != STATUS_DECLARED;
}

/* A rule that says nothing: is that good news, or only not known? */
static void
pass_over(const struct facts *facts, const struct rule *rule, enum fact fact, struct finding *f)
{
	const struct fact_row *row = fact_row(fact);
	const char *why = facts_why(facts, fact);
	bool image = rule->live && why && strcmp(why, COLLECT_IMAGE) == 0;

	f->image |= image;
	if (image || rule->optional || (f->unseen && is_adverse(rule->status)))
		return;
	if (f->unseen_why[0] == '\0' || (is_adverse(rule->status) && !f->unseen))
		snprintf(f->unseen_why, WHY, "%s.%s: %s", row->topic, row->name, why ? why : "not observed");
	f->unseen |= is_adverse(rule->status);
}

/* Whether the rule decided. */
static bool
apply(const struct facts *facts, const struct rule *rule, struct finding *f)
{
	enum fact fact = rule->given ? rule->given : rule->fact;
	bool given = true;

	if (rule->given && facts_bool(facts, rule->given, &given) && !given)
		return false;
	if (!rule->given || facts_has(facts, rule->given))
		fact = rule->fact;
	switch (ask(facts, rule)) {
	case ANSWER_NO:
		return false;
	case ANSWER_UNKNOWN:
		pass_over(facts, rule, fact, f);
		return false;
	case ANSWER_YES:
		break;
	}
	if (!is_adverse(rule->status) && f->unseen)
		return true;
	f->status = rule->status;
	tell(facts, rule, f->why);
	if (f->image && !is_adverse(rule->status))
		snprintf(f->why + strlen(f->why), WHY - strlen(f->why), ", as far as an image tells");
	return true;
}

static bool
is_declared(const char *declared, enum fact element, char why[WHY])
{
	struct slice text = {(const uint8_t *)declared, declared ? strlen(declared) : 0}, name, value;
	const char *wrong;
	enum stated got;

	while ((got = stated_next(&text, &name, &value, &wrong)) != STATED_END)
		if (got == STATED_ONE && monitor_element(name) == element) {
			snprintf(why, WHY, "%.*s", (int)value.len, (const char *)value.at);
			return true;
		}
	return false;
}

static void
judge_element(struct facts *facts, enum fact element, const char *declared)
{
	struct finding f = {.status = STATUS_UNKNOWN};

	for (size_t i = 0; i < monitor_rules_len; i++)
		if (monitor_rules[i].element == element && apply(facts, &monitor_rules[i], &f))
			break;
	if (f.status == STATUS_UNKNOWN) {
		snprintf(f.why, WHY, "%s", f.unseen_why[0] ? f.unseen_why : "nothing that is known tells");
		if (is_declared(declared, element, f.why))
			f.status = STATUS_DECLARED;
	}
	facts_set_status(facts, element, f.status, f.why);
}

enum fact
monitor_element(struct slice name)
{
	for (unsigned fact = FIRST; fact <= LAST; fact++)
		if (text_is(name, fact_row((enum fact)fact)->name))
			return (enum fact)fact;
	return FACTS;
}

/* ---- the verdict ---- */

static void
judge_device(struct facts *facts)
{
	bool degraded = false, unknown = false;
	struct slice why;
	enum status status;
	char line[WHY];

	facts_begin_list(facts, FACT_VERDICT_DEGRADED);
	for (unsigned fact = FIRST; fact <= LAST; fact++) {
		if (!facts_status(facts, (enum fact)fact, &status, &why)) {
			unknown = true;
			continue;
		}
		unknown |= status == STATUS_UNKNOWN || status == STATUS_PROBE_ERROR;
		if (status != STATUS_WEAK)
			continue;
		degraded = true;
		snprintf(line, sizeof line, "%s: %.*s", fact_row((enum fact)fact)->name, (int)why.len,
			 (const char *)why.at);
		facts_add_text(facts, FACT_VERDICT_DEGRADED, line);
	}
	facts_set_text(facts, FACT_VERDICT_OVERALL, degraded ? "degraded" : unknown ? "unknown" : "as-expected");
}

void
monitor_judge(struct facts *facts, const char *declared)
{
	for (unsigned fact = FIRST; fact <= LAST; fact++)
		judge_element(facts, (enum fact)fact, declared);
	judge_device(facts);
}
