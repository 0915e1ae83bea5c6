#include "collector/enrol.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/crl.h"
#include "schema/log.h"

#define DOCUMENT_SIGNING "1.3.6.1.5.5.7.3.36" /* RFC 9336 */
#define AUTH_LEVEL 2 /* 112 bits: no SHA-1, no RSA below 2048 */
#define ERROR_SIZE 256

/* A store each: two anchors of one name, in two tenants, must not get into each other's way. */
struct anchor {
	X509 *certificate;
	X509_STORE *store;
	int32_t tenant_id;
	bool hold;
	bool lists; /* of revoked certificates are in the store */
};

struct anchors {
	struct anchor *at;
	size_t len;
};

/* What OpenSSL finds wrong with a chain. All else means that no anchor vouches for it. */
static const struct {
	int error;
	enum reason reason;
} verify_errors[] = {
	{X509_V_ERR_CERT_HAS_EXPIRED, REASON_CERTIFICATE_EXPIRED},
	{X509_V_ERR_CERT_NOT_YET_VALID, REASON_CERTIFICATE_NOT_YET_VALID},
	{X509_V_ERR_CERT_REVOKED, REASON_CERTIFICATE_REVOKED},
	{X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD, REASON_CERTIFICATE_MALFORMED},
	{X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD, REASON_CERTIFICATE_MALFORMED},
	{X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY, REASON_CERTIFICATE_MALFORMED},
	{X509_V_ERR_INVALID_EXTENSION, REASON_CERTIFICATE_MALFORMED},
	{X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION, REASON_CERTIFICATE_USAGE},
	{X509_V_ERR_OUT_OF_MEM, REASON_UNKNOWN_KEY},
};

static enum reason
reason_of(int error)
{
	for (size_t i = 0; i < sizeof verify_errors / sizeof verify_errors[0]; i++)
		if (verify_errors[i].error == error)
			return verify_errors[i].reason;
	return REASON_CERTIFICATE_UNTRUSTED;
}

/* The whole slice is one certificate, or NULL. */
static X509 *
certificate_read(struct slice der)
{
	const unsigned char *at = der.at;
	X509 *x = der.at == NULL || der.len > LIMIT_CHAIN ? NULL : d2i_X509(NULL, &at, (long)der.len);

	if (x != NULL && at != der.at + der.len) {
		X509_free(x);
		x = NULL;
	}
	return x;
}

/* Takes the certificate over, also when it fails. */
static int
add_anchor(struct anchors *anchors, X509 *certificate, int32_t tenant_id, bool hold)
{
	struct anchor a = {certificate, X509_STORE_new(), tenant_id, hold, false};
	struct anchor *grown = NULL;

	if (a.store != NULL && X509_STORE_add_cert(a.store, certificate) == 1)
		grown = realloc(anchors->at, (anchors->len + 1) * sizeof *grown);
	if (grown == NULL) {
		X509_STORE_free(a.store);
		X509_free(certificate);
		return -1;
	}
	anchors->at = grown;
	anchors->at[anchors->len++] = a;
	return 0;
}

static const struct statement select_anchors = {
	"trust_anchors",
	"SELECT trust_anchor_id, tenant_id, enrol = 'hold', certificate FROM trust_anchor ORDER BY trust_anchor_id", 0};

static int
read_anchor(struct anchors *anchors, const PGresult *res, int row)
{
	X509 *x = certificate_read(result_bytes(res, row, 3));

	if (x == NULL || X509_self_signed(x, 1) != 1) {
		log_error("trust anchor is not a self-signed certificate id=%lld", (long long)result_int(res, row, 0));
		X509_free(x);
		ERR_clear_error();
		return 0;
	}
	return add_anchor(anchors, x, (int32_t)result_int(res, row, 1), result_bool(res, row, 2));
}

static const struct statement select_lists = {"crls",
					      "SELECT a.certificate, c.crl FROM crl c JOIN trust_anchor a "
					      "ON a.trust_anchor_id = c.trust_anchor_id",
					      0};

/* A list that was good when it was taken in goes on revoking what it names when its time is over; it is told then. It is the authority's own, whichever
   tenants' anchor that is. */
static int
read_list(struct anchors *anchors, const PGresult *res, int row)
{
	X509 *certificate = certificate_read(result_bytes(res, row, 0));
	char why[CRL_WHY_SIZE];
	X509_CRL *crl = crl_read(result_bytes(res, row, 1), why);
	int rc = 0;

	for (size_t i = 0; certificate != NULL && crl != NULL && i < anchors->len; i++) {
		struct anchor *a = &anchors->at[i];

		if (X509_cmp(a->certificate, certificate) != 0)
			continue;
		if (crl_ends(crl) < time(NULL))
			log_warning("trust anchor %zu: a list of revoked certificates is past its time", i + 1);
		rc = X509_STORE_add_crl(a->store, crl) == 1 ? 0 : -1;
		a->lists = true;
	}
	if (crl == NULL)
		log_error("a list of revoked certificates can't be read: %s", why);
	X509_CRL_free(crl);
	X509_free(certificate);
	return rc;
}

struct anchors *
anchors_load(struct database *db)
{
	PGresult *res = database_query(db, &select_anchors, NULL, 0, NULL);
	PGresult *lists = database_query(db, &select_lists, NULL, 0, NULL);
	struct anchors *anchors = res == NULL || lists == NULL ? NULL : calloc(1, sizeof *anchors);
	int rc = 0;

	for (int i = 0; anchors != NULL && rc == 0 && i < PQntuples(res); i++)
		rc = read_anchor(anchors, res, i);
	for (int i = 0; anchors != NULL && rc == 0 && i < PQntuples(lists); i++)
		rc = read_list(anchors, lists, i);
	if (rc < 0) {
		anchors_free(anchors);
		anchors = NULL;
	}
	PQclear(res);
	PQclear(lists);
	return anchors;
}

/* At the end of a PEM file OpenSSL complains that no block begins. */
static bool
at_pem_end(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

static int
read_pem(struct anchors *anchors, FILE *file, const char *name, char *error)
{
	X509 *x;

	ERR_clear_error();
	while ((x = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
		if (X509_self_signed(x, 1) != 1) {
			snprintf(error, ERROR_SIZE, "%s: certificate %zu is not self-signed: no trust anchor", name,
				 anchors->len + 1);
			X509_free(x);
			return -1;
		}
		if (add_anchor(anchors, x, 0, false) < 0) {
			snprintf(error, ERROR_SIZE, "%s: out of memory", name);
			return -1;
		}
	}
	if (!at_pem_end() || anchors->len == 0) {
		snprintf(error, ERROR_SIZE, "%s: %s", name, at_pem_end() ? "no certificate in it" : "not PEM");
		return -1;
	}
	return 0;
}

struct anchors *
anchors_from_pem(const char *name, char *error)
{
	struct anchors *anchors = calloc(1, sizeof *anchors);
	FILE *file = fopen(name, "re");

	if (file == NULL || anchors == NULL) {
		snprintf(error, ERROR_SIZE, "%s: %s", name, strerror(errno));
		goto fail;
	}
	if (read_pem(anchors, file, name, error) < 0)
		goto fail;
	fclose(file);
	ERR_clear_error();
	return anchors;
fail:
	if (file != NULL)
		fclose(file);
	ERR_clear_error();
	anchors_free(anchors);
	return NULL;
}

int
anchor_from_text(const char *pem, struct slice *der, char *why)
{
	char none[] = ""; /* a passphrase, so that nobody is asked for one */
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *x = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, none);
	X509 *more = x == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, none);
	const char *wrong = x == NULL                     ? "is no X.509 in PEM"
			    : more != NULL                ? "has more than one"
			    : X509_self_signed(x, 1) != 1 ? "is not self-signed: no trust anchor"
			    : X509_check_ca(x) == 0       ? "is not an authority's"
							  : NULL;
	uint8_t *out = NULL;
	int len = wrong == NULL ? i2d_X509(x, &out) : 0;

	if (wrong == NULL && len <= 0)
		wrong = "can't be read";
	X509_free(more);
	X509_free(x);
	BIO_free(bio);
	ERR_clear_error();
	if (wrong != NULL) {
		snprintf(why, ERROR_SIZE, "certificate: it %s", wrong);
		return -1;
	}
	*der = (struct slice){out, (size_t)len};
	return 0;
}

void
anchors_free(struct anchors *anchors)
{
	if (anchors == NULL)
		return;
	for (size_t i = 0; i < anchors->len; i++) {
		X509_STORE_free(anchors->at[i].store);
		X509_free(anchors->at[i].certificate);
	}
	free(anchors->at);
	free(anchors);
}

/* The chain, each certificate issued in the name of the next. */
static enum reason
chain_read(const struct slice *chain, size_t n, STACK_OF(X509) * out)
{
	if (n == 0 || n > LIMIT_CHAIN_CERTS)
		return REASON_CERTIFICATE_MALFORMED;
	for (size_t i = 0; i < n; i++) {
		X509 *x = certificate_read(chain[i]);

		if (x == NULL || sk_X509_push(out, x) == 0) {
			X509_free(x);
			return REASON_CERTIFICATE_MALFORMED;
		}
		if (i > 0 &&
		    X509_NAME_cmp(X509_get_issuer_name(sk_X509_value(out, (int)i - 1)), X509_get_subject_name(x)) != 0)
			return REASON_CERTIFICATE_MALFORMED;
	}
	return REASON_OK;
}

static bool
is_for_document_signing(X509 *leaf)
{
	EXTENDED_KEY_USAGE *usages = X509_get_ext_d2i(leaf, NID_ext_key_usage, NULL, NULL);
	bool found = false;
	char oid[64];

	for (int i = 0; i < sk_ASN1_OBJECT_num(usages) && !found; i++) {
		OBJ_obj2txt(oid, sizeof oid, sk_ASN1_OBJECT_value(usages, i), 1);
		found = strcmp(oid, DOCUMENT_SIGNING) == 0;
	}
	EXTENDED_KEY_USAGE_free(usages);
	return found;
}

static enum reason
check_usage(X509 *leaf)
{
	uint32_t flags = X509_get_extension_flags(leaf);

	if ((flags & EXFLAG_INVALID) != 0)
		return REASON_CERTIFICATE_MALFORMED;
	if (X509_check_ca(leaf) != 0)
		return REASON_CERTIFICATE_USAGE;
	if ((flags & EXFLAG_KUSAGE) == 0 || (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0)
		return REASON_CERTIFICATE_USAGE;
	if ((flags & EXFLAG_XKUSAGE) != 0 && !is_for_document_signing(leaf))
		return REASON_CERTIFICATE_USAGE;
	return REASON_OK;
}

static enum reason
check_name(X509 *leaf, const char *name)
{
	const X509_NAME *subject = X509_get_subject_name(leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), len;
	unsigned char *text = NULL;
	bool same;

	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return REASON_CERTIFICATE_NAME;
	len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (len < 0)
		return REASON_CERTIFICATE_NAME;
	same = (size_t)len == strlen(name) && memcmp(text, name, (size_t)len) == 0;
	OPENSSL_free(text);
	return same ? REASON_OK : REASON_CERTIFICATE_NAME;
}

/* An issuer without a list revoked nothing that we know of; one whose time is over, or begins after the message came, goes on naming what it names. */
static int
pass_over(int ok, X509_STORE_CTX *context)
{
	int error = X509_STORE_CTX_get_error(context);

	if (ok == 1 || (error != X509_V_ERR_UNABLE_TO_GET_CRL && error != X509_V_ERR_CRL_HAS_EXPIRED &&
			error != X509_V_ERR_CRL_NOT_YET_VALID))
		return ok;
	X509_STORE_CTX_set_error(context, X509_V_OK);
	return 1;
}

static enum reason
check_path(const struct anchor *anchor, STACK_OF(X509) * chain, int64_t now)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	enum reason reason = REASON_UNKNOWN_KEY;
	X509_VERIFY_PARAM *param;

	if (context == NULL || X509_STORE_CTX_init(context, anchor->store, sk_X509_value(chain, 0), chain) != 1)
		goto out;
	param = X509_STORE_CTX_get0_param(context);
	X509_VERIFY_PARAM_set_time(param, (time_t)now);
	X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
	if (anchor->lists) {
		X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
		X509_STORE_CTX_set_verify_cb(context, pass_over);
	}
	reason = X509_verify_cert(context) == 1 ? REASON_OK : reason_of(X509_STORE_CTX_get_error(context));
out:
	X509_STORE_CTX_free(context);
	return reason;
}

/* Tries the anchors that have the name of the chain's last issuer. Of several that vouch for it the tenant's own, or else the first; of several
   refusals the one that came furthest. */
static enum reason
find_anchor(const struct anchors *anchors, STACK_OF(X509) * chain, int64_t now, int32_t tenant_id,
	    const struct anchor **found)
{
	const X509_NAME *issuer = X509_get_issuer_name(sk_X509_value(chain, sk_X509_num(chain) - 1));
	enum reason worst = REASON_CERTIFICATE_UNTRUSTED;

	for (size_t i = 0; anchors != NULL && i < anchors->len; i++) {
		enum reason reason;

		if (X509_NAME_cmp(X509_get_subject_name(anchors->at[i].certificate), issuer) != 0)
			continue;
		reason = check_path(&anchors->at[i], chain, now);
		if (reason == REASON_OK && (*found == NULL || anchors->at[i].tenant_id == tenant_id))
			*found = &anchors->at[i];
		if (reason == REASON_OK && (tenant_id == 0 || anchors->at[i].tenant_id == tenant_id))
			return REASON_OK;
		if (worst == REASON_CERTIFICATE_UNTRUSTED)
			worst = reason;
	}
	return *found != NULL ? REASON_OK : worst;
}

static int
copy_slice(struct slice from, struct slice *to)
{
	uint8_t *at = malloc(from.len);

	if (at == NULL)
		return -1;
	memcpy(at, from.at, from.len);
	*to = (struct slice){at, from.len};
	return 0;
}

static int
read_validity(const X509 *x, int64_t *not_before, int64_t *not_after)
{
	struct tm begins, ends;

	if (ASN1_TIME_to_tm(X509_get0_notBefore(x), &begins) != 1 || ASN1_TIME_to_tm(X509_get0_notAfter(x), &ends) != 1)
		return -1;
	*not_before = timegm(&begins);
	*not_after = timegm(&ends);
	return 0;
}

static int
read_spki(X509 *leaf, struct slice *spki)
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
	int result = len <= 0 ? -1 : copy_slice((struct slice){der, (size_t)len}, spki);

	OPENSSL_free(der);
	return result;
}

/* The leaf's key is one of ours and has that name. */
static enum reason
check_key(struct slice spki, struct slice kid)
{
	struct cose_key *key = cose_key_from_spki(spki);
	uint8_t name[KID_SIZE];

	if (key == NULL)
		return REASON_CERTIFICATE_USAGE;
	cose_key_kid(key, name);
	cose_key_free(key);
	return kid.len == KID_SIZE && memcmp(kid.at, name, KID_SIZE) == 0 ? REASON_OK : REASON_CERTIFICATE_MALFORMED;
}

/* What is in the chain itself; who vouches for it comes after. */
static enum reason
read_enrolment(struct enrolment *e, X509 *leaf, const struct slice *chain, size_t n, struct slice kid)
{
	enum reason reason;

	if (read_spki(leaf, &e->spki) < 0 || read_validity(leaf, &e->not_before, &e->not_after) < 0)
		return REASON_CERTIFICATE_MALFORMED;
	reason = check_key(e->spki, kid);
	if (reason != REASON_OK)
		return reason;
	memcpy(e->kid, kid.at, KID_SIZE);
	for (; e->chain_len < n; e->chain_len++)
		if (copy_slice(chain[e->chain_len], &e->chain[e->chain_len]) < 0)
			return REASON_UNKNOWN_KEY;
	return REASON_OK;
}

static enum reason
vouch(const struct anchors *anchors, STACK_OF(X509) * certificates, const char *name, int64_t now, int32_t tenant_id,
      struct enrolment *e)
{
	const struct anchor *anchor = NULL;
	X509 *leaf = sk_X509_value(certificates, 0);
	enum reason reason = find_anchor(anchors, certificates, now, tenant_id, &anchor);

	if (reason == REASON_OK)
		reason = check_usage(leaf);
	if (reason == REASON_OK)
		reason = check_name(leaf, name);
	if (reason != REASON_OK)
		return reason;
	e->tenant_id = anchor->tenant_id;
	e->hold = anchor->hold;
	return REASON_OK;
}

static enum reason
enrol(const struct anchors *anchors, const struct slice *chain, size_t n, const char *name, struct slice kid,
      int64_t now, int32_t tenant_id, struct enrolment **out)
{
	STACK_OF(X509) *certificates = sk_X509_new_null();
	struct enrolment *e = calloc(1, sizeof *e);
	enum reason reason = REASON_UNKNOWN_KEY;

	if (certificates == NULL || e == NULL)
		goto out;
	reason = chain_read(chain, n, certificates);
	if (reason == REASON_OK)
		reason = read_enrolment(e, sk_X509_value(certificates, 0), chain, n, kid);
	if (reason == REASON_OK)
		reason = vouch(anchors, certificates, name, now, tenant_id, e);
	if (reason != REASON_OK)
		goto out;
	*out = e;
	e = NULL;
out:
	enrolment_free(e);
	sk_X509_pop_free(certificates, X509_free);
	ERR_clear_error();
	return reason;
}

enum reason
enrol_named(const struct anchors *anchors, const struct slice *chain, size_t n, const char *name, struct slice kid,
	    int64_t now, struct enrolment **out)
{
	return enrol(anchors, chain, n, name, kid, now, 0, out);
}

enum reason
enrol_chain(const struct anchors *anchors, const struct slice *chain, size_t n, const struct ueid *ueid,
	    struct slice kid, int64_t now, int32_t tenant_id, struct enrolment **out)
{
	char hex[UEID_HEX];

	ueid_print(ueid, hex);
	return enrol(anchors, chain, n, hex, kid, now, tenant_id, out);
}

static void
print_name(const X509_NAME *name, char out[RENEWAL_NAME])
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;
	long len = 0;

	if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
		len = BIO_get_mem_data(bio, &text);
	snprintf(out, RENEWAL_NAME, "%.*s", (int)(len < RENEWAL_NAME ? len : RENEWAL_NAME - 1), len > 0 ? text : "");
	BIO_free(bio);
}

/* Of it and what was found so far. One whose times can't be read is long due. */
static void
renew_sooner(const X509 *x, int64_t warning, bool first, struct renewal *r)
{
	int64_t not_before = 0, not_after = 0, before;

	if (read_validity(x, &not_before, &not_after) < 0)
		not_before = not_after = 0;
	before = (not_after - not_before) / 4;
	if (before > warning)
		before = warning;
	if (!first && not_after - before >= r->due)
		return;
	r->due = not_after - before;
	r->not_after = not_after;
	print_name(X509_get_subject_name(x), r->name);
}

int
renewal_of_pem(const char *name, int64_t warning, struct renewal *r)
{
	FILE *file = fopen(name, "re");
	bool some = false;
	X509 *x;

	if (file == NULL)
		return -1;
	while ((x = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
		renew_sooner(x, warning, !some, r);
		some = true;
		X509_free(x);
	}
	some = some && at_pem_end();
	fclose(file);
	ERR_clear_error();
	return some ? 0 : -1;
}

bool
renewal_of_anchors(const struct anchors *anchors, int64_t warning, struct renewal *r)
{
	for (size_t i = 0; i < anchors->len; i++)
		renew_sooner(anchors->at[i].certificate, warning, i == 0, r);
	return anchors->len > 0;
}

bool
certificate_begins_after(struct slice der, int64_t then)
{
	X509 *x = certificate_read(der);
	struct tm begins;
	bool after = x != NULL && ASN1_TIME_to_tm(X509_get0_notBefore(x), &begins) == 1 && timegm(&begins) > then;

	X509_free(x);
	ERR_clear_error();
	return after;
}

void
enrolment_free(struct enrolment *e)
{
	if (e == NULL)
		return;
	for (size_t i = 0; i < e->chain_len; i++)
		free((void *)(uintptr_t)e->chain[i].at);
	free((void *)(uintptr_t)e->spki.at);
	free(e);
}
