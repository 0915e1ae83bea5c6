/* What configures updating, as its programs read it; what is malformed is left out, and what is not understood is no answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emitter/apt_conf.h"
#include "emitter/apt_policy.h"
#include "emitter/update_conf.h"
#include "tests/unit/bytes.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* What was told, a line each. */
struct told {
	char text[2048];
};

static void
add(struct told *told, const char *line)
{
	size_t len = strlen(told->text);

	snprintf(told->text + len, sizeof told->text - len, "%s\n", line);
}

static void
take_setting(void *context, const char *name, struct slice value)
{
	char line[600];

	snprintf(line, sizeof line, "%s=%.*s", name, (int)value.len, (const char *)value.at);
	add(context, line);
}

static void
apt_settings_are_read(void **state)
{
	static const struct {
		const char *conf, *told;
	} cases[] = {
		{"APT::Periodic::Enable \"1\";", "APT::Periodic::Enable=1\n"},
		{"APT { Periodic { Enable 1; Unattended-Upgrade \"0\"; }; Get::X yes; };\nB \"2\";",
		 "APT::Periodic::Enable=1\nAPT::Periodic::Unattended-Upgrade=0\nAPT::Get::X=yes\nB=2\n"},
		{"// A \"1\";\n/* B \"2\"; */ # C \"3\";\nD \"a // b\";", "D=a // b\n"},
		{"L { \"a\"; \"b\"; };", "L::=a\nL::=b\n"},
		{"A \"1\" \"2\" x; B \"3\";", "A=1\nB=3\n"},
		{"}}} ; A \"1\";", "A=1\n"},
		{"A \"unended", "A=unended\n"},
		{"/* unended", ""},
		{"", ""},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct told told = {""};

		apt_conf_parse(text(cases[i].conf), take_setting, &told);
		assert_string_equal(told.text, cases[i].told);
	}
	assert_true(apt_conf_is_yes(text("Yes")) && apt_conf_is_yes(text(" 2 ")) && apt_conf_is_yes(text("with")));
	assert_false(apt_conf_is_yes(text("0")) || apt_conf_is_yes(text("")) || apt_conf_is_yes(text("never")) ||
		     apt_conf_is_yes(text("-1")));
}

/* Braces deeper and names longer than are kept hide nothing that follows them. */
static void
deep_settings_are_left_out(void **state)
{
	struct told told = {""};
	char conf[4096] = "";

	(void)state;
	for (int i = 0; i < 40; i++)
		strcat(conf, "Name-of-Twenty-Letters {");
	for (int i = 0; i < 40; i++)
		strcat(conf, "};");
	strcat(conf, "A \"1\";");
	apt_conf_parse(text(conf), take_setting, &told);
	assert_string_equal(told.text, "A=1\n");
}

static void
take_source(void *context, const struct apt_source *s)
{
	char line[600];

	snprintf(line, sizeof line, "%.*s %.*s [%.*s] %.*s%s%s%s", (int)s->uri.len, (const char *)s->uri.at,
		 (int)s->suite.len, (const char *)s->suite.at, (int)s->components.len,
		 s->components.len ? (const char *)s->components.at : "", (int)s->architectures.len,
		 s->architectures.len ? (const char *)s->architectures.at : "", s->trusted ? " trusted" : "",
		 s->insecure ? " insecure" : "", s->signed_by ? " signed-by" : "");
	add(context, line);
}

static void
apt_sources_are_read(void **state)
{
	struct told told = {""};

	(void)state;
	apt_sources_parse_lines(
		text("deb http://h/d stable main contrib # c\n# deb http://h/d x main\ndeb-src http://h/d y main\n"
		     "deb [ arch=amd64,i386 trusted=yes signed-by=/k ] https://h z/\ndeb [allow-insecure=yes] u s "
		     "c\ndeb [broken u s c\n"
		     "deb\ndeb u\n"),
		take_source, &told);
	assert_string_equal(
		told.text,
		"http://h/d stable [main contrib] \nhttps://h z/ [] amd64,i386 trusted signed-by\nu s [c]  insecure\n");
	told.text[0] = '\0';
	apt_sources_parse_paragraphs(
		text("# c\nTypes: deb deb-src\nURIs: http://h/d\nSuites: a\n b\nComponents: main\nSigned-By:\n KEY\n "
		     ".\n\n"
		     "Types: deb\nURIs: u\nSuites: c\nEnabled: no\n\nTypes: deb-src\nURIs: u\nSuites: d\n\n"
		     "types: deb\nuris: u v\nsuites: e/\ntrusted: yes\n"),
		take_source, &told);
	assert_string_equal(
		told.text,
		"http://h/d a [main]  signed-by\nhttp://h/d b [main]  signed-by\nu e/ []  trusted\nv e/ []  trusted\n");
}

static void
lists_have_apts_names(void **state)
{
	static const struct {
		const char *uri, *path, *name;
	} cases[] = {
		{"http://deb.debian.org/debian", "dists/bookworm", "deb.debian.org_debian_dists_bookworm"},
		{"https://user:pw@h:8080/a_b~c/", "dists/s", "h:8080_a%5fb%7ec_dists_s"},
		{"file:/srv/repo", "dists/s/updates", "_srv_repo_dists_s_updates"},
	};
	char name[128];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(apt_list_name(text(cases[i].uri), text(cases[i].path), name, sizeof name),
				 strlen(cases[i].name));
		assert_string_equal(name, cases[i].name);
		assert_int_equal(apt_list_name(text(cases[i].uri), text(cases[i].path), name, 8), 0);
	}
}

static void
take_pending(void *context, const struct apt_pending *p)
{
	char line[600];

	snprintf(line, sizeof line, "%s %s -> %s%s", p->name, p->from, p->to, p->security ? " security" : "");
	add(context, line);
}

static const char *
judge(const char *preferences, const char *list, struct told *told)
{
	static const struct apt_release stable = {.suite = "stable", .codename = "bookworm", .site = "h"},
					security = {.suite = "stable-security", .label = "Debian-Security"},
					experimental = {.suite = "experimental", .not_automatic = true};
	struct apt_policy *policy = apt_policy_new();
	const struct apt_release *releases[] = {&stable, &security, &experimental};
	static char why[128];
	const char *got;

	assert_non_null(policy);
	apt_policy_native(policy, text("amd64"));
	apt_policy_installed(policy, text("a"), text("amd64"), text("1.0"));
	apt_policy_installed(policy, text("a"), text("i386"), text("1.0"));
	apt_policy_installed(policy, text("b"), text("all"), text("2.0"));
	apt_policy_preferences(policy, text(preferences));
	/* Lists of the three releases stand between "=" signs. */
	for (size_t i = 0; i < 3; i++) {
		const char *end = strchrnul(list, '=');

		apt_policy_begin(policy, releases[i]);
		apt_policy_feed(policy, (struct slice){(const uint8_t *)list, (size_t)(end - list)});
		apt_policy_end(policy);
		list = *end ? end + 1 : end;
	}
	told->text[0] = '\0';
	got = apt_policy_finish(policy, take_pending, told);
	if (got)
		snprintf(why, sizeof why, "%s", got);
	apt_policy_free(policy);
	return got ? why : NULL;
}

#define OFFER(name, arch, version) "Package: " name "\nArchitecture: " arch "\nVersion: " version "\n\n"

static void
the_candidate_is_apts(void **state)
{
	static const struct {
		const char *preferences, *list, *told;
	} cases[] = {
		{"", OFFER("a", "amd64", "1.1") OFFER("c", "amd64", "9"), "a 1.0 -> 1.1\n"},
		{"", OFFER("a", "i386", "1.1"), "a:i386 1.0 -> 1.1\n"},
		{"", OFFER("b", "amd64", "2.1"), "b 2.0 -> 2.1\n"},
		{"", OFFER("a", "amd64", "1.0") OFFER("a", "amd64", "0.9"), ""},
		{"", "=" OFFER("a", "amd64", "1.1"), "a 1.0 -> 1.1 security\n"},
		{"", OFFER("a", "amd64", "1.2") "=" OFFER("a", "amd64", "1.1"), "a 1.0 -> 1.2 security\n"},
		{"", OFFER("a", "amd64", "1.1") "=" OFFER("a", "amd64", "0.9"), "a 1.0 -> 1.1\n"},
		{"", "==" OFFER("a", "amd64", "3"), ""},
		{"Package: a\nPin: release a=experimental\nPin-Priority: 600\n", "==" OFFER("a", "amd64", "3"),
		 "a 1.0 -> 3\n"},
		{"Package: a\nPin: version 1.0\nPin-Priority: 1001\n", OFFER("a", "amd64", "1.1"), ""},
		{"Package: *\nPin: origin h\nPin-Priority: -5\n", OFFER("a", "amd64", "1.1"), ""},
		{"Package: a\nPin: origin h\nPin-Priority: x\n", OFFER("a", "amd64", "1.1"), "a 1.0 -> 1.1\n"},
	};
	struct told told;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_null(judge(cases[i].preferences, cases[i].list, &told));
		assert_string_equal(told.text, cases[i].told);
	}
}

static void
what_is_not_understood_is_no_answer(void **state)
{
	static const char *const cases[] = {
		"Package: /^a/\nPin: release a=stable\nPin-Priority: 1\n",
		"Package: src:a\nPin: release a=stable\nPin-Priority: 1\n",
		"Package: a\nPin: release n=/book.*/\nPin-Priority: 1\n",
	};
	char list[8192] = "", one[80];
	struct told told;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_non_null(judge(cases[i], "", &told));
	for (int i = 0; i < 70; i++) {
		snprintf(one, sizeof one, OFFER("a", "amd64", "1.%d"), i);
		strcat(list, one);
	}
	assert_string_equal(judge("", list, &told), "more versions of one package than are looked at");
}

static void
a_release_says_what_it_is(void **state)
{
	struct apt_release r;

	(void)state;
	memset(&r, 0, sizeof r);
	apt_release_parse(
		text("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nSuite: "
		     "bookworm-backports\nNotAutomatic: yes\n"
		     "ButAutomaticUpgrades: yes\nSHA256:\n aa 1 Suite: no\n-----BEGIN PGP SIGNATURE-----\n\nabc\n"),
		&r);
	assert_string_equal(r.suite, "bookworm-backports");
	assert_true(r.not_automatic && r.but_automatic_upgrades && !apt_release_is_security(&r));
}

static void
take_section(void *context, struct slice section, struct slice name, struct slice value)
{
	char line[300];

	snprintf(line, sizeof line, "%.*s/%.*s=%.*s", (int)section.len, (const char *)section.at, (int)name.len,
		 (const char *)name.at, (int)value.len, (const char *)value.at);
	add(context, line);
}

static void
take_feed(void *context, struct slice feed)
{
	char line[100];

	snprintf(line, sizeof line, "%.*s", (int)feed.len, (const char *)feed.at);
	add(context, line);
}

static void
other_updaters_are_read(void **state)
{
	struct opkg_conf opkg = {false};
	struct told told = {""};
	struct slice value;

	(void)state;
	sections_parse(text("a=0\n[s]\n# b=1\n; c=2\n b = 3 \n[t\nd=4\nnothing\n[]\ne=\n"), take_section, &told);
	assert_string_equal(told.text, "/a=0\ns/b=3\ns/d=4\n/e=\n");
	assert_true(quoted_value(text("{\"X\": \"1\", \"ArtifactVerifyKey\" : \"/k\"}"), "ArtifactVerifyKey", &value));
	assert_int_equal(value.len, 2);
	assert_true(quoted_value(text("globals : { public-key-file = \"/p\"; };"), "public-key-file", &value));
	assert_false(quoted_value(text("{\"NotArtifactVerifyKey\": \"/k\"}"), "ArtifactVerifyKey", &value));
	assert_false(quoted_value(text("\"ArtifactVerifyKey\": 1"), "ArtifactVerifyKey", &value));
	assert_false(quoted_value(text("\"ArtifactVerifyKey\": \"un"), "ArtifactVerifyKey", &value));
	assert_false(quoted_value(text("ArtifactVerifyKey"), "ArtifactVerifyKey", &value));
	assert_true(json_flag(text("\"SkipVerify\": true"), "SkipVerify"));
	assert_false(json_flag(text("\"SkipVerify\": false"), "SkipVerify"));
	told.text[0] = '\0';
	opkg_conf_parse(text("src/gz base http://h\noption check_signature\n# src/gz no x\nsrc/gz\n"), &opkg, take_feed,
			&told);
	assert_true(opkg.check_signature);
	assert_string_equal(told.text, "base\n");
	opkg_conf_parse(text("option check_signature 0\n"), &opkg, take_feed, &told);
	assert_false(opkg.check_signature);
}

static void
keys_are_counted(void **state)
{
	static const uint8_t two[] = {0x99, 0, 1, 4, 0xb4, 1, 'u', 0xc6, 1, 4, 0xce, 1, 4},
			     too_long[] = {0x99, 0, 9, 4}, endless[] = {0x9b, 1, 2};

	(void)state;
	assert_int_equal(update_keys_count((struct slice){two, sizeof two}), 2);
	assert_int_equal(update_keys_count((struct slice){two, 3}), 0);
	assert_int_equal(update_keys_count((struct slice){too_long, sizeof too_long}), 0);
	assert_int_equal(update_keys_count((struct slice){endless, sizeof endless}), 0);
	assert_int_equal(update_keys_count(text("")), 0);
	assert_int_equal(
		update_keys_count(text("-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: "
				       "x\n\nmQABBLQBdcYBBM4BBA==\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n")),
		2);
	assert_int_equal(update_keys_count(text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n")), 0);
	assert_int_equal(update_keys_count(text("-----BEGIN CERTIFICATE-----\nx\n-----BEGIN CERTIFICATE-----\n")), 2);
	assert_int_equal(update_keys_count(text("no key")), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(apt_settings_are_read),     cmocka_unit_test(deep_settings_are_left_out),
		cmocka_unit_test(apt_sources_are_read),      cmocka_unit_test(lists_have_apts_names),
		cmocka_unit_test(the_candidate_is_apts),     cmocka_unit_test(what_is_not_understood_is_no_answer),
		cmocka_unit_test(a_release_says_what_it_is), cmocka_unit_test(other_updaters_are_read),
		cmocka_unit_test(keys_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
