/* Where a log is sent, in the words of each service's configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "emitter/forwarding.h"

struct row {
	const char *text;
	bool plain, tls;
};

static void
check(const struct row *rows, size_t n, void (*parse)(struct slice, struct forwarding *))
{
	for (size_t i = 0; i < n; i++) {
		struct forwarding found = {0};

		parse((struct slice){(const uint8_t *)rows[i].text, strlen(rows[i].text)}, &found);
		if (found.plain != rows[i].plain || found.tls != rows[i].tls)
			fail_msg("%s: plain %d, tls %d", rows[i].text, found.plain, found.tls);
	}
}
#define CHECK(rows, parse) check(rows, sizeof(rows) / sizeof *(rows), parse)

static void
rsyslog(void **state)
{
	static const struct row rows[] = {
		{"", false, false},
		{"*.* /var/log/messages\nmail.* -/var/log/mail.log\n", false, false},
		{"*.* @log.example\n", true, false},
		{"*.* @@log.example:514\n", true, false},
		{"# *.* @@log.example\n", false, false},
		{"*.*\t@@log.example # to the server\n", true, false},
		{"@@log.example\n", false, false}, /* no selector */
		{"$ActionSendStreamDriverMode 1\n*.* @@log.example:6514\n", false, true},
		{"$actionsendstreamdrivermode 1\n*.* @@(o)log.example:6514\n", false, true},
		{"$ActionSendStreamDriverMode 0\n*.* @@log.example:6514\n", true, false},
		{"#$ActionSendStreamDriverMode 1\n*.* @@log.example:6514\n", true, false},
		{"$ActionSendStreamDriverMode 1\n*.* @log.example\n", true, false}, /* UDP has no TLS */
		{"*.* action(type=\"omfwd\" target=\"x\" protocol=\"tcp\")", true, false},
		{"*.* action(type=\"omfwd\" target=\"x\" protocol=\"tcp\" StreamDriverMode=\"1\")", false, true},
		{"*.* action(type=\"omfwd\"\n\ttarget=\"x\"\n\tprotocol=\"tcp\"\n\tStreamDriverMode=\"1\"\n)\n", false,
		 true},
		{"*.* action(type=\"omfwd\" target=\"x\" protocol=\"udp\" StreamDriverMode=\"1\")", true, false},
		{"*.* action(type=\"omfwd\" target=\"x\" StreamDriverMode=\"1\")", true, false}, /* UDP by default */
		{"*.* ACTION(TYPE=\"OMFWD\" TARGET=\"x\" PROTOCOL=\"TCP\" STREAMDRIVERMODE=\"1\")", false, true},
		{"# action(type=\"omfwd\" target=\"x\")\n", false, false},
		{"x # action(type=\"omfwd\" target=\"x\")\n", false, false},
		{"action(type=\"omrelp\" target=\"x\" tls=\"on\")", false, true},
		{"action(type=\"omrelp\" target=\"x\")", true, false},
		{"action(type=\"omfile\" file=\"/var/log/x\")", false, false},
		{"action(type=\"omfwd\" protocol=\"tcp\" StreamDriverMode=\"1\") action(type=\"omfwd\" target=\"y\")",
		 true, true},
		{"action(", false, false},
		{"action(type=\"omfwd\"", true, false},
		{"*.* :omrelp:log.example:2514\n", true, false},
	};

	(void)state;
	CHECK(rows, forwarding_rsyslog);
}

static void
syslog_ng(void **state)
{
	static const struct row rows[] = {
		{"", false, false},
		{"destination d { file(\"/var/log/x\"); };", false, false},
		{"destination d { network(\"x\" transport(\"tls\") tls(ca-dir(\"/etc\"))); };", false, true},
		{"destination d {\n  syslog(\"x\"\n    transport(\"tls\"));\n};\n", false, true},
		{"destination d { network(\"x\" port(514)); };", true, false},
		{"destination d { udp(\"x\"); };", true, false},
		{"# destination d { udp(\"x\"); };", false, false},
		{"source s { network(port(514)); };", false, false},
		{"destination d { network(\"x\" transport(\"tls\")); };\ndestination e { tcp(\"y\"); };\n", true, true},
		{"destination", false, false},
		{"destination d { udp(", true, false},
	};

	(void)state;
	CHECK(rows, forwarding_syslog_ng);
}

static void
the_others(void **state)
{
	static const struct row journal[] = {
		{"[Upload]\n# URL=https://x\n", false, false},    {"[Upload]\nURL=\n", false, false},
		{"[Upload]\nURL=https://x:19532\n", false, true}, {"[Upload]\nURL=x\n", false, true},
		{"[Upload]\nURL=http://x\n", true, false},        {"[Upload]\nServerKeyFile=/x\n", false, false},
	};
	static const struct row openwrt[] = {
		{"config system\n\toption hostname 'x'\n", false, false},
		{"config system\n\toption log_ip '192.0.2.1'\n", true, false},
		{"config system\n\toption log_ip ''\n", false, false},
		{"config system\n#\toption log_ip '192.0.2.1'\n", false, false},
		{"config system\n\toption log_ip\n", false, false},
	};

	(void)state;
	CHECK(journal, forwarding_journal_upload);
	CHECK(openwrt, forwarding_openwrt);
}

/* A megabyte of beginnings without an end. */
static void
the_work_is_bounded_by_the_text(void **state)
{
	static const char *const beginnings[] = {"action(", "destination ", "\ndestination x ", "*.* @@", "@ ", "\n",
						 "a"};
	size_t size = 1024 * 1024;
	char *text = malloc(size);

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
		struct forwarding found = {0};
		size_t len = strlen(beginnings[i]);
		clock_t begin = clock();

		for (size_t at = 0; at < size; at++)
			text[at] = beginnings[i][at % len];
		forwarding_rsyslog((struct slice){(uint8_t *)text, size}, &found);
		forwarding_syslog_ng((struct slice){(uint8_t *)text, size}, &found);
		if ((clock() - begin) / CLOCKS_PER_SEC >= 2)
			fail_msg("%s: %ld s", beginnings[i], (long)((clock() - begin) / CLOCKS_PER_SEC));
	}
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rsyslog),
		cmocka_unit_test(syslog_ng),
		cmocka_unit_test(the_others),
		cmocka_unit_test(the_work_is_bounded_by_the_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
