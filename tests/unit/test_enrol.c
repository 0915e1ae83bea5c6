/*
 * Chains of certificates, most of them bad, each with the reason that it must be refused for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/enrol.h"
#include "tests/unit/chains.h"

#define NOW INT64_C(1800000000)
#define HEX "01000102030405060708090a0b0c0d0e0f"
#define HEX_UPPER "01000102030405060708090A0B0C0D0E0F"
#define SIGNING "1.3.6.1.5.5.7.3.36"
#define NO "-" /* no such extension */
#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* Issuers come before what they issue. */
static const struct authority_row {
	const char *id, *name, *issuer, *basic, *usage, *extended, *digest, *key;
	int from, to; /* days from now */
	bool anchor;
} authority_rows[] = {
	{.id = "root", .anchor = true},
	{.id = "namesake", .name = "root", .anchor = true},
	{.id = "impostor", .name = "root"},
	{.id = "foreign"},
	{.id = "old-root", .from = -20, .to = -1, .anchor = true},
	{.id = "coming-root", .from = 1, .to = 20, .anchor = true},
	{.id = "weak-root", .key = "1024", .anchor = true},
	{.id = "middle", .issuer = "root"},
	{.id = "lower", .issuer = "middle"},
	{.id = "lowest", .issuer = "lower"},
	{.id = "foreign-middle", .name = "middle", .issuer = "foreign"},
	{.id = "impostor-middle", .name = "middle", .issuer = "impostor"},
	{.id = "short", .issuer = "root", .basic = "critical,CA:TRUE,pathlen:0"},
	{.id = "under-short", .issuer = "short"},
	{.id = "no-ca", .issuer = "root", .basic = "critical,CA:FALSE"},
	{.id = "no-basic", .issuer = "root", .basic = NO, .usage = NO},
	{.id = "no-cert-sign", .issuer = "root", .usage = "critical,digitalSignature"},
	{.id = "old", .issuer = "root", .from = -20, .to = -1},
	{.id = "coming", .issuer = "root", .from = 1, .to = 20},
	{.id = "sha1", .issuer = "root", .digest = "SHA1"},
	{.id = "weak", .issuer = "root", .key = "1024"},
};

static struct authority {
	X509 *certificate;
	EVP_PKEY *key;
	struct slice der;
} authorities[LENGTH(authority_rows)];

static struct anchors *anchors;
static struct ueid ueid;

struct scene {
	struct slice chain[LIMIT_CHAIN_CERTS + 1];
	size_t n;
	uint8_t kid[KID_SIZE + 1];
	size_t kid_len;
	struct ueid ueid;
	int64_t now;
	uint8_t bytes[4096]; /* for a twisted certificate */
};

struct row {
	const char *title;
	enum reason reason;
	const char *issuer; /* NULL: self-signed */
	const char *sent[LIMIT_CHAIN_CERTS]; /* after the leaf */
	const char *name, *second_name, *basic, *usage, *extended, *other, *digest, *key;
	int from, to;
	void (*twist)(struct scene *);
};

static const struct authority *
authority(const char *id)
{
	for (size_t i = 0; i < LENGTH(authority_rows); i++)
		if (strcmp(authority_rows[i].id, id) == 0)
			return &authorities[i];
	fail_msg("no authority %s", id);
	return NULL;
}

static const char *
either(const char *given, const char *usual)
{
	if (given == NULL)
		return usual;
	return strcmp(given, NO) == 0 ? NULL : given;
}

static int64_t
days(int given, int usual)
{
	return NOW + (int64_t)(given != 0 ? given : usual) * CHAINS_DAY;
}

static void
make_authority(size_t i)
{
	const struct authority_row *row = &authority_rows[i];
	const struct authority *issuer = row->issuer == NULL ? NULL : authority(row->issuer);
	const struct certificate_order order = {
		.name = either(row->name, row->id),
		.basic = either(row->basic, "critical,CA:TRUE"),
		.usage = either(row->usage, "critical,keyCertSign,cRLSign"),
		.extended = either(row->extended, NULL),
		.from = days(row->from, -30),
		.to = days(row->to, 30),
		.digest = either(row->digest, "SHA256"),
		.issuer = issuer == NULL ? NULL : issuer->certificate,
		.issuer_key = issuer == NULL ? NULL : issuer->key,
	};

	authorities[i].key = make_key(either(row->key, "P-256"));
	authorities[i].certificate = make_certificate(authorities[i].key, &order);
	authorities[i].der = certificate_der(authorities[i].certificate);
}

static int
make_authorities(void **unused)
{
	X509 *trusted[LENGTH(authority_rows)];
	char file[] = "/tmp/test_enrol.XXXXXX", error[256];
	size_t n = 0;

	(void)unused;
	for (size_t i = 0; i < LENGTH(authority_rows); i++) {
		make_authority(i);
		if (authority_rows[i].anchor)
			trusted[n++] = authorities[i].certificate;
	}
	close(mkstemp(file));
	write_certificates(file, trusted, n);
	anchors = anchors_from_pem(file, error);
	unlink(file);
	return anchors == NULL || !ueid_parse((struct slice){(const uint8_t *)HEX, sizeof HEX - 1}, &ueid) ? -1 : 0;
}

static int
free_authorities(void **unused)
{
	(void)unused;
	anchors_free(anchors);
	for (size_t i = 0; i < LENGTH(authorities); i++) {
		X509_free(authorities[i].certificate);
		EVP_PKEY_free(authorities[i].key);
		OPENSSL_free((void *)(uintptr_t)authorities[i].der.at);
	}
	return 0;
}

static void
name_key(EVP_PKEY *key, uint8_t kid[KID_SIZE])
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key, &der);
	uint8_t digest[DIGEST_SIZE];

	sha256((struct slice){der, (size_t)len}, digest);
	memcpy(kid, digest, KID_SIZE);
	OPENSSL_free(der);
}

/* Twists: what is done to a chain after it was made. */

static void
swap_certificates(struct scene *s, size_t a, size_t b)
{
	struct slice c = s->chain[a];

	s->chain[a] = s->chain[b];
	s->chain[b] = c;
}

static void
leaf_last(struct scene *s)
{
	swap_certificates(s, 0, s->n - 1);
}

static void
issuers_swapped(struct scene *s)
{
	swap_certificates(s, 1, 2);
}

static void
leaf_twice(struct scene *s)
{
	s->chain[s->n++] = s->chain[0];
}

static void
no_certificates(struct scene *s)
{
	s->n = 0;
}

static void
leaf_left_out(struct scene *s)
{
	s->chain[0] = s->chain[--s->n];
}

static void
copy_leaf(struct scene *s)
{
	assert_true(s->chain[0].len < sizeof s->bytes);
	memcpy(s->bytes, s->chain[0].at, s->chain[0].len);
	s->chain[0].at = s->bytes;
}

static void
byte_appended(struct scene *s)
{
	copy_leaf(s);
	s->bytes[s->chain[0].len++] = 0;
}

static void
byte_cut(struct scene *s)
{
	s->chain[0].len--;
}

static void
leaf_empty(struct scene *s)
{
	s->chain[0].len = 0;
}

static void
leaf_garbage(struct scene *s)
{
	s->chain[0] = (struct slice){s->bytes, 300};
	memset(s->bytes, 0x30, 300);
}

static void
issuer_garbage(struct scene *s)
{
	s->chain[1] = (struct slice){(const uint8_t *)"\x30\x82\xff\xff", 4};
}

static void
kid_other(struct scene *s)
{
	name_key(authority("root")->key, s->kid);
}

static void
kid_short(struct scene *s)
{
	s->kid_len--;
}

static void
kid_long(struct scene *s)
{
	s->kid_len++;
}

static void
kid_absent(struct scene *s)
{
	s->kid_len = 0;
}

static void
ueid_other(struct scene *s)
{
	s->ueid.bytes[UEID_SIZE - 1] ^= 1;
}

static void
long_after(struct scene *s)
{
	s->now = INT64_C(253402300799);
}

static void
long_before(struct scene *s)
{
	s->now = 0;
}

/* The rest begins with the issuer. */
#define ROW(title_, reason_, ...)                                                                                      \
	{                                                                                                              \
		.title = title_, .reason = REASON_##reason_, .issuer = __VA_ARGS__                                     \
	}
static const struct row rows[] = {
	/* Good. */
	ROW("issued by the anchor", OK, "root"),
	ROW("by another anchor of the same name", OK, "namesake"),
	ROW("by way of one intermediate", OK, "middle", {"middle"}),
	ROW("by way of two", OK, "lower", {"lower", "middle"}),
	ROW("the anchor is sent along", OK, "middle", {"middle", "root"}),
	ROW("below an intermediate of path length 0", OK, "short", {"short"}),
	ROW("no extended usages", OK, "root", .extended = NO),
	ROW("other extended usages as well", OK, "root", .extended = "clientAuth," SIGNING),
	ROW("P-384", OK, "root", .key = "P-384"),
	ROW("Ed25519", OK, "root", .key = "ED25519"),

	/* Nobody vouches. */
	ROW("another authority", CERTIFICATE_UNTRUSTED, "foreign"),
	ROW("another authority, sent along", CERTIFICATE_UNTRUSTED, "foreign", {"foreign"}),
	ROW("another authority with an anchor's name", CERTIFICATE_UNTRUSTED, "impostor"),
	ROW("the same, sent along", CERTIFICATE_UNTRUSTED, "impostor", {"impostor"}),
	ROW("the same, by an intermediate", CERTIFICATE_UNTRUSTED, "impostor-middle", {"impostor-middle"}),
	ROW("the same, by an intermediate and sent along", CERTIFICATE_UNTRUSTED, "impostor-middle",
	    {"impostor-middle", "impostor"}),
	ROW("another authority's intermediate", CERTIFICATE_UNTRUSTED, "foreign-middle", {"foreign-middle"}),
	ROW("ours is sent, another's signed", CERTIFICATE_UNTRUSTED, "foreign-middle", {"middle"}),
	ROW("self-signed", CERTIFICATE_UNTRUSTED, NULL),
	ROW("self-signed, named like an anchor", CERTIFICATE_UNTRUSTED, NULL, .name = "root"),
	ROW("the intermediate is not sent", CERTIFICATE_UNTRUSTED, "middle"),
	ROW("the upper intermediate is not sent", CERTIFICATE_UNTRUSTED, "lower", {"lower"}),
	ROW("path longer than its authority allows", CERTIFICATE_UNTRUSTED, "under-short", {"under-short", "short"}),
	ROW("intermediate is no CA", CERTIFICATE_UNTRUSTED, "no-ca", {"no-ca"}),
	ROW("intermediate does not say that it is a CA", CERTIFICATE_UNTRUSTED, "no-basic", {"no-basic"}),
	ROW("intermediate may not sign certificates", CERTIFICATE_UNTRUSTED, "no-cert-sign", {"no-cert-sign"}),
	ROW("leaf signed with SHA-1", CERTIFICATE_UNTRUSTED, "root", .digest = "SHA1"),
	ROW("intermediate signed with SHA-1", CERTIFICATE_UNTRUSTED, "sha1", {"sha1"}),
	ROW("intermediate with RSA of 1024 bits", CERTIFICATE_UNTRUSTED, "weak", {"weak"}),
	ROW("anchor with RSA of 1024 bits", CERTIFICATE_UNTRUSTED, "weak-root"),

	/* Time. */
	ROW("over", CERTIFICATE_EXPIRED, "root", .from = -20, .to = -1),
	ROW("over, by way of an intermediate", CERTIFICATE_EXPIRED, "middle", {"middle"}, .from = -20, .to = -1),
	ROW("the intermediate's is over", CERTIFICATE_EXPIRED, "old", {"old"}),
	ROW("the anchor's is over", CERTIFICATE_EXPIRED, "old-root"),
	ROW("long over", CERTIFICATE_EXPIRED, "root", .twist = long_after),
	ROW("not begun", CERTIFICATE_NOT_YET_VALID, "root", .from = 1, .to = 20),
	ROW("the intermediate's has not begun", CERTIFICATE_NOT_YET_VALID, "coming", {"coming"}),
	ROW("the anchor's has not begun", CERTIFICATE_NOT_YET_VALID, "coming-root"),
	ROW("the collector lives in 1970", CERTIFICATE_NOT_YET_VALID, "root", .twist = long_before),
	ROW("over, and another authority's", CERTIFICATE_UNTRUSTED, "foreign", .from = -20, .to = -1),

	/* Usage. */
	ROW("a CA", CERTIFICATE_USAGE, "root", .basic = "critical,CA:TRUE",
	    .usage = "critical,digitalSignature,keyCertSign"),
	ROW("a CA by key usage only", CERTIFICATE_USAGE, "root", .basic = NO,
	    .usage = "critical,digitalSignature,keyCertSign"),
	ROW("no key usage", CERTIFICATE_USAGE, "root", .usage = NO),
	ROW("no digitalSignature", CERTIFICATE_USAGE, "root", .usage = "critical,keyAgreement"),
	ROW("only non-repudiation", CERTIFICATE_USAGE, "root", .usage = "critical,nonRepudiation"),
	ROW("only a TLS client", CERTIFICATE_USAGE, "root", .extended = "clientAuth"),
	ROW("only a TLS server", CERTIFICATE_USAGE, "root", .extended = "critical,serverAuth"),
	ROW("any usage, which is not ours", CERTIFICATE_USAGE, "root", .extended = "anyExtendedKeyUsage"),
	ROW("a usage that ours is the beginning of", CERTIFICATE_USAGE, "root", .extended = SIGNING ".1"),
	ROW("an unknown critical extension", CERTIFICATE_USAGE, "root", .other = "1.2.3.4"),
	ROW("RSA", CERTIFICATE_USAGE, "root", .key = "2048"),
	ROW("P-521", CERTIFICATE_USAGE, "root", .key = "P-521"),

	/* Name. */
	ROW("another ueid", CERTIFICATE_NAME, "root", .twist = ueid_other),
	ROW("upper case", CERTIFICATE_NAME, "root", .name = HEX_UPPER),
	ROW("no name", CERTIFICATE_NAME, "root", .name = NO),
	ROW("a digit short", CERTIFICATE_NAME, "root", .name = "01000102030405060708090a0b0c0d0e0"),
	ROW("a digit more", CERTIFICATE_NAME, "root", .name = HEX "0"),
	ROW("a space more", CERTIFICATE_NAME, "root", .name = HEX " "),
	ROW("two names, ours first", CERTIFICATE_NAME, "root", .second_name = "globex"),
	ROW("two names, ours last", CERTIFICATE_NAME, "root", .name = "globex", .second_name = HEX),
	ROW("ours twice", CERTIFICATE_NAME, "root", .second_name = HEX),

	/* Form. */
	ROW("leaf last", CERTIFICATE_MALFORMED, "middle", {"middle"}, .twist = leaf_last),
	ROW("intermediates out of order", CERTIFICATE_MALFORMED, "lower", {"lower", "middle"},
	    .twist = issuers_swapped),
	ROW("a certificate that does not belong", CERTIFICATE_MALFORMED, "root", {"middle"}),
	ROW("leaf twice", CERTIFICATE_MALFORMED, "root", .twist = leaf_twice),
	ROW("no leaf", CERTIFICATE_MALFORMED, "middle", {"middle"}, .twist = leaf_left_out),
	ROW("no certificates", CERTIFICATE_MALFORMED, "root", .twist = no_certificates),
	ROW("four certificates", CERTIFICATE_MALFORMED, "lowest", {"lowest", "lower", "middle"}),
	ROW("a byte after the leaf", CERTIFICATE_MALFORMED, "root", .twist = byte_appended),
	ROW("leaf cut short", CERTIFICATE_MALFORMED, "root", .twist = byte_cut),
	ROW("leaf empty", CERTIFICATE_MALFORMED, "root", .twist = leaf_empty),
	ROW("leaf garbage", CERTIFICATE_MALFORMED, "root", .twist = leaf_garbage),
	ROW("intermediate garbage", CERTIFICATE_MALFORMED, "middle", {"middle"}, .twist = issuer_garbage),
	ROW("kid of another key", CERTIFICATE_MALFORMED, "root", .twist = kid_other),
	ROW("kid too short", CERTIFICATE_MALFORMED, "root", .twist = kid_short),
	ROW("kid too long", CERTIFICATE_MALFORMED, "root", .twist = kid_long),
	ROW("no kid", CERTIFICATE_MALFORMED, "root", .twist = kid_absent),
};

static X509 *
make_leaf(const struct row *row, EVP_PKEY *key)
{
	const struct authority *issuer = row->issuer == NULL ? NULL : authority(row->issuer);
	const struct certificate_order order = {
		.name = either(row->name, HEX),
		.second_name = row->second_name,
		.basic = either(row->basic, "critical,CA:FALSE"),
		.usage = either(row->usage, "critical,digitalSignature"),
		.extended = either(row->extended, SIGNING),
		.other = row->other,
		.from = days(row->from, -10),
		.to = days(row->to, 10),
		.digest = either(row->digest, "SHA256"),
		.issuer = issuer == NULL ? NULL : issuer->certificate,
		.issuer_key = issuer == NULL ? NULL : issuer->key,
	};

	return make_certificate(key, &order);
}

static void
set_scene(struct scene *s, const struct row *row)
{
	EVP_PKEY *key = make_key(either(row->key, "P-256"));
	X509 *leaf = make_leaf(row, key);

	memset(s, 0, sizeof *s);
	s->ueid = ueid;
	s->now = NOW;
	name_key(key, s->kid);
	s->kid_len = KID_SIZE;
	s->chain[s->n++] = certificate_der(leaf);
	for (size_t i = 0; i < LIMIT_CHAIN_CERTS && row->sent[i] != NULL; i++)
		s->chain[s->n++] = authority(row->sent[i])->der;
	X509_free(leaf);
	EVP_PKEY_free(key);
}

static enum reason
enrol(const struct scene *s, struct enrolment **out)
{
	return enrol_chain(anchors, s->chain, s->n, &s->ueid, (struct slice){s->kid, s->kid_len}, s->now, 0, out);
}

static void
test_rows(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct enrolment *e = NULL;
		struct scene s;
		struct slice leaf;
		enum reason reason;

		set_scene(&s, &rows[i]);
		leaf = s.chain[0];
		if (rows[i].twist != NULL)
			rows[i].twist(&s);
		reason = enrol(&s, &e);
		if (reason != rows[i].reason)
			fail_msg("%s: %s, not %s", rows[i].title, reason_name(reason), reason_name(rows[i].reason));
		assert_true((e != NULL) == (reason == REASON_OK));
		enrolment_free(e);
		OPENSSL_free((void *)(uintptr_t)leaf.at);
	}
}

/* What is taken out of a good chain. */
static void
test_enrolment_holds_the_leaf(void **unused)
{
	static const struct row row = ROW("", OK, "middle", {"middle"});
	struct enrolment *e = NULL;
	struct cose_key *key;
	uint8_t kid[KID_SIZE];
	struct scene s;

	(void)unused;
	set_scene(&s, &row);
	assert_int_equal(enrol(&s, &e), REASON_OK);
	assert_int_equal(e->tenant_id, 0);
	assert_false(e->hold);
	assert_int_equal(e->not_before, NOW - 10 * CHAINS_DAY);
	assert_int_equal(e->not_after, NOW + 10 * CHAINS_DAY);
	assert_memory_equal(e->kid, s.kid, KID_SIZE);
	assert_int_equal(e->chain_len, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(e->chain[i].len, s.chain[i].len);
		assert_ptr_not_equal(e->chain[i].at, s.chain[i].at);
		assert_memory_equal(e->chain[i].at, s.chain[i].at, s.chain[i].len);
	}
	key = cose_key_from_spki(e->spki);
	assert_non_null(key);
	cose_key_kid(key, kid);
	assert_memory_equal(kid, s.kid, KID_SIZE);
	cose_key_free(key);
	enrolment_free(e);
	OPENSSL_free((void *)(uintptr_t)s.chain[0].at);
}

/* Each bit of the leaf and of the intermediate: never taken, always for a reason about certificates. */
static void
test_no_bit_may_change(void **unused)
{
	static const struct row row = ROW("", OK, "middle", {"middle"});
	struct scene s;
	struct slice leaf;

	(void)unused;
	set_scene(&s, &row);
	leaf = s.chain[0];
	for (size_t c = 0; c < s.n; c++) {
		struct slice original = s.chain[c];

		memcpy(s.bytes, original.at, original.len);
		s.chain[c].at = s.bytes;
		for (size_t bit = 0; bit < 8 * original.len; bit++) {
			struct enrolment *e = NULL;
			enum reason reason;

			s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			reason = enrol(&s, &e);
			if (reason < REASON_CERTIFICATE_MALFORMED || reason > REASON_CERTIFICATE_NAME)
				fail_msg("certificate %zu bit %zu: %s", c, bit, reason_name(reason));
			s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		s.chain[c] = original;
	}
	OPENSSL_free((void *)(uintptr_t)leaf.at);
}

static void
test_without_anchors_nobody_is_trusted(void **unused)
{
	static const struct row row = ROW("", OK, "root");
	struct enrolment *e = NULL;
	struct scene s;

	(void)unused;
	set_scene(&s, &row);
	assert_int_equal(enrol_chain(NULL, s.chain, s.n, &s.ueid, (struct slice){s.kid, KID_SIZE}, NOW, 0, &e),
			 REASON_CERTIFICATE_UNTRUSTED);
	assert_null(e);
	OPENSSL_free((void *)(uintptr_t)s.chain[0].at);
}

static void
test_begins_after(void **unused)
{
	struct slice der = authority("root")->der;
	int64_t begins = NOW - 30 * CHAINS_DAY;

	(void)unused;
	assert_true(certificate_begins_after(der, begins - 1));
	assert_false(certificate_begins_after(der, begins));
	assert_false(certificate_begins_after((struct slice){der.at, der.len - 1}, 0));
	assert_false(certificate_begins_after((struct slice){NULL, 0}, 0));
}

/* In what is left of a certificate's life, a quarter is soon enough. */
static void
test_what_is_to_be_renewed_first(void **unused)
{
	static const struct {
		const char *ids[2];
		int64_t warning, due; /* days; from now */
		const char *name;
	} cases[] = {
		{{"root", NULL}, 1, 29, "CN=root"},
		{{"root", NULL}, 365, 15, "CN=root"},
		{{"middle", "old-root"}, 1, -2, "CN=old-root"},
		{{"old-root", "middle"}, 1, -2, "CN=old-root"},
		{{"coming", "root"}, 1, 19, "CN=coming"},
	};
	static const char *const bad[] = {"", "no PEM at all\n",
					  "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
	char file[] = "/tmp/test_enrol.XXXXXX";
	struct renewal r;

	(void)unused;
	close(mkstemp(file));
	for (size_t i = 0; i < LENGTH(cases); i++) {
		X509 *certificates[2] = {authority(cases[i].ids[0])->certificate, NULL};
		size_t n = cases[i].ids[1] == NULL ? 1 : 2;

		if (n == 2)
			certificates[1] = authority(cases[i].ids[1])->certificate;
		write_certificates(file, certificates, n);
		assert_int_equal(renewal_of_pem(file, cases[i].warning * CHAINS_DAY, &r), 0);
		assert_int_equal((r.due - NOW) / CHAINS_DAY, cases[i].due);
		assert_string_equal(r.name, cases[i].name);
	}
	for (size_t i = 0; i < LENGTH(bad); i++) {
		FILE *out = fopen(file, "w");

		fputs(bad[i], out);
		fclose(out);
		assert_int_equal(renewal_of_pem(file, 1, &r), -1);
	}
	unlink(file);
	assert_int_equal(renewal_of_pem(file, 1, &r), -1);
	assert_true(renewal_of_anchors(anchors, CHAINS_DAY, &r));
	assert_string_equal(r.name, "CN=old-root");
}

static void
test_bad_pem_is_refused(void **unused)
{
	static const char *const contents[] = {"", "no PEM at all\n",
					       "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
	char file[] = "/tmp/test_enrol.XXXXXX", error[256];
	X509 *middle = authority("middle")->certificate;

	(void)unused;
	assert_null(anchors_from_pem("/nonexistent/anchors.pem", error));
	assert_non_null(strstr(error, "/nonexistent/anchors.pem"));
	close(mkstemp(file));
	for (size_t i = 0; i < LENGTH(contents); i++) {
		FILE *out = fopen(file, "w");

		fputs(contents[i], out);
		fclose(out);
		error[0] = '\0';
		assert_null(anchors_from_pem(file, error));
		assert_non_null(strstr(error, file));
	}
	write_certificates(file, &middle, 1);
	assert_null(anchors_from_pem(file, error));
	assert_non_null(strstr(error, "self-signed"));
	unlink(file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_enrolment_holds_the_leaf),
		cmocka_unit_test(test_no_bit_may_change),
		cmocka_unit_test(test_without_anchors_nobody_is_trusted),
		cmocka_unit_test(test_begins_after),
		cmocka_unit_test(test_what_is_to_be_renewed_first),
		cmocka_unit_test(test_bad_pem_is_refused),
	};

	return cmocka_run_group_tests(tests, make_authorities, free_authorities);
}
