#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collector/purl_search.h"

static void
it_comes_out_as_emitters_write_it(void **state)
{
	static const struct {
		const char *asked, *text, *name;
	} rows[] = {
		{"pkg:deb/debian/openssl", "pkg:deb/debian/openssl", "openssl"},
		{"pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
		 "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12", "openssl"},
		{"PKG:DEB/Debian/OpenSSL", "pkg:deb/debian/openssl", "openssl"},
		{"pkg://deb/debian/openssl", "pkg:deb/debian/openssl", "openssl"},
		{"pkg:rpm/Fedora/NetworkManager@1%3A1.2", "pkg:rpm/fedora/NetworkManager@1:1.2", "NetworkManager"},
		{"pkg:deb/debian/libstdc++6@12+b1", "pkg:deb/debian/libstdc%2B%2B6@12%2Bb1", "libstdc++6"},
		{"pkg:deb/debian/libstdc%2b%2B6", "pkg:deb/debian/libstdc%2B%2B6", "libstdc++6"},
		{"pkg:deb/%6fpenssl", "pkg:deb/openssl", "openssl"},
		{"pkg:oci/A/b/C@x?Arch=%41", "pkg:oci/A/b/C@x?arch=A", "C"},
		{"pkg:oci/a%2Fb", "pkg:oci/a%2Fb", "a/b"},
		{"pkg:oci/\xc3\xa4", "pkg:oci/%C3%A4", "\xc3\xa4"},
	};
	struct purl_search p;
	const char *why;
	size_t where;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (!purl_search_parse(rows[i].asked, &p, &where, &why))
			fail_msg("%s: at %zu: %s", rows[i].asked, where, why);
		assert_string_equal(p.text, rows[i].text);
		assert_int_equal(p.len, strlen(rows[i].text));
		assert_string_equal(p.name, rows[i].name);
	}
}

static void
what_is_none_says_where(void **state)
{
	static const struct {
		const char *asked;
		size_t where;
	} rows[] = {
		{"", 0},
		{"openssl", 0},
		{"pkg", 0},
		{"pkg:", 4},
		{"pkg:deb", 4},
		{"pkg:/deb", 5},
		{"pkg:4/x", 4},
		{"pkg:d_b/x", 4},
		{"pkg:deb?x/y", 4},
		{"pkg:deb/", 8},
		{"pkg:deb//openssl", 8},
		{"pkg:deb/debian/", 8},
		{"pkg:deb/debian/@1", 8},
		{"pkg:deb/debian/%zz", 8},
		{"pkg:deb/debian/%", 8},
		{"pkg:deb/debian/%2", 8},
		{"pkg:deb/debian/x%00", 8},
		{"pkg:deb/debian/%ff", 8},
		{"pkg:deb/openssl@", 16},
		{"pkg:deb/openssl@?arch=x", 16},
		{"pkg:deb/openssl@%", 16},
		{"pkg:deb/openssl?", 15},
		{"pkg:deb/openssl?arch", 15},
		{"pkg:deb/openssl?arch=", 15},
		{"pkg:deb/openssl?=x", 15},
		{"pkg:deb/openssl?a=1&", 15},
		{"pkg:deb/openssl?a=1&&b=2", 15},
		{"pkg:deb/openssl#etc/ssl", 15},
		{"pkg:deb/openssl@1#etc/ssl", 17},
	};
	struct purl_search p;
	const char *why;
	size_t where;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (purl_search_parse(rows[i].asked, &p, &where, &why))
			fail_msg("%s is one: %s", rows[i].asked, p.text);
		if (where != rows[i].where)
			fail_msg("%s: at %zu: %s", rows[i].asked, where, why);
	}
}

static void
it_has_a_bound(void **state)
{
	static char text[LIMIT_PURL + 2] = "pkg:oci/x@";
	static struct purl_search p;
	const char *why;
	size_t where;

	(void)state;
	memset(text + 10, '+', LIMIT_PURL - 10);
	assert_true(purl_search_parse(text, &p, &where, &why));
	assert_int_equal(p.len, 10 + 3 * (LIMIT_PURL - 10));
	text[LIMIT_PURL] = '+';
	assert_false(purl_search_parse(text, &p, &where, &why));
	/* No component has a name of so many bytes. */
	text[LIMIT_PURL] = '\0';
	text[9] = '+';
	assert_false(purl_search_parse(text, &p, &where, &why));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_comes_out_as_emitters_write_it),
		cmocka_unit_test(what_is_none_says_where),
		cmocka_unit_test(it_has_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
