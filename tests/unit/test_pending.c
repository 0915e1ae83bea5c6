#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/events.h"
#include "emitter/witness_sources.h"
#include "tests/unit/bytes.h"

/* The accumulator, in a state directory of its own. */
struct world {
	char path[32];
	int dir;
	struct events *events;
};

static int
begin(void **state)
{
	static struct world w;
	char error[ERROR_SIZE];

	strcpy(w.path, "/tmp/test_witness.XXXXXX");
	assert_non_null(mkdtemp(w.path));
	w.dir = open(w.path, O_RDONLY | O_DIRECTORY);
	w.events = events_open(w.dir, 0, error);
	assert_non_null(w.events);
	*state = &w;
	return 0;
}

static int
end(void **state)
{
	struct world *w = *state;

	events_free(w->events);
	(void)unlinkat(w->dir, "events", 0);
	close(w->dir);
	return rmdir(w->path);
}

static void
again(struct world *w, uint64_t newest)
{
	char error[ERROR_SIZE];

	events_free(w->events);
	w->events = events_open(w->dir, newest, error);
	assert_non_null(w->events);
}

static void
say(struct world *w, const char *path, uint64_t at)
{
	events_say(w->events, EVENT_FILE, at, (const char *const[]){path, "written"}, 2);
}

/* The section passes the collector's own check. Returns how many. */
static size_t
check(struct world *w)
{
	struct slice section = events_section(w->events);
	struct cbor_reader r;
	size_t n;

	if (!section.at)
		return 0;
	cbor_reader_init(&r, section);
	n = events_check(&r);
	assert_int_equal(cbor_reader_end(&r), REASON_OK);
	return n;
}

static struct event
nth(struct world *w, size_t n)
{
	struct event event = {0};
	struct cbor_reader r;

	cbor_reader_init(&r, events_section(w->events));
	(void)cbor_read_array(&r, LIMIT_EVENTS);
	for (size_t i = 0; i <= n; i++)
		event_decode(&r, &event);
	return event;
}

/* ---- packages ---- */

static size_t
of_kind(struct world *w, unsigned kind)
{
	size_t n = check(w), found = 0;

	for (size_t i = 0; i < n; i++)
		found += nth(w, i).kind == kind;
	return found;
}

/* The first `n` of three packages, and whether that is all. */
static void
sweep(struct witness *witness, size_t n, bool whole)
{
	static const char *const names[] = {"a", "b", "c"};
	struct facts *facts = facts_new();
	struct inventory inventory = {.components = n};
	uint8_t bytes[256];
	struct cbor_writer writer;

	cbor_writer_init(&writer, bytes, sizeof bytes);
	cbor_write_array(&writer, n);
	for (size_t i = 0; i < n; i++) {
		const struct component one = {.type = COMPONENT_DPKG,
					      .name = {(const uint8_t *)names[i], 1},
					      .version = {(const uint8_t *)"1", 1}};

		component_encode(&one, &writer);
	}
	inventory.encoded = bytes;
	inventory.len = writer.len;
	sha256((struct slice){bytes, writer.len}, inventory.digest);
	if (whole)
		facts_set_uint(facts, FACT_PACKAGES_LISTED, n);
	else
		facts_unknown(facts, FACT_PACKAGES_LISTED, "the database may not be read");
	witness_sweep(witness, facts, &inventory, 0);
	witness_told(witness, &inventory);
	facts_free(facts);
}

static void
what_could_not_be_read_is_not_gone(void **state)
{
	static const uint8_t boot_id[BOOT_ID_SIZE];
	struct world *w = *state;
	struct witness *witness = witness_new(w->events, w->dir, NULL, boot_id);

	assert_non_null(witness);
	sweep(witness, 3, true);
	sweep(witness, 1, false);
	sweep(witness, 0, true);
	assert_int_equal(of_kind(w, EVENT_PACKAGE_REMOVED), 0);
	sweep(witness, 3, true);
	assert_int_equal(of_kind(w, EVENT_PACKAGE_INSTALLED), 0);
	sweep(witness, 2, true);
	assert_int_equal(of_kind(w, EVENT_PACKAGE_REMOVED), 1);
	sweep(witness, 3, true);
	assert_int_equal(of_kind(w, EVENT_PACKAGE_INSTALLED), 1);
	witness_free(witness);
	assert_int_equal(unlinkat(w->dir, "packages", 0), 0);
}

static void
a_crash_before_anything_happened_loses_no_place(void **state)
{
	uint8_t boot_id[BOOT_ID_SIZE] = {1};
	struct world *w = *state;
	struct witness *witness = witness_new(w->events, w->dir, NULL, boot_id);

	assert_non_null(witness);
	witness_free(witness);
	again(w, 0);
	assert_true(events_positions(w->events)->known);
	assert_memory_equal(events_positions(w->events)->boot_id, boot_id, BOOT_ID_SIZE);
	boot_id[0] = 2;
	witness = witness_new(w->events, w->dir, NULL, boot_id);
	assert_non_null(witness);
	assert_int_equal(of_kind(w, EVENT_BOOT), 1);
	witness_free(witness);
}

/* ---- a log that is rotated away ---- */

#define LINE "Nov 26 10:00:00 device sshd[7]: Failed password for root from 192.0.2.1 port 22 ssh2\n"
#define LINES (9 * 1024 * 1024 / (sizeof LINE - 1)) /* more than one look reads */

static void
write_lines(const char *path, size_t n)
{
	FILE *log = fopen(path, "ae");

	for (size_t i = 0; log && i < n; i++)
		(void)fputs(LINE, log);
	if (!log || fclose(log) != 0)
		_exit(2);
}

static int
rotate(struct world *w)
{
	struct log_source *source = log_source_new();
	uint64_t count = 0;
	size_t n;

	write_lines("/var/log/auth.log", 1);
	log_source_look(source, w->events);
	write_lines("/var/log/auth.log", LINES);
	if (rename("/var/log/auth.log", "/var/log/auth.log.1") != 0)
		return 2;
	write_lines("/var/log/auth.log", 1);
	for (size_t i = 0; i < 3; i++)
		log_source_look(source, w->events);
	n = check(w);
	for (size_t i = 0; i < n; i++)
		count += nth(w, i).kind == EVENT_LOGIN_FAILED ? nth(w, i).count : 0;
	log_source_free(source);
	return n == 1 && count == LINES + 1 ? 0 : 1;
}

/* With a /var/log of its own, which nobody else sees. */
static void
what_was_rotated_away_is_read_to_its_end(void **state)
{
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("none", "/var/log", "tmpfs", 0, NULL) != 0 || mount("none", "/run", "tmpfs", 0, NULL) != 0)
			_exit(77);
		_exit(rotate(*state));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
the_same_is_counted(void **state)
{
	struct world *w = *state;
	struct event event;

	assert_int_equal(check(w), 0);
	say(w, "/etc/hosts", 20);
	say(w, "/etc/hosts", 10);
	say(w, "/etc/group", 30);
	events_say(w->events, EVENT_BOOT, 5, NULL, 0);
	events_say(w->events, EVENT_LOGIN, 5, (const char *const[]){"a", NULL, "b"}, 3);
	assert_int_equal(check(w), 4);
	event = nth(w, 2);
	assert_memory_equal(event.parts[0].at, "/etc/hosts", 10);
	assert_true(event.first == 10 && event.last == 20 && event.count == 2);
	events_told(w->events);
	assert_int_equal(check(w), 0);
}

static void
what_there_is_no_room_for_is_counted(void **state)
{
	struct world *w = *state;
	char path[64];
	struct event event;

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(path, sizeof path, "/etc/%u", i);
		say(w, path, i);
	}
	assert_int_equal(check(w), EVENTS_OF_KIND + 1);
	event = nth(w, EVENTS_OF_KIND);
	assert_true(event.others && event.count == 1000 - EVENTS_OF_KIND && event.last == 999);
	for (unsigned i = 0; i < 1000; i++)
		for (enum event_kind kind = EVENT_LOGIN; kind <= EVENT_PRIVILEGE_REFUSED; kind++) {
			snprintf(path, sizeof path, "%u", i);
			events_say(w->events, kind, i, (const char *const[]){path, path, path}, 3);
		}
	assert_true(check(w) <= EVENTS_MAX + 5);
	assert_true(events_section(w->events).len < LIMIT_EVENTS_SIZE);
}

static void
hostile_texts_are_cleaned(void **state)
{
	struct world *w = *state;
	char path[1000];

	memset(path, 'x', sizeof path);
	path[sizeof path - 1] = '\0';
	say(w, path, 1);
	say(w, "/etc/\xff\x1b[2J\n", 1);
	say(w, "", UINT64_MAX);
	assert_int_equal(check(w), 3);
	assert_null(nth(w, 2).parts[0].at);
}

static void
a_crash_before_the_report_is_durable_loses_nothing(void **state)
{
	struct world *w = *state;

	say(w, "/etc/hosts", 1);
	strcpy(events_positions(w->events)->cursor, "s=1");
	assert_true(events_unsaved(w->events));
	assert_int_equal(events_save(w->events, 7), 0);
	assert_false(events_unsaved(w->events));
	again(w, 6);
	assert_int_equal(check(w), 1);
	assert_string_equal(events_positions(w->events)->cursor, "s=1");
}

static void
a_crash_after_the_report_is_durable_doubles_nothing(void **state)
{
	struct world *w = *state;

	say(w, "/etc/hosts", 1);
	assert_int_equal(events_save(w->events, 7), 0);
	again(w, 7);
	assert_int_equal(check(w), 0);
	assert_true(events_positions(w->events)->known);
	say(w, "/etc/group", 1);
	assert_int_equal(events_save(w->events, 0), 0); /* for no report yet */
	again(w, 8);
	assert_int_equal(check(w), 1);
}

static void
a_damaged_file_is_told_as_lost(void **state)
{
	struct world *w = *state;
	uint8_t bytes[512];
	ssize_t len;

	say(w, "/etc/hosts", 1);
	assert_int_equal(events_save(w->events, 0), 0);
	len = durable_read(w->dir, "events", bytes, sizeof bytes);
	assert_true(len > 0);
	for (ssize_t cut = 0; cut < len; cut++) {
		assert_int_equal(durable_write(w->dir, "events", (struct slice){bytes, (size_t)cut}, false), 0);
		again(w, 0);
		assert_int_equal(check(w), 1);
		assert_int_equal(nth(w, 0).kind, EVENT_LOST);
		assert_false(events_positions(w->events)->known);
	}
}

static void
personal_parts_are_told_as_the_settings_say(void **state)
{
	struct world *w = *state;
	struct personal hashed = {.way = PERSONAL_HASHED}, omitted = {.way = PERSONAL_OMITTED};
	const char *const parts[] = {"alice", "sshd", "192.0.2.7"};

	events_set_personal(w->events, &hashed);
	events_say(w->events, EVENT_LOGIN, 1, parts, 3);
	assert_memory_equal(nth(w, 0).parts[0].at, "hmac:", 5);
	assert_memory_equal(nth(w, 0).parts[1].at, "sshd", 4);
	assert_memory_equal(nth(w, 0).parts[2].at, "hmac:", 5);
	events_told(w->events);
	events_set_personal(w->events, &omitted);
	events_say(w->events, EVENT_LOGIN, 1, parts, 3);
	assert_null(nth(w, 0).parts[0].at);
	assert_null(nth(w, 0).parts[2].at);
	assert_int_equal(check(w), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_could_not_be_read_is_not_gone),
		TEST(a_crash_before_anything_happened_loses_no_place),
		TEST(what_was_rotated_away_is_read_to_its_end),
		TEST(the_same_is_counted),
		TEST(what_there_is_no_room_for_is_counted),
		TEST(hostile_texts_are_cleaned),
		TEST(a_crash_before_the_report_is_durable_loses_nothing),
		TEST(a_crash_after_the_report_is_durable_doubles_nothing),
		TEST(a_damaged_file_is_told_as_lost),
		TEST(personal_parts_are_told_as_the_settings_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
