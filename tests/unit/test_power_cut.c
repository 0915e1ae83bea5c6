/*
 * The emitter's state directory when the power goes: at a thousand random moments of reports made, receipted and given up, of starts and stops, the
 * disk is left as it may be, and opened by the code that a start runs. Nothing that was durable is lost, no number repeats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>

#include "emitter/events.h"
#include "emitter/spool.h"
#include "tests/unit/chains.h"
#include "tests/unit/cut_disk.h"

#define NAME "01112233445566778899aabbccddeeff00"
#define NOW INT64_C(1790000000)
#define LIMIT (24 * 1024) /* segments of 1.5 KiB: some are given up and written anew in each life */
#define CUTS 1000
#define ACTIONS 24
#define RECORDS 512

static char where[64], key_file[80], certificate_file[80];
static const uint8_t boot[BOOT_ID_SIZE] = {1, 2, 3};

/* What has happened so far, as the outside knows it: a power cut does not undo it. */
struct past {
	uint64_t epoch, signed_max;
	bool began; /* a number was used */
	struct record {
		uint64_t seq;
		size_t len;
	} durable[RECORDS];
	size_t len;
	struct record waiting[64]; /* for a sync */
	size_t waiting_len;
	uint64_t settled; /* the highest up_to that was saved */
};

static struct past past, kept;
static char kept_path[160];
static size_t cuts, torn_tails, unborn, most_skipped;

/* Live or being checked: one is made while the other is written. */
static struct slice
message(bool live, uint64_t seq, size_t len)
{
	static uint8_t both[2][16 * 1024];
	uint8_t *bytes = both[live];
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(seq * 31 + i * 7 + (i >> 8));
	return (struct slice){bytes, len};
}

/* ---- a life: what pipeline_open, pipeline_report and pipeline_close do ---- */

struct life {
	int dir;
	struct signer *signer;
	struct spool *spool;
	struct events *events;
	struct seq_range skipped;
};

/* What is durable by now. What went with the power never was. */
static void
note_durable(struct life *l)
{
	size_t left = 0;
	for (size_t i = 0; i < past.waiting_len; i++) {
		struct record r = past.waiting[i];
		if (r.seq > spool_durable(l->spool))
			past.waiting[left++] = r;
		else if (past.len < RECORDS && spool_read(l->spool, r.seq).at != NULL)
			past.durable[past.len++] = r;
	}
	past.waiting_len = left;
}

static void
life_open(struct life *l, int dir)
{
	char error[ERROR_SIZE] = "";
	*l = (struct life){.dir = dir};
	l->signer = signer_open(dir, key_file, certificate_file, boot, error);
	if (l->signer != NULL)
		l->spool = spool_open(dir, "spool", signer_epoch(l->signer), LIMIT, error);
	if (l->spool != NULL)
		l->events = events_open(dir, spool_newest(l->spool, 0).seq, error);
	if (l->events == NULL)
		fail_msg("cut %zu: %s", cuts, error);
	struct link newest = spool_newest(l->spool, 0), sections = spool_newest(l->spool, SPOOL_SECTIONS);
	if (signer_start(l->signer, &newest, &sections, &l->skipped, error) != 0)
		fail_msg("cut %zu: %s", cuts, error);
	if (l->skipped.first != 0)
		assert_int_equal(spool_drop(l->spool, l->skipped, DROP_SKIPPED), 0);
}

static void
life_close(struct life *l, bool clean)
{
	if (clean)
		assert_int_equal(signer_stop(l->signer), 0);
	events_free(l->events);
	spool_close(l->spool);
	signer_free(l->signer);
}

/* The number of the report that was made. */
static uint64_t
make_report(struct life *l, size_t len, bool with_events)
{
	static const char *const parts[] = {"/etc/hosts", "written"};
	struct report report = {.iat = (uint64_t)NOW, .interval = 60};
	if (with_events)
		events_say(l->events, EVENT_FILE, (uint64_t)NOW, parts, 2);
	report.events = events_section(l->events);
	spool_declare(l->spool, &report);
	struct slice made = signer_sign(l->signer, &report, false);
	assert_non_null(made.at);
	free((void *)(uintptr_t)made.at);
	past.epoch = signer_epoch(l->signer);
	past.began = true;
	assert_true(report.seq > past.signed_max);
	past.signed_max = report.seq;
	if (report.events.at != NULL)
		assert_int_equal(events_save(l->events, report.seq), 0);
	unsigned flags =
		(report.events.at != NULL ? SPOOL_SECTIONS : 0) | (report.dropped_len > 0 ? SPOOL_DECLARES : 0);
	assert_int_equal(spool_append(l->spool, report.seq, flags, message(disk.noting, report.seq, len)), 0);
	assert_true(past.len < RECORDS);
	assert_true(past.waiting_len < sizeof past.waiting / sizeof *past.waiting);
	past.waiting[past.waiting_len++] = (struct record){report.seq, len};
	note_durable(l);
	uint8_t digest[DIGEST_SIZE];
	sha256(message(disk.noting, report.seq, len), digest);
	signer_commit(l->signer, &report, digest);
	if (report.events.at != NULL)
		events_told(l->events);
	spool_declared(l->spool, &report);
	return report.seq;
}

static void
settle(struct life *l)
{
	uint64_t up_to = past.len > 0 ? past.durable[disk_random(past.len)].seq : 0;
	if (up_to <= past.settled)
		return;
	struct account account = {.iat = (uint64_t)NOW + up_to, .up_to = up_to};
	assert_int_equal(spool_settle(l->spool, &account), 0);
	past.settled = up_to;
}

static void
act(struct life *l)
{
	switch (disk_random(13)) {
	case 3:
		assert_int_equal(spool_sync(l->spool), 0);
		note_durable(l);
		break;
	case 0:
		settle(l);
		break;
	case 1:
		if (past.len > 0) {
			uint64_t seq = past.durable[past.len - 1].seq;
			assert_int_equal(spool_drop(l->spool, (struct seq_range){seq, seq}, DROP_OVERWRITTEN), 0);
		}
		break;
	case 2:
		(void)make_report(l, 1000 + disk_random(3000), true);
		break;
	default:
		(void)make_report(l, 150 + disk_random(700), disk_random(8) == 0);
	}
}

/* ---- what must hold afterwards ---- */

/* Of the segments; and nothing that was not written to its end lies about when the spool is open. */
static size_t
size_of_spool(const char *path, bool open)
{
	char below[256];
	struct stat st;
	size_t sum = 0;
	snprintf(below, sizeof below, "%s/spool", path);
	DIR *d = opendir(below);
	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		snprintf(below, sizeof below, "%s/spool/%.70s", path, e->d_name);
		assert_true(!open || strstr(e->d_name, ".new") == NULL);
		if (strstr(e->d_name, ".seg") != NULL && e->d_name[0] != '.' && stat(below, &st) == 0)
			sum += (size_t)st.st_size;
	}
	if (d != NULL)
		closedir(d);
	return sum;
}

static void
check_records(const struct life *l)
{
	for (size_t i = 0; i < past.len; i++) {
		const struct record *r = &past.durable[i];
		struct slice got = spool_read(l->spool, r->seq);
		if (got.at == NULL) {
			bool excused =
				account_covers(spool_account(l->spool), r->seq) || spool_is_dropped(l->spool, r->seq);
			if (!excused)
				fail_msg("cut %zu: report %llu is lost", cuts, (unsigned long long)r->seq);
			continue;
		}
		assert_int_equal(got.len, r->len);
		assert_memory_equal(got.at, message(false, r->seq, r->len).at, r->len);
	}
}

static void
check_directory(const char *path)
{
	struct life l;
	struct spool_stats stats;
	size_t before = size_of_spool(path, false);
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	assert_true(dir >= 0);
	life_open(&l, dir);
	if (past.began)
		assert_true(signer_epoch(l.signer) == past.epoch);
	else
		unborn++;
	check_records(&l);
	assert_true(spool_account(l.spool)->up_to >= past.settled);
	spool_stats(l.spool, &stats);
	if (size_of_spool(path, true) < before) {
		assert_true(stats.damaged > 0); /* a torn tail is told of */
		torn_tails++;
	}
	if (l.skipped.first != 0) {
		size_t n = (size_t)(l.skipped.last - l.skipped.first + 1);
		most_skipped = n > most_skipped ? n : most_skipped;
		/* Each start that the power cut off reserved some more. */
		assert_true(n <= 8 * SEQ_RESERVE);
		for (uint64_t seq = l.skipped.first; seq <= l.skipped.last; seq++)
			assert_true(spool_is_dropped(l.spool, seq));
		for (size_t i = 0; i < past.len; i++)
			assert_true(past.durable[i].seq < l.skipped.first || past.durable[i].seq > l.skipped.last);
	}
	/* It goes on from there: another number, durable in its turn. */
	struct past now = past;
	uint64_t seq = make_report(&l, 300, false);
	life_close(&l, false);
	if (cuts % 4 == 0) {
		life_open(&l, dir);
		check_records(&l);
		assert_true(signer_seq(l.signer) >= seq);
		life_close(&l, true);
	}
	close(dir);
	past = now;
}

/* ---- the cuts ---- */

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static void
remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void
cut(void)
{
	char path[160];
	if (disk_random(3) != 0)
		return;
	disk.noting = false;
	uint64_t random = disk.random;
	snprintf(path, sizeof path, "%s/cut", where);
	cut_disk_lay(path);
	check_directory(path);
	remove_tree(path);
	cuts++;
	/* Now and then a life begins with what such a cut left, so that the next one may come while it is mended. */
	if (disk_random(10) == 0) {
		if (kept_path[0] != '\0')
			remove_tree(kept_path);
		snprintf(kept_path, sizeof kept_path, "%s/kept-%zu", where, cuts);
		uint64_t after = disk.random;
		disk.random = random;
		cut_disk_lay(kept_path);
		disk.random = after;
		kept = past;
	}
	disk.noting = true;
}

static void
note_below(struct node *directory, const char *path)
{
	DIR *d = opendir(path);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		char below[256];
		uint8_t bytes[64 * 1024];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof below, "%s/%.70s", path, e->d_name);
		struct node *node = node_new(e->d_type == DT_DIR);
		name_of(directory, e->d_name)->versions[0] = node;
		if (node->directory) {
			note_below(node, below);
			continue;
		}
		int fd = open(below, O_RDONLY);
		ssize_t len = read(fd, bytes, sizeof bytes);
		assert_true(len >= 0 && (size_t)len < sizeof bytes);
		__real_close(fd);
		node_push(node, bytes, (size_t)len);
		node_sync(node);
	}
	closedir(d);
}

/* Lives in a directory, one after the other, with what the disk has at the beginning. */
static void
live(const char *path)
{
	struct life l;
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	assert_true(dir >= 0 && dir < DESCRIPTORS);
	disk.root = node_new(true);
	note_below(disk.root, path);
	disk.descriptors[dir] = disk.root;
	disk.noted = cut;
	for (int lives = 0; lives < 2; lives++) {
		disk.noting = true;
		life_open(&l, dir);
		note_durable(&l);
		past.waiting_len = 0;
		if (disk_random(2) == 0)
			spool_group(l.spool);
		for (size_t n = disk_random(ACTIONS); n > 0; n--)
			act(&l);
		life_close(&l, disk_random(3) == 0);
		disk.noting = false;
	}
	close(dir);
	cut_disk_forget();
}

static void
nothing_durable_is_lost_and_no_number_repeats(void **unused)
{
	(void)unused;
	char path[160] = "";
	disk.random = UINT64_C(0x8259825982598259);
	while (cuts < CUTS) {
		bool from_cut = kept_path[0] != '\0' && kept.len < 100;
		if (from_cut) {
			past = kept;
			snprintf(path, sizeof path, "%s", kept_path);
			kept_path[0] = '\0';
		} else {
			/* Another device's disk: records do not say which epoch they are of, their segment's head does. */
			past = (struct past){0};
			disk.old_len = 0;
			snprintf(path, sizeof path, "%s/new-%zu", where, cuts);
			assert_int_equal(mkdir(path, 0700), 0);
		}
		live(path);
		remove_tree(path);
	}
	print_message("%zu power cuts: %zu torn tails, %zu before the first report, %zu numbers skipped at most; %zu "
		      "syncs, %zu bytes written\n",
		      cuts, torn_tails, unborn, most_skipped, disk.synced, disk.written);
	assert_true(torn_tails > CUTS / 50 && unborn > 0);
}

/* ---- identity ---- */

static int
setup(void **unused)
{
	(void)unused;
	/* In memory where there is a place: thousands of small directories are made. */
	strcpy(where, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fleetstate-cut-XXXXXX" : "/tmp/fleetstate-cut-XXXXXX");
	if (mkdtemp(where) == NULL)
		return -1;
	snprintf(key_file, sizeof key_file, "%s/key", where);
	snprintf(certificate_file, sizeof certificate_file, "%s/crt", where);
	EVP_PKEY *key = make_key("P-256");
	struct certificate_order order = {.name = NAME, .from = NOW, .to = NOW + CHAINS_DAY, .digest = "SHA256"};
	X509 *x = make_certificate(key, &order);
	write_certificates(certificate_file, &x, 1);
	FILE *f = fopen(key_file, "w");
	assert_non_null(f);
	PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
	return 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	remove_tree(where);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_durable_is_lost_and_no_number_repeats),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
