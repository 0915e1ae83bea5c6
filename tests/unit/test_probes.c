/* The parsers of the probes: what they take, and the many things they must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emitter/probes.h"
#include "schema/report.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

#define BYTES(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})

/* What os-release says of ID; NULL for malformed, "" for absent or empty. */
struct release_case {
	const char *text, *id;
};

static void
os_release_is_read_as_the_shell_does(void **state)
{
	static const struct release_case cases[] = {
		{"ID=debian\n", "debian"},
		{"ID=debian", "debian"},
		{"ID=\"debian\"\n", "debian"},
		{"ID='debian'\n", "debian"},
		{"ID=\n", ""},
		{"ID=\"\"\n", ""},
		{"ID=a\nID=b\n", "b"},
		{"#ID=a\nID=b\n#ID=c\n", "b"},
		{"\n\n  ID=b\n", "b"},
		{"ID=b   \n", "b"},
		{"ID=b # why\n", "b"},
		{"ID=b#c\n", "b#c"},
		{"ID=\"a b\"\n", "a b"},
		{"ID=\"a\\\"b\"\n", "a\"b"},
		{"ID=\"a\\\\b\"\n", "a\\b"},
		{"ID=\"a\\$b\\`c\"\n", "a$b`c"},
		{"ID=\"a\\nb\"\n", "a\\nb"},
		{"ID='a\\nb'\n", "a\\nb"},
		{"ID='$HOME'\n", "$HOME"},
		{"ID=a\\ b\n", "a b"},
		{"ID=\"a\"'b'c\n", "abc"},
		{"ID=\"a\\\nb\"\n", "ab"},
		{"X=\"\nID=evil\n\"\nID=good\n", "good"},
		{"X='\nID=evil\n'\n", ""},
		/* None of these is a value. */
		{"ID=a b\n", NULL},
		{"ID=$HOME\n", NULL},
		{"ID=\"$HOME\"\n", NULL},
		{"ID=`id`\n", NULL},
		{"ID=\"`id`\"\n", NULL},
		{"ID=$(id)\n", NULL},
		{"ID=a;b\n", NULL},
		{"ID=a&\n", NULL},
		{"ID=a|b\n", NULL},
		{"ID=<a\n", NULL},
		{"ID=\"open\n", NULL},
		{"ID='open\nX=1\n", NULL},
		{"ID=\"two\nlines\"\n", NULL},
		{"ID=\"\x01\"\n", NULL},
		{"ID=good\nID=$bad\n", NULL},
		/* And these are no assignments of it. */
		{"", ""},
		{"ID\n", ""},
		{"ID = debian\n", ""},
		{"export ID=debian\n", ""},
		{"id=debian\n", ""},
		{"XID=debian\n", ""},
		{"ID_LIKE=debian\n", ""},
		{"=debian\n", ""},
		{"\"ID\"=debian\n", ""},
	};
	struct os_release release;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *text;

		os_release_parse(string(cases[i].text), &release);
		text = os_release_text(&release, RELEASE_ID);
		if (!cases[i].id != (release.fields[RELEASE_ID].state == RELEASE_MALFORMED))
			fail_msg("%s: state %d", cases[i].text, (int)release.fields[RELEASE_ID].state);
		if (strcmp(text ? text : "", cases[i].id ? cases[i].id : "") != 0)
			fail_msg("%s: %s", cases[i].text, text);
	}
}

static void
os_release_refuses_long_values(void **state)
{
	char text[400] = "ID=";
	struct os_release release;

	(void)state;
	memset(text + 3, 'x', 255);
	os_release_parse(string(text), &release);
	assert_int_equal(strlen(os_release_text(&release, RELEASE_ID)), 255);
	text[258] = 'x';
	os_release_parse(string(text), &release);
	assert_int_equal(release.fields[RELEASE_ID].state, RELEASE_MALFORMED);
	os_release_parse(BYTES("ID=a\0b\n"), &release);
	assert_int_equal(release.fields[RELEASE_ID].state, RELEASE_MALFORMED);
}

/* One table for all that turn a text into a number: UINT64_MAX stands for a refusal. */
struct number_case {
	bool (*parse)(struct slice, uint64_t *);
	const char *text;
	uint64_t number;
};

static void
numbers_are_just_numbers(void **state)
{
	static const struct number_case cases[] = {
		{cpu_list_parse, "0\n", 1},
		{cpu_list_parse, "0-3\n", 4},
		{cpu_list_parse, "0-3,6,8-9", 7},
		{cpu_list_parse, "", UINT64_MAX},
		{cpu_list_parse, "\n", UINT64_MAX},
		{cpu_list_parse, "3-0", UINT64_MAX},
		{cpu_list_parse, "0-", UINT64_MAX},
		{cpu_list_parse, "-3", UINT64_MAX},
		{cpu_list_parse, "0,,1", UINT64_MAX},
		{cpu_list_parse, "0,", UINT64_MAX},
		{cpu_list_parse, "0-99999999999999999999", UINT64_MAX},
		{cpu_list_parse, "0-70000", UINT64_MAX},
		{cpu_list_parse, "0x3", UINT64_MAX},
		{meminfo_parse, "MemTotal:       1024 kB\n", 1048576},
		{meminfo_parse, "HugePages: 1\nMemTotal: 2 kB\nMemFree: 1 kB\n", 2048},
		{meminfo_parse, "MemTotal: 2 MB\n", UINT64_MAX},
		{meminfo_parse, "MemTotal: 2\n", UINT64_MAX},
		{meminfo_parse, "MemTotal: kB\n", UINT64_MAX},
		{meminfo_parse, "MemTotal: -2 kB\n", UINT64_MAX},
		{meminfo_parse, "MemTotal: 18446744073709551615 kB\n", UINT64_MAX},
		{meminfo_parse, "MemFree: 2 kB\n", UINT64_MAX},
		{meminfo_parse, "", UINT64_MAX},
		{uptime_parse, "123.45 67.89\n", 123},
		{uptime_parse, "0.00 0.00", 0},
		{uptime_parse, "123 67\n", UINT64_MAX},
		{uptime_parse, "-1.0 2\n", UINT64_MAX},
		{uptime_parse, ".5 1\n", UINT64_MAX},
		{uptime_parse, "1e9.0 1\n", UINT64_MAX},
		{uptime_parse, "", UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t number = 0;
		bool ok = cases[i].parse(string(cases[i].text), &number);

		if (ok != (cases[i].number != UINT64_MAX) || (ok && number != cases[i].number))
			fail_msg("\"%s\": %d %llu", cases[i].text, ok, (unsigned long long)number);
	}
}

static void
cpuinfo_of_many_architectures(void **state)
{
	struct cpuinfo info;
	char text[600] = "model name : ";

	(void)state;
	cpuinfo_parse(string("processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n"), &info);
	assert_string_equal(info.model, "AMD EPYC");
	assert_int_equal(info.processors, 2);
	assert_string_equal(info.serial, "");
	cpuinfo_parse(string("processor\t: 0\nBogoMIPS\t: 108\n\nHardware\t: BCM2835\nRevision\t: c03111\nSerial\t\t: "
			     "10000000abcd\nModel\t: Raspberry Pi 4\n"),
		      &info);
	assert_string_equal(info.model, "");
	assert_string_equal(info.machine, "BCM2835");
	assert_string_equal(info.revision, "c03111");
	assert_string_equal(info.serial, "10000000abcd");
	cpuinfo_parse(string("system type : MediaTek\nmachine : acme router\nprocessor : 0\ncpu model : MIPS 24KEc\n"),
		      &info);
	assert_string_equal(info.model, "MIPS 24KEc");
	assert_string_equal(info.machine, "acme router");
	cpuinfo_parse(string("no colon\n: no name\nprocessors: 9\nSerialX: 1\n"), &info);
	assert_int_equal(info.processors, 0);
	assert_string_equal(info.serial, "");
	memset(text + 13, 'x', 500);
	cpuinfo_parse(string(text), &info);
	assert_int_equal(strlen(info.model), CPUINFO_TEXT - 1);
}

static void
placeholders_are_no_serial_numbers(void **state)
{
	static const char *const placeholders[] = {"",
						   "0",
						   "00000000",
						   "To be filled by O.E.M.",
						   "TO BE FILLED BY O.E.M.",
						   "Default string",
						   "None",
						   "N/A",
						   "Not Specified",
						   "System Serial Number",
						   "....",
						   "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
						   "00000000-0000-0000-0000-000000000000",
						   "03000200-0400-0500-0006-000700080009",
						   "123456789",
						   "x",
						   "-"};
	static const char *const real[] = {"C02ABC", "PF0X1234", "1",      "0001",
					   "None2",  "8",        "f4f4f4", "1000000012345678"};

	(void)state;
	for (size_t i = 0; i < COUNT(placeholders); i++)
		assert_true(is_placeholder(string(placeholders[i])));
	for (size_t i = 0; i < COUNT(real); i++)
		assert_false(is_placeholder(string(real[i])));
}

static void
vendors_of_device_trees(void **state)
{
	struct slice vendor;

	(void)state;
	assert_true(compatible_vendor(BYTES("raspberrypi,4-model-b\0brcm,bcm2711\0"), &vendor));
	assert_true(text_is(vendor, "raspberrypi"));
	assert_false(compatible_vendor(BYTES("novendor\0brcm,bcm2711\0"), &vendor));
	assert_false(compatible_vendor(BYTES(",model"), &vendor));
	assert_false(compatible_vendor(BYTES("model"), &vendor));
	assert_false(compatible_vendor(BYTES(""), &vendor));
}

/* The value was computed with: openssl dgst -sha256 -mac HMAC -macopt key:fleetstate over the 16 bytes. */
static void
host_ids_hide_the_machine_id(void **state)
{
	static const char *const refused[] = {"",
					      "\n",
					      "uninitialized\n",
					      "0123456789abcdef0123456789abcde",
					      "0123456789abcdef0123456789abcdef0",
					      "0123456789abcdef0123456789abcdeg",
					      "00000000000000000000000000000000\n",
					      "01234567-89ab-cdef-0123-456789abcdef\n",
					      "0123456789abcdef0123456789abcdef\n\n",
					      " 0123456789abcdef0123456789abcdef"};
	char id[HOST_ID_SIZE], again[HOST_ID_SIZE];

	(void)state;
	assert_true(host_id(string("0123456789abcdef0123456789abcdef\n"), id));
	assert_string_equal(id, "29129d43717a650e6b9b00f06a8665fc");
	assert_true(host_id(string("0123456789abcdef0123456789abcdef"), again));
	assert_string_equal(id, again);
	assert_true(host_id(string("0123456789abcdef0123456789abcdee"), again));
	assert_string_not_equal(id, again);
	for (size_t i = 0; i < COUNT(refused); i++)
		assert_false(host_id(string(refused[i]), id));
}

static void
efi_variables_have_five_bytes(void **state)
{
	bool flag = false;

	(void)state;
	assert_true(efi_flag(BYTES("\x06\0\0\0\x01"), &flag));
	assert_true(flag);
	assert_true(efi_flag(BYTES("\x06\0\0\0\0"), &flag));
	assert_false(flag);
	assert_false(efi_flag(BYTES("\x06\0\0\0\x02"), &flag));
	assert_false(efi_flag(BYTES("\x06\0\0\0"), &flag));
	assert_false(efi_flag(BYTES("\x06\0\0\0\x01\x01"), &flag));
	assert_false(efi_flag(BYTES(""), &flag));
	assert_false(efi_flag(BYTES("\x01"), &flag));
}

static void
lockdown_is_the_word_in_brackets(void **state)
{
	static const struct {
		const char *text, *mode;
	} cases[] = {{"[none] integrity confidentiality\n", "none"},
		     {"none [integrity] confidentiality\n", "integrity"},
		     {"none integrity [confidentiality]\n", "confidentiality"},
		     {"none integrity confidentiality\n", NULL},
		     {"[]", NULL},
		     {"[root]", NULL},
		     {"[none", NULL},
		     {"none]", NULL},
		     {"", NULL},
		     {"[ none ]", NULL}};
	struct slice mode;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		bool ok = lockdown_parse(string(cases[i].text), &mode);

		assert_int_equal(ok, cases[i].mode != NULL);
		assert_true(!ok || text_is(mode, cases[i].mode));
	}
}

static void
append(void *context, const char *risk)
{
	char *all = context;

	strcat(strcat(all, all[0] ? "," : ""), risk);
}

static void
risks_are_found_and_nothing_else(void **state)
{
	static const struct {
		const char *line, *risks;
	} cases[] = {
		{"quiet init=/bin/sh ro\n", "init=/bin/sh"},
		{"mitigations=off", "mitigations=off"},
		{"spectre-v2=off", "spectre-v2=off"},
		{"apparmor=0 selinux=0", "apparmor=0,selinux=0"},
		{"single", "single"},
		{"-- single init=/bin/sh", "single"},
		{"\"init=/bin/my shell\"", "init=/bin/my shell"},
		{"init=\"/bin/my shell\" quiet", "init=/bin/my shell"},
		{"root=/dev/sda1 1", "1"},
		/* Nothing here weakens anything. */
		{"", ""},
		{"\n", ""},
		{"quiet splash root=/dev/sda1 ro", ""},
		{"mitigations=auto,nosmt", ""},
		{"mitigations=offline", ""},
		{"xmitigations=off", ""},
		{"Mitigations=off", ""},
		{"mitigations=o-f", ""},
		{"init=", ""},
		{"initrd=/boot/initrd.img", ""},
		{"note=\"init=/bin/sh\"", ""},
		{"note=\"a init=/bin/sh b\"", ""},
		{"-- init=/bin/sh mitigations=off", ""},
		{"panic=1 loglevel=1", ""},
		{"selinux=1 apparmor=1 audit=1", ""},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char all[256] = "";

		command_line_risks(string(cases[i].line), append, all);
		if (strcmp(all, cases[i].risks) != 0)
			fail_msg("%s: %s", cases[i].line, all);
	}
}

#define REST " 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000000000000000 100 0 0 10 0"

static void
sockets_are_read(void **state)
{
	static const uint8_t loopback[] = {127, 0, 0, 1},
			     loopback6[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
	struct socket_row row;

	(void)state;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	assert_true(socket_parse(string("   0: 0100007F:0CEA 00000000:0000 0A" REST), &row));
	assert_memory_equal(row.address, loopback, 4);
	assert_true(socket_parse(
		string("   1: 00000000000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A" REST),
		&row));
	assert_memory_equal(row.address, loopback6, 16);
	assert_int_equal(row.port, 443);
	assert_int_equal(row.address_len, 16);
#endif
	assert_true(socket_parse(string("  22: 00000000:0035 0100007F:D431 01" REST), &row));
	assert_int_equal(row.state, 1);
	assert_true(row.has_peer);
	assert_int_equal(row.inode, 1234);
}

static void
broken_socket_rows_are_refused(void **state)
{
	static const char *const refused[] = {
		"",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"   0: 0100007F:0CEA 00000000:0000 0A",
		"   0 0100007F:0CEA 00000000:0000 0A" REST,
		"   0: 0100007F 00000000:0000 0A" REST,
		"   0: 0100007:0CEA 00000000:0000 0A" REST,
		"   0: 0100007F:CEA 00000000:0000 0A" REST,
		"   0: 0100007F:0CEAA 00000000:0000 0A" REST,
		"   0: 0100007G:0CEA 00000000:0000 0A" REST,
		"   0: 0100007F:0CEG 00000000:0000 0A" REST,
		"   0: 0100007F:0CEA 00000000000000000000000000000000:0000 0A" REST,
		"   0: 0100007F:0CEA 00000000:0000 100" REST,
		"   0: 0100007F:0CEA 00000000:0000 -1" REST,
		"   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 "
		"99999999999999999999999",
		"   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 -5",
	};
	struct socket_row row;

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++)
		if (socket_parse(string(refused[i]), &row))
			fail_msg("%s", refused[i]);
}

static void
macs_have_six_bytes(void **state)
{
	static const char *const refused[] = {"",
					      "02:fc:00:00:00",
					      "02:fc:00:00:00:01:02",
					      "02-fc-00-00-00-01",
					      "02:fc:00:00:00:0g",
					      "2:fc:00:00:00:001",
					      "02fc00000001",
					      "00:00:00:00:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:10:11"};
	static const uint8_t mac[] = {2, 0xfc, 0, 0, 0, 1};
	uint8_t got[6];
	char type[32];

	(void)state;
	assert_true(mac_parse(string("02:fc:00:00:00:01\n"), got));
	assert_memory_equal(got, mac, 6);
	for (size_t i = 0; i < COUNT(refused); i++)
		assert_false(mac_parse(string(refused[i]), got));
	network_type(1, type, sizeof type);
	assert_string_equal(type, "ether");
	network_type(4321, type, sizeof type);
	assert_string_equal(type, "[4321]");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(os_release_is_read_as_the_shell_does),
		cmocka_unit_test(os_release_refuses_long_values),
		cmocka_unit_test(numbers_are_just_numbers),
		cmocka_unit_test(cpuinfo_of_many_architectures),
		cmocka_unit_test(placeholders_are_no_serial_numbers),
		cmocka_unit_test(vendors_of_device_trees),
		cmocka_unit_test(host_ids_hide_the_machine_id),
		cmocka_unit_test(efi_variables_have_five_bytes),
		cmocka_unit_test(lockdown_is_the_word_in_brackets),
		cmocka_unit_test(risks_are_found_and_nothing_else),
		cmocka_unit_test(sockets_are_read),
		cmocka_unit_test(broken_socket_rows_are_refused),
		cmocka_unit_test(macs_have_six_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
