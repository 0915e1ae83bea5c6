#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collector/framing.h"

struct header {
	const char *name, *value;
};

static const char *
judge(const char *version, const struct header *headers)
{
	struct framing framing = {0};

	for (; headers->name != NULL; headers++)
		framing_add(&framing, headers->name, headers->value);
	return framing_fault(&framing, version);
}

#define HEADERS(...) ((const struct header[]){__VA_ARGS__, {NULL, NULL}})
#define GOOD(version, ...) assert_null(judge(version, HEADERS(__VA_ARGS__)))
#define BAD(version, ...) assert_non_null(judge(version, HEADERS(__VA_ARGS__)))

static void
good_ones(void **state)
{
	(void)state;
	GOOD("HTTP/1.1", {"Host", "x"});
	GOOD("HTTP/1.1", {"Host", "x"}, {"Content-Length", "0"});
	GOOD("HTTP/1.1", {"Host", "x"}, {"Transfer-Encoding", "Chunked"});
	GOOD("HTTP/1.1", {"host", "x"}, {"X-A!#$%&'*+.^_`|~1", "a\tb \x80"}, {"X", ""}, {"Y", NULL});
	GOOD("HTTP/1.0", {"Content-Length", "12"});
}

static void
lengths(void **state)
{
	(void)state;
	BAD("HTTP/1.1", {"Content-Length", "5"}, {"Content-Length", "5"});
	BAD("HTTP/1.1", {"Content-Length", "5"}, {"content-length", "6"});
	BAD("HTTP/1.1", {"Content-Length", ""});
	BAD("HTTP/1.1", {"Content-Length", "+5"});
	BAD("HTTP/1.1", {"Content-Length", "-5"});
	BAD("HTTP/1.1", {"Content-Length", "5, 5"});
	BAD("HTTP/1.1", {"Content-Length", "0x5"});
	BAD("HTTP/1.1", {"Content-Length", " 5"});
	BAD("HTTP/1.1", {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"});
	BAD("HTTP/1.1", {"TRANSFER-ENCODING", "chunked"}, {"Content-Length", "5"});
}

/* What says who asks, or for what. */
static void
twice(void **state)
{
	(void)state;
	GOOD("HTTP/1.1", {"Authorization", "a"}, {"Cookie", "b"}, {"Origin", "c"}, {"Accept", "d"}, {"Accept", "e"},
	     {"X-Forwarded-For", "f"}, {"X-Forwarded-For", "g"});
	BAD("HTTP/1.1", {"Authorization", "a"}, {"authorization", "b"});
	BAD("HTTP/1.1", {"Authorization", "a"}, {"Host", "x"}, {"Authorization", ""});
	BAD("HTTP/1.1", {"Cookie", "a"}, {"Cookie", NULL});
	BAD("HTTP/1.1", {"Origin", "a"}, {"Origin", "a"});
	BAD("HTTP/1.1", {"Fleetstate-CSRF", "a"}, {"Fleetstate-Csrf", "b"});
	BAD("HTTP/1.1", {"Idempotency-Key", "a"}, {"Idempotency-Key", "b"});
	BAD("HTTP/1.1", {"Content-Type", "text/csv"}, {"Content-Type", "application/json"});
	BAD("HTTP/1.1", {"If-Match", "a"}, {"If-Match", "b"});
	BAD("HTTP/1.1", {"If-None-Match", "a"}, {"If-None-Match", "b"});
	BAD("HTTP/1.1", {"Last-Event-ID", "1"}, {"Last-Event-ID", "2"});
	GOOD("HTTP/1.1", {"Cookie", "__Host-fleetstate=a; other=b; __Host-fleetstate2=c"});
	BAD("HTTP/1.1", {"Cookie", "__Host-fleetstate=a; __Host-fleetstate=b"});
	BAD("HTTP/1.1", {"cookie", "x=y; __Host-fleetstate=a;__Host-fleetstate=a"});
}

static void
encodings(void **state)
{
	(void)state;
	BAD("HTTP/1.1", {"Transfer-Encoding", "identity"});
	BAD("HTTP/1.1", {"Transfer-Encoding", ""});
	BAD("HTTP/1.1", {"Transfer-Encoding", "gzip, chunked"});
	BAD("HTTP/1.1", {"Transfer-Encoding", "chunked, chunked"});
	BAD("HTTP/1.1", {"Transfer-Encoding", "xchunked"});
	BAD("HTTP/1.1", {"Transfer-Encoding", "chunked\v"});
	BAD("HTTP/1.1", {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"});
	BAD("HTTP/1.0", {"Transfer-Encoding", "chunked"});
}

static void
names_and_values(void **state)
{
	(void)state;
	BAD("HTTP/1.1", {"Host", "a"}, {"HOST", "a"});
	BAD("HTTP/1.1", {"", "a"});
	BAD("HTTP/1.1", {"Content-Length ", "5"});
	BAD("HTTP/1.1", {" Host", "a"});
	BAD("HTTP/1.1", {"X\x01", "a"});
	BAD("HTTP/1.1", {"X\xff", "a"});
	BAD("HTTP/1.1", {"X(", "a"});
	BAD("HTTP/1.1", {"X", "a\rb"});
	BAD("HTTP/1.1", {"X", "a\nb"});
	BAD("HTTP/1.1", {"X", "\x7f"});
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones), cmocka_unit_test(lengths),          cmocka_unit_test(twice),
		cmocka_unit_test(encodings), cmocka_unit_test(names_and_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
