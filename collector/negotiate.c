#include "collector/negotiate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SMALL 1024 /* bytes: below, compressing saves no packet */
#define ETAG_BYTES 16 /* of the body's hash */
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
make_etag(const struct etag_key *key, struct slice body, char etag[ETAG_SIZE])
{
	char hex[2 * ETAG_BYTES + 1];

	if (key == NULL || etag_hash(key, body, ETAG_BYTES, hex) < 0)
		return -1;
	snprintf(etag, ETAG_SIZE, "W/\"%s\"", hex);
	return 0;
}

/* ---- compressing ---- */

static bool
is_text(const char *type)
{
	static const char *const types[] = {"text/",
					    "application/json",
					    "application/yaml",
					    NDJSON_TYPE,
					    "application/vnd.cyclonedx+json",
					    "application/openmetrics-text"};

	for (size_t i = 0; type != NULL && i < sizeof types / sizeof *types; i++)
		if (strncmp(type, types[i], strlen(types[i])) == 0)
			return true;
	return false;
}

static void
tell_coding(struct response *response, enum coding coding)
{
	response_header(response, "Content-Encoding", "%s", coding == CODING_GZIP ? "gzip" : "zstd");
}

static void
replace_body(struct response *response, uint8_t *body, size_t len)
{
	free(response->body);
	response->body = body;
	response->len = response->size = len;
}

static void
compress_body(struct response *response, enum coding coding)
{
	struct packer *packer;
	uint8_t *out;
	size_t len;

	response_header(response, "Vary", "Accept-Encoding");
	packer = coding == CODING_NONE || response->failed ? NULL : packer_new(coding);
	if (packer != NULL && packer_add(packer, body_of(response), true, &out, &len) == 0) {
		if (len < response->len) {
			replace_body(response, out, len);
			tell_coding(response, coding);
		} else {
			free(out);
		}
	}
	packer_free(packer);
}

/* RFC 9110 15.4.5: as it would be with the whole. */
static void
answer_not_modified(struct response *response, const char *etag, bool varies)
{
	response_free(response);
	response->status = 304;
	response_header(response, "ETag", "%s", etag);
	if (varies)
		response_header(response, "Vary", "Accept-Encoding");
}

void
negotiate_match(struct response *response, const char *if_match)
{
	bool whole = response->status == 200 && !response->failed && (response->streams || !response->waits);

	if (whole && if_match != NULL && !etag_is_matched(if_match, find_header(response, "ETag")))
		response_problem(response, PROBLEM_PRECONDITION_FAILED, "It has no ETag that If-Match names.");
}

void
negotiate(struct response *response, const struct etag_key *key, const char *accept_encoding, const char *if_none_match)
{
	const char *own = find_header(response, "ETag");
	char etag[ETAG_SIZE];
	bool packs;

	if (response->status != 200 || response->streams || response->waits || response->failed)
		return;
	if (own != NULL)
		snprintf(etag, sizeof etag, "%s", own);
	else if (make_etag(key, body_of(response), etag) < 0)
		return;
	/* What is carried along is answered by the thread that has all the sockets: it must not be kept busy by who has no token. */
	packs = own == NULL && response->fixed.at == NULL && is_text(response->type) && body_of(response).len >= SMALL;
	if (etag_is_listed(if_none_match, etag)) {
		answer_not_modified(response, etag, packs);
		return;
	}
	if (own != NULL)
		return;
	response_header(response, "ETag", "%s", etag);
	if (packs)
		compress_body(response, coding_choose(accept_encoding));
}

/* An event is to be seen at once, and its reader's library may not unpack. */
static bool
is_packed(const struct response *response)
{
	return is_text(response->type) &&
	       strncmp(response->type, "text/event-stream", strlen("text/event-stream")) != 0;
}

static void
begin_packing(struct packer **packer, struct response *response, enum coding coding)
{
	if (!is_packed(response))
		return;
	response_header(response, "Vary", "Accept-Encoding");
	if (coding == CODING_NONE)
		return;
	*packer = packer_new(coding);
	response->failed = response->failed || *packer == NULL;
	tell_coding(response, coding);
}

void
negotiate_piece(struct packer **packer, struct response *response, const char *accept_encoding,
		const char *if_none_match)
{
	const char *own = find_header(response, "ETag");
	bool ends = !response->streams;
	char etag[ETAG_SIZE];
	uint8_t *out;
	size_t len;

	if (response->problem != PROBLEM_NONE || response->failed)
		return;
	if (own != NULL && etag_is_listed(if_none_match, own)) {
		snprintf(etag, sizeof etag, "%s", own);
		answer_not_modified(response, etag, is_packed(response));
		return;
	}
	if (!ends && *packer == NULL)
		begin_packing(packer, response, coding_choose(accept_encoding));
	if (*packer == NULL || (!ends && response->len == 0))
		return;
	if (packer_add(*packer, body_of(response), ends, &out, &len) < 0) {
		response->failed = true;
		return;
	}
	replace_body(response, out, len);
	if (!ends)
		return;
	/* What ends the compressed whole is a piece of its own, with nothing behind it. */
	response->streams = true;
	packer_free(*packer);
	*packer = NULL;
}
