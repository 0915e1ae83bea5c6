#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/sign.h"
#include "tests/unit/chains.h"

#define NAME "01112233445566778899aabbccddeeff00"
#define NOW INT64_C(1790000000)

static char where[64], key_file[128], certificate_file[128];
static int dir = -1;
static uint8_t boot[BOOT_ID_SIZE] = {1, 2, 3};

static void
make_identity(const char *name)
{
	EVP_PKEY *key = make_key("P-256");
	struct certificate_order order = {.name = name, .from = NOW, .to = NOW + CHAINS_DAY, .digest = "SHA256"};
	X509 *x = make_certificate(key, &order);
	write_certificates(certificate_file, &x, 1);
	FILE *f = fopen(key_file, "w");
	assert_non_null(f);
	PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
}

static int
setup(void **unused)
{
	(void)unused;
	strcpy(where, "/tmp/fleetstate-sign-XXXXXX");
	assert_non_null(mkdtemp(where));
	snprintf(key_file, sizeof key_file, "%s/key", where);
	snprintf(certificate_file, sizeof certificate_file, "%s/crt", where);
	make_identity(NAME);
	dir = open(where, O_RDONLY | O_DIRECTORY);
	return dir >= 0 ? 0 : -1;
}

static int
teardown(void **unused)
{
	(void)unused;
	char command[128];
	close(dir);
	snprintf(command, sizeof command, "rm -rf %s", where);
	return system(command);
}

static struct signer *
open_signer(void)
{
	char error[ERROR_SIZE] = "";
	struct signer *s = signer_open(dir, key_file, certificate_file, boot, error);
	if (s == NULL)
		print_error("%s\n", error);
	assert_non_null(s);
	return s;
}

static struct signer *
start_signer(const struct link *newest, struct seq_range *skipped)
{
	static const struct link none;
	char error[ERROR_SIZE] = "";
	struct signer *s = open_signer();
	assert_int_equal(signer_start(s, newest != NULL ? newest : &none, &none, skipped, error), 0);
	return s;
}

/* Makes a report, commits it, and returns its number. *link becomes what its successor refers to. */
static uint64_t
make(struct signer *s, bool commit, struct link *link, struct report *out)
{
	struct report report = {.iat = (uint64_t)NOW, .interval = 60};
	struct slice message = signer_sign(s, &report, false);
	assert_non_null(message.at);
	uint8_t digest[DIGEST_SIZE];
	sha256(message, digest);
	if (commit)
		signer_commit(s, &report, digest);
	link->seq = report.seq;
	memcpy(link->digest, digest, DIGEST_SIZE);
	if (out != NULL)
		*out = report;
	free((void *)(uintptr_t)message.at);
	return report.seq;
}

/* What is signed verifies, is within the promised size, and says who and in which order. */
static void
signs(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	struct signer *s = start_signer(NULL, &skipped);
	assert_int_equal(skipped.first, 0);
	struct report report = {.iat = (uint64_t)NOW, .interval = 60, .receipt = true}, decoded;
	uint8_t boot_id[BOOT_ID_SIZE];
	for (int i = 0; i < 3; i++) {
		bool chain = i == 0;
		struct slice message = signer_sign(s, &report, chain);
		struct cose_sign1 sign1;
		uint8_t digest[DIGEST_SIZE];
		char error[ERROR_SIZE];
		assert_non_null(message.at);
		assert_int_equal(cose_decode(message, &sign1), REASON_OK);
		assert_int_equal(sign1.chain_len, chain ? 1 : 0);
		struct cose_key *key = cose_key_open(key_file, error);
		assert_int_equal(cose_verify(&sign1, key, NULL), REASON_OK);
		cose_key_free(key);
		assert_int_equal(report_decode(sign1.payload, &decoded), REASON_OK);
		assert_int_equal(decoded.seq, i + 1);
		assert_int_equal(decoded.bootcount, 1);
		assert_int_equal(decoded.boot_id.at != NULL, i == 0);
		assert_int_equal(decoded.has_prev, i > 0);
		if (i == 0) {
			memcpy(boot_id, decoded.boot_id.at, BOOT_ID_SIZE);
			assert_memory_equal(boot_id, boot, BOOT_ID_SIZE);
		}
		if (i == 2)
			assert_true(message.len <= 220);
		sha256(message, digest);
		signer_commit(s, &report, digest);
		free((void *)(uintptr_t)message.at);
	}
	signer_free(s);
}

/* A clean stop wastes no number; the successor refers to the last message. */
static void
clean_stop(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	struct link last, next;
	struct report report;
	struct signer *s = start_signer(NULL, &skipped);
	uint64_t epoch = signer_epoch(s);
	for (uint64_t i = 1; i <= 100; i++)
		assert_int_equal(make(s, true, &last, NULL), i);
	assert_int_equal(signer_stop(s), 0);
	signer_free(s);
	s = start_signer(&last, &skipped);
	assert_true(signer_epoch(s) == epoch);
	assert_int_equal(skipped.first, 0);
	assert_int_equal(make(s, true, &next, &report), 101);
	assert_true(report.has_prev);
	assert_memory_equal(report.prev, last.digest, DIGEST_SIZE);
	assert_null(report.boot_id.at);
	assert_int_equal(report.bootcount, 1);
	signer_free(s);
}

/* Killed after any number of reports, durable or not: no number comes twice, and all that were skipped are told. */
static void
kills(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	struct link last = {0}, made;
	uint64_t used = 0, expected = 1;
	for (unsigned run = 0; run < 200; run++) {
		struct signer *s = start_signer(&last, &skipped);
		if (skipped.first != 0) {
			assert_int_equal(skipped.first, last.seq + 1);
			assert_true(skipped.last >= used);
			expected = skipped.last + 1;
		}
		for (unsigned i = 0; i < run % 131; i++) {
			bool durable = i % 3 != 2;
			uint64_t seq = make(s, durable, &made, NULL);
			assert_int_equal(seq, expected);
			assert_true(seq > used);
			expected = used = seq;
			expected++;
			if (durable)
				last = made;
		}
		signer_free(s); /* without signer_stop */
	}
	assert_true(used > 10000);
}

/* The spool is newer than the state after a crash: the chain goes on from its newest record. */
static void
chain_from_spool(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	struct link last, next;
	struct report report;
	struct signer *s = start_signer(NULL, &skipped);
	for (int i = 0; i < 5; i++)
		(void)make(s, true, &last, NULL);
	signer_free(s);
	s = start_signer(&last, &skipped);
	assert_int_equal(skipped.first, 6);
	assert_int_equal(skipped.last, SEQ_RESERVE);
	assert_int_equal(make(s, true, &next, &report), SEQ_RESERVE + 1);
	assert_memory_equal(report.prev, last.digest, DIGEST_SIZE);
	signer_free(s);
}

static void
next_boot(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	struct link last;
	struct report report;
	struct signer *s = start_signer(NULL, &skipped);
	(void)make(s, true, &last, NULL);
	assert_int_equal(signer_stop(s), 0);
	signer_free(s);
	boot[0]++;
	s = start_signer(&last, &skipped);
	(void)make(s, true, &last, &report);
	assert_int_equal(report.bootcount, 2);
	assert_non_null(report.boot_id.at);
	signer_free(s);
}

static void
assert_refused(const char *what)
{
	char error[ERROR_SIZE] = "";
	assert_null(signer_open(dir, key_file, certificate_file, boot, error));
	assert_non_null(strstr(error, what));
}

/* A damaged state is never taken for a new device: that would use numbers twice. At every byte, and cut short anywhere. */
static void
damaged_state(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	uint8_t bytes[256];
	signer_free(start_signer(NULL, &skipped));
	ssize_t len = durable_read(dir, "signer", bytes, sizeof bytes);
	assert_true(len > 0);
	for (ssize_t cut = 0; cut < len; cut++) {
		assert_int_equal(durable_write(dir, "signer", (struct slice){bytes, (size_t)cut}, false), 0);
		assert_refused("damaged");
	}
	bytes[0] ^= 0x20;
	assert_int_equal(durable_write(dir, "signer", (struct slice){bytes, (size_t)len}, false), 0);
	assert_refused("damaged");
}

/* An old copy of the state directory's file beside a newer spool would sign other reports under used numbers. */
static void
restored_state(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	char error[ERROR_SIZE] = "";
	struct link newer = {.seq = SEQ_RESERVE + 1}, none = {0};
	signer_free(start_signer(NULL, &skipped));
	struct signer *s = open_signer();
	assert_int_equal(signer_start(s, &newer, &none, &skipped, error), -1);
	assert_non_null(strstr(error, "newer"));
	signer_free(s);
}

static void
wrong_certificate(void **unused)
{
	(void)unused;
	char other[160];
	make_identity("not-a-ueid");
	assert_refused("not a ueid");
	make_identity(NAME);
	snprintf(other, sizeof other, "%s", key_file);
	snprintf(key_file, sizeof key_file, "%s/other", where);
	assert_int_equal(cose_key_generate(-7, key_file), 0);
	assert_refused("not for the signing key");
	snprintf(key_file, sizeof key_file, "%s/absent", where);
	assert_refused("");
}

/* A state that can't be written stops the signing before a number is taken beyond the ceiling. */
static void
no_more_numbers(void **unused)
{
	(void)unused;
	struct seq_range skipped;
	struct link last;
	struct report report = {.iat = (uint64_t)NOW, .interval = 60};
	struct signer *s = start_signer(NULL, &skipped);
	for (int i = 0; i < SEQ_RESERVE; i++)
		(void)make(s, true, &last, NULL);
	close(dir);
	struct slice message = signer_sign(s, &report, false);
	assert_null(message.at);
	assert_int_equal(report.seq, 0);
	dir = open(where, O_RDONLY | O_DIRECTORY);
	assert_int_equal(make(s, true, &last, NULL), SEQ_RESERVE + 1);
	signer_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(signs, setup, teardown),
		cmocka_unit_test_setup_teardown(clean_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(kills, setup, teardown),
		cmocka_unit_test_setup_teardown(chain_from_spool, setup, teardown),
		cmocka_unit_test_setup_teardown(next_boot, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_state, setup, teardown),
		cmocka_unit_test_setup_teardown(restored_state, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(no_more_numbers, setup, teardown),
	};
	return cmocka_run_group_tests_name("sign", tests, NULL, NULL);
}
