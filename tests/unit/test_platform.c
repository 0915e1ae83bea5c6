/* The parsers that tell of the platform: mounts, modules, packet filters, the TPM, serial lines; and trees of devices, hardened and neglected. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/boot_arguments.h"
#include "emitter/collect.h"
#include "emitter/expected.h"
#include "emitter/firewall_conf.h"
#include "emitter/health.h"
#include "emitter/kernel.h"
#include "emitter/links.h"
#include "emitter/measured.h"
#include "emitter/modprobe.h"
#include "emitter/netfilter.h"
#include "emitter/netlink.h"
#include "emitter/serial.h"
#include "emitter/tpm.h"
#include "schema/topics.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void
full_is_what_df_calls_full(void **state)
{
	(void)state;
	assert_false(health_is_full(1000, 100, 50, 0, 0));
	assert_true(health_is_full(1000, 100, 47, 0, 0));
	assert_true(health_is_full(1000, 0, 0, 0, 0));
	assert_false(health_is_full(0, 0, 0, 100, 0));
	assert_false(health_is_full(1000, 1000, 1000, 100, 5));
	assert_true(health_is_full(1000, 1000, 1000, 100, 4));
	assert_false(health_is_full(10, 20, 20, 0, 0));
	assert_false(health_is_full(UINT64_MAX, 0, UINT64_MAX, 0, 0));
}

struct number_case {
	const char *text;
	uint64_t number;
};

static void
kills_are_counted(void **state)
{
	static const struct number_case cases[] = {
		{"nr_free 1\noom_kill 3\nx 4\n", 3},
		{"oom_kill 0", 0},
		{"", UINT64_MAX},
		{"oom_kills 3\n", UINT64_MAX},
		{"oom_kill\n", UINT64_MAX},
		{"oom_kill -1\n", UINT64_MAX},
		{"oom_kill 1 2\n", UINT64_MAX},
		{"xoom_kill 1\n", UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t number = UINT64_MAX;

		assert_int_equal(oom_kills_parse(string(cases[i].text), &number), cases[i].number != UINT64_MAX);
		if (cases[i].number != UINT64_MAX)
			assert_int_equal(number, cases[i].number);
	}
}

static void
modules_have_a_name_a_size_and_taints(void **state)
{
	static const struct {
		const char *line, *name, *taint;
	} cases[] = {
		{"nvidia 123 2 nvidia_uvm, Live 0x0000000000000000 (POE)", "nvidia", "POE"},
		{"ext4 1015808 1 - Live 0x0000000000000000", "ext4", ""},
		{"x 1", "x", ""},
		{"x 1 ()", "x", ""},
		{"x 1 (O", "x", ""},
		{"x", NULL, NULL},
		{"", NULL, NULL},
		{"x -1 0 -", NULL, NULL},
		{"x big", NULL, NULL},
	};
	struct slice name, taint;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(module_parse(string(cases[i].line), &name, &taint), cases[i].name != NULL);
		if (!cases[i].name)
			continue;
		assert_int_equal(name.len, strlen(cases[i].name));
		assert_memory_equal(name.at, cases[i].name, name.len);
		assert_int_equal(taint.len, strlen(cases[i].taint));
		assert_memory_equal(taint.at, cases[i].taint, taint.len);
	}
}

static void
append_name(void *context, const char *name)
{
	strcat(context, name);
	strcat(context, ";");
}

static void
append_value(void *context, struct slice value)
{
	strncat(context, (const char *)value.at, value.len);
	strcat(context, ";");
}

static void
taints_have_names(void **state)
{
	char names[512] = "";

	(void)state;
	taint_names(0, append_name, names);
	assert_string_equal(names, "");
	taint_names(1 << 12 | 1 << 13, append_name, names);
	assert_string_equal(names, "module from outside the tree;unsigned module;");
	names[0] = '\0';
	taint_names(UINT64_C(3) << 62, append_name, names);
	assert_string_equal(names, "a reason that is not known here;");
}

static void
settings_of_the_kernel(void **state)
{
	uint64_t value = 9;
	bool set;

	(void)state;
	assert_true(sysctl_find(string("# kernel.sysrq=1\n kernel.sysrq = 0\n"), "kernel.sysrq", &value));
	assert_int_equal(value, 0);
	assert_true(sysctl_find(string("-kernel/sysrq=1\nkernel.sysrq=4\n"), "kernel.sysrq", &value));
	assert_int_equal(value, 4);
	assert_false(sysctl_find(string(";kernel.sysrq=1\nkernel.sysrqs=1\nkernel.sysrq=yes\nkernel.sysrq\n"),
				 "kernel.sysrq", &value));
	assert_true(sysrq_is_open(1));
	assert_false(sysrq_is_open(0));
	assert_false(sysrq_is_open(438));
	assert_true(sysrq_is_open(8) && sysrq_is_open(64));
	assert_true(kernel_config_has(string("CONFIG_A=y\nCONFIG_STRICT_DEVMEM=y\n"), "CONFIG_STRICT_DEVMEM", &set) &&
		    set);
	assert_true(kernel_config_has(string("# CONFIG_STRICT_DEVMEM is not set\n"), "CONFIG_STRICT_DEVMEM", &set) &&
		    !set);
	assert_false(kernel_config_has(string("CONFIG_STRICT_DEVMEM_X=y\n# X\n"), "CONFIG_STRICT_DEVMEM", &set));
	assert_true(profile_enforces(string("/usr/sbin/chronyd (enforce)")));
	assert_false(profile_enforces(string("/usr/sbin/chronyd (complain)")));
	assert_false(profile_enforces(string(" (enforce)")));
	assert_true(ima_policy_has(string("dont_measure fsmagic=1\nappraise func=X\n"), "appraise"));
	assert_false(ima_policy_has(string("dont_appraise x\n# appraise\n"), "appraise"));
}

static void
arguments_of_the_boot(void **state)
{
	static const struct {
		const char *text, *name, *values;
	} cases[] = {
		{"quiet console=ttyS0,115200 console=tty1", "console", "ttyS0,115200;tty1;"},
		{"GRUB_CMDLINE_LINUX=\"roothash=abc quiet\"", "roothash", "abc;"},
		{"usb-storage.quirks=1 usb_storage.quirks=2", "usb_storage.quirks", "1;2;"},
		{"kgdbwait", "kgdbwait", ";"},
		{"xconsole=1 console1=2 Console=3", "console", ""},
		{"", "console", ""},
		{"===", "console", ""},
	};
	char values[256];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		values[0] = '\0';
		boot_arguments_find(string(cases[i].text), cases[i].name, append_value, values);
		assert_string_equal(values, cases[i].values);
	}
}

static void
modules_can_be_forbidden(void **state)
{
	static const struct {
		const char *line;
		int kind; /* -1: none */
	} cases[] = {
		{"blacklist usb-storage", MODPROBE_BLACKLIST},
		{"  install usb-storage /bin/false", MODPROBE_NO_INSTALL},
		{"install usb-storage /bin/true # no", MODPROBE_NO_INSTALL},
		{"options usbcore authorized_default=0", MODPROBE_OPTIONS},
		{"install usb-storage /sbin/modprobe --ignore-install usb-storage", -1},
		{"install usb-storage", -1},
		{"#blacklist usb-storage", -1},
		{"blacklist", -1},
		{"alias usb-storage off", -1},
		{"", -1},
	};
	struct modprobe_rule rule;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (modprobe_parse(string(cases[i].line), &rule) != (cases[i].kind >= 0) ||
		    (cases[i].kind >= 0 && (int)rule.kind != cases[i].kind))
			fail_msg("%s", cases[i].line);
	assert_true(module_is(string("usb-storage"), "usb_storage"));
	assert_false(module_is(string("usb.storage"), "usb_storage"));
}

static void
inittabs_start_log_ins(void **state)
{
	static const struct {
		const char *line, *terminal;
	} cases[] = {
		{"T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100", "ttyS0"},
		{"ttyAMA0::askfirst:/bin/sh", "ttyAMA0"},
		{"::askconsole:/usr/libexec/login.sh", "console"},
		{"::respawn:/sbin/getty -L /dev/ttymxc1 115200", "ttymxc1"},
		{"co:2345:respawn:/sbin/getty console", "console"},
		{"#T0:23:respawn:/sbin/getty -L ttyS0 9600", NULL},
		{"1:2345:respawn:/sbin/getty 38400 tty1", NULL},
		{"T0:23:off:/sbin/getty -L ttyS0", NULL},
		{"::sysinit:/etc/init.d/rcS", NULL},
		{"ttyS0::respawn:", NULL},
		{"a:b:c", NULL},
		{"", NULL},
	};
	struct slice terminal;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		bool found = inittab_parse(string(cases[i].line), &terminal);

		if (found != (cases[i].terminal != NULL) ||
		    (found && (terminal.len != strlen(cases[i].terminal) ||
			       memcmp(terminal.at, cases[i].terminal, terminal.len) != 0)))
			fail_msg("%s", cases[i].line);
	}
	assert_true(serial_is(string("hvc0")) && serial_is(string("ttyUSB10")));
	assert_false(serial_is(string("tty1")) || serial_is(string("tty")) || serial_is(string("ttyS")) ||
		     serial_is(string("pts/0")));
	assert_false(serial_is(string("ttyS/0")) ||
		     serial_is(string("ttySSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS0")));
}

/* f: families filtered, d: of them that drop; 4, 6. */
struct ruleset_case {
	const char *text, *f, *d;
};

static void
rulesets_have_a_default(void **state)
{
	static const struct ruleset_case cases[] = {
		{"table inet f {\n\tchain i {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n", "46",
		 "46"},
		{"table ip f { chain i { type filter hook input priority 0; policy drop; } }", "4", "4"},
		{"table f { chain i { type filter hook input priority 0; } }", "4", ""},
		{"table ip6 f { chain i { type filter hook input priority filter; policy accept; } }", "6", ""},
		{"table inet f { chain i { type filter hook input priority 0; policy accept;\n tcp dport { 22, 80 } "
		 "accept\n counter drop\n} }",
		 "46", "46"},
		{"table inet f { chain i { type filter hook input priority 0;\n drop\n tcp dport 1 accept\n} }", "46",
		 ""},
		{"table inet f { chain i { type filter hook input priority 0;\n tcp dport 22 drop\n} }", "46", ""},
		{"add table inet f\nadd chain inet f i { type filter hook input priority 0; policy drop; }", "46",
		 "46"},
		{"table inet f { chain fw { type filter hook forward priority 0; policy drop; } }", "", ""},
		{"# table inet f { chain i { type filter hook input priority 0; policy drop; } }", "", ""},
		{"table netdev f { chain i { type filter hook ingress device eth0 priority 0; policy drop; } }", "",
		 ""},
		{"table inet n { chain i { type nat hook input priority 0; policy drop; } }", "", ""},
		{"flush ruleset\ntable ip a { chain i { type filter hook input priority 0; policy drop; } }\n"
		 "table ip6 b { chain i { type filter hook input priority 0; } }",
		 "46", "4"},
		{"", "", ""},
		{"}}}}{{{{;;;;\"", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct firewall_defaults out = {0};
		char f[3], d[3];

		nft_conf_parse(string(cases[i].text), &out);
		snprintf(f, sizeof f, "%s%s", out.ipv4 ? "4" : "", out.ipv6 ? "6" : "");
		snprintf(d, sizeof d, "%s%s", out.drop_ipv4 ? "4" : "", out.drop_ipv6 ? "6" : "");
		if (strcmp(f, cases[i].f) != 0 || strcmp(d, cases[i].d) != 0)
			fail_msg("%s: %s %s", cases[i].text, f, d);
	}
}

static void
saved_tables_have_a_default(void **state)
{
	static const struct {
		const char *text;
		int drops; /* -1: no such chain */
	} cases[] = {
		{"*filter\n:INPUT DROP [0:0]\nCOMMIT\n", 1},
		{"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n", 1},
		{"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\n", 1},
		{"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -j DROP\n", 0},
		{"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n-A INPUT -p tcp -j ACCEPT\n", 0},
		{"*nat\n:INPUT DROP [0:0]\n*filter\n:INPUT ACCEPT [0:0]\n", 0},
		{"*nat\n:INPUT DROP [0:0]\n", -1},
		{"", -1},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		bool drops = false;
		int got = iptables_save_parse(string(cases[i].text), &drops) ? drops : -1;

		if (got != cases[i].drops)
			fail_msg("%s: %d", cases[i].text, got);
	}
}

static void
front_ends_have_a_setting(void **state)
{
	struct slice value;

	(void)state;
	value = shell_value(string("A=1\n#B=2\nB=\"x y\"\n"), "B");
	assert_memory_equal(value.at, "x y", 3);
	assert_null(shell_value(string("#B=2\nBB=3\n"), "B").at);
	value = uci_input(string("config defaults\n\toption input 'REJECT'\nconfig zone\n\toption input ACCEPT\n"));
	assert_int_equal(value.len, 6);
	assert_memory_equal(value.at, "REJECT", 6);
	assert_int_equal(uci_input(string("config zone\n\toption input ACCEPT\n")).len, 0);
}

static void
answers_of_a_tpm(void **state)
{
	struct slice parameters, data;
	uint32_t code;
	uint16_t size;

	(void)state;
	assert_true(tpm_response_parse(BYTES("\x80\x01\0\0\0\x0a\0\0\x01\x8b"), &code, &parameters));
	assert_int_equal(code, 0x18b);
	assert_false(tpm_response_parse(BYTES("\x80\x01\0\0\0\x0b\0\0\0\0"), &code, &parameters));
	assert_false(tpm_response_parse(BYTES("\x80\x03\0\0\0\x0a\0\0\0\0"), &code, &parameters));
	assert_false(tpm_response_parse(BYTES("\x80\x01\0\0\0\x0a\0\0\0"), &code, &parameters));
	assert_false(tpm_response_parse(BYTES(""), &code, &parameters));
	assert_true(tpm_nv_public_parse(BYTES("\0\x0e\x01\xc0\0\x02\0\x0b\0\0\0\0\0\0\x03\x20"), &size));
	assert_int_equal(size, 800);
	assert_false(tpm_nv_public_parse(BYTES("\0\x0e\x01\xc0\0\x02\0\x0b\0\0\0\0\0\x01\x03\x20"), &size));
	assert_false(tpm_nv_public_parse(BYTES("\0\x0f\x01\xc0\0\x02\0\x0b\0\0\0\0\0\0\x03\x20"), &size));
	assert_false(tpm_nv_public_parse(BYTES("\0\x0d\x01\xc0\0\x02\0\x0b\0\0\0\0\0\0\x03"), &size));
	assert_true(tpm_nv_data_parse(BYTES("\0\0\0\x04\0\x02"
					    "abrest"),
				      &data));
	assert_int_equal(data.len, 2);
	assert_false(tpm_nv_data_parse(BYTES("\0\0\0\x05\0\x02"
					     "abrest"),
				       &data));
	assert_false(tpm_nv_data_parse(BYTES("\xff\xff\xff\xff\0\x02"
					     "ab"),
				       &data));
	assert_false(tpm_nv_data_parse(BYTES("\0\0\0\x04\0\x03"
					     "ab"),
				       &data));
	assert_false(tpm_public_parse(BYTES("\0\0"), &data));
	assert_false(tpm_public_parse(BYTES("\0\x05"
					    "ab"),
				      &data));
	assert_true(tpm_certificate_trim(BYTES("\x30\x82\0\x02"
					       "ab\xff\xff"),
					 &data));
	assert_int_equal(data.len, 6);
	assert_false(tpm_certificate_trim(BYTES("\x30\x82\0\x03"
						"ab"),
					  &data));
	assert_false(tpm_certificate_trim(BYTES("\x30\x81\0\x01"
						"ab"),
					  &data));
	assert_false(tpm_certificate_trim(BYTES("\x30\x82\0"), &data));
}

static void
the_key_of_an_old_tpm(void **state)
{
	char text[2048] = "Algorithm: 00 00 00 01\nModulus length: 256\nModulus:\n";
	uint8_t modulus[256];

	(void)state;
	for (size_t i = 0; i < 256; i++)
		sprintf(text + strlen(text), "%02zX%s", i, i % 16 == 15 ? "\n" : " ");
	assert_true(pubek_parse(string(text), modulus));
	assert_int_equal(modulus[255], 255);
	strcat(text, "00\n");
	assert_false(pubek_parse(string(text), modulus));
	text[strlen(text) - 7] = '\0';
	assert_false(pubek_parse(string(text), modulus));
	assert_false(pubek_parse(string("Modulus:\n0g\n"), modulus));
	assert_false(pubek_parse(string(""), modulus));
}

static void
attributes_stay_within_their_message(void **state)
{
	struct netlink_attribute a;
	struct slice text = BYTES("\x05\0\x01\0x\0\0\0\x04\0\x02\0");

	(void)state;
	assert_true(netlink_attribute(&text, &a));
	assert_int_equal(a.type, 1);
	assert_int_equal(a.value.len, 1);
	assert_true(netlink_attribute(&text, &a));
	assert_int_equal(a.value.len, 0);
	assert_false(netlink_attribute(&text, &a));
	text = BYTES("\x03\0\x01\0");
	assert_false(netlink_attribute(&text, &a));
	text = BYTES("\x06\0\x01\0x");
	assert_false(netlink_attribute(&text, &a));
	text = BYTES("\x05\0\x01\0x");
	assert_true(netlink_attribute(&text, &a));
	assert_int_equal(text.len, 0);
}

static void
expectations_are_patterns(void **state)
{
	(void)state;
	assert_true(expects_interface("eth0 wlan*", "wlan3"));
	assert_false(expects_interface("eth0 wlan*", "eth1"));
	assert_false(expects_interface("-", "eth0"));
	assert_true(expects_socket("tcp/22/sshd udp/68", "tcp", 22, "sshd"));
	assert_true(expects_socket("tcp/22/sshd udp/68", "udp", 68, "dhclient"));
	assert_false(expects_socket("tcp/22/sshd", "tcp", 22, "nc"));
	assert_false(expects_socket("tcp/22/sshd", "tcp", 22, ""));
	assert_false(expects_socket("tcp/22/sshd", "udp", 22, "sshd"));
	assert_false(expects_socket("tcp/22", "tcp", 222, "sshd"));
	assert_true(expects_socket("udp/*/chronyd", "udp", 40000, "chronyd"));
	assert_false(expects_socket("tcp", "tcp", 22, ""));
	assert_true(is_never_expected("tcp", 23) && is_never_expected("udp", 69));
	assert_false(is_never_expected("udp", 23) || is_never_expected("tcp", 22));
}

static void
sums_of_packages(void **state)
{
	struct slice path;
	uint8_t md5[16];

	(void)state;
	assert_true(md5sums_parse(string("d41d8cd98f00b204e9800998ecf8427e  usr/bin/x y"), md5, &path));
	assert_int_equal(path.len, 11);
	assert_int_equal(md5[0], 0xd4);
	assert_false(md5sums_parse(string("d41d8cd98f00b204e9800998ecf8427e  "), md5, &path));
	assert_false(md5sums_parse(string("d41d8cd98f00b204e9800998ecf8427e *x"), md5, &path));
	assert_false(md5sums_parse(string("d41d8cd98f00b204e9800998ecf842  usr/bin/x"), md5, &path));
	assert_false(md5sums_parse(string(""), md5, &path));
}

/* ---- trees ---- */

static char tree[256];

static int
make_tree(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	snprintf(tree, sizeof tree, "%s/test_platform.XXXXXX", base ? base : "/tmp");
	return mkdtemp(tree) ? 0 : -1;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static int
remove_tree(void **state)
{
	(void)state;
	return nftw(tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *
below(const char *path)
{
	static char full[512];

	snprintf(full, sizeof full, "%s/%s", tree, path);
	for (char *slash = full + strlen(tree) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
	return full;
}

static void
write_text(const char *path, const char *text)
{
	FILE *file = fopen(below(path), "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static json_t *
sweep(const struct declared *declared)
{
	static uint8_t bytes[LIMIT_STATE];
	struct collect *collect = collect_new(tree, declared);
	struct inventory inventory;
	struct cbor_writer w;
	json_t *document;

	assert_non_null(collect);
	assert_int_equal(collect_sweep(collect, &inventory), 0);
	cbor_writer_init(&w, bytes, sizeof bytes);
	facts_encode_state(collect_facts(collect), &w);
	assert_false(w.overflow);
	document = facts_json((struct slice){bytes, w.len}, (struct slice){NULL, 0});
	collect_free(collect);
	assert_non_null(document);
	return document;
}

/* The fact as JSON, or "?" and why it is unknown. */
static void
assert_fact(const json_t *document, enum fact fact, const char *wanted)
{
	const json_t *value = json_object_get(json_object_get(document, fact_row(fact)->topic), fact_row(fact)->name);
	char key[128], got[2048] = "?";

	if (value) {
		got[json_dumpb(value, got, sizeof got - 1, JSON_ENCODE_ANY | JSON_COMPACT)] = '\0';
	} else {
		snprintf(key, sizeof key, "%s.%s", fact_row(fact)->topic, fact_row(fact)->name);
		snprintf(got, sizeof got, "?%s",
			 json_string_value(json_object_get(json_object_get(document, "unknown"), key)));
	}
	if (strcmp(got, wanted) != 0)
		fail_msg("%s.%s: %s, not %s", fact_row(fact)->topic, fact_row(fact)->name, got, wanted);
}

static void
a_hardened_image(void **state)
{
	json_t *document;

	(void)state;
	write_text("etc/kernel/cmdline",
		   "root=/dev/dm-0 roothash=0123 ima_policy=appraise_tcb console=tty1 usbcore.authorized_default=0\n");
	write_text("etc/modprobe.d/usb.conf", "install usb-storage /bin/false\n");
	write_text("lib/modules/6.1.0/usb-storage.ko", "x");
	write_text("etc/nftables.conf",
		   "table inet f { chain i { type filter hook input priority 0; policy drop; } }\n");
	write_text("etc/systemd/system/sysinit.target.wants/nftables.service", "");
	write_text("etc/systemd/system/multi-user.target.wants/chrony.service", "");
	write_text("etc/selinux/config", "SELINUX=enforcing\n");
	write_text("etc/sysctl.d/90.conf",
		   "kernel.sysrq=0\nkernel.kexec_load_disabled=1\nkernel.yama.ptrace_scope=2\n");
	write_text("sys/class/tpm/tpm0/x", "");
	write_text("sys/devices/soc0/family", "Freescale i.MX\n");
	write_text("sys/devices/soc0/soc_id", "i.MX8MQ\n");
	write_text("sys/devices/soc0/serial_number", "0A1B2C3D\n");
	write_text("sys/class/net/eth0/addr_assign_type", "0\n");
	write_text("sys/class/net/eth0/address", "00:11:22:33:44:55\n");
	write_text("sys/class/net/br0/addr_assign_type", "1\n");
	write_text("sys/class/net/br0/address", "02:11:22:33:44:55\n");
	document = sweep(NULL);
	assert_fact(document, FACT_BOOT_VERITY, "true");
	assert_fact(document, FACT_INTEGRITY_IMA, "\"appraise\"");
	assert_fact(document, FACT_INTEGRITY_MAC, "\"selinux-enforcing\"");
	assert_fact(document, FACT_INTEGRITY_DEBUGGING, "[]");
	assert_fact(document, FACT_INTEGRITY_TAINT, "?root is an image");
	assert_fact(document, FACT_INTERFACES_USB_STORAGE, "\"blocked\"");
	assert_fact(document, FACT_INTERFACES_USB_AUTHORISED, "false");
	assert_fact(document, FACT_INTERFACES_SERIAL_CONSOLES, "[]");
	assert_fact(document, FACT_INTERFACES_FIREWALL, "\"nftables\"");
	assert_fact(document, FACT_INTERFACES_FIREWALL_INPUT, "\"drop\"");
	assert_fact(document, FACT_CLOCK_SOURCE, "\"chrony\"");
	assert_fact(document, FACT_CLOCK_SYNCHRONISED, "?root is an image");
	assert_fact(document, FACT_DEVICE_SOC, "\"Freescale i.MX i.MX8MQ\"");
	assert_fact(document, FACT_DEVICE_SOC_SERIAL, "\"0A1B2C3D\"");
	assert_fact(document, FACT_DEVICE_PERMANENT_MACS, "[\"eth0 00:11:22:33:44:55\"]");
	assert_fact(document, FACT_HEALTH_FAILED_UNITS, "?root is an image");
	json_decref(document);
}

static void
a_neglected_image(void **state)
{
	json_t *document;

	(void)state;
	write_text("boot/cmdline.txt", "console=ttyAMA0,115200 root=/dev/mmcblk0p2\n");
	write_text("etc/inittab", "T0:23:respawn:/sbin/getty -L ttyS1 9600 vt100\n");
	write_text("usr/lib/systemd/system-generators/systemd-getty-generator", "");
	write_text("lib/modules/6.1.0/kernel/drivers/usb/storage/usb-storage.ko.xz", "x");
	write_text("etc/modprobe.d/usb.conf", "blacklist usb-storage\n");
	write_text("etc/systemd/system/multi-user.target.wants/x.service", "");
	write_text("etc/sysctl.conf", "kernel.sysrq=1\nkernel.kexec_load_disabled=0\nkernel.yama.ptrace_scope=0\n");
	write_text("proc/modules", "ext4 1 1 - Live 0x0\nbad 2 0 - Live 0x0 (OE)\n");
	write_text("proc/sys/kernel/tainted", "12288\n");
	write_text(
		"proc/self/mountinfo",
		"1 0 179:2 / / rw - ext4 /dev/mmcblk0p2 ro,errors=remount-ro\n2 1 0:5 / /run rw - tmpfs tmpfs rw\n"
		"3 1 179:3 / /data\\040x rw - ext4 /dev/mmcblk0p3 ro\n4 1 179:4 / /boot rw - vfat /dev/mmcblk0p1 ro\n");
	write_text("etc/fstab", "/dev/mmcblk0p2 / ext4 defaults 0 1\n/dev/mmcblk0p1 /boot vfat ro 0 2\n");
	write_text("sys/fs/ext4/mmcblk0p3/errors_count", "2\n");
	write_text("sys/dev/block/179:2/dev", "179:2\n");
	write_text("sys/block/sda/size", "2000\n");
	write_text("sys/block/sda/removable", "1\n");
	write_text("sys/block/sr0/size", "2097151\n");
	write_text("sys/block/sr0/removable", "1\n");
	write_text("sys/block/vda/size", "2000\n");
	write_text("sys/class/rfkill/rfkill0/name", "phy0\n");
	write_text("sys/class/rfkill/rfkill0/type", "wlan\n");
	write_text("sys/class/rfkill/rfkill0/soft", "0\n");
	write_text("sys/class/rfkill/rfkill0/hard", "0\n");
	write_text("sys/class/ieee80211/phy0/index", "0\n");
	write_text("sys/class/bluetooth/hci0/type", "x\n");
	write_text("sys/bus/usb/devices/usb1/authorized_default", "1\n");
	document = sweep(NULL);
	assert_fact(document, FACT_BOOT_VERITY, "false");
	assert_fact(document, FACT_OS_MODULES, "[\"bad\",\"ext4\"]");
	assert_fact(document, FACT_INTEGRITY_IMA, "\"none\"");
	assert_fact(document, FACT_INTEGRITY_MAC, "\"none\"");
	assert_fact(document, FACT_INTEGRITY_TAINT, "[\"unsigned module\",\"module from outside the tree\"]");
	assert_fact(document, FACT_INTEGRITY_UNSIGNED_MODULES, "[\"bad (OE)\"]");
	assert_fact(document, FACT_INTEGRITY_DEBUGGING, "[\"kexec\",\"sysrq\",\"ptrace\"]");
	assert_fact(document, FACT_INTERFACES_USB_STORAGE, "\"loadable\"");
	assert_fact(document, FACT_INTERFACES_USB_AUTHORISED, "true");
	assert_fact(document, FACT_INTERFACES_SERIAL_CONSOLES,
		    "[\"ttyS1 log-in\",\"ttyAMA0 log-in\",\"ttyAMA0 console\"]");
	assert_fact(document, FACT_INTERFACES_REMOVABLE_MEDIA, "[\"sda\"]");
	assert_fact(document, FACT_INTERFACES_RADIOS,
		    "[{\"name\":\"hci0\",\"type\":\"bluetooth\"},{\"name\":\"phy0\",\"type\":\"wlan\",\"on\":true}]");
	assert_fact(document, FACT_INTERFACES_FIREWALL, "\"none\"");
	assert_fact(document, FACT_INTERFACES_FIREWALL_INPUT, "\"accept\"");
	assert_fact(document, FACT_CLOCK_SOURCE, "\"none\"");
	assert_fact(document, FACT_HEALTH_READ_ONLY, "[\"/\",\"/data x\"]");
	json_decref(document);
}

static void
measured_files_are_compared_with_their_package(void **state)
{
	static const struct declared declared = {.measured_files = "/usr/bin/* /bin/gone /usr/none"};
	json_t *document;

	(void)state;
	write_text("usr/bin/same", "");
	write_text("usr/bin/other", "altered");
	write_text("usr/bin/own", "x");
	write_text("var/lib/dpkg/info/p.md5sums",
		   "d41d8cd98f00b204e9800998ecf8427e  usr/bin/same\nd41d8cd98f00b204e9800998ecf8427e  usr/bin/other\n"
		   "d41d8cd98f00b204e9800998ecf8427e  bin/gone\n");
	document = sweep(&declared);
	assert_fact(document, FACT_INTEGRITY_PACKAGED_ALTERED, "[\"/bin/gone\",\"/usr/bin/other\"]");
	assert_int_equal(json_array_size(json_object_get(json_object_get(document, "integrity"), "measured_files")), 5);
	json_decref(document);
	/* One that is too large keeps nobody from measuring the others. */
	write_text("usr/bin/large", "");
	assert_int_equal(truncate(below("usr/bin/large"), (off_t)600 * 1024 * 1024), 0);
	document = sweep(&declared);
	assert_fact(document, FACT_INTEGRITY_PACKAGED_ALTERED, "?usr/bin/large is larger than 256 MiB");
	assert_int_equal(json_array_size(json_object_get(json_object_get(document, "integrity"), "measured_files")), 6);
	json_decref(document);
	document = sweep(NULL);
	assert_fact(document, FACT_INTEGRITY_MEASURED_FILES, "?measured_files is not set");
	json_decref(document);
}

static void
an_empty_tree_tells_nothing(void **state)
{
	static const enum fact facts[] = {
		FACT_DEVICE_ENDORSEMENT_KEY_SHA256,
		FACT_DEVICE_SOC,
		FACT_DEVICE_PERMANENT_MACS,
		FACT_OS_MODULES,
		FACT_INTERFACES_SERIAL_CONSOLES,
		FACT_INTERFACES_USB_AUTHORISED,
		FACT_INTERFACES_USB_STORAGE,
		FACT_INTERFACES_RADIOS,
		FACT_INTERFACES_FIREWALL,
		FACT_INTERFACES_FIREWALL_INPUT,
		FACT_INTERFACES_UNNECESSARY,
		FACT_CLOCK_SOURCE,
		FACT_INTEGRITY_IMA,
		FACT_INTEGRITY_MAC,
		FACT_INTEGRITY_DEBUGGING,
		FACT_INTEGRITY_TAINT,
		FACT_HEALTH_FAILED_UNITS,
		FACT_HEALTH_FULL,
		FACT_HEALTH_READ_ONLY,
		FACT_HEALTH_OOM_KILLS,
		FACT_BOOT_VERITY,
	};
	json_t *document = sweep(NULL);

	(void)state;
	for (size_t i = 0; i < COUNT(facts); i++)
		if (json_object_get(json_object_get(document, fact_row(facts[i])->topic), fact_row(facts[i])->name))
			fail_msg("%s.%s is known", fact_row(facts[i])->topic, fact_row(facts[i])->name);
	json_decref(document);
}

#define TREE(test) cmocka_unit_test_setup_teardown(test, make_tree, remove_tree)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_is_what_df_calls_full),
		cmocka_unit_test(kills_are_counted),
		cmocka_unit_test(modules_have_a_name_a_size_and_taints),
		cmocka_unit_test(taints_have_names),
		cmocka_unit_test(settings_of_the_kernel),
		cmocka_unit_test(arguments_of_the_boot),
		cmocka_unit_test(modules_can_be_forbidden),
		cmocka_unit_test(inittabs_start_log_ins),
		cmocka_unit_test(rulesets_have_a_default),
		cmocka_unit_test(saved_tables_have_a_default),
		cmocka_unit_test(front_ends_have_a_setting),
		cmocka_unit_test(answers_of_a_tpm),
		cmocka_unit_test(the_key_of_an_old_tpm),
		cmocka_unit_test(attributes_stay_within_their_message),
		cmocka_unit_test(expectations_are_patterns),
		cmocka_unit_test(sums_of_packages),
		TREE(a_hardened_image),
		TREE(a_neglected_image),
		TREE(measured_files_are_compared_with_their_package),
		TREE(an_empty_tree_tells_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
