#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "collector/client_trust.h"
#include "tests/unit/chains.h"

#define NOW INT64_C(1800000000)
#define CA_USAGE "critical,keyCertSign,cRLSign"

static struct {
	EVP_PKEY *root_key, *middle_key, *leaf_key, *other_key;
	X509 *root, *middle, *other;
} t;

static X509 *
issue(const char *name, const char *extended, X509 *issuer, EVP_PKEY *issuer_key, int64_t from, int64_t to)
{
	return make_certificate(t.leaf_key, &(struct certificate_order){.name = name,
									.basic = "critical,CA:FALSE",
									.usage = "critical,digitalSignature",
									.extended = extended,
									.from = NOW + from * CHAINS_DAY,
									.to = NOW + to * CHAINS_DAY,
									.digest = "SHA256",
									.issuer = issuer,
									.issuer_key = issuer_key});
}

static X509 *
authority(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	return make_certificate(key, &(struct certificate_order){.name = name,
								 .basic = "critical,CA:TRUE",
								 .usage = CA_USAGE,
								 .from = NOW - 100 * CHAINS_DAY,
								 .to = NOW + 100 * CHAINS_DAY,
								 .digest = "SHA256",
								 .issuer = issuer,
								 .issuer_key = issuer_key});
}

static void
set_time(X509_CRL *crl, int64_t at, int (*set)(X509_CRL *, const ASN1_TIME *))
{
	ASN1_TIME *time = ASN1_TIME_set(NULL, (time_t)at);

	assert_int_equal(set(crl, time), 1);
	ASN1_TIME_free(time);
}

/* Written to `out`; `named`: NULL for nobody. */
static void
write_list(BIO *out, X509 *issuer, EVP_PKEY *key, X509 *named, int64_t to)
{
	X509_CRL *crl = X509_CRL_new();

	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer));
	set_time(crl, NOW - 20 * CHAINS_DAY, X509_CRL_set1_lastUpdate);
	set_time(crl, NOW + to * CHAINS_DAY, X509_CRL_set1_nextUpdate);
	if (named != NULL) {
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(named));
		X509_REVOKED_set_revocationDate(entry, X509_getm_notBefore(t.root));
		X509_CRL_add0_revoked(crl, entry);
	}
	assert_true(X509_CRL_sign(crl, key, EVP_sha256()) > 0);
	PEM_write_bio_X509_CRL(out, crl);
	X509_CRL_free(crl);
}

static struct slice
bytes_of(BIO *bio)
{
	char *at;
	long len = BIO_get_mem_data(bio, &at);

	return (struct slice){(const uint8_t *)at, (size_t)len};
}

static BIO *
pem_of(X509 *a, X509 *b)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, a);
	if (b != NULL)
		PEM_write_bio_X509(bio, b);
	return bio;
}

static struct client_trust *
trust_of(X509 *a, X509 *b, BIO *lists)
{
	BIO *pem = pem_of(a, b);
	char why[CLIENT_TRUST_WHY];
	struct client_trust *trust =
		client_trust_new(bytes_of(pem), lists == NULL ? (struct slice){NULL, 0} : bytes_of(lists), why);

	if (trust == NULL)
		print_message("%s\n", why);
	BIO_free(pem);
	assert_non_null(trust);
	return trust;
}

/* Frees the leaf. */
static const char *
judge(const struct client_trust *trust, X509 *leaf, X509 *second, int64_t days)
{
	struct slice chain[2] = {certificate_der(leaf), {NULL, 0}};
	const char *fault;

	if (second != NULL)
		chain[1] = certificate_der(second);
	fault = client_trust_judge(trust, chain, second == NULL ? 1 : 2, NOW + days * CHAINS_DAY);
	OPENSSL_free((void *)(uintptr_t)chain[0].at);
	OPENSSL_free((void *)(uintptr_t)chain[1].at);
	X509_free(leaf);
	return fault;
}

static void
leaves(void **state)
{
	struct client_trust *trust = trust_of(t.root, NULL, NULL);
	(void)state;

	assert_null(judge(trust, issue("a", "clientAuth", t.root, t.root_key, -1, 9), NULL, 0));
	assert_null(judge(trust, issue("a", "serverAuth,clientAuth", t.root, t.root_key, -1, 9), NULL, 0));
	assert_non_null(judge(trust, issue("a", "serverAuth", t.root, t.root_key, -1, 9), NULL, 0));
	assert_non_null(judge(trust, issue("a", "anyExtendedKeyUsage", t.root, t.root_key, -1, 9), NULL, 0));
	assert_non_null(judge(trust, issue("a", NULL, t.root, t.root_key, -1, 9), NULL, 0));
	assert_non_null(judge(trust, issue("a", "clientAuth", t.root, t.root_key, -1, 9), NULL, 10));
	assert_non_null(judge(trust, issue("a", "clientAuth", t.root, t.root_key, 1, 9), NULL, 0));
	assert_non_null(judge(trust, issue("a", "clientAuth", t.root, t.other_key, -1, 9), NULL, 0));
	assert_non_null(judge(trust, issue("a", "clientAuth", t.other, t.other_key, -1, 9), NULL, 0));
	assert_non_null(judge(trust, authority("root", t.root_key, NULL, NULL), NULL, 0));
	client_trust_free(trust);
}

static void
chains(void **state)
{
	struct client_trust *root = trust_of(t.root, NULL, NULL), *both = trust_of(t.root, t.middle, NULL);
	(void)state;

	assert_null(judge(root, issue("a", "clientAuth", t.middle, t.middle_key, -1, 9), t.middle, 0));
	assert_non_null(judge(root, issue("a", "clientAuth", t.middle, t.middle_key, -1, 9), NULL, 0));
	assert_null(judge(both, issue("a", "clientAuth", t.middle, t.middle_key, -1, 9), NULL, 0));
	assert_non_null(judge(root, issue("a", "clientAuth", t.other, t.other_key, -1, 9), t.other, 0));
	client_trust_free(root);
	client_trust_free(both);
}

static void
bad_chains(void **state)
{
	struct client_trust *trust = trust_of(t.root, NULL, NULL);
	X509 *leaf = issue("a", "clientAuth", t.root, t.root_key, -1, 9);
	struct slice der = certificate_der(leaf), chain[9];
	(void)state;

	for (size_t i = 0; i < 9; i++)
		chain[i] = der;
	assert_non_null(client_trust_judge(trust, chain, 0, NOW));
	assert_non_null(client_trust_judge(trust, chain, 9, NOW));
	for (size_t len = 0; len < der.len; len++)
		assert_non_null(client_trust_judge(trust, &(struct slice){der.at, len}, 1, NOW));
	assert_null(client_trust_judge(trust, &der, 1, NOW));
	OPENSSL_free((void *)(uintptr_t)der.at);
	X509_free(leaf);
	client_trust_free(trust);
}

static void
lists(void **state)
{
	BIO *good = BIO_new(BIO_s_mem()), *over = BIO_new(BIO_s_mem()), *forged = BIO_new(BIO_s_mem());
	X509 *leaf = issue("a", "clientAuth", t.root, t.root_key, -1, 9);
	struct client_trust *trust;
	(void)state;

	write_list(good, t.root, t.root_key, leaf, 10);
	write_list(over, t.root, t.root_key, NULL, -10);
	write_list(forged, t.root, t.other_key, NULL, 10);
	trust = trust_of(t.root, NULL, good);
	assert_int_equal(client_trust_ends(trust), NOW + 10 * CHAINS_DAY);
	assert_non_null(judge(trust, leaf, NULL, 0));
	assert_null(judge(trust, issue("b", "clientAuth", t.root, t.root_key, -1, 90), NULL, 0));
	assert_non_null(judge(trust, issue("b", "clientAuth", t.root, t.root_key, -1, 90), NULL, 11));
	/* An authority that gave no list vouches for nobody. */
	assert_non_null(judge(trust, issue("b", "clientAuth", t.middle, t.middle_key, -1, 90), t.middle, 0));
	client_trust_free(trust);
	write_list(good, t.middle, t.middle_key, NULL, 5);
	trust = trust_of(t.root, t.middle, good);
	assert_int_equal(client_trust_ends(trust), NOW + 5 * CHAINS_DAY);
	assert_null(judge(trust, issue("b", "clientAuth", t.middle, t.middle_key, -1, 90), t.middle, 0));
	client_trust_free(trust);
	trust = trust_of(t.root, NULL, over);
	assert_non_null(judge(trust, issue("b", "clientAuth", t.root, t.root_key, -1, 90), NULL, 0));
	client_trust_free(trust);
	trust = trust_of(t.root, NULL, forged);
	assert_non_null(judge(trust, issue("b", "clientAuth", t.root, t.root_key, -1, 90), NULL, 0));
	client_trust_free(trust);
	BIO_free(good);
	BIO_free(over);
	BIO_free(forged);
}

static void
refuse(BIO *authorities, BIO *list)
{
	char why[CLIENT_TRUST_WHY] = "";

	assert_null(
		client_trust_new(bytes_of(authorities), list == NULL ? (struct slice){NULL, 0} : bytes_of(list), why));
	assert_int_not_equal(why[0], '\0');
}

static void
bad_files(void **state)
{
	X509 *leaf = issue("a", "clientAuth", t.root, t.root_key, -1, 9);
	BIO *root = pem_of(t.root, NULL), *only_middle = pem_of(t.middle, NULL), *with_leaf = pem_of(t.root, leaf);
	BIO *cut = BIO_new_mem_buf(bytes_of(root).at, 200), *text = BIO_new_mem_buf("hello\n", -1),
	    *foreign = BIO_new(BIO_s_mem());
	BIO *half = pem_of(t.root, NULL);
	(void)state;

	BIO_puts(half, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	write_list(foreign, t.other, t.other_key, NULL, 10);
	refuse(only_middle, NULL);
	refuse(with_leaf, NULL);
	refuse(cut, NULL);
	refuse(text, NULL);
	refuse(half, NULL);
	refuse(root, text);
	refuse(root, root);
	refuse(root, foreign);
	for (size_t i = 0; i < 7; i++)
		BIO_free((BIO *[]){root, only_middle, with_leaf, cut, text, foreign, half}[i]);
	X509_free(leaf);
}

static int
set_up(void **state)
{
	(void)state;
	t.root_key = make_key("P-256");
	t.middle_key = make_key("P-256");
	t.leaf_key = make_key("P-256");
	t.other_key = make_key("P-256");
	t.root = authority("root", t.root_key, NULL, NULL);
	t.middle = authority("middle", t.middle_key, t.root, t.root_key);
	t.other = authority("root", t.other_key, NULL, NULL);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(t.other), "O", MBSTRING_ASC, (const unsigned char *)"other",
				   -1, -1, 0);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	X509_free(t.root);
	X509_free(t.middle);
	X509_free(t.other);
	EVP_PKEY_free(t.root_key);
	EVP_PKEY_free(t.middle_key);
	EVP_PKEY_free(t.leaf_key);
	EVP_PKEY_free(t.other_key);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves), cmocka_unit_test(chains),    cmocka_unit_test(bad_chains),
		cmocka_unit_test(lists),  cmocka_unit_test(bad_files),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
