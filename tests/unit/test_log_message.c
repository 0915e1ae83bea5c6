#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utmp.h>

#include <cmocka.h>

#include "emitter/log_message.h"
#include "emitter/uevent.h"
#include "emitter/utmp.h"
#include "tests/unit/bytes.h"

static void
assert_part(struct slice part, const char *wanted)
{
	if (wanted == NULL) {
		assert_null(part.at);
		return;
	}
	assert_int_equal(part.len, strlen(wanted));
	assert_memory_equal(part.at, wanted, part.len);
}

static void
messages_tell(void **unused)
{
	static const struct {
		const char *program, *message;
		enum event_kind kind;
		const char *parts[3];
	} cases[] = {
		{"sshd",
		 "Accepted password for alice from 192.0.2.7 port 50122 ssh2",
		 EVENT_LOGIN,
		 {"alice", "sshd", "192.0.2.7"}},
		{"sshd-session",
		 "Accepted publickey for bob from 2001:db8::1 port 1 ssh2: ED25519 SHA256:abc",
		 EVENT_LOGIN,
		 {"bob", "sshd", "2001:db8::1"}},
		{"sshd",
		 "Failed password for root from 192.0.2.7 port 22 ssh2",
		 EVENT_LOGIN_FAILED,
		 {"root", "sshd", "192.0.2.7"}},
		{"sshd",
		 "Failed password for invalid user admin from 192.0.2.7 port 22 ssh2",
		 EVENT_LOGIN_FAILED,
		 {"admin", "sshd", "192.0.2.7"}},
		{"sshd",
		 "Failed password for invalid user a from 6.6.6.6 port 1 ssh2 from 192.0.2.7 port 22 ssh2",
		 EVENT_LOGIN_FAILED,
		 {"a from 6.6.6.6 port 1 ssh2", "sshd", "192.0.2.7"}},
		{"sudo",
		 "   alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id",
		 EVENT_PRIVILEGE,
		 {"alice", "root", "sudo"}},
		{"sudo", "   alice : PWD=/ ; USER=www ; COMMAND=/bin/sh", EVENT_PRIVILEGE, {"alice", "www", "sudo"}},
		{"sudo",
		 "   bob : user NOT in sudoers ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
		 EVENT_PRIVILEGE_REFUSED,
		 {"bob", "root", "sudo"}},
		{"sudo",
		 " bob : 3 incorrect password attempts ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
		 EVENT_PRIVILEGE_REFUSED,
		 {"bob", "root", "sudo"}},
		{"sudo",
		 "eve : PWD=/tmp/x ; USER=eve ; COMMAND=true ; USER=root ; COMMAND=/bin/sh",
		 EVENT_PRIVILEGE,
		 {"eve", NULL, "sudo"}},
		{"su", "(to root) alice on pts/0", EVENT_PRIVILEGE, {"alice", "root", "su"}},
		{"su", "FAILED SU (to root) alice on none", EVENT_PRIVILEGE_REFUSED, {"alice", "root", "su"}},
		{"login",
		 "pam_unix(login:session): session opened for user root(uid=0) by LOGIN(uid=0)",
		 EVENT_LOGIN,
		 {"root", "login", NULL}},
		{"login",
		 "FAILED LOGIN (1) on '/dev/tty1' FOR 'bob', Authentication failure",
		 EVENT_LOGIN_FAILED,
		 {"bob", "login", NULL}},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct log_event event;

		if (!log_message_parse(text(cases[i].program), text(cases[i].message), &event))
			fail_msg("not taken: %s", cases[i].message);
		assert_int_equal(event.kind, cases[i].kind);
		for (size_t k = 0; k < 3; k++)
			assert_part(event.parts[k], cases[i].parts[k]);
	}
}

static void
messages_that_tell_nothing(void **unused)
{
	static const char *const cases[][2] = {
		{"cron", "Accepted password for alice from 192.0.2.7 port 50122 ssh2"},
		{"SSHD", "Accepted password for alice from 192.0.2.7 port 50122 ssh2"},
		{"sshd", ""},
		{"sshd", "Accepted"},
		{"sshd", "Accepted password for alice"},
		{"sshd", "Accepted password for alice from "},
		{"sshd", "Accepted password for alice from 192.0.2.7"},
		{"sshd", "Failed none for invalid user x from 192.0.2.7 port 22 ssh2"},
		{"sshd", "Connection closed by 192.0.2.7 port 22 [preauth]"},
		{"sshd", "error: Accepted password for alice from 192.0.2.7 port 22 ssh2"},
		{"sudo", ""},
		{"sudo", "alice"},
		{"sudo", "alice : "},
		{"sudo", "alice : unable to resolve host device"},
		{"sudo", "pam_unix(sudo:session): session opened for user root(uid=0) by (uid=0)"},
		{"sudo", "two words : TTY=x ; PWD=/ ; USER=root ; COMMAND=x"},
		{"su", "(to root"},
		{"su", "(to root) alice"},
		{"su", "pam_unix(su:session): session closed for user root"},
		{"login", "FAILED LOGIN (1) on '/dev/tty1'"},
		{"login", "pam_unix(login:session): session opened for user root"},
		{"login", "pam_unix(login:session): session closed for user root"},
	};
	struct log_event event;

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (log_message_parse(text(cases[i][0]), text(cases[i][1]), &event))
			fail_msg("taken: %s: %s", cases[i][0], cases[i][1]);
}

static void
lines_of_a_log(void **unused)
{
	static const char *const good[] = {
		"Nov  6 08:00:00 host sshd[12]: Accepted: x",
		"2026-11-26T08:00:00.123456+00:00 host sshd[12]: Accepted: x",
		"Nov  6 08:00:00 host sshd: Accepted: x",
	};
	static const char *const bad[] = {"",
					  "sshd: x",
					  "Nov 26 08:00:00 host",
					  "Nov 26 08:00:00 host sshd[12]:x",
					  "Nov 26 08:00:00 host : x",
					  "Nov 26 08:00:00 host a b: x",
					  "2026-11-26T08:00:00 host"};
	struct slice program, message;

	(void)unused;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_true(log_line_parse(text(good[i]), &program, &message));
		assert_part(program, "sshd");
		assert_part(message, "Accepted: x");
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (log_line_parse(text(bad[i]), &program, &message))
			fail_msg("taken: %s", bad[i]);
}

static void
who_is_believed(void **unused)
{
	struct slice absent = {NULL, 0};

	(void)unused;
	assert_true(log_is_trusted(text("0"), absent));
	assert_true(log_is_trusted(text("1000"), text("/usr/bin/sudo")));
	assert_false(log_is_trusted(text("1000"), absent));
	assert_false(log_is_trusted(absent, absent));
	assert_false(log_is_trusted(text("00"), absent));
	assert_false(log_is_trusted(text("1000"), text("/home/eve/usr/bin/sudo")));
	assert_false(log_is_trusted(text("1000"), text("/usr/bin/sudo (deleted)")));
}

static void
records_of_utmp(void **unused)
{
	struct utmp records[2] = {{.ut_type = USER_PROCESS,
				   .ut_line = "pts/0",
				   .ut_user = "alice",
				   .ut_host = "192.0.2.7",
				   .ut_tv.tv_sec = 42},
				  {.ut_type = DEAD_PROCESS, .ut_tv.tv_sec = -1}};
	struct slice bytes = {(const uint8_t *)records, sizeof records};
	struct utmp_record record;

	(void)unused;
	memset(records[1].ut_user, 'x', sizeof records[1].ut_user); /* full: no NUL at its end */
	assert_true(utmp_next(&bytes, &record) && record.is_login);
	assert_part(record.user, "alice");
	assert_part(record.line, "pts/0");
	assert_part(record.host, "192.0.2.7");
	assert_int_equal(record.at, 42);
	assert_true(utmp_next(&bytes, &record) && !record.is_login);
	assert_int_equal(record.user.len, sizeof records[1].ut_user);
	assert_null(record.host.at);
	assert_int_equal(record.at, 0);
	assert_false(utmp_next(&bytes, &record));
	bytes = (struct slice){(const uint8_t *)records, utmp_record_size() - 1};
	assert_false(utmp_next(&bytes, &record));
}

#define UEVENT(text)                                                                                                   \
	{                                                                                                              \
		(const uint8_t *)(text), sizeof(text) - 1                                                              \
	}

static void
announcements_of_usb(void **unused)
{
	static const struct slice bad[] = {
		UEVENT(""),
		UEVENT("add@/x"),
		UEVENT("ACTION=add\0SUBSYSTEM=usb"),
		UEVENT("ACTION=change\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=781/5583/100"),
		UEVENT("ACTION=add\0SUBSYSTEM=block\0DEVTYPE=usb_device\0PRODUCT=781/5583/100"),
		UEVENT("ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=disk\0PRODUCT=781/5583/100"),
		UEVENT("ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=781"),
		UEVENT("ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=10000/1/1"),
		UEVENT("ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=/1/1"),
	};
	static const struct slice device =
		UEVENT("add@/devices/x\0ACTION=add\0SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=781/5583/100\0");
	static const struct slice storage =
		UEVENT("ACTION=remove\0SUBSYSTEM=usb\0DEVTYPE=usb_interface\0PRODUCT=781/5583/100\0INTERFACE=8/6/80");
	struct usb_event event;

	(void)unused;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(uevent_parse(bad[i], &event));
	assert_true(uevent_parse(device, &event) && event.added && event.class == NULL);
	assert_string_equal(event.device, "0781:5583");
	assert_true(uevent_parse(storage, &event) && !event.added);
	assert_string_equal(event.class, "storage");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_tell),   cmocka_unit_test(messages_that_tell_nothing),
		cmocka_unit_test(lines_of_a_log),  cmocka_unit_test(who_is_believed),
		cmocka_unit_test(records_of_utmp), cmocka_unit_test(announcements_of_usb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
