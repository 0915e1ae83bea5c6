#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collector/crl.h"
#include "tests/unit/chains.h"

#define NOW INT64_C(1800000000)

static struct {
	EVP_PKEY *key, *leaf_key;
	X509 *ca, *leaf, *other;
} t;

/* What to make it wrong by. */
struct order {
	int64_t from, to; /* days */
	X509 *issuer; /* by name */
	EVP_PKEY *signer;
	X509 *named; /* NULL: nobody */
	int extension; /* a NID, or 0 */
	bool endless;
};

static void
set_time(X509_CRL *crl, int64_t at, int (*set)(X509_CRL *, const ASN1_TIME *))
{
	ASN1_TIME *time = ASN1_TIME_set(NULL, (time_t)at);

	assert_int_equal(set(crl, time), 1);
	ASN1_TIME_free(time);
}

static X509_CRL *
make_list(const struct order *o)
{
	X509_CRL *crl = X509_CRL_new();

	assert_int_equal(X509_CRL_set_version(crl, 1), 1);
	assert_int_equal(X509_CRL_set_issuer_name(crl, X509_get_subject_name(o->issuer == NULL ? t.ca : o->issuer)), 1);
	set_time(crl, NOW + o->from * CHAINS_DAY, X509_CRL_set1_lastUpdate);
	if (!o->endless)
		set_time(crl, NOW + o->to * CHAINS_DAY, X509_CRL_set1_nextUpdate);
	if (o->named != NULL) {
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(o->named));
		X509_REVOKED_set_revocationDate(entry, X509_getm_notBefore(t.ca));
		assert_int_equal(X509_CRL_add0_revoked(crl, entry), 1);
	}
	if (o->extension == NID_delta_crl)
		assert_int_equal(X509_CRL_add1_ext_i2d(crl, NID_delta_crl, X509_get_serialNumber(t.leaf), 1, 0), 1);
	if (o->extension == NID_issuing_distribution_point) {
		X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, o->extension, "critical,onlyuser:TRUE");

		assert_int_equal(X509_CRL_add_ext(crl, e, -1), 1);
		X509_EXTENSION_free(e);
	}
	assert_true(X509_CRL_sign(crl, o->signer == NULL ? t.key : o->signer, EVP_sha256()) > 0);
	return crl;
}

/* As the file would hold it, owned by the caller. */
static struct slice
der_of(const X509_CRL *crl)
{
	unsigned char *der = NULL;
	int len = i2d_X509_CRL(crl, &der);

	assert_true(len > 0);
	return (struct slice){der, (size_t)len};
}

static X509_CRL *
reread(const struct order *o, char *why)
{
	X509_CRL *made = make_list(o), *read;
	struct slice der = der_of(made);

	read = crl_read(der, why);
	OPENSSL_free((void *)(uintptr_t)der.at);
	X509_CRL_free(made);
	return read;
}

static void
test_what_is_good(void **unused)
{
	char why[CRL_WHY_SIZE] = "";
	X509_CRL *crl = reread(&(struct order){.from = -1, .to = 1, .named = t.leaf}, why);

	(void)unused;
	assert_non_null(crl);
	assert_int_equal(crl_begins(crl), NOW - CHAINS_DAY);
	assert_int_equal(crl_ends(crl), NOW + CHAINS_DAY);
	assert_true(crl_fits(crl, t.ca, NOW, why));
	assert_true(crl_names(crl, t.ca, t.leaf));
	assert_false(crl_names(crl, t.ca, t.other));
	assert_false(crl_names(crl, t.leaf, t.leaf));
	X509_CRL_free(crl);
}

static void
test_what_does_not_fit(void **unused)
{
	EVP_PKEY *stranger = make_key("P-256");
	const struct {
		struct order order;
		X509 *issuer;
		const char *why;
	} cases[] = {
		{{.from = -2, .to = -1}, t.ca, "its time is over"},
		{{.from = 1, .to = 2}, t.ca, "its time has not begun"},
		{{.from = -1, .to = 1, .signer = stranger}, t.ca, "another key signed it"},
		{{.from = -1, .to = 1, .issuer = t.leaf}, t.ca, "another authority issued it"},
		{{.from = -1, .to = 1, .issuer = t.leaf, .signer = t.leaf_key},
		 t.leaf,
		 "its issuer's certificate is not for signing lists"},
	};
	char why[CRL_WHY_SIZE];

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		X509_CRL *crl = reread(&cases[i].order, why);

		assert_non_null(crl);
		assert_false(crl_fits(crl, cases[i].issuer, NOW, why));
		assert_string_equal(why, cases[i].why);
		X509_CRL_free(crl);
	}
	EVP_PKEY_free(stranger);
}

static void
test_what_is_not_read(void **unused)
{
	char why[CRL_WHY_SIZE];
	X509_CRL *good = make_list(&(struct order){.from = -1, .to = 1});
	struct slice der = der_of(good);
	uint8_t *copy = calloc(1, LIMIT_CRL + 1);

	(void)unused;
	memcpy(copy, der.at, der.len);
	for (size_t len = 0; len < der.len; len++)
		assert_null(crl_read((struct slice){copy, len}, why));
	assert_null(crl_read((struct slice){copy, der.len + 1}, why));
	assert_null(crl_read((struct slice){copy, LIMIT_CRL + 1}, why));
	assert_non_null(strstr(why, "it is over"));
	assert_null(reread(&(struct order){.from = -1, .endless = true}, why));
	assert_string_equal(why, "it does not say until when it is good");
	assert_null(reread(&(struct order){.from = -1, .to = 1, .extension = NID_delta_crl}, why));
	assert_non_null(strstr(why, "delta"));
	assert_null(reread(&(struct order){.from = -1, .to = 1, .extension = NID_issuing_distribution_point}, why));
	assert_non_null(strstr(why, "part"));
	free(copy);
	OPENSSL_free((void *)(uintptr_t)der.at);
	X509_CRL_free(good);
}

static X509 *
certify(const char *name, EVP_PKEY *key, const char *basic, const char *usage, X509 *issuer)
{
	return make_certificate(key, &(struct certificate_order){.name = name,
								 .basic = basic,
								 .usage = usage,
								 .from = NOW - 100 * CHAINS_DAY,
								 .to = NOW + 100 * CHAINS_DAY,
								 .digest = "SHA256",
								 .issuer = issuer,
								 .issuer_key = issuer == NULL ? NULL : t.key});
}

static int
set_up(void **unused)
{
	(void)unused;
	t.key = make_key("P-256");
	t.leaf_key = make_key("P-256");
	t.ca = certify("ca", t.key, "critical,CA:TRUE", "critical,keyCertSign,cRLSign", NULL);
	t.leaf = certify("leaf", t.leaf_key, "critical,CA:FALSE", "critical,digitalSignature", t.ca);
	t.other = certify("other", t.key, "critical,CA:FALSE", "critical,digitalSignature", t.ca);
	return 0;
}

static int
tear_down(void **unused)
{
	(void)unused;
	X509_free(t.other);
	X509_free(t.leaf);
	X509_free(t.ca);
	EVP_PKEY_free(t.leaf_key);
	EVP_PKEY_free(t.key);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_good),
		cmocka_unit_test(test_what_does_not_fit),
		cmocka_unit_test(test_what_is_not_read),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
