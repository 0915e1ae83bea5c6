#include "collector/client_trust.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/crl.h"
#include "schema/limits.h"

#define AUTH_LEVEL 2 /* 112 bits: no SHA-1, no RSA below 2048 */
#define AUTHORITIES_MAX 64
#define CHAIN_MAX (LIMIT_CHAIN_CERTS + 1) /* some show their root too */
#define CERTIFICATE_MAX LIMIT_CHAIN /* bytes */

static const char list_begins[] = "-----BEGIN X509 CRL-----";

struct client_trust {
	X509_STORE *store;
	X509 *authorities[AUTHORITIES_MAX];
	size_t len;
	bool lists;
	int64_t ends;
};

static bool
fail(char why[CLIENT_TRUST_WHY], const char *text)
{
	snprintf(why, CLIENT_TRUST_WHY, "%s", text);
	return false;
}

static bool
add_authority(struct client_trust *trust, X509 *x, char why[CLIENT_TRUST_WHY])
{
	if (trust->len == AUTHORITIES_MAX || X509_check_ca(x) != 1 || X509_STORE_add_cert(trust->store, x) != 1) {
		X509_free(x);
		return fail(why, trust->len == AUTHORITIES_MAX ? "too many authorities"
							       : "one of the certificates is no authority's");
	}
	trust->authorities[trust->len++] = x;
	return true;
}

static bool
has_root(const struct client_trust *trust)
{
	for (size_t i = 0; i < trust->len; i++)
		if (X509_self_signed(trust->authorities[i], 1) == 1)
			return true;
	return false;
}

static bool
add_authorities(struct client_trust *trust, struct slice pem, char why[CLIENT_TRUST_WHY])
{
	BIO *in = BIO_new_mem_buf(pem.at, (int)pem.len);
	bool good = in != NULL;
	X509 *x;

	while (good && (x = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL)
		good = add_authority(trust, x, why);
	/* It ends where no other begins, and at nothing else. */
	if (good && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		good = fail(why, "one of the certificates can't be read");
	if (good && !has_root(trust))
		good = fail(why, "no self-signed certificate of an authority is in it");
	ERR_clear_error();
	BIO_free(in);
	return good;
}

static bool
is_of_an_authority(const struct client_trust *trust, const X509_CRL *crl)
{
	for (size_t i = 0; i < trust->len; i++)
		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(trust->authorities[i])) == 0)
			return true;
	return false;
}

static bool
add_list(struct client_trust *trust, struct slice pem, char why[CLIENT_TRUST_WHY])
{
	X509_CRL *crl = crl_read(pem, why);
	bool good = crl != NULL;

	if (good && !is_of_an_authority(trust, crl))
		good = fail(why, "a list is of none of the authorities");
	if (good && X509_STORE_add_crl(trust->store, crl) != 1)
		good = fail(why, "a list is there twice");
	if (good && crl_ends(crl) < trust->ends)
		trust->ends = crl_ends(crl);
	X509_CRL_free(crl);
	return good;
}

/* Each from its first line to the next one's: crl_read takes one. */
static bool
add_lists(struct client_trust *trust, struct slice pem, char why[CLIENT_TRUST_WHY])
{
	const uint8_t *end = pem.at + pem.len, *at = memmem(pem.at, pem.len, list_begins, sizeof list_begins - 1);

	if (at == NULL)
		return fail(why, "no list is in it");
	while (at != NULL) {
		const uint8_t *behind = at + sizeof list_begins - 1;
		const uint8_t *next = memmem(behind, (size_t)(end - behind), list_begins, sizeof list_begins - 1);

		if (!add_list(trust, (struct slice){at, (size_t)((next == NULL ? end : next) - at)}, why))
			return false;
		at = next;
	}
	return true;
}

struct client_trust *
client_trust_new(struct slice authorities, struct slice lists, char why[CLIENT_TRUST_WHY])
{
	struct client_trust *trust = calloc(1, sizeof *trust);
	bool good;

	(void)fail(why, "no memory");
	if (trust == NULL)
		return NULL;
	trust->store = X509_STORE_new();
	trust->ends = INT64_MAX;
	trust->lists = lists.at != NULL;
	good = trust->store != NULL && authorities.len <= LIMIT_CRL && add_authorities(trust, authorities, why) &&
	       (!trust->lists || add_lists(trust, lists, why));
	if (good)
		return trust;
	client_trust_free(trust);
	return NULL;
}

void
client_trust_free(struct client_trust *trust)
{
	if (trust == NULL)
		return;
	for (size_t i = 0; i < trust->len; i++)
		X509_free(trust->authorities[i]);
	X509_STORE_free(trust->store);
	free(trust);
}

/* The whole slice is one certificate. */
static bool
push(STACK_OF(X509) * chain, struct slice der)
{
	const unsigned char *at = der.at;
	X509 *x = der.len > CERTIFICATE_MAX ? NULL : d2i_X509(NULL, &at, (long)der.len);

	if (x != NULL && at == der.at + der.len && sk_X509_push(chain, x) > 0)
		return true;
	X509_free(x);
	return false;
}

/* OpenSSL takes a certificate that does not say what it is for as one for everything. */
static const char *
judge_leaf(X509 *leaf)
{
	if ((X509_get_extension_flags(leaf) & EXFLAG_XKUSAGE) == 0)
		return "it does not say that it is for TLS clients";
	return X509_check_ca(leaf) == 0 ? NULL : "it is an authority's";
}

static const char *
verify(const struct client_trust *trust, STACK_OF(X509) * chain, int64_t now)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	const char *fault = "no memory";

	if (context != NULL && X509_STORE_CTX_init(context, trust->store, sk_X509_value(chain, 0), chain) == 1) {
		param = X509_STORE_CTX_get0_param(context);
		X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_CLIENT);
		X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
		X509_VERIFY_PARAM_set_depth(param, CHAIN_MAX);
		X509_VERIFY_PARAM_set_time(param, (time_t)now);
		if (trust->lists)
			X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
		fault = X509_verify_cert(context) == 1
				? NULL
				: X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
	}
	X509_STORE_CTX_free(context);
	return fault;
}

const char *
client_trust_judge(const struct client_trust *trust, const struct slice *chain, size_t n, int64_t now)
{
	STACK_OF(X509) *read = sk_X509_new_null();
	const char *fault = read == NULL ? "no memory" : NULL;

	if (n == 0 || n > CHAIN_MAX)
		fault = n == 0 ? "none was shown" : "its chain is too long";
	for (size_t i = 0; fault == NULL && i < n; i++)
		if (!push(read, chain[i]))
			fault = "it can't be read";
	if (fault == NULL)
		fault = judge_leaf(sk_X509_value(read, 0));
	if (fault == NULL)
		fault = verify(trust, read, now);
	sk_X509_pop_free(read, X509_free);
	ERR_clear_error();
	return fault;
}

int64_t
client_trust_ends(const struct client_trust *trust)
{
	return trust->ends;
}
