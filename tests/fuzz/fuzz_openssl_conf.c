/* Any openssl.cnf that includes itself, and any library's file in pieces of any size. */
#include <stdlib.h>
#include <string.h>

#include "emitter/crypto_library.h"
#include "emitter/openssl_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
	struct slice text;
	size_t times;
};

static void
include(void *context, struct openssl_conf *conf, const char *path)
{
	struct again *again = context;
	const struct openssl_include files = {include, again};

	if (path[0] == '\0')
		abort();
	if (again->times++ < 8)
		openssl_conf_parse(conf, again->text, &files);
}

static void
scan(struct slice text, size_t piece, struct crypto_library *library)
{
	crypto_library_init(library);
	while (text.len > 0) {
		size_t len = text.len < piece ? text.len : piece;

		(void)crypto_library_feed(library, (struct slice){text.at, len});
		text.at += len;
		text.len -= len;
	}
	(void)crypto_library_level(library);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct again again = {{data, size}, 0};
	const struct openssl_include files = {include, &again};
	struct openssl_conf conf = {.section = "default"};
	struct openssl_default found;
	struct crypto_library whole, pieces;

	conf.entries = calloc(CONF_ENTRIES, sizeof conf.entries[0]);
	openssl_conf_parse(&conf, again.text, &files);
	openssl_conf_default(&conf, &found);
	if (found.level < -1 || found.level > 5 || conf.len > CONF_ENTRIES)
		abort();
	free(conf.entries);
	scan(again.text, size ? size : 1, &whole);
	scan(again.text, size % 97 + 1, &pieces);
	if ((whole.level < 0) != (pieces.level < 0))
		abort();
	return 0;
}
