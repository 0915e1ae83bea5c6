/* What says who may log in and how: the parsers of accounts, sshd's, sudo's and PAM's configuration, of log-ins, volumes and OpenSSL's defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emitter/accounts.h"
#include "emitter/btmp.h"
#include "emitter/conffiles.h"
#include "emitter/crypto_library.h"
#include "emitter/dropbear.h"
#include "emitter/openssl_conf.h"
#include "emitter/pam.h"
#include "emitter/sshd_config.h"
#include "emitter/sudoers.h"
#include "schema/baseline.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static bool
is(struct slice a, const char *text)
{
	return a.len == strlen(text) && memcmp(a.at, text, a.len) == 0;
}

/* ---- accounts ---- */

static void
accounts_are_what_the_c_library_takes(void **state)
{
	static const struct {
		const char *line, *name, *shell;
		uint64_t uid;
	} cases[] = {
		{"root:x:0:0:root:/root:/bin/bash", "root", "/bin/bash", 0},
		{"a::1:2", "a", "", 1},
		{"  a::1:2:::/bin/sh", "a", "/bin/sh", 1},
		{"a::+0:0::", "a", "", 0},
		{"a::-0: 0::", "a", "", 0},
		{"a::000:0::", "a", "", 0},
		{"a:x:1:1::/:/bin/sh\r", "a", "/bin/sh", 1},
		{"", NULL, NULL, 0},
		{"#a:x:0:0", NULL, NULL, 0},
		{"+::0:0", NULL, NULL, 0},
		{"-a::0:0", NULL, NULL, 0},
		{":x:0:0", NULL, NULL, 0},
		{"a", NULL, NULL, 0},
		{"a:x", NULL, NULL, 0},
		{"a:x:0", NULL, NULL, 0},
		{"a:x::0", NULL, NULL, 0},
		{"a:x:0:", NULL, NULL, 0},
		{"a:x:0x0:0", NULL, NULL, 0},
		{"a:x:0 :0", NULL, NULL, 0},
		{"a:x:99999999999999999999:0", NULL, NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct account a;
		bool took = account_parse(string(cases[i].line), &a);

		if (took != (cases[i].name != NULL))
			fail_msg("%s: %d", cases[i].line, took);
		if (took && (!is(a.name, cases[i].name) || !is(a.shell, cases[i].shell) || a.uid != cases[i].uid))
			fail_msg("%s: %.*s", cases[i].line, (int)a.shell.len, (const char *)a.shell.at);
	}
	struct account a;
	assert_false(account_parse((struct slice){(const uint8_t *)"a\0:x:0:0", 8}, &a));
}

static void
passwords_are_told_by_their_form(void **state)
{
	static const struct {
		const char *field;
		enum password kind;
	} cases[] = {
		{"", PASSWORD_EMPTY},
		{"!", PASSWORD_LOCKED},
		{"*", PASSWORD_LOCKED},
		{"!$6$salt$x", PASSWORD_LOCKED},
		{"x", PASSWORD_NONE},
		{"NP", PASSWORD_NONE},
		{"$6$", PASSWORD_NONE},
		{"$9$abcdefghijklmnopqrstuvwxyz", PASSWORD_NONE},
		{"abQ9KY.KfrYrc", PASSWORD_WEAK},
		{"abQ9KY.KfrYr:", PASSWORD_NONE},
		{"_J9..rasmBYk8r9AiWNc", PASSWORD_WEAK},
		{"$1$abcdefgh$BhQiFWNT0pnoZNAeTdlUZ/", PASSWORD_WEAK},
		{"$sha1$40000$jtNX3nZ2$hBNaIXkt4wBI2o5rsi8KejSjNqIq", PASSWORD_WEAK},
		{"$2b$05$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234", PASSWORD_SOUND},
		{"$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", PASSWORD_SOUND},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (password_kind(string(cases[i].field)) != cases[i].kind)
			fail_msg("%s: %d", cases[i].field, (int)password_kind(string(cases[i].field)));
	assert_true(password_is_cheap(string("$6$salt$x")));
	assert_true(password_is_cheap(string("$y$j9T$salt$x")));
	assert_true(password_is_cheap(string("$2b$12$x")));
	assert_false(password_is_cheap(string("$6$rounds=999999999$salt$x")));
	assert_false(password_is_cheap(string("$6$rounds=$salt$x")));
	assert_false(password_is_cheap(string("$y$jFT$salt$x")));
	assert_false(password_is_cheap(string("$y$j9z$salt$x")));
	assert_false(password_is_cheap(string("$2b$31$x")));
	assert_false(password_is_cheap(string("$sha1$4294967295$x$y")));
	assert_false(password_is_cheap(string("$7$zz..../....x")));
	assert_false(password_is_cheap(string("_zzzzrasmBYk8r9AiWNc")));
}

static void
keys_are_lines_with_a_key(void **state)
{
	static const char *const keys[] = {"ssh-ed25519 AAAAC3 x", "  ecdsa-sha2-nistp256\tAAAAE2",
					   "no-pty,command=\"a b # \\\" c\" ssh-rsa AAAAB3",
					   "sk-ssh-ed25519@openssh.com AAAAG"};
	static const char *const none[] = {"",
					   "#ssh-rsa AAAAB3",
					   "ssh-rsa",
					   "ssh-rsa BBBB",
					   "command=\"x ssh-rsa AAAAB3",
					   "a b ssh-rsa AAAA",
					   "no-pty",
					   "AAAAB3"};

	(void)state;
	for (size_t i = 0; i < COUNT(keys); i++)
		if (!authorised_key(string(keys[i])))
			fail_msg("%s", keys[i]);
	for (size_t i = 0; i < COUNT(none); i++)
		if (authorised_key(string(none[i])))
			fail_msg("%s", none[i]);
}

/* ---- sshd ---- */

static struct sshd_config config;

static void
read_config(const char *text)
{
	sshd_config_init(&config);
	sshd_config_parse(&config, string(text), NULL, NULL);
}

static void
what_sshd_refuses_is_refused(void **state)
{
	static const char *const refused[] = {
		"PermitRootLogin",
		"PermitRootLogin maybe",
		"PermitRootLogin yes no",
		"PasswordAuthentication true",
		"PasswordAuthentication \"yes",
		"MaxAuthTries -1",
		"MaxAuthTries 3x",
		"MaxAuthTries 99999999999",
		"LoginGraceTime 5y",
		"LoginGraceTime",
		"LoginGraceTime 99999999w",
		"Match",
		"Match User",
		"Match User bob\nUsePAM yes",
		"Match User bob\nCiphers aes128-cbc",
		"Include",
		"UsePAM 'yes",
	};
	static const char *const taken[] = {
		"",
		"# PermitRootLogin maybe",
		"permitrootlogin=NO",
		"Unknown thing",
		"Match all\nUsePAM yes",
		"Match User bob\nPermitRootLogin no",
		"LoginGraceTime 1h2m3",
		"PermitRootLogin yes # maybe",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		read_config(refused[i]);
		if (!config.broken[0])
			fail_msg("%s", refused[i]);
	}
	for (size_t i = 0; i < COUNT(taken); i++) {
		read_config(taken[i]);
		if (config.broken[0])
			fail_msg("%s: %s", taken[i], config.broken);
	}
}

static void
add_text(void *context, const char *text)
{
	strcat(context, text);
	strcat(context, ";");
}

static void
match_blocks_that_loosen_are_told(void **state)
{
	char told[1024] = "";

	(void)state;
	read_config("PasswordAuthentication no\nPermitRootLogin no\nMaxAuthTries 3\n"
		    "Match User bob\nPasswordAuthentication yes\nMaxAuthTries 2\nMatch Address "
		    "10.0.0.0/8\nPermitRootLogin yes\n");
	sshd_loosened(&config, add_text, told);
	assert_string_equal(told, "User bob: passwordauthentication yes;Address 10.0.0.0/8: permitrootlogin yes;");
	assert_false(sshd_takes_passwords(&config));
	told[0] = '\0';
	read_config("Match User bob\nPermitRootLogin no\nPasswordAuthentication yes\n");
	sshd_loosened(&config, add_text, told);
	assert_string_equal(told, "");
	read_config("Ciphers -aes128-cbc\nMACs +hmac-md5*\nPubkeyAcceptedAlgorithms ssh-*,!ssh-dss\n");
	sshd_weak(&config, add_text, told);
	assert_non_null(strstr(told, "macs hmac-md5;"));
	assert_non_null(strstr(told, "pubkeyacceptedalgorithms ssh-rsa;"));
	assert_null(strstr(told, "ciphers"));
	assert_null(strstr(told, "ssh-dss;"));
}

static void
endless(void *context, struct sshd_config *c, const char *pattern, const struct sshd_place *place)
{
	const struct sshd_include again = {endless, context};

	(void)pattern;
	++*(size_t *)context;
	sshd_config_parse(c, string("Include x\n"), place, &again);
}

static void
a_file_that_includes_itself_ends(void **state)
{
	size_t times = 0;
	const struct sshd_include files = {endless, &times};

	(void)state;
	sshd_config_init(&config);
	sshd_config_parse(&config, string("Include x\n"), NULL, &files);
	assert_true(times <= 16);
	assert_non_null(strstr(config.broken, "too deep"));
}

static void
dropbear_by_its_arguments_and_by_uci(void **state)
{
	struct dropbear d;

	(void)state;
	dropbear_init(&d);
	dropbear_arguments(string("NO_START=0\nDROPBEAR_EXTRA_ARGS=\"-sw -p 2222 -T 3\"\n"), &d);
	assert_true(d.no_password && d.no_root && !d.no_root_password);
	assert_int_equal(d.tries, 3);
	dropbear_init(&d);
	dropbear_arguments(string("#DROPBEAR_EXTRA_ARGS=-s\nDROPBEAR_EXTRA_ARGS=-p -s\n"), &d);
	assert_false(d.no_password); /* "-s" is the port */
	dropbear_init(&d);
	dropbear_uci(string("config dropbear\n option PasswordAuth 'off'\n option RootPasswordAuth 'off'\n"), &d);
	assert_true(d.no_password && d.no_root_password);
	dropbear_init(&d);
	dropbear_uci(string("config dropbear main\n\toption PasswordAuth '0'\nconfig dropbear\n\toption PasswordAuth "
			    "\"1\"\n"),
		     &d);
	assert_false(d.no_password);
	dropbear_init(&d);
	dropbear_uci(string("config other\n option PasswordAuth off\n"), &d);
	assert_false(d.no_password);
}

/* ---- sudo ---- */

static void
add_sudoer(void *context, const char *who, bool all, bool without_password)
{
	sprintf((char *)context + strlen(context), "%s%s%s;", who, all ? "" : " some", without_password ? " free" : "");
}

static void
sudoers_tells_administrators(void **state)
{
	static const struct {
		const char *text, *told;
	} cases[] = {
		{"root ALL=(ALL) ALL\n", ""},
		{"alice ALL=(ALL:ALL) ALL\n%wheel ALL=ALL\n", "alice;%wheel;"},
		{"alice ALL=NOPASSWD:ALL\n", "alice free;"},
		{"alice ALL=(bob)ALL,(root)/bin/ls\n", "alice some;"},
		{"alice ALL=(:grp) ALL\n", ""},
		{"alice ALL=(ALL,!root) ALL\n", ""},
		{"User_Alias A = alice,bob\nA ALL=ALL\n", "alice;bob;"},
		{"User_Alias A = B\nUser_Alias B = A\nA ALL=ALL\n", "A;"},
		{"!alice, bob ALL=ALL\n", "bob;"},
		{"alice ALL=\\\n /bin/ls a\\,b, NOPASSWD: /bin/cat\n", "alice some free;"},
		{"Defaults:alice !authenticate\nalice ALL=ALL\n", "alice;"},
		{"Defaults !authenticate\nalice ALL=ALL\n", "alice free;"},
		{"Defaults passprompt=\"a !authenticate, b\"\nalice ALL=ALL\n", "alice;"},
		{"# alice ALL=ALL\nalice\nalice ALL\n= ALL\nALL=\n", ""},
		{"ALL ALL=ALL\n", "ALL;"},
		{"alice ALL=ALL # NOPASSWD: ALL\n", "alice;"},
		{"\"a b\" ALL=ALL\n", "a b;"},
	};
	struct sudoers *s = malloc(sizeof *s);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char told[1024] = "";

		memset(s, 0, sizeof *s);
		sudoers_parse(s, string(cases[i].text), NULL);
		sudoers_administrators(s, add_sudoer, told);
		/* Aliases that go round end somewhere. */
		if (strstr(cases[i].text, "B = A") ? strlen(told) > 4 : strcmp(told, cases[i].told) != 0)
			fail_msg("%s: %s", cases[i].text, told);
	}
	free(s);
	assert_true(sudoers_file("one"));
	assert_false(sudoers_file("a.b") || sudoers_file("a~") || sudoers_file(""));
}

static void
doas_tells_them_too(void **state)
{
	static const struct {
		const char *line, *who;
		bool all, free_of_password;
	} cases[] = {
		{"permit :wheel", ":wheel", true, false},
		{"permit nopass keepenv alice", "alice", true, true},
		{"permit setenv { A=b C } alice as root", "alice", true, false},
		{"permit persist alice as root cmd id args -u", "alice", false, false},
		{"permit alice as bob", NULL, false, false},
		{"deny alice", NULL, false, false},
		{"permit", NULL, false, false},
		{"permit nopass", NULL, false, false},
		{"permit setenv {", NULL, false, false},
		{"# permit alice", NULL, false, false},
		{"permit root", NULL, false, false},
		{"", NULL, false, false},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		bool all, free_of_password;
		struct slice who;
		bool took = doas_parse(string(cases[i].line), &who, &all, &free_of_password);

		if (took != (cases[i].who != NULL) || (took && (!is(who, cases[i].who) || all != cases[i].all ||
								free_of_password != cases[i].free_of_password)))
			fail_msg("%s", cases[i].line);
	}
}

/* ---- PAM, log-ins, files of packages ---- */

static void
pam_lines(void **state)
{
	static const char *const refused[] = {"",          "# auth required x.so", "auth",     "auth required",
					      "auth [a b", "other required x.so",  "@include", "auth [a=b]"};
	struct slice text = string("auth [success=1 default=ignore] \\\n  /lib/pam_unix.so nodelay [a=b c] deny=3 "
				   "deny=4 # deny=5\n"),
		     line, value;
	char joined[PAM_LINE];
	struct pam_line parsed;

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++)
		if (pam_parse(string(refused[i]), &parsed))
			fail_msg("%s", refused[i]);
	assert_true(pam_next_line(&text, joined, &line));
	assert_true(pam_parse(line, &parsed));
	assert_true(is(parsed.module, "pam_unix.so"));
	assert_true(pam_argument(parsed.arguments, "deny", &value) && is(value, "4"));
	assert_true(pam_argument(parsed.arguments, "nodelay", &value));
	assert_false(pam_argument(parsed.arguments, "c", &value));
	assert_true(setting_find(string("# deny=1\ndeny = 2 # x\nDENY=3\n"), "deny", &value) && is(value, "2"));
	assert_false(setting_find(string("denyx=1\n#deny=1\n\n"), "deny", &value));
}

static void
records_of_log_ins(void **state)
{
	uint8_t records[3 * 400] = {0};
	bool older;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		records[i * 384] = 6;
		records[i * 384 + 340] = (uint8_t)(100 + 50 * i);
	}
	assert_int_equal(btmp_record_size(3 * 384, (struct slice){records, 3 * 384}), 384);
	assert_int_equal(btmp_count((struct slice){records, 3 * 384}, 384, 150, 200, &older), 2);
	assert_true(older);
	assert_int_equal(btmp_count((struct slice){records, 3 * 384}, 384, 100, 150, &older), 2);
	assert_false(older);
	assert_int_equal(btmp_count((struct slice){records, 383}, 384, 0, 1000, &older), 0);
	assert_int_equal(btmp_record_size(383, (struct slice){records, 383}), 0);
	assert_int_equal(btmp_record_size(0, (struct slice){NULL, 0}), 0);
	records[0] = 77;
	assert_int_equal(btmp_record_size(384, (struct slice){records, 384}), 0);
}

static void
files_of_packages(void **state)
{
	static const char text[] =
		"Package: a\nStatus: install ok installed\nConffiles:\n /etc/a b 97bc321b7971a3fb1bb9c6d5388c9742\n"
		" /etc/old 97bc321b7971a3fb1bb9c6d5388c9742 obsolete\n /etc/new newconffile\n etc/b "
		"97bc321b7971a3fb1bb9c6d5388c9742\n"
		" /etc/c 97bc\n /etc/d zzbc321b7971a3fb1bb9c6d5388c9742\nDescription: x\n /etc/e "
		"97bc321b7971a3fb1bb9c6d5388c9742\n\n"
		"Package: b\nStatus: deinstall ok config-files\nConffiles:\n /etc/f "
		"97bc321b7971a3fb1bb9c6d5388c9742\n\n"
		"Package: c\nConffiles:\n /etc/g 97bc321b7971a3fb1bb9c6d5388c9742\nStatus: install ok installed\n";
	struct conffiles *c = calloc(1, sizeof *c);

	(void)state;
	for (size_t i = 0; i < sizeof text - 1; i++)
		conffiles_feed(c, (struct slice){(const uint8_t *)text + i, 1});
	conffiles_end(c);
	assert_int_equal(c->len, 2);
	assert_string_equal(c->paths + c->at[0].path, "/etc/a b");
	assert_string_equal(c->paths + c->at[1].path, "/etc/g");
	assert_int_equal(c->at[0].digest_len, 16);
	free(c);
}

/* ---- cryptography ---- */

static void
the_library_tells_its_version(void **state)
{
	static const struct {
		const char *text, *version;
		int level;
	} cases[] = {
		{"OpenSSL CMAC method OpenSSL 3.0.19 27 Jan 2026 -DOPENSSL_TLS_SECURITY_LEVEL=2 x", "OpenSSL 3.0.19",
		 2},
		{"OpenSSL 1.1.1w  11 Sep 2023", "OpenSSL 1.1.1w", 1},
		{"OpenSSL 3.2.1 30 Jan 2024", "OpenSSL 3.2.1", 2},
		{"LibreSSL 3.8.2 ", "LibreSSL 3.8.2", -1},
		{"mbed TLS 2.28.8 ", "Mbed TLS 2.28.8", -1},
		{"OpenSSL 3", "", -1},
		{"OpenSSL x.y.z ", "", -1},
		{"OpenSSL 3.0.19", "", -1},
		{"", "", -1},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		for (size_t piece = 1; piece < 80; piece++) {
			struct slice text = string(cases[i].text);
			struct crypto_library l;

			crypto_library_init(&l);
			for (size_t at = 0; at < text.len; at += piece)
				(void)crypto_library_feed(
					&l,
					(struct slice){text.at + at, text.len - at < piece ? text.len - at : piece});
			if (strcmp(l.version, cases[i].version) != 0 || crypto_library_level(&l) != cases[i].level)
				fail_msg("%s by %zu: %s %d", cases[i].text, piece, l.version, l.level);
		}
}

static void
what_openssl_conf_says_too_cleverly_is_unsure(void **state)
{
	static const char head[] = "openssl_conf=i\n[i]\nssl_conf=s\n[s]\nsystem_default=d\n[d]\n";
	static const char *const unsure[] = {"MinProtocol = $min\n", "MinProtocol = TLSv9\n", "Protocol = ALL,-TLSv1\n",
					     "CipherString = $x@SECLEVEL=2\n", "CipherString = A@SECLEVEL=9\n"};
	struct openssl_conf conf;
	struct openssl_default found;
	char text[512];

	(void)state;
	conf.entries = calloc(CONF_ENTRIES, sizeof conf.entries[0]);
	for (size_t i = 0; i < COUNT(unsure); i++) {
		conf.len = 0;
		conf.more = false;
		strcpy(conf.section, "default");
		snprintf(text, sizeof text, "%s%s", head, unsure[i]);
		openssl_conf_parse(&conf, string(text), NULL);
		openssl_conf_default(&conf, &found);
		if (!found.unsure)
			fail_msg("%s", unsure[i]);
	}
	free(conf.entries);
}

/* ---- the baseline ---- */

static void
a_baseline_is_read_as_it_was_written_and_not_otherwise(void **state)
{
	static struct baseline b, again;
	static const uint8_t digest[DIGEST_SIZE] = {1, 2, 3};
	uint8_t bytes[512];
	size_t len;

	(void)state;
	b.made = 1790000000;
	b.patterns[0] = string("/etc/*.conf");
	b.patterns_len = 1;
	b.files[0] = (struct baseline_file){string("/etc/a"), {digest, DIGEST_SIZE}, 0, 5, 0640};
	b.files[1] = (struct baseline_file){string("/etc/b"), {digest, DIGEST_SIZE}, 1000, 0, 0600};
	b.files_len = 2;
	len = baseline_encode(&b, bytes, sizeof bytes);
	assert_true(len > 0);
	assert_int_equal(baseline_decode((struct slice){bytes, len}, &again), REASON_OK);
	assert_int_equal(again.files_len, 2);
	assert_true(is(again.files[1].path, "/etc/b") && again.files[1].uid == 1000 && again.files[0].mode == 0640);
	assert_int_equal(baseline_encode(&b, bytes, len - 1), 0);
	(void)!baseline_encode(&b, bytes, sizeof bytes);
	/* Every end that is missing, and every part that is another's. */
	for (size_t i = 0; i < len; i++)
		assert_int_not_equal(baseline_decode((struct slice){bytes, i}, &again), REASON_OK);
	bytes[len] = 0;
	assert_int_equal(baseline_decode((struct slice){bytes, len + 1}, &again), REASON_TRAILING_BYTES);
	struct baseline_file first = b.files[0];
	b.files[0] = b.files[1];
	b.files[1] = first;
	len = baseline_encode(&b, bytes, sizeof bytes);
	assert_int_equal(baseline_decode((struct slice){bytes, len}, &again), REASON_NON_CANONICAL);
	b.files[1] = b.files[0];
	len = baseline_encode(&b, bytes, sizeof bytes);
	assert_int_equal(baseline_decode((struct slice){bytes, len}, &again), REASON_NON_CANONICAL);
	b.files_len = 1;
	b.files[0].path = string("etc/a");
	len = baseline_encode(&b, bytes, sizeof bytes);
	assert_int_not_equal(baseline_decode((struct slice){bytes, len}, &again), REASON_OK);
	b.files[0].path = string("/etc/a");
	b.files[0].mode = 010000;
	len = baseline_encode(&b, bytes, sizeof bytes);
	assert_int_not_equal(baseline_decode((struct slice){bytes, len}, &again), REASON_OK);
	b.files[0].mode = 0644;
	b.files[0].sha256.len = 31;
	len = baseline_encode(&b, bytes, sizeof bytes);
	assert_int_not_equal(baseline_decode((struct slice){bytes, len}, &again), REASON_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accounts_are_what_the_c_library_takes),
		cmocka_unit_test(passwords_are_told_by_their_form),
		cmocka_unit_test(keys_are_lines_with_a_key),
		cmocka_unit_test(what_sshd_refuses_is_refused),
		cmocka_unit_test(match_blocks_that_loosen_are_told),
		cmocka_unit_test(a_file_that_includes_itself_ends),
		cmocka_unit_test(dropbear_by_its_arguments_and_by_uci),
		cmocka_unit_test(sudoers_tells_administrators),
		cmocka_unit_test(doas_tells_them_too),
		cmocka_unit_test(pam_lines),
		cmocka_unit_test(records_of_log_ins),
		cmocka_unit_test(files_of_packages),
		cmocka_unit_test(the_library_tells_its_version),
		cmocka_unit_test(what_openssl_conf_says_too_cleverly_is_unsure),
		cmocka_unit_test(a_baseline_is_read_as_it_was_written_and_not_otherwise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
