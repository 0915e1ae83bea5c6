#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "collector/client_certificate.h"
#include "tests/unit/chains.h"

static void
test_marks(void **state)
{
	static const char *const good[] = {
		"fingerprint:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"dns:siem.example",
		"uri:spiffe://a/b?c=d e",
		"email:a@b",
		"subject:CN=a\\,b,O=c",
	};
	static const char *const bad[] = {
		"",
		"fingerprint",
		"fingerprint:",
		"fingerprint:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
		"fingerprint:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
		"fingerprint:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
		"Fingerprint:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"dns:",
		"dns:Siem.example",
		"dns:a\nb",
		"subject:CN=\xc3\xa9",
		"serial:1",
		" dns:a",
	};
	char text[2 * CERTIFICATE_MARK_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(certificate_mark_ok(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(certificate_mark_ok(bad[i]));
	sprintf(text, "uri:%0*d", CERTIFICATE_MARK_SIZE - 1 - 4, 0);
	assert_true(certificate_mark_ok(text));
	sprintf(text, "uri:%0*d", CERTIFICATE_MARK_SIZE - 4, 0);
	assert_false(certificate_mark_ok(text));
}

/* What a certificate of this name, with alternative names as in openssl.cnf, is known by. */
static int
marks_of(const char *name, const char *names, struct certificate_marks *marks)
{
	EVP_PKEY *key = make_key("P-256");
	X509 *x = make_certificate(key,
				   &(struct certificate_order){.name = name, .from = 0, .to = 1, .digest = "SHA256"});
	unsigned char *der = NULL;
	int len, rc;

	add_extension(x, NID_subject_alt_name, names);
	assert_int_equal(X509_sign(x, key, EVP_sha256()) > 0, 1);
	len = i2d_X509(x, &der);
	assert_true(len > 0);
	rc = certificate_marks((struct slice){der, (size_t)len}, marks);
	/* Neither a part of one nor more than one. */
	assert_int_equal(certificate_marks((struct slice){der, (size_t)len - 1}, &(struct certificate_marks){.n = 0}),
			 -1);
	OPENSSL_free(der);
	X509_free(x);
	EVP_PKEY_free(key);
	return rc;
}

static void
test_names(void **state)
{
	static struct certificate_marks marks;
	char many[1024] = "";

	(void)state;
	assert_int_equal(marks_of("siem", "email:a@b,DNS:SIEM.Example,IP:127.0.0.1,URI:spiffe://a/b,DNS:other", &marks),
			 0);
	assert_int_equal(marks.n, 6);
	assert_int_equal(strncmp(marks.text[0], "fingerprint:", 12), 0);
	assert_string_equal(marks.text[1], "uri:spiffe://a/b");
	assert_string_equal(marks.text[2], "dns:siem.example");
	assert_string_equal(marks.text[3], "dns:other");
	assert_string_equal(marks.text[4], "email:a@b");
	assert_string_equal(marks.text[5], "subject:CN=siem");
	/* Separators in a name are spelt out: it can't look like another's. */
	assert_int_equal(marks_of("a,O=b", NULL, &marks), 0);
	assert_string_equal(marks.text[1], "subject:CN=a\\,O=b");
	/* Without a name there is only the fingerprint; and of many the subject is not the one that gives way. */
	assert_int_equal(marks_of(NULL, NULL, &marks), 0);
	assert_int_equal(marks.n, 1);
	for (int i = 0; i < 30; i++)
		sprintf(many + strlen(many), "%sDNS:n%d", i == 0 ? "" : ",", i);
	assert_int_equal(marks_of("last", many, &marks), 0);
	assert_int_equal(marks.n, CERTIFICATE_MARKS);
	assert_string_equal(marks.text[CERTIFICATE_MARKS - 1], "subject:CN=last");
}

static void
test_what_is_none(void **state)
{
	static struct certificate_marks marks;
	static const uint8_t large[20000] = {0x30, 0x82, 0x4e, 0x1c};

	(void)state;
	assert_int_equal(certificate_marks((struct slice){NULL, 0}, &marks), -1);
	assert_int_equal(certificate_marks((struct slice){(const uint8_t *)"x", 1}, &marks), -1);
	assert_int_equal(certificate_marks((struct slice){large, sizeof large}, &marks), -1);
	assert_int_equal(marks.n, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
