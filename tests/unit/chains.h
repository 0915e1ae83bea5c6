/*
 * Certificates made to order, for tests of enrolment and verification.
 */
#ifndef FLEETSTATE_TESTS_CHAINS_H
#define FLEETSTATE_TESTS_CHAINS_H

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "schema/slice.h"

#define CHAINS_DAY 86400
#define CHAINS_UNUSED __attribute__((unused))

struct certificate_order {
	const char *name;	/* common name; NULL: none */
	const char *second_name;	/* NULL: none */
	const char *basic, *usage, *extended;	/* as in openssl.cnf; NULL: no such extension */
	const char *other;	/* an extension "OID=DER:hex"; critical */
	int64_t from, to;	/* seconds since 1970 */
	const char *digest;	/* "SHA256"; NULL for Ed25519 */
	X509 *issuer;		/* NULL: self-signed */
	EVP_PKEY *issuer_key;
};

/* P-256, P-384, ED25519, or RSA's bits. */
CHAINS_UNUSED static EVP_PKEY *
make_key(const char *kind)
{
	EVP_PKEY *key;

	if (strcmp(kind, "ED25519") == 0)
		key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	else if (strchr(kind, '-') != NULL)
		key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind);
	else
		key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)strtoul(kind, NULL, 10));
	assert(key != NULL);
	return key;
}

static void
add_name(X509 *x, const char *name)
{
	int good = name == NULL || X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
							      (const unsigned char *)name, -1, -1, 0);

	assert(good);
	(void)good;
}

static void
add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *extension;

	if (value == NULL)
		return;
	extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	assert(extension != NULL);
	X509_add_ext(x, extension, -1);
	X509_EXTENSION_free(extension);
}

static void
add_critical_unknown(X509 *x, const char *oid)
{
	ASN1_OBJECT *object = oid == NULL ? NULL : OBJ_txt2obj(oid, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	if (object != NULL) {
		ASN1_OCTET_STRING_set(value, (const unsigned char *)"\x05\x00", 2);
		extension = X509_EXTENSION_create_by_OBJ(NULL, object, 1, value);
		X509_add_ext(x, extension, -1);
		X509_EXTENSION_free(extension);
	}
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(object);
}

CHAINS_UNUSED static X509 *
make_certificate(EVP_PKEY *key, const struct certificate_order *order)
{
	static long serial = 1;
	X509 *x = X509_new(), *issuer = order->issuer == NULL ? x : order->issuer;
	const EVP_MD *digest = order->digest == NULL ? NULL : EVP_get_digestbyname(order->digest);
	int good;

	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
	ASN1_TIME_set(X509_getm_notBefore(x), (time_t)order->from);
	ASN1_TIME_set(X509_getm_notAfter(x), (time_t)order->to);
	X509_set_pubkey(x, key);
	add_name(x, order->name);
	add_name(x, order->second_name);
	X509_set_issuer_name(x, X509_get_subject_name(issuer));
	add_extension(x, NID_basic_constraints, order->basic);
	add_extension(x, NID_key_usage, order->usage);
	add_extension(x, NID_ext_key_usage, order->extended);
	add_critical_unknown(x, order->other);
	good = X509_sign(x, order->issuer == NULL ? key : order->issuer_key, digest);
	assert(good > 0);
	(void)good;
	return x;
}

/* The caller frees with OPENSSL_free. */
CHAINS_UNUSED static struct slice
certificate_der(X509 *x)
{
	unsigned char *der = NULL;
	int len = i2d_X509(x, &der);

	assert(len > 0);
	return (struct slice){der, (size_t)len};
}

CHAINS_UNUSED static void
write_certificates(const char *file, X509 *const *certificates, size_t n)
{
	FILE *out = fopen(file, "w");

	assert(out != NULL);
	for (size_t i = 0; i < n; i++)
		PEM_write_X509(out, certificates[i]);
	fclose(out);
}

#endif
