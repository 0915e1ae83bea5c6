#include "collector/negotiate.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#define SMALL 1024 /* bytes: below, compressing saves no packet */
#define GZIP_LEVEL 4
#define GZIP_WINDOW (15 + 16) /* zlib.h: 16 more stand for the gzip format */
#define ZSTD_LEVEL 3
#define ETAG_BYTES 16 /* of SHA-256 */
#define ETAG_SIZE 80 /* a report's own has 66 */

/* ---- Accept-Encoding ---- */

static const char *
skip_blanks(const char *at)
{
	return at + strspn(at, " \t");
}

/* "0.5" as 500; -1: it is no qvalue (RFC 9110 12.4.2). */
static int
parse_quality(const char *at, size_t len)
{
	int value = 0;

	if (len == 0 || len > 5 || (at[0] != '0' && at[0] != '1') || (len > 1 && at[1] != '.'))
		return -1;
	for (size_t i = 0; i < 5; i++) {
		if (i == 1)
			continue;
		if (i < len && (at[i] < '0' || at[i] > '9'))
			return -1;
		value = value * 10 + (i < len ? at[i] - '0' : 0);
	}
	return value > 1000 ? -1 : value;
}

/* What stands behind a coding's name: its q, or 1000. */
static int
quality_of(const char *at, const char *end)
{
	at = skip_blanks(at);
	if (at >= end)
		return 1000;
	if (*at != ';')
		return -1;
	at = skip_blanks(at + 1);
	if (end - at < 2 || (at[0] != 'q' && at[0] != 'Q') || at[1] != '=')
		return -1;
	at += 2;
	while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return parse_quality(at, (size_t)(end - at));
}

enum coding
coding_choose(const char *accept)
{
	static const char *const names[] = {[CODING_GZIP] = "gzip", [CODING_ZSTD] = "zstd"};
	int quality[] = {[CODING_NONE] = 0, [CODING_GZIP] = -1, [CODING_ZSTD] = -1}, any = 0;
	enum coding best = CODING_NONE;

	if (accept == NULL)
		return CODING_NONE;
	for (const char *end; *accept != '\0'; accept = *end == ',' ? end + 1 : end) {
		size_t len;
		int q;

		accept = skip_blanks(accept);
		end = accept + strcspn(accept, ",");
		len = strcspn(accept, " \t;,");
		q = quality_of(accept + len, end);
		if (q < 0)
			continue;
		if (len == 1 && *accept == '*')
			any = q;
		for (size_t i = CODING_GZIP; i <= CODING_ZSTD; i++)
			if (strlen(names[i]) == len && strncasecmp(names[i], accept, len) == 0)
				quality[i] = q;
	}
	for (size_t i = CODING_GZIP; i <= CODING_ZSTD; i++) {
		if (quality[i] < 0)
			quality[i] = any;
		if (quality[i] > 0 && quality[i] >= quality[best])
			best = (enum coding)i;
	}
	return best;
}

/* ---- ETag ---- */

static const char *
without_weakness(const char *tag)
{
	return strncmp(tag, "W/", 2) == 0 ? tag + 2 : tag;
}

bool
etag_is_listed(const char *list, const char *etag)
{
	size_t len;

	if (list == NULL)
		return false;
	etag = without_weakness(etag);
	len = strlen(etag);
	list = skip_blanks(list);
	if (strcmp(list, "*") == 0)
		return true;
	/* A tag holds no quotation mark, but may hold a comma. */
	while (*(list += strspn(list, " \t,")) != '\0') {
		const char *end;

		list = without_weakness(list);
		if (*list != '"' || (end = strchr(list + 1, '"')) == NULL)
			return false;
		end++;
		if ((size_t)(end - list) == len && memcmp(list, etag, len) == 0)
			return true;
		list = end;
	}
	return false;
}

static const char *
find_header(const struct response *response, const char *name)
{
	for (size_t i = 0; i < response->headers_len; i++)
		if (strcmp(response->headers[i].name, name) == 0)
			return response->headers[i].value;
	return NULL;
}

static struct slice
body_of(const struct response *response)
{
	return response->fixed.at != NULL ? response->fixed : (struct slice){response->body, response->len};
}

/* Weak, since the compressed form has the same one. */
static int
make_etag(struct slice body, char etag[ETAG_SIZE])
{
	uint8_t digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(body.at, body.len, digest, NULL, EVP_sha256(), NULL) != 1)
		return -1;
	strcpy(etag, "W/\"");
	for (size_t i = 0; i < ETAG_BYTES; i++)
		sprintf(etag + 3 + 2 * i, "%02x", digest[i]);
	strcat(etag, "\"");
	return 0;
}

/* ---- compressing ---- */

/* Bytes written, or 0: it failed, or is no smaller. */
static size_t
compress_gzip(struct slice body, uint8_t *out, size_t size)
{
	z_stream stream = {.next_in = (z_const Bytef *)body.at,
			   .avail_in = (uInt)body.len,
			   .next_out = out,
			   .avail_out = (uInt)size};
	size_t len = 0;

	if (deflateInit2(&stream, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	if (deflate(&stream, Z_FINISH) == Z_STREAM_END)
		len = size - stream.avail_out;
	deflateEnd(&stream);
	return len;
}

static size_t
compress_zstd(struct slice body, uint8_t *out, size_t size)
{
	size_t len = ZSTD_compress(out, size, body.at, body.len, ZSTD_LEVEL);

	return ZSTD_isError(len) ? 0 : len;
}

static bool
is_text(const char *type)
{
	static const char *const types[] = {"text/", "application/json", "application/yaml", "application/x-ndjson",
					    "application/openmetrics-text"};

	for (size_t i = 0; type != NULL && i < sizeof types / sizeof *types; i++)
		if (strncmp(type, types[i], strlen(types[i])) == 0)
			return true;
	return false;
}

static void
compress_body(struct response *response, enum coding coding)
{
	struct slice body = body_of(response);
	uint8_t *out;
	size_t len;

	response_header(response, "Vary", "Accept-Encoding");
	if (coding == CODING_NONE || response->failed)
		return;
	out = malloc(body.len);
	if (out == NULL)
		return;
	len = coding == CODING_GZIP ? compress_gzip(body, out, body.len) : compress_zstd(body, out, body.len);
	if (len == 0) {
		free(out);
		return;
	}
	free(response->body);
	response->fixed = (struct slice){NULL, 0};
	response->body = out;
	response->len = response->size = len;
	response_header(response, "Content-Encoding", "%s", coding == CODING_GZIP ? "gzip" : "zstd");
}

void
negotiate(struct response *response, const char *accept_encoding, const char *if_none_match)
{
	const char *own = find_header(response, "ETag");
	char etag[ETAG_SIZE];

	if (response->status != 200 || response->streams || response->waits || response->failed)
		return;
	if (own != NULL)
		snprintf(etag, sizeof etag, "%s", own);
	else if (make_etag(body_of(response), etag) < 0)
		return;
	if (etag_is_listed(if_none_match, etag)) {
		response_free(response);
		response->status = 304;
		response_header(response, "ETag", "%s", etag);
		return;
	}
	if (own != NULL)
		return;
	response_header(response, "ETag", "%s", etag);
	/* What is carried along is answered by the thread that has all the sockets: it must not be kept busy by who has no token. */
	if (response->fixed.at == NULL && is_text(response->type) && body_of(response).len >= SMALL)
		compress_body(response, coding_choose(accept_encoding));
}
