/* What comes with an HTTP request, before anybody knows who asks: its target and headers, cursors, package URLs, and ranges of versions. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/cursor.h"
#include "collector/etag.h"
#include "collector/negotiate.h"
#include "collector/purl_search.h"
#include "collector/request.h"
#include "collector/version_range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static bool
lies_in(const char *text, const struct request *request)
{
	return text >= request->target && text + strlen(text) <= request->target + REQUEST_TARGET;
}

/* Whatever is taken are texts within the target, and no name comes twice. */
static void
check_target(const char *text)
{
	struct request *request = calloc(1, sizeof *request);
	enum problem problem;

	require(request != NULL);
	problem = request_parse(text, request);
	require((problem == PROBLEM_BAD_TARGET) == (request->fault.text[0] != '\0'));
	require(request->fault.position <= strlen(text));
	if (problem == PROBLEM_NONE) {
		require(request->segments_len > 0 && request->segments_len <= REQUEST_SEGMENTS);
		for (size_t i = 0; i < request->segments_len; i++)
			require(lies_in(request->segments[i], request));
		for (size_t i = 0; i < request->parameters_len; i++) {
			const struct parameter *p = &request->parameters[i];

			require(lies_in(p->name, request) && lies_in(p->value, request));
			require(request_parameter(request, p->name) == p->value);
		}
	}
	request_free(request);
	free(request);
}

/* What it comes out as comes out as itself. */
static void
check_purl(const char *text)
{
	static struct purl_search first, second;
	const char *why = NULL;
	size_t where;

	if (!purl_search_parse(text, &first, &where, &why)) {
		require(why != NULL && where <= strlen(text));
		return;
	}
	require(first.len < sizeof first.text && strlen(first.text) == first.len && first.name[0] != '\0');
	if (first.len > LIMIT_PURL)
		return;
	require(purl_search_parse(first.text, &second, &where, &why) && strcmp(first.text, second.text) == 0 &&
		strcmp(first.name, second.name) == 0);
}

/* One that is taken has every version at one place: at or above a bound, or below it, never both. */
static void
check_range(const char *text)
{
	static const char *const types[] = {"dpkg", "opkg", "rpm", "apk", "firmware", ""};
	struct version_range range;
	const char *why = NULL;
	size_t where;

	if (!version_range_parse(text, &range, &where, &why)) {
		require(why != NULL && where <= strlen(text));
		return;
	}
	require(version_range_is(text) && range.n <= VERSION_RANGE_CONSTRAINTS && (range.all || range.n > 0));
	for (size_t i = 0; i < range.n; i++) {
		const struct version_constraint *c = &range.constraints[i];
		struct slice version = {(const uint8_t *)c->text, c->len};
		size_t kinds = 0;

		for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
			struct slice type = {(const uint8_t *)types[t], strlen(types[t])};

			kinds += version_range_has(&range, type, version);
		}
		require(kinds == (c->comparator == VERSION_IS || c->comparator == VERSION_FROM ||
				  c->comparator == VERSION_UP_TO));
	}
}

/* Nobody can make one up without the secret. */
static void
check_cursor(const char *text)
{
	static const uint8_t secret[32] = {1, 2, 3};
	struct cursor cursor;

	require(!cursor_parse(text, (struct slice){secret, sizeof secret}, (struct slice){secret, 4}, &cursor));
}

static void
check_headers(const char *text)
{
	static const struct etag_key key = {{1, 2, 3}, {4, 5, 6}};
	uint8_t hash[DIGEST_SIZE];
	struct response response = {0};

	require(coding_choose(text) <= CODING_ZSTD);
	if (token_parse(text, hash))
		require(strlen(text) == strlen("Bearer ") + TOKEN_SIZE - 1);
	response_json(&response, (struct slice){(const uint8_t *)text, strlen(text)});
	negotiate(&response, &key, text, text);
	require(!response.failed && (response.status == 200 || response.status == 304));
	response_free(&response);
	/* What permits it in one header forbids it in the other, and what is no list names nothing. */
	for (size_t digits = 0; digits <= 2; digits += 2) {
		if (etag_permits(text, NULL, 1, digits))
			require(!etag_permits(NULL, text, 1, digits));
		require(!etag_permits(text, NULL, 0, digits) && etag_permits(NULL, text, 0, digits));
	}
	require(etag_list_ok(text) || !(etag_is_listed(text, "\"1\"") || etag_is_matched(text, "\"1\"")));
	require(!etag_is_matched(text, "\"1\"") || etag_is_listed(text, "\"1\""));
	(void)is_time(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	require(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	check_target(text);
	check_range(text);
	check_purl(text);
	check_cursor(text);
	check_headers(text);
	free(text);
	return 0;
}
