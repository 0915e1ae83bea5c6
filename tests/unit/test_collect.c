/* Whole sweeps: over this machine, over an empty root, and over trees made to harm whoever reads them. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/collect.h"
#include "emitter/source.h"
#include "schema/report.h"

static char tree[256];

static int
make_tree(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	snprintf(tree, sizeof tree, "%s/test_collect.XXXXXX", base ? base : "/tmp");
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
write_bytes(const char *path, const void *bytes, size_t len)
{
	FILE *file = fopen(below(path), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void
write_text(const char *path, const char *text)
{
	write_bytes(path, text, strlen(text));
}

/* The state document of one sweep; the inventory too if asked for. */
static json_t *
sweep(struct collect *collect, struct inventory *inventory)
{
	static uint8_t state[LIMIT_STATE], readings[LIMIT_READINGS];
	struct facts *facts = collect_facts(collect);
	struct cbor_writer w, v;
	struct slice read = {NULL, 0};
	struct inventory mine;
	json_t *document;

	assert_int_equal(collect_sweep(collect, inventory ? inventory : &mine), 0);
	cbor_writer_init(&w, state, sizeof state);
	cbor_writer_init(&v, readings, sizeof readings);
	facts_encode_state(facts, &w);
	if (facts_encode_readings(facts, &v))
		read = (struct slice){readings, v.len};
	assert_false(w.overflow || v.overflow);
	document = facts_json((struct slice){state, w.len}, read);
	assert_non_null(document);
	return document;
}

static json_t *
sweep_once(const char *root, const struct declared *declared)
{
	struct collect *collect = collect_new(root, declared);
	json_t *document;

	assert_non_null(collect);
	document = sweep(collect, NULL);
	collect_free(collect);
	return document;
}

static const json_t *
value_of(const json_t *document, enum fact fact)
{
	return json_object_get(json_object_get(document, fact_row(fact)->topic), fact_row(fact)->name);
}

static const char *
why_unknown(const json_t *document, enum fact fact)
{
	char key[128];

	snprintf(key, sizeof key, "%s.%s", fact_row(fact)->topic, fact_row(fact)->name);
	return json_string_value(json_object_get(json_object_get(document, "unknown"), key));
}

static void
assert_text(const json_t *document, enum fact fact, const char *text)
{
	const char *got = json_string_value(value_of(document, fact));

	if (!got || strcmp(got, text) != 0)
		fail_msg("%s.%s: %s (%s)", fact_row(fact)->topic, fact_row(fact)->name, got,
			 why_unknown(document, fact));
}

static void
assert_unknown(const json_t *document, enum fact fact, const char *why)
{
	const char *got = why_unknown(document, fact);

	if (!got || !strstr(got, why))
		fail_msg("%s.%s: %s", fact_row(fact)->topic, fact_row(fact)->name, got);
}

static void
assert_each_fact_is_known_or_has_a_reason(const json_t *document)
{
	for (unsigned fact = 0; fact < FACTS; fact++) {
		bool known = value_of(document, (enum fact)fact) != NULL;
		const char *why = why_unknown(document, (enum fact)fact);

		if (known == (why != NULL))
			fail_msg("%s.%s: %s", fact_row((enum fact)fact)->topic, fact_row((enum fact)fact)->name,
				 known ? "both" : "neither");
		assert_true(!why || (why[0] && strcmp(why, "not observed") != 0));
	}
}

static void
this_machine_is_told_whole(void **state)
{
	json_t *document = sweep_once("/", NULL);

	(void)state;
	assert_each_fact_is_known_or_has_a_reason(document);
	assert_non_null(value_of(document, FACT_OS_KERNEL));
	assert_non_null(value_of(document, FACT_HARDWARE_ARCHITECTURE));
	assert_non_null(value_of(document, FACT_INTERFACES_NETWORK));
	assert_non_null(value_of(document, FACT_INTERFACES_SOCKETS));
	assert_true(json_integer_value(value_of(document, FACT_PACKAGES_INSTALLED)) > 0);
	assert_text(document, FACT_EMITTER_VERSION, FLEETSTATE_VERSION);
	json_decref(document);
}

static void
an_empty_root_knows_nothing_and_says_why(void **state)
{
	struct collect *collect = collect_new(tree, NULL);
	struct inventory inventory;
	json_t *document = sweep(collect, &inventory);

	(void)state;
	assert_each_fact_is_known_or_has_a_reason(document);
	for (unsigned fact = 0; fact < FACT_EMITTER_VERSION; fact++)
		if (value_of(document, (enum fact)fact))
			fail_msg("%s.%s is known", fact_row((enum fact)fact)->topic, fact_row((enum fact)fact)->name);
	assert_unknown(document, FACT_OS_KERNEL, "root is an image");
	assert_unknown(document, FACT_CLOCK_SYNCHRONISED, "root is an image");
	assert_unknown(document, FACT_OS_ID, "no os-release");
	assert_int_equal(inventory.components, 0);
	assert_int_equal(inventory.len, 1);
	json_decref(document);
	collect_free(collect);
}

static void
no_root_is_an_error(void **state)
{
	(void)state;
	assert_null(collect_new("/nonexistent/root", NULL));
	assert_int_equal(errno, ENOENT);
	assert_null(collect_new("/etc/passwd", NULL));
	assert_int_equal(errno, ENOTDIR);
}

/* A device with everything on it. */
static void
make_device(void)
{
	write_text("etc/os-release", "ID=acme\nVERSION_ID=\"2.1\"\nPRETTY_NAME='Acme OS "
				     "2.1'\nIMAGE_ID=acme-gateway\nIMAGE_VERSION=77\nBUILD_ID=$bad\n");
	write_text("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
	write_text("proc/sys/kernel/hostname", "gateway\n");
	write_text("proc/sys/kernel/osrelease", "6.1.0-acme\n");
	write_text("proc/uptime", "42.17 80.00\n");
	write_text("proc/cmdline", "quiet init=/bin/sh\n");
	write_text("proc/meminfo", "MemTotal:        1024 kB\n");
	write_text("proc/cpuinfo", "processor\t: 0\nHardware\t: ACME\nSerial\t\t: 00000000abcdef01\n");
	write_text("sys/class/dmi/id/sys_vendor", "Acme Ltd\n");
	write_text("sys/class/dmi/id/product_name", "To be filled by O.E.M.\n");
	write_text("sys/class/dmi/id/product_serial", "A-1234\n");
	write_bytes("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\6\0\0\0\1", 5);
	write_bytes("sys/firmware/efi/efivars/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\6\0\0\0\0", 5);
	write_text("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	write_text("sys/class/tpm/tpm0/tpm_version_major", "2\n");
	write_text("sys/class/net/eth0/flags", "0x1003\n");
	write_text("sys/class/net/eth0/address", "02:00:00:00:00:01\n");
	write_text("sys/class/net/eth0/type", "1\n");
	write_text("sys/class/net/bonding_masters", "\n");
	write_text("proc/self/net/tcp", "  sl  heading\n   0: 0100007F:0CEA 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n"
					"   1: 0100007F:0CEB 0100007F:0001 01 0:0 0:0 0 0 0 4712 1\n");
	write_text("proc/self/net/udp", "  sl  heading\n   0: 00000000:0035 00000000:0000 07 0:0 0:0 0 0 0 4713 1\n"
					"   1: 0100007F:0CEB 0100007F:0001 01 0:0 0:0 0 0 0 4714 1\n");
	write_text("proc/77/comm", "acmed\n");
	assert_true(symlink("socket:[4711]", below("proc/77/fd/3")) == 0);
	write_text("var/lib/dpkg/status",
		   "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
		   "Package: b\nStatus: install ok half-installed\nVersion: 1\nArchitecture: all\n");
}

static void
a_device_is_told_from_its_files(void **state)
{
	const struct declared declared = {.hwmodel = "Gateway 9", .oemid = "pen:32473", .serial = ""};
	json_t *document, *sockets;

	(void)state;
	make_device();
	document = sweep_once(tree, &declared);
	assert_each_fact_is_known_or_has_a_reason(document);
	assert_text(document, FACT_DEVICE_VENDOR, "Acme Ltd");
	assert_text(document, FACT_DEVICE_HWMODEL, "Gateway 9");
	assert_text(document, FACT_DEVICE_SERIAL, "A-1234");
	assert_text(document, FACT_DEVICE_OEMID, "pen:32473");
	assert_text(document, FACT_DEVICE_SWNAME, "acme-gateway");
	assert_text(document, FACT_DEVICE_SWVERSION, "77");
	assert_text(document, FACT_DEVICE_HOSTNAME, "gateway");
	assert_text(document, FACT_OS_NAME, "Acme OS 2.1");
	assert_text(document, FACT_OS_KERNEL, "6.1.0-acme");
	assert_unknown(document, FACT_OS_BUILD, "malformed");
	assert_text(document, FACT_HARDWARE_TPM, "2.0");
	assert_int_equal(json_integer_value(value_of(document, FACT_HARDWARE_MEMORY)), 1048576);
	assert_int_equal(json_integer_value(value_of(document, FACT_OS_UPTIME)), 42);
	assert_text(document, FACT_BOOT_FIRMWARE, "uefi");
	assert_true(json_is_true(value_of(document, FACT_BOOT_SECURE)));
	assert_true(json_is_false(value_of(document, FACT_BOOT_SETUP_MODE)));
	assert_text(document, FACT_BOOT_LOCKDOWN, "integrity");
	assert_true(json_is_true(value_of(document, FACT_BOOT_MODULE_SIGNATURES)));
	assert_string_equal(json_string_value(json_array_get(value_of(document, FACT_BOOT_RISKS), 0)), "init=/bin/sh");
	assert_int_equal(json_array_size(value_of(document, FACT_INTERFACES_NETWORK)), 1);
	sockets = json_deep_copy(value_of(document, FACT_INTERFACES_SOCKETS));
	assert_int_equal(json_array_size(sockets), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(sockets, 0), "program")), "acmed");
	assert_null(json_object_get(json_array_get(sockets, 1), "program"));
	assert_int_equal(json_integer_value(value_of(document, FACT_PACKAGES_INSTALLED)), 1);
	assert_string_equal(json_string_value(json_array_get(value_of(document, FACT_PACKAGES_BROKEN), 0)), "b");
	json_decref(sockets);
	json_decref(document);
}

/* Secure boot is only as good as what stands beside it. */
static void
secure_boot_without_enforcement_is_none(void **state)
{
	json_t *document;

	(void)state;
	make_device();
	write_bytes("sys/firmware/efi/efivars/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23", "\6\0\0\0\1", 5);
	document = sweep_once(tree, NULL);
	assert_true(json_is_false(value_of(document, FACT_BOOT_SECURE)));
	json_decref(document);
	assert_int_equal(unlink(below("sys/firmware/efi/efivars/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23")),
			 0);
	write_bytes("sys/firmware/efi/efivars/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\6\0\0\0\1", 5);
	document = sweep_once(tree, NULL);
	assert_true(json_is_false(value_of(document, FACT_BOOT_SECURE)));
	json_decref(document);
	write_bytes("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\6\0\0\0\7", 5);
	document = sweep_once(tree, NULL);
	assert_unknown(document, FACT_BOOT_SECURE, "malformed");
	json_decref(document);
}

static uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool
ignore_name(void *context, int directory, const char *name)
{
	(void)context, (void)directory, (void)name;
	return true;
}

/* What was looked at, again and again until it is old enough to be told from a change. */
static void
trace_until_it_holds(struct source *source, struct source_trace *trace)
{
	uint64_t begin = now_ms();

	do {
		assert_true(now_ms() - begin < 10000);
		source_trace_begin(source, trace);
		(void)!source_read(source, "etc/file", SOURCE_FILE).at;
		(void)source_exists(source, "etc/missing");
		(void)!source_list(source, "etc/directory", SOURCE_NAMES, ignore_name, NULL);
		source_trace_end(source);
	} while (!source_trace_holds(source, trace));
}

static void
a_trace_holds_until_something_changes(void **state)
{
	struct source_trace trace = {0};
	struct source *source;

	(void)state;
	write_text("etc/file", "one\n");
	write_text("etc/directory/a", "a\n");
	source = source_new(tree);
	assert_non_null(source);
	source_trace_begin(source, &trace);
	assert_non_null(source_read(source, "etc/file", SOURCE_FILE).at);
	source_trace_end(source);
	assert_false(source_trace_holds(source, &trace)); /* it is too young */

	trace_until_it_holds(source, &trace);
	write_text("etc/file", "two\n");
	assert_false(source_trace_holds(source, &trace));
	trace_until_it_holds(source, &trace);
	write_text("etc/missing", "here\n");
	assert_false(source_trace_holds(source, &trace));
	trace_until_it_holds(source, &trace);
	assert_int_equal(unlink(below("etc/directory/a")), 0);
	assert_false(source_trace_holds(source, &trace));
	trace_until_it_holds(source, &trace);
	assert_int_equal(unlink(below("etc/file")), 0);
	assert_false(source_trace_holds(source, &trace));
	source_trace_begin(source, &trace);
	source_trace_end(source);
	assert_false(source_trace_holds(source, &trace)); /* nothing was looked at: nothing is known */
	source_trace_free(&trace);
	source_free(source);
}

/* After five minutes, then ten, and in the end once a day; and after five again when it went well in between. */
static void
a_trace_of_what_failed_holds_for_ever_longer(void **state)
{
	static const int64_t waits[] = {300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400, 86400};
	struct source_trace trace = {0};
	struct source *source;
	int64_t now;

	(void)state;
	write_text("etc/file", "one\n");
	source = source_new(tree);
	assert_non_null(source);
	source_trace_later(source); /* while none is taken */
	trace_until_it_holds(source, &trace);
	for (size_t i = 0; i <= sizeof waits / sizeof waits[0]; i++) {
		bool again = i == sizeof waits / sizeof waits[0];

		if (again) {
			trace_until_it_holds(source, &trace);
			assert_int_equal(trace.until, 0);
		}
		source_trace_begin(source, &trace);
		assert_true(source_exists(source, "etc/file"));
		source_trace_later(source);
		source_trace_later(source); /* two that failed are one failure */
		source_trace_end(source);
		assert_true(source_trace_holds(source, &trace));
		now = (int64_t)(now_ms() / 1000);
		assert_in_range(trace.until, now + waits[again ? 0 : i] - 2, now + waits[again ? 0 : i] + 2);
		trace.until = now - 1;
		assert_false(source_trace_holds(source, &trace));
	}
	source_trace_free(&trace);
	source_free(source);
}

#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
static struct slice
read_with_little_memory(struct source *source, const char *path)
{
	struct rlimit old, little;
	unsigned long pages = 0;
	struct slice text;
	FILE *statm = fopen("/proc/self/statm", "re");

	assert_true(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	little = (struct rlimit){pages * (rlim_t)sysconf(_SC_PAGESIZE) + SOURCE_FILE / 4, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
	text = source_read(source, path, SOURCE_FILE);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	return text;
}

/* The file is the same afterwards, so that nothing else would make anybody look again. */
static void
a_trace_does_not_hold_when_memory_ran_out(void **state)
{
	static char large[SOURCE_FILE - 1];
	struct source_trace trace = {0};
	struct source *source;

	(void)state;
	assert_true(mallopt(M_MMAP_THRESHOLD, SOURCE_FILE / 16));
	write_bytes("etc/file", large, sizeof large);
	source = source_new(tree);
	assert_non_null(source);
	trace_until_it_holds(source, &trace);
	source_free(source);

	source = source_new(tree);
	assert_non_null(source);
	source_trace_begin(source, &trace);
	assert_null(read_with_little_memory(source, "etc/file").at);
	assert_non_null(strstr(source_why(source), strerror(ENOMEM)));
	source_trace_end(source);
	assert_false(source_trace_holds(source, &trace));
	source_trace_begin(source, &trace);
	assert_non_null(source_read(source, "etc/file", SOURCE_FILE).at);
	source_trace_end(source);
	assert_true(source_trace_holds(source, &trace));
	source_trace_free(&trace);
	source_free(source);
}
#endif

static void
the_kernels_files_are_always_read_again(void **state)
{
	static const char *const paths[] = {"proc/uptime", "sys/kernel/uevent_seqnum", "/sys/kernel/uevent_seqnum",
					    "etc/mtab"};
	struct source *source = source_new("/");
	struct source_trace trace = {0};

	(void)state;
	assert_non_null(source);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		if (!source_exists(source, paths[i]))
			continue;
		source_trace_begin(source, &trace);
		(void)!source_read(source, paths[i], SOURCE_FILE).at;
		source_trace_end(source);
		assert_false(source_trace_holds(source, &trace));
	}
	source_trace_begin(source, &trace);
	assert_non_null(source_read(source, "etc/os-release", SOURCE_FILE).at);
	source_trace_end(source);
	assert_true(source_trace_holds(source, &trace));
	source_trace_free(&trace);
	source_free(source);
}

static void
a_hostile_tree_harms_nobody(void **state)
{
	uint8_t noise[65536];
	uint64_t begin = now_ms();
	json_t *document;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t)(i * 167 + (i >> 8));
	assert_int_equal(mkfifo(below("etc/machine-id"), 0644), 0);
	fd = open(below("etc/os-release"), O_CREAT | O_WRONLY, 0644);
	assert_true(fd >= 0 && ftruncate(fd, 1024 * 1024 * 1024) == 0);
	close(fd);
	assert_int_equal(symlink("loop", below("proc/loop")), 0);
	assert_int_equal(symlink("../loop", below("proc/sys/kernel")), 0);
	assert_int_equal(mkdir(below("proc/cmdline"), 0755), 0);
	write_bytes("var/lib/dpkg/status", noise, sizeof noise);
	write_bytes("proc/self/net/tcp", noise, sizeof noise);
	write_bytes("proc/cpuinfo", noise, sizeof noise);
	write_bytes("proc/meminfo", noise, sizeof noise - 1);
	write_bytes("sys/class/dmi/id/sys_vendor", noise, 300);
	document = sweep_once(tree, NULL);
	assert_each_fact_is_known_or_has_a_reason(document);
	assert_unknown(document, FACT_DEVICE_HOST_ID, "etc/machine-id is not a regular file");
	assert_unknown(document, FACT_OS_ID, "etc/os-release is larger than 1 MiB");
	assert_unknown(document, FACT_OS_KERNEL, "too many symbolic links");
	assert_unknown(document, FACT_BOOT_COMMAND_LINE, "not a regular file");
	assert_unknown(document, FACT_INTERFACES_SOCKETS, "malformed");
	assert_unknown(document, FACT_HARDWARE_MEMORY, "malformed");
	assert_true(now_ms() - begin < 2000);
	json_decref(document);
}

/* Both ways to resolve must agree; none leads out of the root. */
static void
links_do_not_leave_the_root(void **state)
{
	static const struct {
		const char *path, *holds; /* NULL: nothing */
	} cases[] = {
		{"plain", "inside"},
		{"./a/../plain", "inside"},
		{"a/./../plain", "inside"},
		{"absolute", "inside"},
		{"up", "inside"},
		{"a/relative", "inside"},
		{"a/b/chain", "inside"},
		{"directory/plain", "inside"},
		{"directory/../plain", "inside"},
		{"outside", NULL},
		{"a/b/way-up", NULL},
		{"../../../../../../etc/passwd", NULL},
		{"a/plain", NULL},
		{"loop", NULL},
		{"a/nothing", NULL},
	};
	static const char *const links[][2] = {
		{"absolute", "/plain"},
		{"up", "../../../plain"},
		{"a/relative", "../plain"},
		{"a/b/chain", "../relative"},
		{"directory", "a/.."},
		{"outside", "/etc/passwd"},
		{"a/b/way-up", "../../../../../../../../etc/passwd"},
		{"loop", "a/loop"},
		{"a/loop", "../loop"},
	};

	(void)state;
	write_text("plain", "inside");
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		assert_int_equal(symlink(links[i][1], below(links[i][0])), 0);
	for (int walks = 0; walks < 2; walks++) {
		struct source *source = source_new(tree);

		if (walks)
			source_walk(source);
		for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
			struct slice got = source_read(source, cases[i].path, 4096);
			const char *holds = cases[i].holds;

			if (!holds != !got.at ||
			    (holds && (got.len != strlen(holds) || memcmp(got.at, holds, got.len) != 0)))
				fail_msg("%s, %d: %.*s %s", cases[i].path, walks, (int)got.len, (const char *)got.at,
					 source_why(source));
		}
		source_free(source);
	}
}

static bool
count(void *context, int directory, const char *name)
{
	(void)directory;
	(void)name;
	++*(size_t *)context;
	return true;
}

static void
every_read_has_its_limit(void **state)
{
	struct source *source = source_new(tree);
	size_t names = 0;
	char path[32];

	(void)state;
	write_text("four", "1234");
	assert_int_equal(source_read(source, "four", 4).len, 4);
	assert_null(source_read(source, "four", 3).at);
	assert_false(source_missing(source));
	assert_null(source_read(source, "none", 3).at);
	assert_true(source_missing(source));
	assert_int_equal(source_read(source, "four", 4).len, 4);
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof path, "names/%d", i);
		write_text(path, "");
	}
	assert_int_equal(source_list(source, "names", 8, count, &names), 0);
	assert_int_equal(names, 8);
	names = 0;
	assert_int_equal(source_list(source, "names", 7, count, &names), -1);
	assert_int_equal(names, 7);
	assert_non_null(source_read(source, "names/0", 1).at);
	assert_int_equal(source_list(source, "four", 7, count, &names), -1);
	source_free(source);
}

/* It is the very same encoding, once the file is no longer so young that it might change without another time stamp. */
static void
an_unchanged_database_is_not_read_again(void **state)
{
	const struct timespec moment = {0, 100 * 1000 * 1000};
	struct collect *collect;
	struct inventory first, second;
	int tries = 0;

	(void)state;
	write_text("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n");
	collect = collect_new(tree, NULL);
	json_decref(sweep(collect, &second));
	do {
		nanosleep(&moment, NULL);
		first = second;
		json_decref(sweep(collect, &second));
	} while (first.encoded != second.encoded && tries++ < 100);
	assert_ptr_equal(first.encoded, second.encoded);
	assert_int_equal(second.components, 1);
	collect_free(collect);
}

static void
a_changed_database_is_read_again(void **state)
{
	static const char *const steps[][2] = {
		{"var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 2\n"},
		{"var/lib/dpkg/updates/0000", "Package: a\nStatus: install ok installed\nVersion: 3\n"},
		{"var/lib/dpkg/status.d/b", "Package: b\nVersion: 1\n"},
		{"etc/os-release", "ID=acme\nVERSION_ID=1\n"},
	};
	struct collect *collect;
	struct inventory inventory;
	uint8_t before[DIGEST_SIZE];

	(void)state;
	write_text("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 10\n");
	collect = collect_new(tree, NULL);
	json_decref(sweep(collect, &inventory));
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		memcpy(before, inventory.digest, sizeof before);
		write_text(steps[i][0], steps[i][1]);
		json_decref(sweep(collect, &inventory));
		if (memcmp(before, inventory.digest, sizeof before) == 0)
			fail_msg("%s", steps[i][0]);
	}
	assert_int_equal(inventory.components, 2);
	collect_free(collect);
}

/* What can't be read is no empty list of packages. */
static void
too_large_a_database_is_unknown(void **state)
{
	json_t *document;

	(void)state;
	write_text("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n");
	assert_int_equal(truncate(below("var/lib/dpkg/status"), 129L * 1024 * 1024), 0);
	document = sweep_once(tree, NULL);
	assert_unknown(document, FACT_PACKAGES_INSTALLED, "var/lib/dpkg/status is larger than 128 MiB");
	assert_unknown(document, FACT_PACKAGES_LISTED, "larger");
	json_decref(document);
}

static void
each_package_manager_is_read(void **state)
{
	static const struct {
		const char *path, *text, *manager;
	} cases[] = {
		{"lib/apk/db/installed", "P:busybox\nV:1.36.1-r5\n\n", "apk"},
		{"usr/lib/opkg/status", "Package: busybox\nVersion: 1.36.1-1\nStatus: install user installed\n",
		 "opkg"},
		{"var/lib/dpkg/status", "Package: busybox\nVersion: 1:1.35.0-4\nStatus: install ok installed\n",
		 "dpkg"},
	};
	json_t *document;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		write_text(cases[i].path, cases[i].text);
		document = sweep_once(tree, NULL);
		assert_text(document, FACT_PACKAGES_MANAGER, cases[i].manager);
		assert_int_equal(
			json_integer_value(json_object_get(json_object_get(document, "packages"), "installed")), 1);
		json_decref(document);
	}
}

static void
a_database_that_librpm_refuses_is_unknown(void **state)
{
	json_t *document;

	(void)state;
	write_text("usr/lib/sysimage/rpm/rpmdb.sqlite", "SQLite format 3");
	document = sweep_once(tree, NULL);
	assert_text(document, FACT_PACKAGES_MANAGER, "rpm");
	assert_unknown(document, FACT_PACKAGES_INSTALLED, "usr/lib/sysimage/rpm: ");
	json_decref(document);
}

#define IN_TREE(test) cmocka_unit_test_setup_teardown(test, make_tree, remove_tree)

int
main(void)
{
	const struct CMUnitTest tests[] = {
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
		/* First, so that what is large does not come from what others freed. */
		IN_TREE(a_trace_does_not_hold_when_memory_ran_out),
#endif
		cmocka_unit_test(this_machine_is_told_whole),
		IN_TREE(an_empty_root_knows_nothing_and_says_why),
		cmocka_unit_test(no_root_is_an_error),
		IN_TREE(a_trace_holds_until_something_changes),
		IN_TREE(a_trace_of_what_failed_holds_for_ever_longer),
		cmocka_unit_test(the_kernels_files_are_always_read_again),
		IN_TREE(a_device_is_told_from_its_files),
		IN_TREE(secure_boot_without_enforcement_is_none),
		IN_TREE(a_hostile_tree_harms_nobody),
		IN_TREE(links_do_not_leave_the_root),
		IN_TREE(every_read_has_its_limit),
		IN_TREE(an_unchanged_database_is_not_read_again),
		IN_TREE(a_changed_database_is_read_again),
		IN_TREE(too_large_a_database_is_unknown),
		IN_TREE(each_package_manager_is_read),
		IN_TREE(a_database_that_librpm_refuses_is_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
