/*
 * Whole messages through verification: what is taken, and for each way to be wrong the one reason. At the end every reason that verification
 * can give must have been given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/verify.h"
#include "tests/unit/chains.h"

#define NOW INT64_C(1800000000)
#define HEX "01000102030405060708090a0b0c0d0e0f"
#define SIGNING "1.3.6.1.5.5.7.3.36"
#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define MESSAGE_MAX 4096

static struct {
	struct cose_key *key, *other, *ed25519; /* private; `other` is nobody's */
	struct anchors *anchors;
	struct slice chain[2]; /* of `key`: leaf and intermediate */
	struct slice foreign[1]; /* of `key`, by nobody we trust */
	struct slice renewed[1]; /* of `key`, begins later */
	struct ueid ueid;
	struct key_cache *cache;
	bool seen[REASONS];
} t;

/* The device as the keyring would have it. */
static struct device device;
static struct device_keys *keys;

static void
never(void)
{
	fail_msg("a step of the set-up failed");
}

static X509 *
certify(const char *name, EVP_PKEY *key, bool authority, int from, X509 *issuer, EVP_PKEY *issuer_key)
{
	const struct certificate_order order = {
		.name = name,
		.basic = authority ? "critical,CA:TRUE" : "critical,CA:FALSE",
		.usage = authority ? "critical,keyCertSign" : "critical,digitalSignature",
		.extended = authority ? NULL : SIGNING,
		.from = NOW + (int64_t)from * CHAINS_DAY,
		.to = NOW + (int64_t)(authority ? 1000 : from + 20) * CHAINS_DAY,
		.digest = "SHA256",
		.issuer = issuer,
		.issuer_key = issuer_key,
	};

	return make_certificate(key, &order);
}

/* A key in a file, as the emitter has it, and as OpenSSL's for its certificate. */
static struct cose_key *
make_signing_key(int alg, EVP_PKEY **pkey)
{
	char directory[] = "/tmp/test_verify.XXXXXX", file[64], error[256];
	struct cose_key *key = NULL;

	if (mkdtemp(directory) == NULL)
		never();
	snprintf(file, sizeof file, "%s/key.pem", directory);
	if (cose_key_generate(alg, file) < 0 || (key = cose_key_open(file, error)) == NULL)
		never();
	if (pkey != NULL) {
		FILE *in = fopen(file, "r");

		*pkey = PEM_read_PrivateKey(in, NULL, NULL, NULL);
		fclose(in);
	}
	unlink(file);
	rmdir(directory);
	return key;
}

static void
make_chains(EVP_PKEY *signing)
{
	EVP_PKEY *root_key = make_key("P-256"), *middle_key = make_key("P-256"), *foreign_key = make_key("P-256");
	X509 *root = certify("root", root_key, true, -100, NULL, NULL);
	X509 *middle = certify("middle", middle_key, true, -100, root, root_key);
	X509 *foreign = certify("foreign", foreign_key, true, -100, NULL, NULL);
	X509 *leaf = certify(HEX, signing, false, -10, middle, middle_key);
	X509 *stray = certify(HEX, signing, false, -10, foreign, foreign_key);
	X509 *later = certify(HEX, signing, false, -1, root, root_key);
	char file[] = "/tmp/test_verify.XXXXXX", error[256];

	t.chain[0] = certificate_der(leaf);
	t.chain[1] = certificate_der(middle);
	t.foreign[0] = certificate_der(stray);
	t.renewed[0] = certificate_der(later);
	close(mkstemp(file));
	write_certificates(file, &root, 1);
	t.anchors = anchors_from_pem(file, error);
	unlink(file);
	EVP_PKEY *const private[] = {root_key, middle_key, foreign_key};
	X509 *const certificates[] = {root, middle, foreign, leaf, stray, later};
	for (size_t i = 0; i < LENGTH(private); i++)
		EVP_PKEY_free(private[i]);
	for (size_t i = 0; i < LENGTH(certificates); i++)
		X509_free(certificates[i]);
}

static struct slice
spki_of(EVP_PKEY *pkey)
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(pkey, &der);

	return (struct slice){der, (size_t)len};
}

static int
set_up(void **unused)
{
	EVP_PKEY *signing;

	(void)unused;
	t.key = make_signing_key(-7, &signing);
	t.other = make_signing_key(-7, NULL);
	t.ed25519 = make_signing_key(-8, NULL);
	t.cache = key_cache_new(2);
	make_chains(signing);
	keys = calloc(1, sizeof *keys + sizeof keys->at[0]);
	keys->len = 1;
	keys->at[0].spki = spki_of(signing);
	EVP_PKEY_free(signing);
	return t.anchors == NULL || !ueid_parse((struct slice){(const uint8_t *)HEX, sizeof HEX - 1}, &t.ueid) ? -1 : 0;
}

static int
tear_down(void **unused)
{
	const struct slice owned[] = {t.chain[0], t.chain[1], t.foreign[0], t.renewed[0], keys->at[0].spki};

	(void)unused;
	for (size_t i = 0; i < LENGTH(owned); i++)
		OPENSSL_free((void *)(uintptr_t)owned[i].at);
	free(keys);
	anchors_free(t.anchors);
	key_cache_free(t.cache);
	cose_key_free(t.key);
	cose_key_free(t.other);
	cose_key_free(t.ed25519);
	return 0;
}

static int
reset_device(void **unused)
{
	struct device_key *key = &keys->at[0];

	(void)unused;
	cose_key_kid(t.key, key->kid);
	key->status = KEY_ACTIVE;
	key->not_before = NOW - 10 * CHAINS_DAY;
	key->not_after = NOW + 10 * CHAINS_DAY;
	device = (struct device){.ueid = t.ueid, .device_id = 1, .lifecycle = LIFECYCLE_ACTIVE, .keys = keys};
	return 0;
}

/* Payloads. */

struct payload {
	uint8_t bytes[MESSAGE_MAX];
	size_t len;
};

static const uint8_t empty_state[] = {0xa0};

static struct report
plain_report(void)
{
	return (struct report){.iat = (uint64_t)NOW - 5,
			       .ueid = t.ueid,
			       .bootcount = 3,
			       .seq = 1,
			       .epoch = 7,
			       .interval = 300,
			       .receipt = true};
}

static void
encode(const struct report *report, struct payload *p)
{
	struct cbor_writer w;

	cbor_writer_init(&w, p->bytes, sizeof p->bytes);
	report_encode(report, &w);
	if (w.overflow)
		never();
	p->len = w.len;
}

/* Appends a pair to the outer map, whose head is one byte. */
static void
append(struct payload *p, const void *pair, size_t len)
{
	memcpy(p->bytes + p->len, pair, len);
	p->len += len;
	p->bytes[0]++;
}

/* Where these bytes stand. */
static uint8_t *
find(struct payload *p, const void *bytes, size_t len)
{
	uint8_t *at = memmem(p->bytes, p->len, bytes, len);

	if (at == NULL)
		never();
	return at;
}

static size_t
sign(struct cose_key *key, const struct payload *p, const struct slice *chain, size_t chain_len,
     uint8_t out[MESSAGE_MAX])
{
	size_t len = cose_sign(key, chain, chain_len, (struct slice){p->bytes, p->len}, out, MESSAGE_MAX);

	if (len == 0)
		never();
	return len;
}

static size_t
plain_message(uint8_t out[MESSAGE_MAX], size_t chain_len)
{
	struct report report = plain_report();
	struct payload p;

	encode(&report, &p);
	return sign(t.key, &p, t.chain, chain_len, out);
}

/* Runs it, and checks what always holds. */
static struct message
verify_at(struct slice bytes, struct device *from, int64_t received)
{
	struct message m = {.ueid = t.ueid, .bytes = bytes, .received_us = received * 1000000 + 7, .device = from};
	uint8_t digest[DIGEST_SIZE];

	verify_message(&m, t.cache, t.anchors);
	sha256(bytes, digest);
	assert_memory_equal(m.sha256, digest, DIGEST_SIZE);
	if (m.reason != REASON_OK) {
		assert_null(m.enrolment);
		assert_false(m.parked);
	}
	t.seen[m.reason] = true;
	return m;
}

static enum reason
reason_at(struct slice bytes, struct device *from, int64_t received)
{
	struct message m = verify_at(bytes, from, received);

	assert_false(m.parked);
	enrolment_free(m.enrolment);
	return m.reason;
}

static void
test_known_key(void **unused)
{
	uint8_t bytes[MESSAGE_MAX], tbs[DIGEST_SIZE];
	size_t len = plain_message(bytes, 0);
	struct message m = verify_at((struct slice){bytes, len}, &device, NOW);

	(void)unused;
	assert_int_equal(m.reason, REASON_OK);
	assert_false(m.parked);
	assert_null(m.enrolment);
	assert_int_equal(m.flags, 0);
	assert_int_equal(m.report.seq, 1);
	assert_int_equal(m.report.epoch, 7);
	assert_int_equal(m.report.interval, 300);
	cose_tbs_digest(&m.cose, tbs);
	assert_memory_equal(m.tbs, tbs, DIGEST_SIZE);
}

static void
test_new_device_enrols(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];
	size_t len = plain_message(bytes, 2);
	struct message m = verify_at((struct slice){bytes, len}, NULL, NOW);

	(void)unused;
	assert_int_equal(m.reason, REASON_OK);
	assert_non_null(m.enrolment);
	assert_int_equal(m.enrolment->not_after, NOW + 10 * CHAINS_DAY);
	assert_int_equal(m.flags, 0);
	enrolment_free(m.enrolment);
}

static void
test_known_key_needs_no_chain(void **unused)
{
	struct report report = plain_report();
	uint8_t bytes[MESSAGE_MAX];
	struct payload p;
	struct message m;

	(void)unused;
	encode(&report, &p);
	m = verify_at((struct slice){bytes, sign(t.key, &p, t.foreign, 1, bytes)}, &device, NOW);
	assert_int_equal(m.reason, REASON_OK);
	assert_null(m.enrolment);
	m = verify_at((struct slice){bytes, sign(t.key, &p, t.chain, 2, bytes)}, &device, NOW);
	assert_int_equal(m.reason, REASON_OK);
	assert_null(m.enrolment);
}

/* The same key in a certificate that begins later: stored anew, and good where the old one's time is over. */
static void
test_renewal(void **unused)
{
	struct report report = plain_report();
	uint8_t bytes[MESSAGE_MAX];
	struct payload p;
	struct message m;
	size_t len;

	(void)unused;
	encode(&report, &p);
	len = sign(t.key, &p, t.renewed, 1, bytes);
	keys->at[0].not_after = NOW - VERIFY_GRACE - 1;
	m = verify_at((struct slice){bytes, len}, &device, NOW);
	assert_int_equal(m.reason, REASON_OK);
	assert_int_equal(m.flags, 0);
	assert_non_null(m.enrolment);
	assert_int_equal(m.enrolment->not_before, NOW - CHAINS_DAY);
	enrolment_free(m.enrolment);
	keys->at[0].status = KEY_REVOKED;
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_KEY_REVOKED);
	device.tenant_id = 5;
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_UEID_OWNED_ELSEWHERE);
	/* A later one that nobody vouches for changes nothing. */
	reset_device(NULL);
	len = sign(t.key, &p, t.foreign, 1, bytes);
	keys->at[0].not_before = NOW - 50 * CHAINS_DAY;
	m = verify_at((struct slice){bytes, len}, &device, NOW);
	assert_int_equal(m.reason, REASON_OK);
	assert_null(m.enrolment);
}

static void
test_unknown_key_waits(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];
	size_t len = plain_message(bytes, 0);
	struct message m = verify_at((struct slice){bytes, len}, NULL, NOW);

	(void)unused;
	assert_true(m.parked);
	assert_int_equal(m.reason, REASON_OK);
	/* Then it becomes known. */
	m.device = &device;
	verify_message(&m, t.cache, t.anchors);
	assert_false(m.parked);
	assert_int_equal(m.reason, REASON_OK);
	assert_int_equal(m.report.seq, 1);
	/* A device that we know, but not with this key. */
	keys->at[0].kid[0] ^= 1;
	m = verify_at((struct slice){bytes, len}, &device, NOW);
	assert_true(m.parked);
	device.keys = NULL;
	m = verify_at((struct slice){bytes, len}, &device, NOW);
	assert_true(m.parked);
}

/* Each bit: refused or, when it makes the key another one that nobody knows, parked; never taken. */
static void
flip_every_bit(uint8_t *bytes, size_t len, struct device *from)
{
	size_t parked = 0;

	for (size_t bit = 0; bit < 8 * len; bit++) {
		struct message m;

		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		m = verify_at((struct slice){bytes, len}, from, NOW);
		if ((m.reason != REASON_OK) == m.parked)
			fail_msg("bit %zu of %zu: %s", bit, 8 * len, reason_name(m.reason));
		if (m.parked)
			parked++;
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(parked <= 8 * KID_SIZE);
	assert_int_equal(reason_at((struct slice){bytes, len}, from, NOW), REASON_OK);
}

static void
test_no_bit_may_change(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];

	(void)unused;
	flip_every_bit(bytes, plain_message(bytes, 0), &device);
}

static void
test_no_bit_may_change_with_chain(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];
	size_t len = plain_message(bytes, 2);

	(void)unused;
	flip_every_bit(bytes, len, NULL);
	flip_every_bit(bytes, len, &device);
}

static void
test_every_shorter_message(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];
	size_t len = plain_message(bytes, 2);

	(void)unused;
	for (size_t i = 0; i < len; i++)
		assert_int_equal(reason_at((struct slice){bytes, i}, &device, NOW), REASON_TRUNCATED);
	bytes[len] = 0;
	assert_int_equal(reason_at((struct slice){bytes, len + 1}, &device, NOW), REASON_TRAILING_BYTES);
}

static void
test_too_large(void **unused)
{
	size_t len = LIMIT_MESSAGE + 1;
	uint8_t *bytes = calloc(1, len);

	(void)unused;
	assert_non_null(bytes);
	(void)!plain_message(bytes, 0);
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_TOO_LARGE);
	assert_int_equal(reason_at((struct slice){bytes, len - 1}, &device, NOW), REASON_TRAILING_BYTES);
	free(bytes);
}

/* The key and its time. Columns: what is so, and what follows. */
static const struct judgement {
	const char *title;
	int64_t received; /* seconds from NOW */
	enum key_status status;
	enum lifecycle lifecycle;
	enum reason reason;
	unsigned flags;
} judgements[] = {
	{"in its time", 0, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_OK, 0},
	{"pending", 0, KEY_ACTIVE, LIFECYCLE_PENDING, REASON_OK, REPORT_PENDING},
	{"its last second", 10 * CHAINS_DAY, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_OK, 0},
	{"the first second of grace", 10 * CHAINS_DAY + 1, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_OK, REPORT_GRACE},
	{"the last second of grace", 10 * CHAINS_DAY + VERIFY_GRACE, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_OK,
	 REPORT_GRACE},
	{"after grace", 10 * CHAINS_DAY + VERIFY_GRACE + 1, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_CERTIFICATE_EXPIRED,
	 0},
	{"long after", 10000 * CHAINS_DAY, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_CERTIFICATE_EXPIRED, 0},
	{"its first second", -10 * CHAINS_DAY, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_OK, REPORT_CLOCK_SUSPECT},
	{"too early", -10 * CHAINS_DAY - 1, KEY_ACTIVE, LIFECYCLE_ACTIVE, REASON_CERTIFICATE_NOT_YET_VALID, 0},
	{"revoked key", 0, KEY_REVOKED, LIFECYCLE_ACTIVE, REASON_KEY_REVOKED, 0},
	{"retired key", 0, KEY_RETIRED, LIFECYCLE_ACTIVE, REASON_KEY_RETIRED, 0},
	{"retired device", 0, KEY_ACTIVE, LIFECYCLE_RETIRED, REASON_DEVICE_RETIRED, 0},
	{"revoked device", 0, KEY_ACTIVE, LIFECYCLE_REVOKED, REASON_DEVICE_REVOKED, 0},
	{"deleted device", 0, KEY_ACTIVE, LIFECYCLE_DELETED, REASON_DEVICE_DELETED, 0},
	{"transferred device", 0, KEY_ACTIVE, LIFECYCLE_TRANSFERRED, REASON_DEVICE_RETIRED, 0},
};

/* With another's signature none of it shows. */
static void
test_judgements(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];
	size_t len = plain_message(bytes, 0);

	(void)unused;
	for (size_t i = 0; i < LENGTH(judgements); i++) {
		const struct judgement *row = &judgements[i];
		struct message m;

		keys->at[0].status = row->status;
		device.lifecycle = row->lifecycle;
		m = verify_at((struct slice){bytes, len}, &device, NOW + row->received);
		if (m.reason != row->reason || (m.reason == REASON_OK && m.flags != row->flags))
			fail_msg("%s: %s, flags %u", row->title, reason_name(m.reason), m.flags);
		bytes[len - 1] ^= 1;
		assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW + row->received),
				 REASON_BAD_SIGNATURE);
		bytes[len - 1] ^= 1;
	}
}

static void
test_clock(void **unused)
{
	static const struct {
		int64_t iat;
		unsigned flags;
	} clocks[] = {
		{NOW, 0},
		{NOW + VERIFY_CLOCK_AHEAD, 0},
		{NOW + VERIFY_CLOCK_AHEAD + 1, REPORT_CLOCK_SUSPECT},
		{LIMIT_IAT, REPORT_CLOCK_SUSPECT},
		{NOW - 400 * CHAINS_DAY, 0},
		{VERIFY_CLOCK_LEAST, 0},
		{VERIFY_CLOCK_LEAST - 1, REPORT_CLOCK_SUSPECT},
		{0, REPORT_CLOCK_SUSPECT},
	};

	(void)unused;
	for (size_t i = 0; i < LENGTH(clocks); i++) {
		struct report report = plain_report();
		uint8_t bytes[MESSAGE_MAX];
		struct payload p;
		struct message m;

		report.iat = (uint64_t)clocks[i].iat;
		encode(&report, &p);
		m = verify_at((struct slice){bytes, sign(t.key, &p, NULL, 0, bytes)}, &device, NOW);
		assert_int_equal(m.reason, REASON_OK);
		assert_int_equal(m.flags, clocks[i].flags);
	}
}

/* Signers that are not who they seem. */
static void
test_signers(void **unused)
{
	struct report report = plain_report();
	uint8_t bytes[MESSAGE_MAX], *kid;
	struct payload p;
	size_t len;

	(void)unused;
	encode(&report, &p);
	/* Another key under our kid. */
	len = sign(t.other, &p, NULL, 0, bytes);
	kid = memmem(bytes, len, "\x04\x48", 2);
	assert_non_null(kid);
	cose_key_kid(t.key, kid + 2);
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_BAD_SIGNATURE);
	/* Another key with our chain. */
	len = sign(t.other, &p, t.chain, 2, bytes);
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_CERTIFICATE_MALFORMED);
	assert_int_equal(reason_at((struct slice){bytes, len}, NULL, NOW), REASON_CERTIFICATE_MALFORMED);
	/* An algorithm that our key does not have. */
	len = sign(t.ed25519, &p, NULL, 0, bytes);
	kid = memmem(bytes, len, "\x04\x48", 2);
	assert_non_null(kid);
	cose_key_kid(t.key, kid + 2);
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_ALGORITHM_MISMATCH);
	/* alg 1 => -257, RSA: the same length as 1 => -7 is -24. */
	len = sign(t.key, &p, NULL, 0, bytes);
	*((uint8_t *)memmem(bytes, len, "\x01\x26\x04\x48", 4) + 1) = 0x37;
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_ALGORITHM_UNKNOWN);
	/* A chain that nobody vouches for, or too late. */
	len = sign(t.key, &p, t.foreign, 1, bytes);
	assert_int_equal(reason_at((struct slice){bytes, len}, NULL, NOW), REASON_CERTIFICATE_UNTRUSTED);
	len = sign(t.key, &p, t.chain, 2, bytes);
	assert_int_equal(reason_at((struct slice){bytes, len}, NULL, NOW + 11 * CHAINS_DAY),
			 REASON_CERTIFICATE_EXPIRED);
	assert_int_equal(reason_at((struct slice){bytes, len}, NULL, NOW - 11 * CHAINS_DAY),
			 REASON_CERTIFICATE_NOT_YET_VALID);
	/* Vouched for, but the device is another tenant's. */
	device.keys = NULL;
	device.tenant_id = 5;
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_UEID_OWNED_ELSEWHERE);
}

static void
test_unreadable_stored_key(void **unused)
{
	uint8_t bytes[MESSAGE_MAX];
	size_t len = plain_message(bytes, 0);
	struct slice spki = keys->at[0].spki;

	(void)unused;
	keys->at[0].spki.len--;
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_UNKNOWN_KEY);
	keys->at[0].spki = spki;
	assert_int_equal(reason_at((struct slice){bytes, len}, &device, NOW), REASON_OK);
}

static void
test_certificate_of_another_use_or_name(void **unused)
{
	EVP_PKEY *signing = NULL, *root_key = make_key("P-256");
	struct cose_key *key = make_signing_key(-7, &signing);
	X509 *root = certify("root of usage", root_key, true, -100, NULL, NULL);
	X509 *ca = certify(HEX, signing, true, -10, root, root_key),
	     *stranger = certify("globex", signing, false, -10, root, root_key);
	struct slice chains[] = {certificate_der(ca), certificate_der(stranger)};
	char file[] = "/tmp/test_verify.XXXXXX", error[256];
	struct anchors *ours = t.anchors;
	struct report report = plain_report();
	uint8_t bytes[MESSAGE_MAX];
	struct payload p;

	(void)unused;
	close(mkstemp(file));
	write_certificates(file, &root, 1);
	t.anchors = anchors_from_pem(file, error);
	unlink(file);
	encode(&report, &p);
	assert_int_equal(reason_at((struct slice){bytes, sign(key, &p, &chains[0], 1, bytes)}, NULL, NOW),
			 REASON_CERTIFICATE_USAGE);
	assert_int_equal(reason_at((struct slice){bytes, sign(key, &p, &chains[1], 1, bytes)}, NULL, NOW),
			 REASON_CERTIFICATE_NAME);
	anchors_free(t.anchors);
	t.anchors = ours;
	for (size_t i = 0; i < LENGTH(chains); i++)
		OPENSSL_free((void *)(uintptr_t)chains[i].at);
	cose_key_free(key);
	EVP_PKEY_free(signing);
	EVP_PKEY_free(root_key);
	X509_free(root);
	X509_free(ca);
	X509_free(stranger);
}

/* Claims that are signed well and wrong. */

static void
profile_other(struct payload *p)
{
	find(p, "\xf2\xb0\x9f\x9d\xb5", 5)[0] ^= 1;
}

static void
claim_left_out(struct payload *p)
{
	/* 267, the boot count, is 19 01 0b 03. */
	uint8_t *at = find(p, "\x19\x01\x0b\x03", 4);

	memmove(at, at + 4, (size_t)(p->bytes + p->len - at) - 4);
	p->len -= 4;
	p->bytes[0]--;
}

static void
claim_twice(struct payload *p)
{
	static const uint8_t pair[] = {0x3a, 0x00, 0x01, 0xff, 0xff, 0x01};

	append(p, pair, sizeof pair);
	append(p, pair, sizeof pair);
}

static void
claim_out_of_order(struct payload *p)
{
	append(p, "\x05\x01", 2);
}

static void
text_bad(struct payload *p)
{
	append(p, "\x3a\x00\x01\xff\xff\x61\xff", 7);
}

static void
claim_deep(struct payload *p)
{
	append(p, "\x3a\x00\x01\xff\xff\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x81\x80", 17);
}

static void
interval_zero(struct payload *p)
{
	uint8_t *at = find(p, "\x19\x01\x2c", 3);

	memmove(at + 1, at + 3, (size_t)(p->bytes + p->len - at) - 3);
	at[0] = 0;
	p->len -= 2;
}

static void
payload_cut(struct payload *p)
{
	p->len--;
}

static void
payload_longer(struct payload *p)
{
	p->bytes[p->len++] = 0;
}

static void
payload_no_map(struct payload *p)
{
	p->bytes[0] = 0x01;
	p->len = 1;
}

static void
ueid_other(struct payload *p)
{
	uint8_t *at = find(p, t.ueid.bytes, UEID_SIZE);

	at[UEID_SIZE - 1] ^= 1;
}

static const struct {
	enum reason reason;
	void (*twist)(struct payload *);
} claims[] = {
	{REASON_PROFILE_UNKNOWN, profile_other}, {REASON_CLAIM_MISSING, claim_left_out},
	{REASON_DUPLICATE_KEY, claim_twice},     {REASON_NON_CANONICAL, claim_out_of_order},
	{REASON_TEXT_INVALID, text_bad},         {REASON_LIMIT_EXCEEDED, claim_deep},
	{REASON_CLAIM_INVALID, interval_zero},   {REASON_TRUNCATED, payload_cut},
	{REASON_TRAILING_BYTES, payload_longer}, {REASON_MALFORMED, payload_no_map},
	{REASON_FOREIGN_TOPIC, ueid_other},
};

static void
test_claims(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < LENGTH(claims); i++) {
		struct report report = plain_report();
		uint8_t bytes[MESSAGE_MAX];
		struct payload p;
		enum reason reason;

		encode(&report, &p);
		claims[i].twist(&p);
		reason = reason_at((struct slice){bytes, sign(t.key, &p, NULL, 0, bytes)}, &device, NOW);
		if (reason != claims[i].reason)
			fail_msg("claims row %zu: %s, not %s", i, reason_name(reason), reason_name(claims[i].reason));
	}
}

static void
test_facts_digest(void **unused)
{
	struct report report = plain_report();
	uint8_t bytes[MESSAGE_MAX], state[DIGEST_SIZE];
	struct payload p;

	(void)unused;
	report.state = (struct slice){empty_state, sizeof empty_state};
	encode(&report, &p);
	assert_int_equal(reason_at((struct slice){bytes, sign(t.key, &p, NULL, 0, bytes)}, &device, NOW),
			 REASON_DIGEST_MISMATCH);
	sha256(report.state, state);
	report_facts_digest(state, report.inventory_digest, report.facts);
	encode(&report, &p);
	assert_int_equal(reason_at((struct slice){bytes, sign(t.key, &p, NULL, 0, bytes)}, &device, NOW), REASON_OK);
}

/* The cache knows keys by what they are: another key in the same place, and more keys than it holds. */
static void
test_cache(void **unused)
{
	struct key_cache *cache = key_cache_new(2);
	struct device_key named[4] = {{.status = KEY_ACTIVE}};
	struct cose_key *ready[4];
	uint8_t kid[KID_SIZE];

	(void)unused;
	for (size_t i = 0; i < LENGTH(named); i++) {
		EVP_PKEY *pkey;
		struct cose_key *key = make_signing_key(-7, &pkey);

		named[i].spki = spki_of(pkey);
		/* All of one bucket: only the key itself tells them apart. */
		memset(named[i].kid, 0x55, KID_SIZE);
		EVP_PKEY_free(pkey);
		cose_key_free(key);
	}
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < LENGTH(named); i++) {
			uint8_t digest[DIGEST_SIZE];

			ready[i] = key_cache_get(cache, &named[i]);
			assert_non_null(ready[i]);
			assert_ptr_equal(key_cache_get(cache, &named[i]), ready[i]);
			cose_key_kid(ready[i], kid);
			sha256(named[i].spki, digest);
			assert_memory_equal(kid, digest, KID_SIZE);
		}
	/* 2 and 3 are in it. Using 2 makes 3 the one to go. */
	assert_ptr_equal(key_cache_get(cache, &named[2]), ready[2]);
	(void)key_cache_get(cache, &named[0]);
	assert_ptr_equal(key_cache_get(cache, &named[2]), ready[2]);
	key_cache_free(cache);
	for (size_t i = 0; i < LENGTH(named); i++)
		OPENSSL_free((void *)(uintptr_t)named[i].spki.at);
}

/* What subscribe and store refuse; the rest is verification's. */
static bool
is_of_others(enum reason reason)
{
	return reason == REASON_TOPIC_MALFORMED || reason == REASON_WRONG_SHARD || reason == REASON_PENDING_FULL ||
	       reason == REASON_GAPS_FULL || reason == REASON_SEQ_LEAP || reason == REASON_EPOCH_FULL ||
	       reason == REASON_CERTIFICATE_REVOKED || reason == REASON_UNSTORABLE;
}

static void
test_every_reason_was_given(void **unused)
{
	(void)unused;
	for (int i = 0; i < REASONS; i++)
		if (!t.seen[i] && !is_of_others((enum reason)i))
			fail_msg("never refused for: %s", reason_name((enum reason)i));
}

/* Backlogs. */

#define LINKS 4

struct chain_link {
	struct report report;
	struct cose_key *key;
	const struct slice *certificates;
	size_t certificates_len;
	bool spoilt; /* its signature, before the next one names it */
	bool altered; /* after the next one named it */
	uint8_t bytes[MESSAGE_MAX];
	struct message message;
};

/* Quiet reports of one device that follow one another. */
static void
make_links(struct chain_link links[LINKS])
{
	memset(links, 0, LINKS * sizeof *links);
	for (size_t i = 0; i < LINKS; i++) {
		links[i].report = plain_report();
		links[i].report.seq = i + 1;
		links[i].key = t.key;
		links[i].message.device = &device;
	}
}

static void
spoil(struct chain_link *link, size_t len)
{
	link->bytes[len - 50] ^= 1; /* in r */
}

/* Signs them, each naming the one before it, and verifies them as one run. */
static void
run_links(struct chain_link links[LINKS])
{
	struct message *run[LINKS];

	for (size_t i = 0; i < LINKS; i++) {
		struct chain_link *link = &links[i];
		struct payload p;
		size_t len;

		link->report.has_prev = i > 0;
		if (i > 0)
			sha256(links[i - 1].message.bytes, link->report.prev);
		encode(&link->report, &p);
		len = sign(link->key, &p, link->certificates, link->certificates_len, link->bytes);
		if (link->spoilt)
			spoil(link, len);
		link->message.ueid = t.ueid;
		link->message.bytes = (struct slice){link->bytes, len};
		link->message.received_us = NOW * 1000000 + (int64_t)i;
		run[i] = &link->message;
	}
	for (size_t i = 0; i < LINKS; i++)
		if (links[i].altered)
			spoil(&links[i], links[i].message.bytes.len);
	verify_run(run, LINKS, t.cache, t.anchors);
	for (size_t i = 0; i < LINKS; i++) {
		uint8_t digest[DIGEST_SIZE];

		sha256(links[i].message.bytes, digest);
		assert_memory_equal(links[i].message.sha256, digest, DIGEST_SIZE);
		if (links[i].message.reason == REASON_OK && !links[i].message.parked) {
			cose_tbs_digest(&links[i].message.cose, digest);
			assert_memory_equal(links[i].message.tbs, digest, DIGEST_SIZE);
			assert_int_equal(links[i].message.report.seq, links[i].report.seq);
		}
		enrolment_free(links[i].message.enrolment);
	}
}

static void
assert_refused(const struct chain_link links[LINKS], size_t which, enum reason reason)
{
	for (size_t i = 0; i < LINKS; i++)
		assert_int_equal(links[i].message.reason, i == which ? reason : REASON_OK);
}

#define NONE LINKS

/* That the signatures in between were not even looked at shows where they are bad. */
static void
test_a_newest_signature_vouches_for_the_quiet_ones_before_it(void **unused)
{
	struct chain_link links[LINKS];

	(void)unused;
	make_links(links);
	run_links(links);
	assert_refused(links, NONE, REASON_OK);
	make_links(links);
	for (size_t i = 0; i < LINKS - 1; i++)
		links[i].spoilt = true;
	run_links(links);
	assert_refused(links, NONE, REASON_OK);
}

static void
test_nobody_vouches_for_the_newest(void **unused)
{
	struct chain_link links[LINKS];

	(void)unused;
	make_links(links);
	links[LINKS - 1].spoilt = true;
	run_links(links);
	assert_refused(links, LINKS - 1, REASON_BAD_SIGNATURE);
	/* And a refused one for nobody. */
	make_links(links);
	links[LINKS - 1].spoilt = links[LINKS - 2].spoilt = true;
	run_links(links);
	assert_int_equal(links[LINKS - 2].message.reason, REASON_BAD_SIGNATURE);
	assert_int_equal(links[LINKS - 3].message.reason, REASON_OK);
}

static void
test_a_forged_one_in_the_middle_is_refused(void **unused)
{
	struct chain_link links[LINKS];

	(void)unused;
	for (size_t forged = 0; forged < LINKS; forged++) {
		make_links(links);
		links[forged].altered = true;
		run_links(links);
		assert_refused(links, forged, REASON_BAD_SIGNATURE);
	}
}

/* What is named but does not stand directly before, in the same epoch, quiet: its own signature counts. */
static void
test_a_name_alone_is_not_enough(void **unused)
{
	struct chain_link links[LINKS];

	(void)unused;
	make_links(links); /* a gap */
	links[1].spoilt = true;
	links[2].report.seq = 5;
	links[3].report.seq = 6;
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);

	make_links(links); /* backwards */
	links[1].spoilt = true;
	links[1].report.seq = 9;
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);

	make_links(links); /* another epoch */
	links[1].spoilt = true;
	links[2].report.epoch = links[3].report.epoch = 8;
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);

	make_links(links); /* sections */
	links[1].spoilt = true;
	links[1].report.state = (struct slice){empty_state, sizeof empty_state};
	sha256(links[1].report.state, links[1].report.state_digest);
	report_facts_digest(links[1].report.state_digest, links[1].report.inventory_digest, links[1].report.facts);
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);
	links[1].spoilt = false;
	for (size_t i = 0; i < LINKS; i++)
		links[i].message = (struct message){.device = &device};
	run_links(links);
	assert_refused(links, NONE, REASON_OK);
}

/* Nor is another key of the same device, one that just enrolled, or one that came with a chain. */
static void
test_a_key_vouches_for_its_own(void **unused)
{
	struct device_keys *both = calloc(1, sizeof *both + 2 * sizeof both->at[0]);
	struct device owner = device;
	struct chain_link links[LINKS];
	EVP_PKEY *pkey;
	struct cose_key *second = make_signing_key(-7, &pkey);

	(void)unused;
	both->len = 2;
	both->at[0] = both->at[1] = keys->at[0];
	both->at[1].spki = spki_of(pkey);
	cose_key_kid(second, both->at[1].kid);
	owner.keys = both;
	make_links(links);
	for (size_t i = 0; i < LINKS; i++)
		links[i].message.device = &owner;
	links[2].key = links[3].key = second;
	links[1].spoilt = true;
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);
	OPENSSL_free((void *)(uintptr_t)both->at[1].spki.at);
	EVP_PKEY_free(pkey);
	cose_key_free(second);
	free(both);

	make_links(links); /* a renewal */
	links[2].certificates = t.renewed;
	links[2].certificates_len = 1;
	links[1].spoilt = true;
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);

	make_links(links); /* nobody we know */
	for (size_t i = 0; i < LINKS; i++) {
		links[i].message.device = NULL;
		links[i].certificates = t.chain;
		links[i].certificates_len = 2;
	}
	links[1].spoilt = true;
	run_links(links);
	assert_refused(links, 1, REASON_BAD_SIGNATURE);
}

/* All but the signature is looked at. */
static void
test_who_is_vouched_for_is_judged_all_the_same(void **unused)
{
	struct chain_link links[LINKS];

	(void)unused;
	make_links(links);
	links[1].report.interval = 90000; /* too long */
	run_links(links);
	assert_int_not_equal(links[1].message.reason, REASON_OK);
	assert_int_not_equal(links[1].message.reason, REASON_BAD_SIGNATURE);

	make_links(links);
	links[1].report.ueid.bytes[5] ^= 1;
	run_links(links);
	assert_refused(links, 1, REASON_FOREIGN_TOPIC);

	make_links(links);
	keys->at[0].status = KEY_REVOKED;
	run_links(links);
	for (size_t i = 0; i < LINKS; i++)
		assert_int_equal(links[i].message.reason, REASON_KEY_REVOKED);
	keys->at[0].status = KEY_ACTIVE;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_known_key, reset_device),
		cmocka_unit_test_setup(test_new_device_enrols, reset_device),
		cmocka_unit_test_setup(test_known_key_needs_no_chain, reset_device),
		cmocka_unit_test_setup(test_renewal, reset_device),
		cmocka_unit_test_setup(test_unknown_key_waits, reset_device),
		cmocka_unit_test_setup(test_no_bit_may_change, reset_device),
		cmocka_unit_test_setup(test_no_bit_may_change_with_chain, reset_device),
		cmocka_unit_test_setup(test_every_shorter_message, reset_device),
		cmocka_unit_test_setup(test_too_large, reset_device),
		cmocka_unit_test_setup(test_judgements, reset_device),
		cmocka_unit_test_setup(test_clock, reset_device),
		cmocka_unit_test_setup(test_signers, reset_device),
		cmocka_unit_test_setup(test_unreadable_stored_key, reset_device),
		cmocka_unit_test_setup(test_certificate_of_another_use_or_name, reset_device),
		cmocka_unit_test_setup(test_claims, reset_device),
		cmocka_unit_test_setup(test_facts_digest, reset_device),
		cmocka_unit_test_setup(test_cache, reset_device),
		cmocka_unit_test_setup(test_a_newest_signature_vouches_for_the_quiet_ones_before_it, reset_device),
		cmocka_unit_test_setup(test_nobody_vouches_for_the_newest, reset_device),
		cmocka_unit_test_setup(test_a_forged_one_in_the_middle_is_refused, reset_device),
		cmocka_unit_test_setup(test_a_name_alone_is_not_enough, reset_device),
		cmocka_unit_test_setup(test_a_key_vouches_for_its_own, reset_device),
		cmocka_unit_test_setup(test_who_is_vouched_for_is_judged_all_the_same, reset_device),
		cmocka_unit_test(test_every_reason_was_given),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
