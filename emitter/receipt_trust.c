#include "emitter/receipt_trust.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define SIGNING_USAGE "1.3.6.1.5.5.7.3.36" /* RFC 9336: document signing */

struct receipt_trust {
	X509_STORE *anchors;
};

struct receipt_trust *
receipt_trust_open(const char *file, char *error)
{
	struct receipt_trust *t = calloc(1, sizeof *t);
	if (t != NULL && (t->anchors = X509_STORE_new()) != NULL && X509_STORE_load_file(t->anchors, file) == 1)
		return t;
	snprintf(error, ERROR_SIZE, "can't read the operator's certificates in %s", file);
	ERR_clear_error();
	receipt_trust_free(t);
	return NULL;
}

void
receipt_trust_free(struct receipt_trust *t)
{
	if (t == NULL)
		return;
	X509_STORE_free(t->anchors);
	free(t);
}

static X509 *
parse_certificate(struct slice der)
{
	const unsigned char *at = der.at;
	X509 *x = d2i_X509(NULL, &at, (long)der.len);
	if (x != NULL && at == der.at + der.len)
		return x;
	X509_free(x);
	return NULL;
}

/* Leaf first. NULL when one of them is no certificate. */
static STACK_OF(X509) * parse_chain(const struct cose_sign1 *sign1)
{
	STACK_OF(X509) *chain = sk_X509_new_null();
	for (size_t i = 0; chain != NULL && i < sign1->chain_len; i++) {
		X509 *x = parse_certificate(sign1->chain[i]);
		if (x == NULL || sk_X509_push(chain, x) == 0) {
			X509_free(x);
			sk_X509_pop_free(chain, X509_free);
			return NULL;
		}
	}
	return chain;
}

/* Just the one name: a certificate of a device or a broker below the same authority is not a receipt's. */
static bool
named_for_receipts(X509 *leaf)
{
	const X509_NAME *subject = X509_get_subject_name(leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return false;
	const ASN1_STRING *name = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
	return ASN1_STRING_length(name) == (int)strlen(RECEIPT_NAME) &&
	       memcmp(ASN1_STRING_get0_data(name), RECEIPT_NAME, strlen(RECEIPT_NAME)) == 0;
}

/* That usage and no other. */
static bool
only_signs_documents(X509 *leaf)
{
	EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(leaf, NID_ext_key_usage, NULL, NULL);
	bool only = false;
	char oid[64];
	if (sk_ASN1_OBJECT_num(usages) == 1 &&
	    OBJ_obj2txt(oid, sizeof oid, sk_ASN1_OBJECT_value(usages, 0), 1) == (int)strlen(SIGNING_USAGE))
		only = strcmp(oid, SIGNING_USAGE) == 0;
	EXTENDED_KEY_USAGE_free(usages);
	return only;
}

static enum reason
path_reason(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return REASON_CERTIFICATE_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return REASON_CERTIFICATE_NOT_YET_VALID;
	default:
		return REASON_CERTIFICATE_UNTRUSTED;
	}
}

static enum reason
check_path(struct receipt_trust *t, STACK_OF(X509) * chain, uint64_t at)
{
	X509 *leaf = sk_X509_value(chain, 0);
	if (!named_for_receipts(leaf))
		return REASON_CERTIFICATE_NAME;
	if (!only_signs_documents(leaf))
		return REASON_CERTIFICATE_USAGE;
	X509_STORE_CTX *path = X509_STORE_CTX_new();
	enum reason reason = REASON_CERTIFICATE_UNTRUSTED;
	if (path != NULL && X509_STORE_CTX_init(path, t->anchors, leaf, chain) == 1) {
		X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(path);
		X509_VERIFY_PARAM_set_time(param, (time_t)at);
		X509_VERIFY_PARAM_set_depth(param, LIMIT_CHAIN_CERTS);
		reason = X509_verify_cert(path) == 1 ? REASON_OK : path_reason(X509_STORE_CTX_get_error(path));
	}
	X509_STORE_CTX_free(path);
	return reason;
}

static enum reason
check_signature(const struct cose_sign1 *sign1, X509 *leaf)
{
	uint8_t *spki = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki);
	struct cose_key *key = len > 0 ? cose_key_from_spki((struct slice){spki, (size_t)len}) : NULL;
	OPENSSL_free(spki);
	if (key == NULL)
		return REASON_CERTIFICATE_MALFORMED;
	uint8_t kid[KID_SIZE];
	cose_key_kid(key, kid);
	enum reason reason = REASON_CERTIFICATE_MALFORMED;
	if (sign1->kid.len == KID_SIZE && memcmp(sign1->kid.at, kid, KID_SIZE) == 0)
		reason = cose_verify(sign1, key, NULL);
	cose_key_free(key);
	return reason;
}

enum reason
receipt_trust_check(struct receipt_trust *t, struct slice message, struct receipt *out)
{
	struct cose_sign1 sign1;
	if (message.len > LIMIT_RECEIPT)
		return REASON_TOO_LARGE;
	enum reason reason = cose_decode(message, &sign1);
	if (reason != REASON_OK)
		return reason;
	if (sign1.chain_len == 0)
		return REASON_UNKNOWN_KEY;
	STACK_OF(X509) *chain = parse_chain(&sign1);
	if (chain == NULL)
		return REASON_CERTIFICATE_MALFORMED;
	reason = check_signature(&sign1, sk_X509_value(chain, 0));
	if (reason == REASON_OK)
		reason = receipt_decode(sign1.payload, out);
	if (reason == REASON_OK)
		reason = check_path(t, chain, out->iat);
	sk_X509_pop_free(chain, X509_free);
	ERR_clear_error();
	return reason;
}
