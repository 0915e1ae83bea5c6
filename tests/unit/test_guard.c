/* Which addresses and URLs the way out takes, and which not. */
#include <arpa/inet.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "collector/guard.h"

/* In place of the C library's, for libcurl: a name server that does not answer for ten seconds, or until the end. */
static sem_t asked, over;
static atomic_bool answered;

int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	struct timespec end;

	(void)host;
	(void)service;
	(void)hints;
	(void)out;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	sem_post(&asked);
	sem_timedwait(&over, &end);
	atomic_store(&answered, true);
	return EAI_AGAIN;
}

static bool
allows(const char *networks, const char *address)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	char why[GUARD_WHY_SIZE] = "";
	struct guard *g = guard_new(networks, false, 1, why);
	bool allowed;

	assert_non_null(g);
	if (inet_pton(AF_INET, address, &four.sin_addr) == 1)
		allowed = guard_allows(g, (struct sockaddr *)&four, why);
	else {
		assert_int_equal(inet_pton(AF_INET6, address, &six.sin6_addr), 1);
		allowed = guard_allows(g, (struct sockaddr *)&six, why);
	}
	assert_true(allowed == (why[0] == '\0'));
	guard_free(g);
	return allowed;
}

static void
public_addresses(void **state)
{
	static const char *const good[] = {"1.1.1.1",         "8.8.8.8",          "9.255.255.255",   "11.0.0.0",
					   "100.63.255.255",  "100.128.0.0",      "126.255.255.255", "128.0.0.1",
					   "169.253.0.1",     "169.255.0.1",      "172.15.255.255",  "172.32.0.0",
					   "191.255.0.1",     "192.0.1.1",        "192.167.1.1",     "192.169.0.1",
					   "198.17.0.1",      "198.20.0.1",       "223.255.255.255", "2a00:1450::1",
					   "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!allows("", good[i]))
			fail_msg("%s is refused", good[i]);
}

static void
other_addresses(void **state)
{
	static const char *const bad[] = {"0.0.0.0",
					  "0.1.2.3",
					  "10.0.0.0",
					  "10.255.255.255",
					  "100.64.0.0",
					  "100.127.255.255",
					  "127.0.0.1",
					  "127.255.255.254",
					  "169.254.0.0",
					  "169.254.169.254",
					  "172.16.0.0",
					  "172.31.255.255",
					  "192.0.0.8",
					  "192.0.2.1",
					  "192.88.99.1",
					  "192.168.0.0",
					  "192.168.255.255",
					  "198.18.0.0",
					  "198.19.255.255",
					  "198.51.100.1",
					  "203.0.113.1",
					  "224.0.0.1",
					  "239.255.255.255",
					  "240.0.0.1",
					  "255.255.255.255",
					  "::",
					  "::1",
					  "::127.0.0.1",
					  "::ffff:127.0.0.1",
					  "::ffff:10.0.0.1",
					  "::ffff:169.254.1.1",
					  "64:ff9b::10.0.0.1",
					  "64:ff9b:1::1",
					  "100::1",
					  "2001::1",
					  "2001:db8::1",
					  "2002:7f00:1::1",
					  "2002:a00:1::",
					  "3fff::1",
					  "4000::1",
					  "fc00::1",
					  "fdff::1",
					  "fe80::1",
					  "febf::1",
					  "fec0::1",
					  "ff02::1",
					  "::ffff:0:127.0.0.1",
					  "5f00::1"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (allows("", bad[i]))
			fail_msg("%s is allowed", bad[i]);
}

static void
what_the_operator_allows(void **state)
{
	(void)state;
	assert_true(allows("10.1.0.0/16", "10.1.255.255"));
	assert_false(allows("10.1.0.0/16", "10.2.0.0"));
	assert_true(allows("10.1.0.0/16", "::ffff:10.1.2.3"));
	assert_true(allows(" 127.0.0.1 , fd00::/8,", "fd12::1"));
	assert_true(allows("127.0.0.1,fd00::/8", "127.0.0.1"));
	assert_false(allows("127.0.0.1,fd00::/8", "127.0.0.2"));
	assert_false(allows("127.0.0.1,fd00::/8", "fc00::1"));
	assert_true(allows("127.0.0.0/7", "127.9.9.9"));
	assert_false(allows("127.0.0.1", "::1"));
	assert_false(allows("10.0.0.0/8", "64:ff9b::10.0.0.1"));
}

static void
bad_networks(void **state)
{
	static const char *const bad[] = {"10.0.0.0/33", "10.0.0/8",    "localhost", "fd00::/129", "10.0.0.0/",
					  "10.0.0.0/-1", "10.0.0.0/8x", "/8",        "::g/8"};
	char why[GUARD_WHY_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_null(guard_new(bad[i], false, 1, why));
}

static void
urls(void **state)
{
	static const char *const bad[] = {"",
					  "x",
					  "ftp://a/",
					  "file:///etc/passwd",
					  "https://",

					  "gopher://a/",
					  "https://u@a/",
					  "https://u:p@a/",
					  "https://a/#f",
					  "https://a/ b",
					  "https://a/\r\nX: y",
					  "https://a\\b/",
					  "https://\xc3\xa4.example/",
					  "javascript:alert(1)",
					  "//a/",
					  "https://a:99999/"};
	char why[GUARD_WHY_SIZE], longest[2100] = "https://a/";

	(void)state;
	assert_true(guard_url_ok("https://a.example/x?y=z", why));
	assert_true(guard_url_ok("http://[2001:db8::1]:8080/", why));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (guard_url_ok(bad[i], why))
			fail_msg("%s is allowed", bad[i]);
	memset(longest + 10, 'x', sizeof longest - 11);
	assert_false(guard_url_ok(longest, why));
}

static void
http_is_for_who_may(void **state)
{
	char why[GUARD_WHY_SIZE];
	struct guard *closed = guard_new(NULL, false, 1, why), *open = guard_new(NULL, true, 1, why);
	struct guard_call call;

	(void)state;
	assert_int_equal(guard_open(closed, &call, "http://a.example/"), -1);
	assert_string_equal(call.why, "http without TLS is not allowed");
	assert_int_equal(guard_open(open, &call, "http://a.example/"), 0);
	guard_close(&call);
	assert_int_equal(guard_open(closed, &call, "https://a.example/"), 0);
	guard_close(&call);
	guard_free(closed);
	guard_free(open);
}

/* All sinks are served by one thread: one tenant's name server must not hold it up. */
static void
a_name_that_nobody_resolves(void **state)
{
	char why[GUARD_WHY_SIZE];
	struct guard *g = guard_new(NULL, false, 1, why);
	CURLM *multi = curl_multi_init();
	struct guard_call call;
	int running;

	(void)state;
	sem_init(&asked, 0, 0);
	sem_init(&over, 0, 0);
	assert_int_equal(guard_open(g, &call, "https://a.example/"), 0);
	assert_int_equal(curl_multi_add_handle(multi, call.curl), CURLM_OK);
	assert_int_equal(curl_multi_perform(multi, &running), CURLM_OK);
	assert_int_equal(sem_wait(&asked), 0);
	curl_multi_remove_handle(multi, call.curl);
	guard_close(&call);
	assert_false(atomic_load(&answered));
	sem_post(&over);
	curl_multi_cleanup(multi);
	guard_free(g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_addresses),
		cmocka_unit_test(other_addresses),
		cmocka_unit_test(what_the_operator_allows),
		cmocka_unit_test(bad_networks),
		cmocka_unit_test(urls),
		cmocka_unit_test(http_is_for_who_may),
		cmocka_unit_test(a_name_that_nobody_resolves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
