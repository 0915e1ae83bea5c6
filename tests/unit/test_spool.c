#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/spool.h"

#define EPOCH UINT64_C(0x0102030405060708)
#define LIMIT (1024 * 1024)
#define SEGMENT "spool/0000000000000001.seg"

static char where[] = "/tmp/fleetstate-spool-XXXXXX";
static int dir = -1;

/* A message that tells which one it is, of the size of a quiet report. */
static struct slice
message(uint64_t seq, size_t len)
{
	static uint8_t bytes[LIMIT_MESSAGE + 1];
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(seq * 31 + i);
	return (struct slice){bytes, len};
}

static struct spool *
reopen(size_t limit)
{
	char error[ERROR_SIZE] = "";
	struct spool *s = spool_open(dir, "spool", EPOCH, limit, error);
	if (s == NULL)
		print_error("%s\n", error);
	assert_non_null(s);
	return s;
}

static void
append(struct spool *s, uint64_t seq, unsigned flags, size_t len)
{
	assert_int_equal(spool_append(s, seq, flags, message(seq, len)), 0);
}

static void
assert_holds(struct spool *s, uint64_t seq, size_t len)
{
	struct slice got = spool_read(s, seq);
	assert_non_null(got.at);
	assert_int_equal(got.len, len);
	assert_memory_equal(got.at, message(seq, len).at, len);
}

static size_t
count(struct spool *s, bool pending)
{
	size_t n = 0;
	for (struct spool_record r = {0}; pending ? spool_next(s, r.seq, &r) : spool_next_any(s, r.seq, &r);)
		n++;
	return n;
}

static void
assert_undamaged(const struct spool *s)
{
	struct spool_stats stats;
	spool_stats(s, &stats);
	assert_int_equal(stats.damaged, 0);
}

static int
empty(void **unused)
{
	(void)unused;
	char command[128];
	if (dir >= 0)
		close(dir);
	strcpy(where + strlen(where) - 6, "XXXXXX");
	assert_non_null(mkdtemp(where));
	dir = open(where, O_RDONLY | O_DIRECTORY);
	snprintf(command, sizeof command, "rm -rf %s/spool", where);
	return dir >= 0 && system(command) == 0 ? 0 : -1;
}

static int
clean(void **unused)
{
	(void)unused;
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", where);
	return system(command);
}

static void
survives(void **unused)
{
	(void)unused;
	struct spool *s = reopen(LIMIT);
	for (uint64_t seq = 1; seq <= 2000; seq++)
		append(s, seq, seq % 10 == 0 ? SPOOL_SECTIONS : 0, 217);
	spool_close(s);
	s = reopen(LIMIT);
	assert_int_equal(count(s, true), 2000);
	for (uint64_t seq = 1; seq <= 2000; seq += 333)
		assert_holds(s, seq, 217);
	assert_int_equal(spool_newest(s, 0).seq, 2000);
	assert_int_equal(spool_newest(s, SPOOL_DECLARES).seq, 0);
	append(s, 2005, SPOOL_SECTIONS, 1000);
	assert_int_equal(spool_newest(s, SPOOL_SECTIONS).seq, 2005);
	assert_null(spool_read(s, 2003).at);
	spool_close(s);
}

static size_t
file_size(void)
{
	struct stat st;
	assert_int_equal(fstatat(dir, SEGMENT, &st, 0), 0);
	return (size_t)st.st_size;
}

static void
save_file(uint8_t *out, size_t len)
{
	int fd = openat(dir, SEGMENT, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read_all_at(fd, out, len, 0), 0);
	close(fd);
}

static void
put_file(const uint8_t *bytes, size_t len)
{
	int fd = openat(dir, SEGMENT, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	assert_int_equal(write_all_at(fd, (struct slice){bytes, len}, 0), 0);
	close(fd);
}

/* A crash while record 3 was written, at every byte: 1 and 2 are whole, 3 is not there, and what comes next is found again. */
static void
torn_tail(void **unused)
{
	(void)unused;
	static uint8_t bytes[4096];
	struct spool *s = reopen(LIMIT);
	append(s, 1, 0, 120);
	append(s, 2, SPOOL_SECTIONS, 80);
	size_t before = file_size();
	append(s, 3, 0, 97);
	spool_close(s);
	size_t whole = file_size();
	save_file(bytes, whole);
	for (size_t cut = before; cut < whole; cut++) {
		put_file(bytes, cut);
		s = reopen(LIMIT);
		assert_int_equal(count(s, false), 2);
		assert_holds(s, 1, 120);
		assert_holds(s, 2, 80);
		assert_int_equal(spool_newest(s, 0).seq, 2);
		append(s, 7, 0, 50);
		spool_close(s);
		s = reopen(LIMIT);
		assert_int_equal(count(s, false), 3);
		assert_holds(s, 7, 50);
		assert_undamaged(s);
		spool_close(s);
	}
}

/* One bit anywhere in the second record: it is gone and counted, its neighbours are not. In the last record it is cut off as a torn tail is. */
static void
flipped(void **unused)
{
	(void)unused;
	static uint8_t bytes[4096];
	struct spool_stats stats;
	struct spool *s = reopen(LIMIT);
	append(s, 1, 0, 60);
	size_t from = file_size();
	append(s, 2, 0, 60);
	size_t to = file_size();
	append(s, 3, 0, 60);
	spool_close(s);
	size_t whole = file_size();
	save_file(bytes, whole);
	for (size_t at = from; at < whole; at++) {
		bytes[at] ^= (uint8_t)(1 << (at % 8));
		put_file(bytes, whole);
		bytes[at] ^= (uint8_t)(1 << (at % 8));
		s = reopen(LIMIT);
		assert_int_equal(count(s, false), 2);
		assert_holds(s, 1, 60);
		assert_holds(s, at < to ? 3 : 2, 60);
		assert_null(spool_read(s, at < to ? 2 : 3).at);
		spool_stats(s, &stats);
		assert_int_equal(stats.damaged, 1);
		spool_close(s);
	}
}

static void
other_epoch(void **unused)
{
	(void)unused;
	char error[ERROR_SIZE] = "";
	struct spool *s = reopen(LIMIT);
	append(s, 1, 0, 60);
	spool_close(s);
	assert_null(spool_open(dir, "spool", EPOCH + 1, LIMIT, error));
	assert_non_null(strstr(error, "another epoch"));
}

static struct account
receipt(uint64_t up_to)
{
	return (struct account){.iat = 1000, .up_to = up_to};
}

/* Receipted ones go first, the oldest of them; nothing is declared. */
static void
full_receipted(void **unused)
{
	(void)unused;
	size_t limit = 64 * 1024;
	struct spool *s = reopen(limit);
	struct spool_stats stats;
	for (uint64_t seq = 1; seq <= 200; seq++)
		append(s, seq, 0, 217);
	struct account account = receipt(150);
	account.missing[0] = (struct seq_range){20, 22};
	account.missing_len = 1;
	assert_int_equal(spool_settle(s, &account), 0);
	assert_int_equal(count(s, true), 53);
	for (uint64_t seq = 201; seq <= 330; seq++)
		append(s, seq, 0, 217);
	spool_stats(s, &stats);
	assert_true(stats.bytes <= limit);
	assert_int_equal(stats.dropped, 0);
	assert_false(spool_has_drops(s));
	assert_null(spool_read(s, 1).at);
	for (uint64_t seq = 20; seq <= 22; seq++)
		assert_holds(s, seq, 217);
	assert_int_equal(count(s, true), 3 + 180);
	spool_close(s);
	s = reopen(limit);
	assert_int_equal(count(s, true), 3 + 180);
	spool_close(s);
}

/* No receipts for long: quiet ones go before those with sections, all that goes is declared, and the newest stays. */
static void
full_unreceipted(void **unused)
{
	(void)unused;
	size_t limit = 64 * 1024;
	struct spool *s = reopen(limit);
	struct spool_stats stats;
	struct report report;
	for (uint64_t seq = 1; seq <= 1000; seq++)
		append(s, seq, seq % 25 == 0 ? SPOOL_SECTIONS : 0, 217);
	spool_stats(s, &stats);
	assert_true(stats.bytes <= limit);
	assert_true(stats.dropped > 0);
	assert_int_equal(stats.dropped + count(s, true), 1000);
	for (uint64_t seq = 25; seq <= 1000; seq += 25)
		assert_holds(s, seq, 217);
	assert_int_equal(spool_newest(s, 0).seq, 1000);
	spool_declare(s, &report);
	assert_true(report.dropped_len > 1);
	assert_int_equal(report.dropped[0].range.first, 1);
	assert_int_equal(report.dropped[0].range.last, 24);
	assert_int_equal(report.dropped[0].cause, DROP_OVERWRITTEN);
	spool_close(s);
	/* Only sections: then they go too. */
	s = reopen(limit);
	for (uint64_t seq = 1001; seq <= 2000; seq++)
		append(s, seq, SPOOL_SECTIONS, 217);
	assert_null(spool_read(s, 25).at);
	assert_int_equal(spool_newest(s, 0).seq, 2000);
	/* Every number is either here or declared. */
	uint64_t next = 1, seen = 0;
	struct spool_record r = {0};
	for (; spool_next(s, r.seq, &r); next = r.seq + 1, seen++)
		for (uint64_t seq = next; seq < r.seq; seq++)
			assert_true(spool_is_dropped(s, seq));
	assert_int_equal(next, 2001);
	assert_true(seen > 100);
	spool_close(s);
}

/* A drop is declared until a receipt covers the report that declared it, over restarts. */
static void
drops_until_receipted(void **unused)
{
	(void)unused;
	struct report report = {.seq = 70};
	struct spool *s = reopen(LIMIT);
	append(s, 1, 0, 60);
	assert_int_equal(spool_drop(s, (struct seq_range){2, 64}, DROP_SKIPPED), 0);
	assert_int_equal(spool_drop(s, (struct seq_range){60, 66}, DROP_SKIPPED), 0);
	spool_close(s);
	s = reopen(LIMIT);
	spool_declare(s, &report);
	assert_int_equal(report.dropped_len, 1);
	assert_int_equal(report.dropped[0].range.first, 2);
	assert_int_equal(report.dropped[0].range.last, 66);
	append(s, 70, SPOOL_DECLARES, 60);
	spool_declared(s, &report);
	assert_false(spool_has_drops(s));
	struct account account = receipt(69);
	assert_int_equal(spool_settle(s, &account), 0);
	spool_close(s);
	s = reopen(LIMIT);
	assert_false(spool_has_drops(s));
	assert_true(spool_is_dropped(s, 30));
	account = receipt(70);
	assert_int_equal(spool_settle(s, &account), 0);
	assert_false(spool_is_dropped(s, 30));
	/* A restored collector asks for what is here no more: declared again. */
	account = receipt(70);
	account.iat++;
	account.missing[0] = (struct seq_range){1, 40};
	account.missing_len = 1;
	assert_int_equal(spool_settle(s, &account), 0);
	assert_true(spool_has_drops(s));
	assert_false(spool_is_dropped(s, 1));
	assert_true(spool_is_dropped(s, 2));
	struct spool_record r = {0};
	assert_true(spool_next(s, 0, &r));
	assert_int_equal(r.seq, 1);
	spool_close(s);
}

/* The file may not grow: the report is not in the spool, the error is told, and with room again all is well. */
static void
no_space(void **unused)
{
	(void)unused;
	struct rlimit was, small;
	struct spool *s = reopen(LIMIT);
	append(s, 1, 0, 2000);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small = was;
	small.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(spool_append(s, 2, 0, message(2, 3000)), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(count(s, false), 1);
	append(s, 3, 0, 300);
	assert_holds(s, 3, 300);
	spool_close(s);
	s = reopen(LIMIT);
	assert_int_equal(count(s, false), 2);
	assert_undamaged(s);
	spool_close(s);
}

/* Puts a disk of that size in the place of the test's directory. False: we may not. */
static bool
mount_disk(const char *size)
{
	char options[32];
	snprintf(options, sizeof options, "size=%s", size);
	close(dir);
	bool mounted = mount("tmpfs", where, "tmpfs", 0, options) == 0;
	dir = open(where, O_RDONLY | O_DIRECTORY);
	return mounted && dir >= 0;
}

static int
clean_disk(void **unused)
{
	(void)umount2(where, MNT_DETACH);
	return clean(unused);
}

/* Another program takes all the room that there is. */
static void
fill_disk(void)
{
	static const uint8_t bytes[4096];
	int fd = openat(dir, "other", O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_true(fd >= 0);
	while (write(fd, bytes, sizeof bytes) > 0 || write(fd, bytes, 1) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

/* Spool and disk are both full, and no file can be written anew: what nobody receipted stays, here and in the account. */
static void
full_disk_keeps_what_waits(void **unused)
{
	(void)unused;
	struct spool_stats stats = {0};
	uint64_t seq = 1;
	if (!mount_disk("4m"))
		skip();
	struct spool *s = reopen(LIMIT);
	for (; stats.bytes + 4000 + RECORD_HEAD + 2 * SEGMENT_HEAD <= LIMIT; seq++, spool_stats(s, &stats))
		append(s, seq, seq % 4 ? 0 : SPOOL_SECTIONS, 4000);
	struct account account = receipt(seq / 2);
	for (uint64_t i = 1; i < account.up_to; i += 10) /* some of each file's: none goes as a whole */
		account.missing[account.missing_len++] = (struct seq_range){i, i};
	assert_int_equal(spool_settle(s, &account), 0);
	spool_stats(s, &stats);
	size_t records = stats.records, pending = stats.pending;
	fill_disk();
	for (int i = 0; i < 5; i++, seq++) {
		int rc = spool_append(s, seq, SPOOL_SECTIONS, message(seq, 4000));
		assert_true(rc == 0 || errno == ENOSPC);
		records += rc == 0;
		pending += rc == 0;
	}
	spool_stats(s, &stats);
	assert_int_equal(stats.records, records);
	assert_int_equal(stats.pending, pending);
	assert_int_equal(stats.dropped, 0);
	assert_false(spool_has_drops(s));
	/* Even without any receipt: what would be given up can't be declared, so it isn't. */
	account = receipt(0);
	account.iat++;
	assert_int_equal(spool_settle(s, &account), -1);
	seq++;
	assert_int_equal(spool_append(s, seq, 0, message(seq, 4000)), -1);
	assert_int_equal(errno, ENOSPC);
	spool_stats(s, &stats);
	assert_int_equal(stats.pending, records);
	assert_false(spool_has_drops(s));
	/* As soon as there is room it goes on. */
	assert_int_equal(unlinkat(dir, "other", 0), 0);
	append(s, ++seq, SPOOL_SECTIONS, 4000);
	spool_close(s);
}

/* Receipted files go when the disk has no room, down to the newest record, which never goes. */
static void
full_disk_frees_what_is_receipted(void **unused)
{
	(void)unused;
	uint64_t seq = 1;
	if (!mount_disk("2m"))
		skip();
	struct spool *s = reopen(8 * LIMIT);
	for (; seq <= 200; seq++)
		append(s, seq, 0, 4000);
	struct account account = receipt(200);
	assert_int_equal(spool_settle(s, &account), 0);
	fill_disk();
	for (; seq <= 300; seq++) {
		append(s, seq, 0, 4000);
		assert_holds(s, seq - 1, 4000);
	}
	account.up_to = 300;
	assert_int_equal(spool_settle(s, &account), 0);
	/* More than the disk can hold: all goes but the newest, and no empty file keeps it trying. */
	fill_disk();
	assert_int_equal(spool_append(s, 301, 0, message(301, LIMIT_MESSAGE)), -1);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(spool_newest(s, 0).seq, 300);
	assert_holds(s, 300, 4000);
	append(s, 302, 0, 4000);
	spool_close(s);
	s = reopen(8 * LIMIT);
	assert_int_equal(spool_newest(s, 0).seq, 302);
	assert_undamaged(s);
	spool_close(s);
}

static void
too_large(void **unused)
{
	(void)unused;
	struct spool *s = reopen(64 * 1024);
	assert_int_equal(spool_append(s, 1, 0, message(1, 40000)), -1);
	assert_int_equal(errno, EFBIG);
	spool_close(s);
	s = reopen(8 * 1024 * 1024);
	assert_int_equal(spool_append(s, 1, 0, message(1, LIMIT_MESSAGE + 1)), -1);
	append(s, 2, SPOOL_SECTIONS, LIMIT_MESSAGE);
	append(s, 3, 0, 217);
	spool_close(s);
	s = reopen(8 * 1024 * 1024);
	assert_holds(s, 2, LIMIT_MESSAGE);
	assert_holds(s, 3, 217);
	spool_close(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(survives, empty, clean),
		cmocka_unit_test_setup_teardown(torn_tail, empty, clean),
		cmocka_unit_test_setup_teardown(flipped, empty, clean),
		cmocka_unit_test_setup_teardown(other_epoch, empty, clean),
		cmocka_unit_test_setup_teardown(full_receipted, empty, clean),
		cmocka_unit_test_setup_teardown(full_unreceipted, empty, clean),
		cmocka_unit_test_setup_teardown(drops_until_receipted, empty, clean),
		cmocka_unit_test_setup_teardown(no_space, empty, clean),
		cmocka_unit_test_setup_teardown(full_disk_keeps_what_waits, empty, clean_disk),
		cmocka_unit_test_setup_teardown(full_disk_frees_what_is_receipted, empty, clean_disk),
		cmocka_unit_test_setup_teardown(too_large, empty, clean),
	};
	return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
