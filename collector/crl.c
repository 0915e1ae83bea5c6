#include "collector/crl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static X509_CRL *
read_pem(struct slice file)
{
	BIO *in = BIO_new_mem_buf(file.at, (int)file.len);
	X509_CRL *crl = in == NULL ? NULL : PEM_read_bio_X509_CRL(in, NULL, NULL, NULL), *more = NULL;

	if (crl != NULL)
		more = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL);
	BIO_free(in);
	if (more == NULL)
		return crl;
	X509_CRL_free(more);
	X509_CRL_free(crl);
	return NULL;
}

static X509_CRL *
read_der(struct slice file)
{
	const unsigned char *at = file.at;
	X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)file.len);

	if (crl != NULL && at != file.at + file.len) {
		X509_CRL_free(crl);
		crl = NULL;
	}
	return crl;
}

/* What OpenSSL would pass over silently, or take for something else. */
static const char *
fault_of(const X509_CRL *crl)
{
	if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
		return "it is a delta of another list: give the whole one";
	if (X509_CRL_get_ext_by_NID(crl, NID_issuing_distribution_point, -1) >= 0)
		return "it is for a part of the certificates: give one for all";
	if (X509_CRL_get0_nextUpdate(crl) == NULL)
		return "it does not say until when it is good";
	if (crl_begins(crl) < 0 || crl_ends(crl) < 0)
		return "its times can't be read";
	return NULL;
}

X509_CRL *
crl_read(struct slice file, char why[CRL_WHY_SIZE])
{
	X509_CRL *crl;
	const char *fault;

	if (file.len > LIMIT_CRL) {
		snprintf(why, CRL_WHY_SIZE, "it is over %d bytes", LIMIT_CRL);
		return NULL;
	}
	crl = file.len > 10 && memcmp(file.at, "-----BEGIN", 10) == 0 ? read_pem(file) : read_der(file);
	fault = crl == NULL ? "it is not one list of revoked certificates, PEM or DER" : fault_of(crl);
	ERR_clear_error();
	if (fault == NULL)
		return crl;
	snprintf(why, CRL_WHY_SIZE, "%s", fault);
	X509_CRL_free(crl);
	return NULL;
}

static int64_t
seconds(const ASN1_TIME *time)
{
	struct tm tm;

	return time == NULL || ASN1_TIME_to_tm(time, &tm) != 1 ? -1 : timegm(&tm);
}

int64_t
crl_begins(const X509_CRL *crl)
{
	return seconds(X509_CRL_get0_lastUpdate(crl));
}

int64_t
crl_ends(const X509_CRL *crl)
{
	return seconds(X509_CRL_get0_nextUpdate(crl));
}

static bool
may_sign(X509 *issuer)
{
	return X509_check_ca(issuer) == 1 && (X509_get_key_usage(issuer) & KU_CRL_SIGN) != 0;
}

bool
crl_fits(X509_CRL *crl, X509 *issuer, int64_t now, char why[CRL_WHY_SIZE])
{
	const char *fault = NULL;

	if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0)
		fault = "another authority issued it";
	else if (X509_CRL_verify(crl, X509_get0_pubkey(issuer)) != 1)
		fault = "another key signed it";
	else if (!may_sign(issuer))
		fault = "its issuer's certificate is not for signing lists";
	else if (now < crl_begins(crl))
		fault = "its time has not begun";
	else if (now > crl_ends(crl))
		fault = "its time is over";
	ERR_clear_error();
	if (fault != NULL)
		snprintf(why, CRL_WHY_SIZE, "%s", fault);
	return fault == NULL;
}

void
crl_issuer(const X509_CRL *crl, uint8_t digest[DIGEST_SIZE])
{
	unsigned char *der = NULL;
	int len = i2d_X509_NAME(X509_CRL_get_issuer(crl), &der);

	sha256((struct slice){der, len > 0 ? (size_t)len : 0}, digest);
	OPENSSL_free(der);
}

bool
crl_names(X509_CRL *crl, X509 *issuer, X509 *certificate)
{
	X509_REVOKED *entry = NULL;
	bool named = X509_NAME_cmp(X509_get_issuer_name(certificate), X509_CRL_get_issuer(crl)) == 0 &&
		     X509_CRL_get0_by_cert(crl, &entry, certificate) == 1 &&
		     X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;

	ERR_clear_error();
	return named;
}
