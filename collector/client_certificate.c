#include "collector/client_certificate.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "schema/key.h"

#define CERTIFICATE_MAX (16 * 1024) /* bytes */

static const char *const kinds[] = {"fingerprint:", "uri:", "dns:", "email:", "subject:"};
enum { FINGERPRINT, URI, DNS, EMAIL, SUBJECT, KINDS };

static bool
is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

bool
certificate_mark_ok(const char *mark)
{
	for (int i = 0; i < KINDS; i++) {
		const char *value = mark + strlen(kinds[i]);

		if (strncmp(mark, kinds[i], strlen(kinds[i])) != 0)
			continue;
		if (i == FINGERPRINT)
			return strlen(value) == 2 * DIGEST_SIZE && strspn(value, "0123456789abcdef") == strlen(value);
		if (i == DNS && strpbrk(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL)
			return false;
		return value[0] != '\0' && strlen(mark) < CERTIFICATE_MARK_SIZE && is_printable(value);
	}
	return false;
}

/* What could not be mapped is no mark. */
static void
add_mark(struct certificate_marks *marks, int kind, const char *value)
{
	char *mark = marks->text[marks->n];

	if (marks->n == CERTIFICATE_MARKS || strlen(kinds[kind]) + strlen(value) >= CERTIFICATE_MARK_SIZE)
		return;
	sprintf(mark, "%s%s", kinds[kind], value);
	for (char *at = mark; kind == DNS && *at != '\0'; at++)
		*at = (char)tolower((unsigned char)*at);
	marks->n += certificate_mark_ok(mark);
}

static void
mark_fingerprint(X509 *leaf, struct certificate_marks *marks)
{
	char hex[2 * DIGEST_SIZE + 1] = "";
	uint8_t digest[DIGEST_SIZE];
	unsigned char *der = NULL;
	int len = i2d_X509(leaf, &der);

	sha256((struct slice){der, len > 0 ? (size_t)len : 0}, digest);
	OPENSSL_free(der);
	for (size_t i = 0; i < sizeof digest; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	if (len > 0)
		add_mark(marks, FINGERPRINT, hex);
}

static void
mark_names(X509 *leaf, int type, int kind, struct certificate_marks *marks)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const char *text;

		if (name->type != type)
			continue;
		/* A name with a zero in it is not what it looks like. */
		text = (const char *)ASN1_STRING_get0_data(name->d.ia5);
		if (text != NULL && strlen(text) == (size_t)ASN1_STRING_length(name->d.ia5))
			add_mark(marks, kind, text);
	}
	GENERAL_NAMES_free(names);
}

static void
mark_subject(X509 *leaf, struct certificate_marks *marks)
{
	BIO *out = BIO_new(BIO_s_mem());
	char text[CERTIFICATE_MARK_SIZE];
	int len;

	if (out == NULL)
		return;
	if (X509_NAME_print_ex(out, X509_get_subject_name(leaf), 0, XN_FLAG_RFC2253) > 0 &&
	    BIO_pending(out) < CERTIFICATE_MARK_SIZE) {
		len = BIO_read(out, text, sizeof text - 1);
		text[len > 0 ? len : 0] = '\0';
		add_mark(marks, SUBJECT, text);
	}
	BIO_free(out);
}

static void
mark(X509 *leaf, struct certificate_marks *marks)
{
	marks->n = 0;
	mark_fingerprint(leaf, marks);
	mark_names(leaf, GEN_URI, URI, marks);
	mark_names(leaf, GEN_DNS, DNS, marks);
	mark_names(leaf, GEN_EMAIL, EMAIL, marks);
	/* Of many names the last give way to the subject. */
	if (marks->n == CERTIFICATE_MARKS)
		marks->n--;
	mark_subject(leaf, marks);
}

static X509 *
read_certificate(struct slice der)
{
	const unsigned char *at = der.at;
	X509 *x = der.at == NULL || der.len > CERTIFICATE_MAX ? NULL : d2i_X509(NULL, &at, (long)der.len);

	if (x != NULL && at != der.at + der.len) {
		X509_free(x);
		x = NULL;
	}
	return x;
}

int
certificate_marks(struct slice der, struct certificate_marks *marks)
{
	X509 *x = read_certificate(der);

	marks->n = 0;
	if (x != NULL)
		mark(x, marks);
	X509_free(x);
	ERR_clear_error();
	return marks->n > 0 ? 0 : -1;
}
