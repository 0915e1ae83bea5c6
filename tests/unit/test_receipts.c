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

#include "emitter/receipt_trust.h"
#include "emitter/receipts.h"
#include "tests/unit/chains.h"

#define NOW INT64_C(1790000000)
#define EPOCH UINT64_C(77)
#define SIGNING "1.3.6.1.5.5.7.3.36"

static char where[64], key_file[128], ca_file[128];
static EVP_PKEY *ca_key, *leaf_key;
static X509 *ca;
static struct receipt_trust *trust;
static struct spool *spool;
static int dir = -1;
static const struct ueid ours = {{1, 2, 3}};
static uint8_t digests[4][DIGEST_SIZE];

static const struct certificate_order authority = {.name = "operator",
						   .basic = "critical,CA:TRUE",
						   .usage = "critical,keyCertSign",
						   .from = NOW - CHAINS_DAY,
						   .to = NOW + 100 * CHAINS_DAY,
						   .digest = "SHA256"};

static struct certificate_order
receipt_order(void)
{
	return (struct certificate_order){.name = RECEIPT_NAME,
					  .basic = "critical,CA:FALSE",
					  .usage = "critical,digitalSignature",
					  .extended = SIGNING,
					  .from = NOW - CHAINS_DAY,
					  .to = NOW + CHAINS_DAY,
					  .digest = "SHA256",
					  .issuer = ca,
					  .issuer_key = ca_key};
}

static int
setup(void **unused)
{
	(void)unused;
	char error[ERROR_SIZE] = "";
	strcpy(where, "/tmp/fleetstate-receipts-XXXXXX");
	assert_non_null(mkdtemp(where));
	dir = open(where, O_RDONLY | O_DIRECTORY);
	snprintf(key_file, sizeof key_file, "%s/key", where);
	snprintf(ca_file, sizeof ca_file, "%s/ca", where);
	ca_key = make_key("P-256");
	leaf_key = make_key("P-256");
	ca = make_certificate(ca_key, &authority);
	write_certificates(ca_file, &ca, 1);
	FILE *f = fopen(key_file, "w");
	PEM_write_PrivateKey(f, leaf_key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	trust = receipt_trust_open(ca_file, error);
	assert_non_null(trust);
	spool = spool_open(dir, "spool", EPOCH, 1024 * 1024, error);
	assert_non_null(spool);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		uint8_t message[50] = {(uint8_t)seq};
		struct slice slice = {message, sizeof message};
		assert_int_equal(spool_append(spool, seq, 0, slice), 0);
		sha256(slice, digests[seq]);
	}
	return 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	char command[128];
	spool_close(spool);
	receipt_trust_free(trust);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(leaf_key);
	close(dir);
	snprintf(command, sizeof command, "rm -rf %s", where);
	return system(command);
}

static struct receipt
good(void)
{
	struct receipt receipt = {.iat = (uint64_t)NOW, .ueid = ours, .epoch = EPOCH, .up_to = 2, .has_digest = true};
	memcpy(receipt.digest, digests[2], DIGEST_SIZE);
	return receipt;
}

/* The receipt as a message, signed by the key in `file` with this certificate in front. */
static struct slice
sign_receipt(const struct receipt *receipt, const char *file, X509 *const *chain, size_t chain_len)
{
	static uint8_t payload[LIMIT_RECEIPT], message[LIMIT_RECEIPT];
	char error[ERROR_SIZE] = "";
	struct cbor_writer w;
	cbor_writer_init(&w, payload, sizeof payload);
	receipt_encode(receipt, &w);
	struct slice certificates[LIMIT_CHAIN_CERTS];
	for (size_t i = 0; i < chain_len; i++)
		certificates[i] = certificate_der(chain[i]);
	struct cose_key *key = cose_key_open(file, error);
	assert_non_null(key);
	size_t len = cose_sign(key, certificates, chain_len, (struct slice){payload, w.len}, message, sizeof message);
	assert_true(len > 0);
	cose_key_free(key);
	for (size_t i = 0; i < chain_len; i++)
		OPENSSL_free((void *)(uintptr_t)certificates[i].at);
	return (struct slice){message, len};
}

static enum reason
check_ordered(const struct certificate_order *order, struct receipt *out)
{
	struct receipt receipt = good();
	X509 *leaf = make_certificate(leaf_key, order);
	enum reason reason = receipt_trust_check(trust, sign_receipt(&receipt, key_file, &leaf, 1), out);
	X509_free(leaf);
	return reason;
}

static void
genuine(void **unused)
{
	(void)unused;
	struct receipt out;
	struct certificate_order order = receipt_order();
	assert_int_equal(check_ordered(&order, &out), REASON_OK);
	assert_int_equal(out.up_to, 2);
	assert_int_equal(receipts_judge(&out, &ours, EPOCH, 3, spool), COUNTER_RECEIPTS);
}

/* Each certificate that is not the receipt signer's. */
static void
wrong_signers(void **unused)
{
	(void)unused;
	struct receipt out;
	EVP_PKEY *strange_key = make_key("P-256");
	X509 *strange = make_certificate(strange_key, &authority);
	struct certificate_order order = receipt_order();
	order.issuer = strange;
	order.issuer_key = strange_key;
	assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_UNTRUSTED);
	order = receipt_order();
	order.issuer = NULL;
	assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_UNTRUSTED);
	static const char *const names[] = {"fleetstate-receipts", "fleetstate-receip",
					    "01112233445566778899aabbccddeeff00", NULL};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		order = receipt_order();
		order.name = names[i];
		assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_NAME);
	}
	order = receipt_order();
	order.second_name = "another";
	assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_NAME);
	static const char *const usages[] = {"clientAuth", SIGNING ",clientAuth", SIGNING ",serverAuth",
					     "anyExtendedKeyUsage", NULL};
	for (size_t i = 0; i < sizeof usages / sizeof *usages; i++) {
		order = receipt_order();
		order.extended = usages[i];
		assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_USAGE);
	}
	order = receipt_order();
	order.to = NOW - 60;
	assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_EXPIRED);
	order = receipt_order();
	order.from = NOW + 60;
	assert_int_equal(check_ordered(&order, &out), REASON_CERTIFICATE_NOT_YET_VALID);
	X509_free(strange);
	EVP_PKEY_free(strange_key);
}

/* A leaf that is no authority can't vouch for another, and a chain without the signer's own leaf is none. */
static void
wrong_chains(void **unused)
{
	(void)unused;
	struct receipt receipt = good(), out;
	struct certificate_order order = receipt_order();
	X509 *chain[2];
	EVP_PKEY *device_key = make_key("P-256");
	order.name = "01112233445566778899aabbccddeeff00";
	chain[1] = make_certificate(device_key, &order);
	order = receipt_order();
	order.issuer = chain[1];
	order.issuer_key = device_key;
	chain[0] = make_certificate(leaf_key, &order);
	assert_int_equal(receipt_trust_check(trust, sign_receipt(&receipt, key_file, chain, 2), &out),
			 REASON_CERTIFICATE_UNTRUSTED);
	assert_int_equal(receipt_trust_check(trust, sign_receipt(&receipt, key_file, chain, 0), &out),
			 REASON_UNKNOWN_KEY);
	assert_int_equal(receipt_trust_check(trust, sign_receipt(&receipt, key_file, &chain[1], 1), &out),
			 REASON_CERTIFICATE_MALFORMED);
	X509_free(chain[0]);
	X509_free(chain[1]);
	EVP_PKEY_free(device_key);
}

/* One bit anywhere. */
static void
forged(void **unused)
{
	(void)unused;
	struct receipt receipt = good(), out;
	struct certificate_order order = receipt_order();
	X509 *leaf = make_certificate(leaf_key, &order);
	static uint8_t bytes[LIMIT_RECEIPT];
	struct slice message = sign_receipt(&receipt, key_file, &leaf, 1);
	memcpy(bytes, message.at, message.len);
	for (size_t i = 0; i < message.len; i++) {
		bytes[i] ^= (uint8_t)(1 << (i % 8));
		assert_int_not_equal(receipt_trust_check(trust, (struct slice){bytes, message.len}, &out), REASON_OK);
		bytes[i] ^= (uint8_t)(1 << (i % 8));
		assert_int_not_equal(receipt_trust_check(trust, (struct slice){bytes, i}, &out), REASON_OK);
	}
	assert_int_equal(receipt_trust_check(trust, (struct slice){bytes, message.len}, &out), REASON_OK);
	X509_free(leaf);
}

static enum counter
judge(const struct receipt *receipt)
{
	return receipts_judge(receipt, &ours, EPOCH, 3, spool);
}

static void
not_for_us(void **unused)
{
	(void)unused;
	struct receipt receipt = good();
	receipt.ueid.bytes[16] ^= 1;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_FOREIGN);
	receipt = good();
	receipt.epoch++;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_EPOCH);
	receipt = good();
	receipt.up_to = 4;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_AHEAD);
	receipt = good();
	receipt.digest[0] ^= 1;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_DIGEST);
	receipt = good();
	receipt.up_to = 3;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_DIGEST);
	/* "Dropped" of a report that we have and did not drop. */
	receipt = good();
	receipt.has_digest = false;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_DIGEST);
	assert_int_equal(spool_drop(spool, (struct seq_range){2, 2}, DROP_OVERWRITTEN), 0);
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS);
	receipt = good();
	receipt.up_to = 0;
	receipt.has_digest = false;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS);
}

static void
replayed(void **unused)
{
	(void)unused;
	struct receipt receipt = good();
	struct account account = {.iat = (uint64_t)NOW, .up_to = 2};
	assert_int_equal(spool_settle(spool, &account), 0);
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS);
	receipt.iat--;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_REPLAYED);
}

/* The collector's clock was fourteen years ahead for a moment. What it says of later reports is heard, what it said before is not. */
static void
clock_ahead(void **unused)
{
	(void)unused;
	char error[ERROR_SIZE] = "";
	struct receipt receipt = good(), jumped = good();
	jumped.iat = (uint64_t)(NOW + 14 * 365 * CHAINS_DAY);
	struct account account = receipts_account(&jumped);
	assert_int_equal(judge(&jumped), COUNTER_RECEIPTS);
	assert_int_equal(spool_settle(spool, &account), 0);
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_REPLAYED);
	receipt.up_to = 3;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_REPLAYED); /* the digest is that of 2 */
	receipt.has_digest = false;
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_REPLAYED);
	receipt.has_digest = true;
	memcpy(receipt.digest, digests[3], DIGEST_SIZE);
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS);
	account = receipts_account(&receipt);
	assert_int_equal(spool_settle(spool, &account), 0);
	/* Also after a restart. */
	spool_close(spool);
	spool = spool_open(dir, "spool", EPOCH, 1024 * 1024, error);
	assert_non_null(spool);
	assert_int_equal(judge(&jumped), COUNTER_RECEIPTS_REPLAYED);
	assert_int_equal(judge(&receipt), COUNTER_RECEIPTS_REPLAYED);
	assert_int_equal(spool_account(spool)->up_to, 3);
}

/* A collector that was restored from an old copy says less than before, later. What it said before the copy frees nothing. */
static void
restored_collector(void **unused)
{
	(void)unused;
	struct receipt before = good(), after = good();
	before.up_to = 3;
	memcpy(before.digest, digests[3], DIGEST_SIZE);
	after.up_to = 1;
	after.iat += 3600;
	memcpy(after.digest, digests[1], DIGEST_SIZE);
	struct account account = receipts_account(&before);
	assert_int_equal(judge(&before), COUNTER_RECEIPTS);
	assert_int_equal(spool_settle(spool, &account), 0);
	account = receipts_account(&after);
	assert_int_equal(judge(&after), COUNTER_RECEIPTS);
	assert_int_equal(spool_settle(spool, &account), 0);
	assert_int_equal(judge(&before), COUNTER_RECEIPTS_REPLAYED);
	assert_int_equal(judge(&after), COUNTER_RECEIPTS_REPLAYED);
}

/* Not before a receipt covers a report with a certificate is it known to the collector; the newest one counts. */
static void
leaf_known(void **unused)
{
	(void)unused;
	uint8_t leaf[DIGEST_SIZE], ones[2][DIGEST_SIZE];
	char error[ERROR_SIZE] = "";
	struct cose_key *key = cose_key_open(key_file, error);
	for (uint64_t seq = 4; seq <= 5; seq++) {
		static uint8_t message[256];
		uint8_t certificate = (uint8_t)seq;
		struct slice chain = {&certificate, 1};
		sha256(chain, ones[seq - 4]);
		size_t len = cose_sign(key, &chain, 1, chain, message, sizeof message);
		assert_int_equal(spool_append(spool, seq, SPOOL_CHAIN, (struct slice){message, len}), 0);
	}
	cose_key_free(key);
	struct account account = {.iat = (uint64_t)NOW, .up_to = 3};
	assert_false(receipts_leaf(&account, spool, leaf));
	account.up_to = 5;
	account.missing[account.missing_len++] = (struct seq_range){5, 5};
	assert_true(receipts_leaf(&account, spool, leaf));
	assert_memory_equal(leaf, ones[0], DIGEST_SIZE);
	account.missing_len = 0;
	assert_true(receipts_leaf(&account, spool, leaf));
	assert_memory_equal(leaf, ones[1], DIGEST_SIZE);
	/* Given up is not received. */
	assert_int_equal(spool_drop(spool, (struct seq_range){4, 5}, DROP_OVERWRITTEN), 0);
	assert_false(receipts_leaf(&account, spool, leaf));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(genuine, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_signers, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_chains, setup, teardown),
		cmocka_unit_test_setup_teardown(forged, setup, teardown),
		cmocka_unit_test_setup_teardown(not_for_us, setup, teardown),
		cmocka_unit_test_setup_teardown(replayed, setup, teardown),
		cmocka_unit_test_setup_teardown(clock_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(restored_collector, setup, teardown),
		cmocka_unit_test_setup_teardown(leaf_known, setup, teardown),
	};
	return cmocka_run_group_tests_name("receipts", tests, NULL, NULL);
}
