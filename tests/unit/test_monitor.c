/* Every rule of the monitor by itself, what is not known, what the maker declares, and the verdict. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "emitter/collect.h"
#include "emitter/monitor.h"
#include "emitter/stated.h"
#include "schema/limits.h"

#define WHY "the probe was refused"

static const char *
type_of(enum fact fact)
{
	return fact_row(fact)->type;
}

static void
add_item(struct facts *facts, enum fact fact, const char *item)
{
	static const struct fact_field row[5];

	if (strcmp(type_of(fact), "TEXTS") == 0)
		facts_add_text(facts, fact, item);
	else
		facts_add_row(facts, fact, row, 5); /* LIST(FILE), all fields absent */
}

static void
set_value(struct facts *facts, enum fact fact, const char *text, double number)
{
	if (strcmp(type_of(fact), "TEXT") == 0)
		facts_set_text(facts, fact, text);
	else if (strcmp(type_of(fact), "BOOL") == 0)
		facts_set_bool(facts, fact, number > 0);
	else if (strcmp(type_of(fact), "UINT") == 0)
		facts_set_uint(facts, fact, (uint64_t)number);
	else if (strcmp(type_of(fact), "NUMBER") == 0)
		facts_set_number(facts, fact, number);
	else {
		facts_begin_list(facts, fact);
		if (text)
			add_item(facts, fact, text);
	}
}

static void
make_hold(struct facts *facts, const struct rule *rule, bool hold)
{
	switch (rule->test) {
	case TEST_KNOWN:
		if (hold)
			set_value(facts, rule->fact, "something", 7);
		else
			facts_unknown(facts, rule->fact, WHY);
		break;
	case TEST_TRUE:
	case TEST_FALSE:
		facts_set_bool(facts, rule->fact, hold == (rule->test == TEST_TRUE));
		break;
	case TEST_IS:
	case TEST_BEGINS:
		facts_set_text(facts, rule->fact, hold ? rule->text : "something");
		break;
	case TEST_ABOVE:
		set_value(facts, rule->fact, NULL, hold ? rule->number + 1 : rule->number);
		break;
	case TEST_BELOW:
		set_value(facts, rule->fact, NULL, hold ? rule->number - 1 : rule->number);
		break;
	case TEST_SOME:
	case TEST_NONE:
		set_value(facts, rule->fact, hold == (rule->test == TEST_SOME) ? "item" : NULL, 0);
		break;
	case TEST_LISTS:
		set_value(facts, rule->fact, hold ? rule->text : "item", 0);
		break;
	}
	if (rule->given)
		facts_set_bool(facts, rule->given, true);
}

static bool
is_adverse(const struct rule *rule)
{
	return rule->status == STATUS_WEAK || rule->status == STATUS_OFF || rule->status == STATUS_NOT_SUPPORTED;
}

static enum status
status_of(const struct facts *facts, enum fact element, char why[LIMIT_SENT_WHY + 1])
{
	struct slice text;
	enum status status;

	assert_true(facts_status(facts, element, &status, &text));
	assert_true(text.len <= LIMIT_SENT_WHY);
	snprintf(why, LIMIT_SENT_WHY + 1, "%.*s", (int)text.len, (const char *)text.at);
	return status;
}

static void
assert_judged(const struct facts *facts, enum fact element, enum status wanted, const char *wanted_why)
{
	char why[LIMIT_SENT_WHY + 1];
	enum status status = status_of(facts, element, why);

	if (status != wanted || !strstr(why, wanted_why))
		fail_msg("%s: %s, %s; not %s, %s", fact_row(element)->name, status_name(status), why,
			 status_name(wanted), wanted_why);
}

/* The words before the value. */
static void
assert_decided(const struct facts *facts, const struct rule *rule)
{
	char words[256];

	snprintf(words, sizeof words, "%.*s", (int)strcspn(rule->words, "%"), rule->words);
	assert_judged(facts, rule->element, rule->status, words);
}

/* Everything that the element asks for says that all is well, up to a rule. */
static struct facts *
well_until(const struct rule *last)
{
	struct facts *facts = facts_new();

	assert_non_null(facts);
	for (const struct rule *rule = monitor_rules; rule < last; rule++)
		if (rule->element == last->element)
			make_hold(facts, rule, false);
	return facts;
}

static void
each_rule_decides(void **state)
{
	(void)state;
	for (size_t i = 0; i < monitor_rules_len; i++) {
		struct facts *facts = well_until(&monitor_rules[i]);

		make_hold(facts, &monitor_rules[i], true);
		monitor_judge(facts, NULL);
		assert_decided(facts, &monitor_rules[i]);
		facts_free(facts);
	}
}

static void
each_rule_that_does_not_hold_is_silent(void **state)
{
	(void)state;
	for (size_t i = 0; i < monitor_rules_len; i++) {
		struct facts *facts = well_until(&monitor_rules[i]);
		char why[LIMIT_SENT_WHY + 1];

		make_hold(facts, &monitor_rules[i], false);
		monitor_judge(facts, NULL);
		if (status_of(facts, monitor_rules[i].element, why) == monitor_rules[i].status &&
		    is_adverse(&monitor_rules[i]))
			assert_null(strstr(why, monitor_rules[i].words));
		facts_free(facts);
	}
}

/* What harms is told whatever else is not known. */
static void
what_is_adverse_needs_nothing_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < monitor_rules_len; i++) {
		struct facts *facts = facts_new();

		if (is_adverse(&monitor_rules[i])) {
			make_hold(facts, &monitor_rules[i], true);
			monitor_judge(facts, NULL);
			assert_decided(facts, &monitor_rules[i]);
		}
		facts_free(facts);
	}
}

static const struct rule *
first_well(enum fact element, const struct rule *after)
{
	for (const struct rule *rule = after; rule < monitor_rules + monitor_rules_len; rule++)
		if (rule->element == element && !is_adverse(rule))
			return rule;
	return NULL;
}

static void
what_is_not_known_is_never_healthy(void **state)
{
	size_t tried = 0;

	(void)state;
	for (size_t i = 0; i < monitor_rules_len; i++) {
		const struct rule *asked = &monitor_rules[i], *well = first_well(asked->element, asked);
		struct facts *facts;
		char name[128];

		if (!is_adverse(asked) || asked->optional || !well || well->fact == asked->fact)
			continue;
		tried++;
		facts = well_until(well);
		make_hold(facts, well, true);
		facts_unknown(facts, asked->fact, WHY);
		monitor_judge(facts, NULL);
		snprintf(name, sizeof name, "%s.%s: " WHY, fact_row(asked->fact)->topic, fact_row(asked->fact)->name);
		assert_judged(facts, asked->element, STATUS_UNKNOWN, name);
		facts_free(facts);
	}
	assert_true(tried > 20);
}

static void
nothing_known_is_unknown(void **state)
{
	struct facts *facts = facts_new();

	(void)state;
	monitor_judge(facts, NULL);
	for (unsigned fact = FACT_ELEMENTS_DI_1; fact <= FACT_ELEMENTS_CS_5; fact++)
		assert_judged(facts, (enum fact)fact, STATUS_UNKNOWN, ".");
	assert_string_equal(facts_text(facts, FACT_VERDICT_OVERALL), "unknown");
	assert_int_equal(facts_count(facts, FACT_VERDICT_DEGRADED), 0);
	facts_free(facts);
}

static void
the_rules_keep_to_their_own_rules(void **state)
{
	(void)state;
	for (unsigned fact = FACT_ELEMENTS_DI_1; fact <= FACT_ELEMENTS_CS_5; fact++)
		assert_non_null(first_well((enum fact)fact, monitor_rules));
	for (size_t i = 0; i < monitor_rules_len; i++) {
		const struct rule *rule = &monitor_rules[i];

		assert_false(fact_row(rule->fact)->is_volatile);
		assert_true(rule->fact < FACT_ELEMENTS_DI_1);
		assert_in_range(rule->element, FACT_ELEMENTS_DI_1, FACT_ELEMENTS_CS_5);
		assert_true(rule->words[0] != '\0');
	}
}

/* On an image nothing listens; that is no news. On a running system it would be. */
static void
an_image_is_judged_by_what_it_has(void **state)
{
	struct facts *facts = facts_new();

	(void)state;
	facts_unknown(facts, FACT_INTERFACES_UNEXPECTED_SOCKETS, COLLECT_IMAGE);
	facts_unknown(facts, FACT_INTERFACES_UNNECESSARY, COLLECT_IMAGE);
	facts_unknown(facts, FACT_INTERFACES_SERIAL_CONSOLES, COLLECT_IMAGE);
	facts_set_text(facts, FACT_INTERFACES_USB_STORAGE, "blocked");
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_1, STATUS_IN_EFFECT, "blocked, as far as an image tells");
	facts_unknown(facts, FACT_INTERFACES_UNEXPECTED_SOCKETS, "no expected ones");
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_1, STATUS_UNKNOWN, "interfaces.unexpected_sockets: no expected ones");
	facts_set_text(facts, FACT_INTERFACES_USB_STORAGE, "loadable");
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_1, STATUS_OFF, "USB storage");
	/* An image's other gaps stay gaps. */
	facts_set_bool(facts, FACT_ACCESS_SSH, false);
	facts_unknown(facts, FACT_INTERFACES_FIREWALL, COLLECT_IMAGE);
	facts_set_text(facts, FACT_INTERFACES_FIREWALL_INPUT, "drop");
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_2, STATUS_UNKNOWN, "interfaces.firewall: " COLLECT_IMAGE);
	facts_free(facts);
}

static void
without_ssh_nothing_is_asked_of_it(void **state)
{
	struct facts *facts = facts_new();

	(void)state;
	facts_set_bool(facts, FACT_ACCESS_SSH, false);
	facts_set_text(facts, FACT_INTERFACES_FIREWALL, "nftables");
	facts_set_text(facts, FACT_INTERFACES_FIREWALL_INPUT, "drop");
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_2, STATUS_IN_EFFECT, "drop");
	facts_unknown(facts, FACT_ACCESS_SSH, WHY);
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_2, STATUS_UNKNOWN, "access.ssh: " WHY);
	facts_set_bool(facts, FACT_ACCESS_SSH, true);
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_LA_2, STATUS_UNKNOWN, "access.ssh_empty_password");
	facts_free(facts);
}

/* A list's first text, whatever the order of discovery; but nobody's name. */
static void
the_words_are_steady_and_name_nobody(void **state)
{
	struct facts *facts = facts_new();

	(void)state;
	facts_begin_list(facts, FACT_UPDATE_UNSIGNED_SOURCES);
	facts_add_text(facts, FACT_UPDATE_UNSIGNED_SOURCES, "zeta");
	facts_add_text(facts, FACT_UPDATE_UNSIGNED_SOURCES, "alpha-long");
	facts_add_text(facts, FACT_UPDATE_UNSIGNED_SOURCES, "alpha");
	facts_begin_list(facts, FACT_ACCESS_EMPTY_PASSWORD);
	facts_add_text(facts, FACT_ACCESS_EMPTY_PASSWORD, "alice");
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_SU_2, STATUS_WEAK, ": alpha and 2 more");
	assert_judged(facts, FACT_ELEMENTS_LA_3, STATUS_WEAK, "without a password: 1");
	facts_free(facts);
}

/* "more than 512" of a list is enough to say that there are some, not that there is none. */
static void
half_a_list_shows_only_what_is_in_it(void **state)
{
	struct facts *facts = facts_new();
	char name[16];

	(void)state;
	facts_begin_list(facts, FACT_EMITTER_LOG_FORWARDING);
	for (int i = 0; i < LIMIT_SOCKETS + 1; i++) {
		snprintf(name, sizeof name, "tls %d", i);
		facts_add_text(facts, FACT_EMITTER_LOG_FORWARDING, name);
	}
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_CS_5, STATUS_UNKNOWN, "emitter.log_forwarding: more than");
	facts_free(facts);
}

static void
what_the_maker_declares_stands_where_nothing_is_seen(void **state)
{
	static const char declared[] = "DP.2 = the button below the lid; =; LA.1 ; nonsense=1;SU.1=by hand";
	struct facts *facts = facts_new();

	(void)state;
	facts_begin_list(facts, FACT_UPDATE_MECHANISMS);
	monitor_judge(facts, declared);
	assert_judged(facts, FACT_ELEMENTS_DP_2, STATUS_DECLARED, "the button below the lid");
	assert_judged(facts, FACT_ELEMENTS_SU_1, STATUS_NOT_SUPPORTED, "nothing can update");
	assert_judged(facts, FACT_ELEMENTS_LA_1, STATUS_UNKNOWN, "interfaces.");
	facts_free(facts);
}

/* Everything is well; then not. */
static void
the_verdict_follows_the_elements(void **state)
{
	struct facts *facts = facts_new();
	struct slice text;
	size_t at = 0;

	(void)state;
	for (unsigned fact = FACT_ELEMENTS_DI_1; fact <= FACT_ELEMENTS_CS_5; fact++) {
		const struct rule *well = first_well((enum fact)fact, monitor_rules);

		for (const struct rule *rule = monitor_rules; rule < well; rule++)
			if (rule->element == fact)
				make_hold(facts, rule, false);
		make_hold(facts, well, true);
	}
	monitor_judge(facts, NULL);
	assert_string_equal(facts_text(facts, FACT_VERDICT_OVERALL), "as-expected");
	assert_int_equal(facts_count(facts, FACT_VERDICT_DEGRADED), 0);
	facts_unknown(facts, FACT_UPDATE_HELD, "no list");
	facts_unknown(facts, FACT_UPDATE_ENABLED, "no timer");
	monitor_judge(facts, NULL);
	assert_string_equal(facts_text(facts, FACT_VERDICT_OVERALL), "unknown");
	facts_set_bool(facts, FACT_UPDATE_ENABLED, false); /* off is a choice */
	monitor_judge(facts, NULL);
	assert_judged(facts, FACT_ELEMENTS_SU_5, STATUS_OFF, "looks for updates");
	assert_string_equal(facts_text(facts, FACT_VERDICT_OVERALL), "as-expected");
	facts_set_bool(facts, FACT_ACCESS_SSH, true);
	facts_set_bool(facts, FACT_ACCESS_SSH_PASSWORD, true);
	facts_unknown(facts, FACT_UPDATE_ENABLED, "no timer");
	monitor_judge(facts, NULL);
	assert_string_equal(facts_text(facts, FACT_VERDICT_OVERALL), "degraded");
	assert_true(facts_next_text(facts, FACT_VERDICT_DEGRADED, &at, &text));
	assert_memory_equal(text.at, "LA.2: sshd takes passwords", text.len);
	assert_false(facts_next_text(facts, FACT_VERDICT_DEGRADED, &at, &text));
	facts_free(facts);
}

static void
statements_are_parsed_or_refused(void **state)
{
	static const struct {
		const char *text;
		enum stated result;
		const char *name, *value; /* or why */
	} rows[] = {
		{"", STATED_END, "", ""},
		{" ; ;;", STATED_END, "", ""},
		{"a=b", STATED_ONE, "a", "b"},
		{" label.place = below the lid ; c=d", STATED_ONE, "label.place", "below the lid"},
		{"a=b=c", STATED_ONE, "a", "b=c"},
		{"a", STATED_WRONG, "wants name=value", ""},
		{"=b", STATED_WRONG, "a name has", ""},
		{"a b=c", STATED_WRONG, "a name has", ""},
		{"a\xc3\xa4=c", STATED_WRONG, "a name has", ""},
		{"a=", STATED_WRONG, "missing", ""},
		{"a= ;b=c", STATED_WRONG, "missing", ""},
		{"a=b\x01"
		 "c",
		 STATED_WRONG, "control", ""},
		{"a=b\x7f"
		 "c",
		 STATED_WRONG, "control", ""},
		{"a=b\nc", STATED_WRONG, "control", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct slice text = {(const uint8_t *)rows[i].text, strlen(rows[i].text)}, name, value;
		const char *why = "";
		enum stated got = stated_next(&text, &name, &value, &why);

		if (got != rows[i].result)
			fail_msg("\"%s\": %d", rows[i].text, (int)got);
		if (got == STATED_WRONG) {
			assert_non_null(strstr(why, rows[i].name));
		} else if (got == STATED_ONE) {
			assert_int_equal(name.len, strlen(rows[i].name));
			assert_memory_equal(name.at, rows[i].name, name.len);
			assert_int_equal(value.len, strlen(rows[i].value));
			assert_memory_equal(value.at, rows[i].value, value.len);
		}
	}
}

static void
statements_have_limits(void **state)
{
	char text[STATED_NAME + STATED_VALUE + 8];
	struct slice rest, name, value;
	const char *why;

	(void)state;
	for (size_t more = 0; more < 2; more++) {
		memset(text, 'x', sizeof text);
		text[STATED_NAME + more] = '=';
		rest = (struct slice){(uint8_t *)text, STATED_NAME + more + 2};
		assert_int_equal(stated_next(&rest, &name, &value, &why), more ? STATED_WRONG : STATED_ONE);
		memset(text, 'x', sizeof text);
		text[1] = '=';
		rest = (struct slice){(uint8_t *)text, 2 + STATED_VALUE + more};
		assert_int_equal(stated_next(&rest, &name, &value, &why), more ? STATED_WRONG : STATED_ONE);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_rule_decides),
		cmocka_unit_test(each_rule_that_does_not_hold_is_silent),
		cmocka_unit_test(what_is_adverse_needs_nothing_else),
		cmocka_unit_test(what_is_not_known_is_never_healthy),
		cmocka_unit_test(nothing_known_is_unknown),
		cmocka_unit_test(the_rules_keep_to_their_own_rules),
		cmocka_unit_test(an_image_is_judged_by_what_it_has),
		cmocka_unit_test(without_ssh_nothing_is_asked_of_it),
		cmocka_unit_test(the_words_are_steady_and_name_nobody),
		cmocka_unit_test(half_a_list_shows_only_what_is_in_it),
		cmocka_unit_test(what_the_maker_declares_stands_where_nothing_is_seen),
		cmocka_unit_test(the_verdict_follows_the_elements),
		cmocka_unit_test(statements_are_parsed_or_refused),
		cmocka_unit_test(statements_have_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
