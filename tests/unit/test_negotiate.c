#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "collector/negotiate.h"

static const struct etag_key key = {{1, 2, 3}, {4, 5, 6}};

static void
the_coding_is_the_one_liked_best(void **state)
{
	static const struct {
		const char *accept;
		enum coding coding;
	} cases[] = {
		{"gzip", CODING_GZIP},
		{"gzip, deflate, br, zstd", CODING_ZSTD},
		{"GZip", CODING_GZIP},
		{"zstd;q=0.5, gzip;q=0.8", CODING_GZIP},
		{"zstd;q=0.5,gzip;q=0.500", CODING_ZSTD},
		{"*", CODING_ZSTD},
		{"zstd;q=0, *", CODING_GZIP},
		{"*;q=0.1, gzip;q=0.05", CODING_ZSTD},
		{" gzip ; Q=1.000 ", CODING_GZIP},
		{"gzip,,", CODING_GZIP},
		{"gzip;q=1.5, zstd;q=0.001", CODING_ZSTD},
		{NULL, CODING_NONE},
		{"", CODING_NONE},
		{",", CODING_NONE},
		{"identity", CODING_NONE},
		{"deflate, br", CODING_NONE},
		{"gzip;q=0", CODING_NONE},
		{"gzip;q=0.000, zstd;q=0", CODING_NONE},
		{"gzip;q=", CODING_NONE},
		{"gzip;q=-1", CODING_NONE},
		{"gzip;q=2", CODING_NONE},
		{"gzip;q=1.0001", CODING_NONE},
		{"gzip;q=.5", CODING_NONE},
		{"gzip;level=9", CODING_NONE},
		{"gzip zstd", CODING_NONE},
		{"gzipped", CODING_NONE},
		{"gzi", CODING_NONE},
		{"**", CODING_NONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (coding_choose(cases[i].accept) != cases[i].coding)
			fail_msg("\"%s\" gives %d", cases[i].accept, (int)coding_choose(cases[i].accept));
	}
}

static const char *
header(const struct response *response, const char *name)
{
	for (size_t i = 0; i < response->headers_len; i++)
		if (strcmp(response->headers[i].name, name) == 0)
			return response->headers[i].value;
	return NULL;
}

static void
fill(struct response *response, char text[8192])
{
	for (size_t i = 0; i < 8191; i++)
		text[i] = "{\"ueid\": 0123456789}"[i % 20];
	text[8191] = '\0';
	response_json(response, (struct slice){(const uint8_t *)text, 8191});
}

static void
what_is_compressed_comes_out_as_it_was(void **state)
{
	struct response response = {0};
	char text[8192];
	uint8_t out[8192];
	z_stream stream = {.next_out = out, .avail_out = sizeof out};

	(void)state;
	fill(&response, text);
	negotiate(&response, &key, "zstd", NULL);
	assert_string_equal(header(&response, "Content-Encoding"), "zstd");
	assert_string_equal(header(&response, "Vary"), "Accept-Encoding");
	assert_true(response.len < 400);
	assert_int_equal(ZSTD_decompress(out, sizeof out, response.body, response.len), 8191);
	assert_memory_equal(out, text, 8191);

	fill(&response, text);
	negotiate(&response, &key, "gzip", NULL);
	assert_string_equal(header(&response, "Content-Encoding"), "gzip");
	stream.next_in = response.body;
	stream.avail_in = (uInt)response.len;
	assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
	assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
	inflateEnd(&stream);
	assert_int_equal(stream.total_out, 8191);
	assert_memory_equal(out, text, 8191);
	response_free(&response);
}

static void
what_is_not_matched_is_not_sent(void **state)
{
	static const struct {
		const char *if_match, *own;
		unsigned status;
		bool streams, waits;
		unsigned is;
	} rows[] = {
		{NULL, "\"1\"", 200, false, false, 200},     {"*", NULL, 200, false, false, 200},
		{"*", NULL, 200, true, true, 200},           {"\"1\"", "\"1\"", 200, false, false, 200},
		{"\"x\"", NULL, 404, false, false, 404},     {"\"x\"", NULL, 300, false, false, 300},
		{"\"x\"", NULL, 200, false, true, 200},      {"\"x\"", NULL, 200, false, false, 412},
		{"\"2\"", "\"1\"", 200, false, false, 412},  {"W/\"1\"", "\"1\"", 200, false, false, 412},
		{"\"1\"", "W/\"1\"", 200, true, false, 412}, {"\"1\"", NULL, 200, true, false, 412},
		{"\"1\"", NULL, 200, true, true, 412},       {"x", "\"1\"", 200, false, false, 412},
		{"", "\"1\"", 200, false, false, 412},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct response response = {0};

		response_json(&response, (struct slice){(const uint8_t *)"{}", 2});
		response.status = rows[i].status;
		response.streams = rows[i].streams;
		response.waits = rows[i].waits;
		if (rows[i].own != NULL)
			response_header(&response, "ETag", "%s", rows[i].own);
		negotiate_match(&response, rows[i].if_match);
		if (response.status != rows[i].is)
			fail_msg("row %zu is %u", i, response.status);
		assert_true(response.status != 412 ||
			    (response.problem == PROBLEM_PRECONDITION_FAILED && !response.streams && !response.waits &&
			     header(&response, "ETag") == NULL));
		response_free(&response);
	}
}

static void
what_the_client_has_is_not_sent(void **state)
{
	struct response response = {0};
	char text[8192], *tag;

	(void)state;
	fill(&response, text);
	negotiate(&response, &key, NULL, "\"other\"");
	assert_int_equal(response.status, 200);
	assert_int_equal(response.len, 8191);
	assert_null(header(&response, "Content-Encoding"));
	tag = strdup(header(&response, "ETag"));
	/* The same in another coding. */
	fill(&response, text);
	negotiate(&response, &key, "gzip", tag);
	assert_int_equal(response.status, 304);
	assert_string_equal(header(&response, "Vary"), "Accept-Encoding");
	assert_int_equal(response.len, 0);
	assert_null(response.type);
	assert_string_equal(header(&response, "ETag"), tag);
	/* One byte differs. */
	fill(&response, text);
	response.body[4000] ^= 1;
	negotiate(&response, &key, NULL, tag);
	assert_int_equal(response.status, 200);
	free(tag);
	response_free(&response);
}

static void
without_a_key_all_is_sent(void **state)
{
	struct response response = {0};
	char text[8192];

	(void)state;
	fill(&response, text);
	negotiate(&response, NULL, "gzip", "*");
	assert_int_equal(response.status, 200);
	assert_int_equal(response.len, 8191);
	assert_int_equal(response.headers_len, 0);
	response_free(&response);
}

/* As turns have it: pieces, and after the last an answer that is none. */
static size_t
pack_pieces(const char *accept, const char *type, size_t pieces, uint8_t *all)
{
	struct response response = {0};
	struct packer *packer = NULL;
	char text[8192];
	size_t len = 0;

	for (size_t i = 0; i <= pieces + 1; i++) {
		response_free(&response);
		if (i < pieces) {
			fill(&response, text);
			response.type = type;
			response.streams = true;
			response.body[0] = (uint8_t)('a' + i);
			if (i == 1)
				response.len = 0; /* a piece of nothing */
		}
		negotiate_piece(&packer, &response, accept, NULL);
		assert_false(response.failed);
		if (i == 0)
			assert_string_equal(header(&response, "Vary"), "Accept-Encoding");
		if (response.len > 0)
			memcpy(all + len, response.body, response.len);
		len += response.len;
	}
	assert_null(packer);
	assert_false(response.streams);
	response_free(&response);
	return len;
}

static void
a_stream_is_one_compressed_whole(void **state)
{
	enum { PIECES = 20, WHOLE = (PIECES - 1) * 8191 };
	static uint8_t packed[WHOLE], plain[WHOLE], out[WHOLE + 1];
	z_stream stream = {.next_in = packed, .next_out = out, .avail_out = sizeof out};
	size_t len;

	(void)state;
	assert_int_equal(pack_pieces("identity", "text/csv", PIECES, plain), WHOLE);
	assert_int_equal(plain[8191], 'c');
	len = pack_pieces("gzip", "text/csv", PIECES, packed);
	assert_true(len < WHOLE / 4);
	stream.avail_in = (uInt)len;
	assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
	assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
	assert_int_equal(stream.total_in, len);
	assert_int_equal(stream.total_out, WHOLE);
	inflateEnd(&stream);
	assert_memory_equal(out, plain, WHOLE);
	len = pack_pieces("zstd", "application/x-ndjson", PIECES, packed);
	assert_true(len < WHOLE / 4);
	assert_int_equal(ZSTD_findFrameCompressedSize(packed, len), len);
	memset(out, 0, sizeof out);
	assert_int_equal(ZSTD_decompress(out, sizeof out, packed, len), WHOLE);
	assert_memory_equal(out, plain, WHOLE);
}

/* Each can be unpacked when it comes. A stream of events is sent as it is, and so is what became a problem. */
static void
what_is_packed_of_a_stream(void **state)
{
	struct response response = {0};
	struct packer *packer = NULL;
	uint8_t out[8192];
	z_stream stream = {.next_out = out, .avail_out = sizeof out};
	char text[8192];

	(void)state;
	fill(&response, text);
	response.streams = true;
	negotiate_piece(&packer, &response, "gzip", "\"x\"");
	assert_string_equal(header(&response, "Content-Encoding"), "gzip");
	assert_null(header(&response, "ETag"));
	stream.next_in = response.body;
	stream.avail_in = (uInt)response.len;
	assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
	assert_int_equal(inflate(&stream, Z_SYNC_FLUSH), Z_OK);
	assert_int_equal(stream.total_out, 8191);
	inflateEnd(&stream);
	response_problem(&response, PROBLEM_GONE, "%s", "");
	negotiate_piece(&packer, &response, "gzip", "\"x\"");
	assert_int_equal(response.status, 410);
	assert_false(response.streams);
	assert_non_null(packer);
	packer_free(packer);
	packer = NULL;
	fill(&response, text);
	response.type = "text/event-stream";
	response.streams = true;
	negotiate_piece(&packer, &response, "gzip", "\"x\"");
	assert_null(packer);
	assert_int_equal(response.headers_len, 0);
	assert_int_equal(response.len, 8191);
	response_free(&response);
}

/* With its first piece, if it has an ETag of its own. */
static void
a_stream_that_is_known_is_not_sent(void **state)
{
	static const struct {
		const char *own, *listed;
		unsigned status;
	} rows[] = {{"W/\"a\"", "W/\"a\"", 304},
		    {"W/\"a\"", "\"x\", \"a\"", 304},
		    {"W/\"a\"", "*", 304},
		    {"W/\"a\"", "\"ab\"", 200},
		    {"W/\"a\"", "a", 200},
		    {"W/\"a\"", NULL, 200},
		    {NULL, "*", 200}};
	char text[8192];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct response response = {0};
		struct packer *packer = NULL;
		bool known = rows[i].status == 304;

		fill(&response, text);
		response.streams = true;
		if (rows[i].own != NULL)
			response_header(&response, "ETag", "%s", rows[i].own);
		negotiate_piece(&packer, &response, "gzip", rows[i].listed);
		assert_int_equal(response.status, rows[i].status);
		assert_int_equal(response.streams, !known);
		assert_int_equal(response.len == 0, known);
		assert_int_equal(packer == NULL, known);
		assert_string_equal(header(&response, "Vary"), "Accept-Encoding");
		if (rows[i].own != NULL)
			assert_string_equal(header(&response, "ETag"), rows[i].own);
		packer_free(packer);
		response_free(&response);
	}
}

static void
signed_bytes_problems_streams_and_the_small_stay_as_they_are(void **state)
{
	struct response response = {0};
	char text[8192];

	(void)state;
	fill(&response, text);
	response_header(&response, "ETag", "\"%064d\"", 0);
	negotiate(&response, &key, "gzip", NULL);
	assert_int_equal(response.len, 8191);
	assert_int_equal(response.headers_len, 1);
	negotiate(&response, &key, NULL, "W/\"0000000000000000000000000000000000000000000000000000000000000000\"");
	assert_int_equal(response.status, 304);
	assert_int_equal(response.headers_len, 1);

	response_problem(&response, PROBLEM_NOT_FOUND, "%0500d", 0);
	negotiate(&response, &key, "gzip", "*");
	assert_int_equal(response.status, 404);
	assert_null(header(&response, "ETag"));

	fill(&response, text);
	response.streams = true;
	negotiate(&response, &key, "gzip", "*");
	assert_int_equal(response.headers_len, 0);

	response_json(&response, (struct slice){(const uint8_t *)"{}", 2});
	negotiate(&response, &key, "gzip", NULL);
	assert_int_equal(response.len, 2);
	assert_non_null(header(&response, "ETag"));
	assert_null(header(&response, "Content-Encoding"));

	fill(&response, text);
	response.type = "application/eat+cwt";
	negotiate(&response, &key, "gzip", NULL);
	assert_int_equal(response.len, 8191);

	response_free(&response);
	response.status = 200;
	response.type = "text/css; charset=utf-8";
	response.fixed = (struct slice){(const uint8_t *)text, sizeof text};
	negotiate(&response, &key, "gzip", NULL);
	assert_non_null(header(&response, "ETag"));
	assert_null(header(&response, "Content-Encoding"));

	/* What does not get smaller goes as it is. */
	fill(&response, text);
	for (uint32_t i = 0, x = 2463534242; i < response.len; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		response.body[i] = (uint8_t)x;
	}
	negotiate(&response, &key, "gzip", NULL);
	assert_null(header(&response, "Content-Encoding"));
	assert_int_equal(response.len, 8191);
	response_free(&response);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_coding_is_the_one_liked_best),
		cmocka_unit_test(what_is_compressed_comes_out_as_it_was),
		cmocka_unit_test(what_is_not_matched_is_not_sent),
		cmocka_unit_test(what_the_client_has_is_not_sent),
		cmocka_unit_test(without_a_key_all_is_sent),
		cmocka_unit_test(a_stream_is_one_compressed_whole),
		cmocka_unit_test(what_is_packed_of_a_stream),
		cmocka_unit_test(a_stream_that_is_known_is_not_sent),
		cmocka_unit_test(signed_bytes_problems_streams_and_the_small_stay_as_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
