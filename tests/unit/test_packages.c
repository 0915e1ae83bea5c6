/* Databases of packages: what they say becomes components, in whatever pieces it comes; what is malformed is counted and not listed. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/apk.h"
#include "emitter/child.h"
#include "emitter/components.h"
#include "emitter/dpkg.h"
#include "emitter/rpm.h"

#define BYTES(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* A database that is read into components, as the probe does. */
struct read {
	struct components *components;
	struct dpkg *dpkg;
	struct inventory inventory;
	struct components_result result;
};

static void
take_package(void *context, const struct dpkg_package *package)
{
	if (package->condition == DPKG_INSTALLED)
		components_package(context, &package->component, package->cut);
	else if (package->condition == DPKG_BROKEN)
		components_broken(context, package->component.name);
}

static void
keep_package(void *context, const struct dpkg_package *package)
{
	*(struct dpkg_package *)context = *package;
}

static void
begin_read(struct read *r, const char *os_id, const char *distro)
{
	r->components = components_new(os_id, distro);
	assert_non_null(r->components);
	r->dpkg = dpkg_new(COMPONENT_DPKG, take_package, r->components);
	assert_non_null(r->dpkg);
}

static void
feed_file(struct read *r, enum dpkg_source kind, struct slice text, size_t piece)
{
	dpkg_begin(r->dpkg, kind);
	for (size_t at = 0; at < text.len; at += piece)
		dpkg_feed(r->dpkg, (struct slice){text.at + at, text.len - at < piece ? text.len - at : piece});
	assert_int_equal(dpkg_end(r->dpkg), 0);
}

static void
finish_read(struct read *r)
{
	assert_int_equal(components_finish(r->components, &r->inventory, &r->result), 0);
	dpkg_free(r->dpkg);
}

static void
free_read(struct read *r)
{
	components_free(r->components);
	free(r->inventory.encoded);
}

static void
read_status(struct slice text, size_t piece, struct read *r)
{
	begin_read(r, "debian", "bookworm");
	feed_file(r, DPKG_STATUS, text, piece);
	finish_read(r);
}

static struct component
first_component(const struct inventory *inventory)
{
	struct cbor_reader reader;
	struct component c;

	cbor_reader_init(&reader, (struct slice){inventory->encoded, inventory->len});
	assert_true(cbor_read_array(&reader, LIMIT_COMPONENTS) > 0);
	component_decode(&reader, &c);
	assert_int_equal(reader.error, REASON_OK);
	return c;
}

static void
a_package_becomes_a_component(void **state)
{
	static const char status[] =
		"Package: libssl3\nStatus: install ok installed\nPriority: optional\nArchitecture: amd64\nSource: "
		"openssl (3.0.1-1)\n"
		"Version: 3.0.1-1+b1\nDescription: text\n Status: install ok half-installed\n .\n Package: other\n\n";
	struct read r;
	struct component c;

	(void)state;
	for (size_t piece = 1; piece <= sizeof status; piece++) {
		read_status(BYTES(status), piece, &r);
		assert_int_equal(r.result.installed, 1);
		assert_int_equal(r.result.listed, 1);
		assert_null(r.result.unlisted);
		assert_int_equal(r.result.broken_len, 0);
		c = first_component(&r.inventory);
		assert_true(text_is(c.name, "libssl3"));
		assert_true(text_is(c.version, "3.0.1-1+b1"));
		assert_true(text_is(c.architecture, "amd64"));
		assert_true(text_is(c.source, "openssl"));
		assert_true(text_is(c.source_version, "3.0.1-1"));
		assert_true(text_is(c.purl, "pkg:deb/debian/libssl3@3.0.1-1%2Bb1?arch=amd64&distro=bookworm"));
		free_read(&r);
	}
}

static void
only_the_state_installed_counts(void **state)
{
	static const struct {
		const char *status;
		size_t installed, broken;
	} cases[] = {
		{"install ok installed", 1, 0},
		{"hold ok installed", 1, 0},
		{"deinstall ok installed", 1, 0},
		{"install  ok\tinstalled ", 1, 0},
		{"deinstall ok config-files", 0, 0},
		{"purge ok not-installed", 0, 0},
		{"install ok half-installed", 0, 1},
		{"install ok half-configured", 0, 1},
		{"install ok unpacked", 0, 1},
		{"install ok triggers-awaited", 0, 1},
		{"install ok triggers-pending", 0, 1},
		{"install reinstreq config-files", 0, 1},
		{"install ok", 0, 0},
		{"installed", 0, 0},
		{"", 0, 0},
		{"install ok INSTALLED", 0, 0},
		{"install ok installed2", 0, 0},
		{"installed installed no", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct read r;
		char text[256];

		snprintf(text, sizeof text, "Package: a\nStatus: %s\nVersion: 1\nArchitecture: all\n", cases[i].status);
		read_status(string(text), 7, &r);
		if (r.result.installed != cases[i].installed || r.result.broken_len != cases[i].broken)
			fail_msg("%s: %zu broken %zu", cases[i].status, (size_t)r.result.installed,
				 r.result.broken_len);
		assert_int_equal(r.inventory.components, cases[i].installed);
		free_read(&r);
	}
}

static void
malformed_packages_are_counted_but_not_listed(void **state)
{
	static const char *const cases[] = {
		"Package: a b\nStatus: install ok installed\nVersion: 1\n",
		"Package: \xff\xfe\nStatus: install ok installed\nVersion: 1\n",
		"Package: a\nStatus: install ok installed\nVersion: 1\x01\n",
		"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: \xc3\xa4\n",
		"Package: a\nStatus: install ok installed\nVersion: 1\nSource: b c (1)\n",
	};
	char text[1024] = "Package: ";

	(void)state;
	memset(text + 9, 'n', 256);
	strcat(text, "\nStatus: install ok installed\n");
	for (size_t i = 0; i <= COUNT(cases); i++) {
		struct read r;

		read_status(string(i < COUNT(cases) ? cases[i] : text), 64, &r);
		assert_int_equal(r.result.installed, 1);
		assert_int_equal(r.result.listed, 0);
		assert_non_null(r.result.unlisted);
		assert_int_equal(r.inventory.len, 1);
		free_read(&r);
	}
}

static void
the_inventory_is_a_sorted_set(void **state)
{
	static const char status[] = "Package: bb\nStatus: install ok installed\nVersion: 1\n\nPackage: a\nStatus: "
				     "install ok installed\nVersion: 1\n\n"
				     "Package: bb\nStatus: install ok installed\nVersion: 1\n\nNothing: here\n\n\n";
	static const char turned[] = "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: bb\nStatus: "
				     "install ok installed\nVersion: 1\n";
	struct read one, two;

	(void)state;
	read_status(BYTES(status), 5, &one);
	assert_int_equal(one.result.installed, 3);
	assert_int_equal(one.inventory.components, 2);
	read_status(BYTES(turned), 5, &two);
	assert_int_equal(one.inventory.len, two.inventory.len);
	assert_memory_equal(one.inventory.encoded, two.inventory.encoded, one.inventory.len);
	assert_memory_equal(one.inventory.digest, two.inventory.digest, DIGEST_SIZE);
	free_read(&one);
	free_read(&two);
}

/* The newest entry of the journal goes before older ones and before the status, also when it says that the package is gone. */
static void
the_journal_goes_before_the_status(void **state)
{
	struct component c;
	struct read r;

	(void)state;
	begin_read(&r, NULL, NULL);
	feed_file(&r, DPKG_JOURNAL, string("Package: a\nStatus: install ok installed\nVersion: 3\nArchitecture: all\n"),
		  9);
	feed_file(&r, DPKG_JOURNAL, string("Package: a\nStatus: install ok unpacked\nVersion: 3\nArchitecture: all\n"),
		  9);
	feed_file(&r, DPKG_JOURNAL,
		  string("Package: b\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n"), 9);
	feed_file(&r, DPKG_STATUS,
		  string("Package: a\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n\n"
			 "Package: b\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"),
		  9);
	finish_read(&r);
	assert_int_equal(r.result.installed, 1);
	assert_int_equal(r.result.broken_len, 0);
	c = first_component(&r.inventory);
	assert_true(text_is(c.version, "3"));
	assert_null(c.purl.at);
	free_read(&r);
}

static void
feed_many(struct read *r, unsigned n, const char *prefix)
{
	char text[512];

	begin_read(r, "debian", "bookworm");
	dpkg_begin(r->dpkg, DPKG_STATUS);
	for (unsigned i = 0; i < n; i++) {
		snprintf(text, sizeof text, "Package: %s%u\nStatus: install ok installed\nVersion: 1\n\n", prefix, i);
		dpkg_feed(r->dpkg, string(text));
	}
	assert_int_equal(dpkg_end(r->dpkg), 0);
	finish_read(r);
	assert_int_equal(r->result.installed, n);
}

static void
a_million_packages_are_counted(void **state)
{
	struct rusage before, after;
	struct read r;

	(void)state;
	getrusage(RUSAGE_SELF, &before);
	feed_many(&r, 1000000, "p");
	getrusage(RUSAGE_SELF, &after);
	assert_int_equal(r.result.listed, LIMIT_COMPONENTS);
	assert_string_equal(r.result.unlisted, "more than 20000");
	assert_true(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
	free_read(&r);
}

static void
an_inventory_fits_a_message(void **state)
{
	struct read r;
	char name[241];

	(void)state;
	memset(name, 'n', 240);
	name[240] = '\0';
	feed_many(&r, 15000, name);
	assert_string_equal(r.result.unlisted, "more than a message holds");
	assert_true(r.inventory.len < LIMIT_MESSAGE - LIMIT_STATE - LIMIT_READINGS - LIMIT_HEADER);
	free_read(&r);
}

static void
opkg_holds_back_by_a_flag(void **state)
{
	static const struct {
		const char *status;
		bool held;
		enum dpkg_condition condition;
	} cases[] = {
		{"install user installed", false, DPKG_INSTALLED},
		{"install hold,user installed", true, DPKG_INSTALLED},
		{"install user,hold installed", true, DPKG_INSTALLED},
		{"hold ok installed", true, DPKG_INSTALLED},
		{"install hold half-installed", true, DPKG_BROKEN},
		{"install withhold installed", false, DPKG_INSTALLED},
		{"install reinstreq not-installed", false, DPKG_BROKEN},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct dpkg_package got = {0};
		struct dpkg *dpkg = dpkg_new(COMPONENT_OPKG, keep_package, &got);
		char text[256];

		snprintf(text, sizeof text, "Package: base-files\nVersion: 1\nStatus: %s\n", cases[i].status);
		dpkg_begin(dpkg, DPKG_STATUS);
		dpkg_feed(dpkg, string(text));
		assert_int_equal(dpkg_end(dpkg), 0);
		dpkg_free(dpkg);
		if (got.held != cases[i].held || got.condition != cases[i].condition)
			fail_msg("%s", cases[i].status);
	}
}

static void
take_apk(void *context, const struct component *c, bool cut, bool broken)
{
	struct components *components = context;

	components_package(components, c, cut);
	if (broken)
		components_broken(components, c->name);
}

static void
apk_packages_become_components(void **state)
{
	static const char installed[] = "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:text\no:musl\nF:lib\nR:ld\nZ:Q1=\n\n"
					"P:libssl3\nV:3.1.4-r5\nA:x86_64\no:openssl\nf:fs\n\nV:1\n\nnothing\n";

	(void)state;
	for (size_t piece = 1; piece <= sizeof installed; piece += 3) {
		struct components *components = components_new("alpine", "alpine-3.19");
		struct apk apk = {.take = take_apk, .context = components};
		struct components_result result;
		struct inventory inventory;
		struct component c;

		for (size_t at = 0; at < sizeof installed; at += piece)
			apk_feed(&apk, (struct slice){(const uint8_t *)installed + at,
						      sizeof installed - at < piece ? sizeof installed - at : piece});
		apk_end(&apk);
		assert_int_equal(components_finish(components, &inventory, &result), 0);
		assert_int_equal(result.installed, 2);
		assert_int_equal(result.listed, 2);
		assert_int_equal(result.broken_len, 1);
		assert_string_equal(result.broken[0], "libssl3");
		c = first_component(&inventory);
		assert_int_equal(c.type, COMPONENT_APK);
		assert_true(text_is(c.name, "musl"));
		assert_null(c.source.at);
		assert_true(text_is(c.purl, "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19"));
		free(inventory.encoded);
		components_free(components);
	}
}

static void
an_rpm_is_told_with_its_source(void **state)
{
	static const char *const refused[] = {"", "curl",
					      "curl\037"
					      "1-1",
					      "curl\037"
					      "1-1\037x86_64",
					      "\037"
					      "1-1\037x86_64\037"};
	static const struct {
		const char *line, *name, *version, *source, *source_version;
	} cases[] = {
		{"curl\037"
		 "7.76.1-14.el9\037x86_64\037"
		 "curl-7.76.1-14.el9.src.rpm",
		 "curl", "7.76.1-14.el9", "curl", ""},
		{"openssl-libs\037"
		 "1:3.0.7-1\037x86_64\037openssl-3.0.7-1.src.rpm",
		 "openssl-libs", "1:3.0.7-1", "openssl", ""},
		{"a\037"
		 "1-1\037\037b-c-2-1.nosrc.rpm",
		 "a", "1-1", "b-c", "2-1"},
		{"a\037"
		 "1-1\037\037b-1.src.rpm",
		 "a", "1-1", "", ""},
		{"a\037"
		 "1-1\037\037.src.rpm",
		 "a", "1-1", "", ""},
		{"a\037\037\037--.src.rpm", "a", "", "", ""},
		{"a\037"
		 "1-1\037\037b-1-1.rpm",
		 "a", "1-1", "", ""},
	};
	struct component c;

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++)
		assert_false(rpm_line(string(refused[i]), &c));
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_true(rpm_line(string(cases[i].line), &c));
		if (!text_is(c.name, cases[i].name) || !text_is(c.version, cases[i].version) ||
		    !text_is(c.source, cases[i].source) || !text_is(c.source_version, cases[i].source_version))
			fail_msg("%s", cases[i].line);
	}
}

/* ---- a child process ---- */

struct heard {
	size_t len;
	bool enough;
};

static bool
hear(void *context, struct slice piece)
{
	struct heard *h = context;

	h->len += piece.len;
	return !h->enough;
}

static int
say_much(void *context, int input, int out, char why[CHILD_WHY])
{
	static const uint8_t bytes[1000];

	(void)context;
	(void)input;
	for (int i = 0; i < 300; i++)
		if (child_write(out, (struct slice){bytes, sizeof bytes}) < 0)
			snprintf(why, CHILD_WHY, "nobody reads");
	return 0;
}

static int
refuse(void *context, int input, int out, char why[CHILD_WHY])
{
	(void)context;
	(void)input;
	(void)out;
	snprintf(why, CHILD_WHY, "no such thing");
	return -1;
}

static int
crash(void *context, int input, int out, char why[CHILD_WHY])
{
	(void)context;
	(void)input;
	(void)out;
	(void)why;
	abort();
}

static int
hang(void *context, int input, int out, char why[CHILD_WHY])
{
	(void)context;
	(void)input;
	(void)out;
	(void)why;
	for (;;)
		pause();
	return 0;
}

/* What it may not do: the exit code of the first that worked. */
static int
misbehave(void *context, int input, int out, char why[CHILD_WHY])
{
	const char *path = context;

	(void)input;
	(void)out;
	snprintf(why, CHILD_WHY, "it could");
	if (open(path, O_WRONLY | O_CREAT, 0600) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || fork() >= 0 ||
	    unlink(path) == 0 || truncate(path, 0) == 0 || setxattr(path, "user.a", "b", 1, 0) == 0 ||
	    utimensat(AT_FDCWD, path, NULL, 0) == 0 || rmdir("/tmp/no-such-directory") == 0 || errno != EPERM ||
	    syscall(SYS_tgkill, getppid(), getppid(), 0) == 0 || open("/dev/null", O_RDONLY) < 0)
		return -1;
	execl("/bin/true", "true", (char *)NULL);
	return 0;
}

static void
a_child_is_heard_and_never_harms(void **state)
{
	char why[CHILD_WHY], path[] = "/tmp/test_packages.XXXXXX";
	struct heard heard = {0};
	struct child child = {.work = say_much, .take = hear, .taker = &heard, .input = -1};
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(child_run(&child, why), 0);
	assert_int_equal(heard.len, 300000);
	heard.enough = true;
	assert_int_equal(child_run(&child, why), 0);
	child.work = refuse;
	assert_int_equal(child_run(&child, why), -1);
	assert_string_equal(why, "no such thing");
	child.work = crash;
	assert_int_equal(child_run(&child, why), -3);
	child.work = misbehave;
	child.context = path;
	if (child_run(&child, why) != 0)
		fail_msg("%s", why);
	assert_int_equal(access(path, F_OK), 0);
	child.work = hang;
	assert_int_equal(child_run(&child, why), -3);
	assert_string_equal(why, "reading takes longer than 10 s");
	close(fd);
	unlink(path);
}

static void
purls_are_spelt_as_the_specification_says(void **state)
{
	static const struct {
		enum component_type type;
		const char *os_id, *distro, *name, *version, *architecture, *purl;
	} cases[] = {
		{COMPONENT_DPKG, "debian", "jessie", "curl", "7.50.3-1", "i386",
		 "pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie"},
		{COMPONENT_DPKG, "debian", NULL, "attr", "1:2.4.47-2+b1", "amd64",
		 "pkg:deb/debian/attr@1:2.4.47-2%2Bb1?arch=amd64"},
		{COMPONENT_DPKG, "Ubuntu", "x y", "G++", "1~rc1", "", "pkg:deb/ubuntu/g%2B%2B@1~rc1?distro=x%20y"},
		{COMPONENT_RPM, "fedora", "fedora-25", "curl", "7.50.3-1.fc25", "i386",
		 "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386&distro=fedora-25"},
		{COMPONENT_RPM, "centos", NULL, "Xorg", "1:2-1", "x86_64",
		 "pkg:rpm/centos/Xorg@2-1?arch=x86_64&epoch=1"},
		{COMPONENT_APK, "alpine", NULL, "curl", "7.83.0-r0", "x86", "pkg:apk/alpine/curl@7.83.0-r0?arch=x86"},
		{COMPONENT_OPKG, "openwrt", NULL, "curl", "8.1-1", "mips", "pkg:opkg/openwrt/curl@8.1-1?arch=mips"},
	};
	char purl[128];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct component c = {.name = string(cases[i].name),
				      .version = string(cases[i].version),
				      .architecture = string(cases[i].architecture)};
		size_t len = strlen(cases[i].purl);

		assert_int_equal(purl_write(cases[i].type, cases[i].os_id, cases[i].distro, &c, purl, sizeof purl),
				 len);
		assert_string_equal(purl, cases[i].purl);
		assert_int_equal(purl_write(cases[i].type, cases[i].os_id, cases[i].distro, &c, purl, len), 0);
		assert_int_equal(purl_write(cases[i].type, cases[i].os_id, cases[i].distro, &c, purl, len + 1), len);
		assert_int_equal(purl_write(COMPONENT_IMAGE, cases[i].os_id, cases[i].distro, &c, purl, sizeof purl),
				 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_package_becomes_a_component),
		cmocka_unit_test(only_the_state_installed_counts),
		cmocka_unit_test(malformed_packages_are_counted_but_not_listed),
		cmocka_unit_test(the_inventory_is_a_sorted_set),
		cmocka_unit_test(the_journal_goes_before_the_status),
		cmocka_unit_test(a_million_packages_are_counted),
		cmocka_unit_test(an_inventory_fits_a_message),
		cmocka_unit_test(opkg_holds_back_by_a_flag),
		cmocka_unit_test(apk_packages_become_components),
		cmocka_unit_test(an_rpm_is_told_with_its_source),
		cmocka_unit_test(a_child_is_heard_and_never_harms),
		cmocka_unit_test(purls_are_spelt_as_the_specification_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
