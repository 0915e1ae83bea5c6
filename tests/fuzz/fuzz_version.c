/* Any three texts in any order: comparing contradicts itself nowhere. */
#include <stdlib.h>
#include <string.h>

#include "schema/version.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice
next(struct slice *rest)
{
	const uint8_t *end = rest->len ? memchr(rest->at, '\n', rest->len) : NULL;
	struct slice text = {rest->at, end ? (size_t)(end - rest->at) : rest->len};

	if (rest->len > 0) {
		rest->at += text.len + (end != NULL);
		rest->len -= text.len + (end != NULL);
	}
	return text;
}

static int
compare(enum version_order order, struct slice a, struct slice b)
{
	int n = version_compare(order, a, b), back = version_compare(order, b, a);

	if ((n < 0) != (back > 0) || (n > 0) != (back < 0))
		abort();
	return (n > 0) - (n < 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = {data, size}, a = next(&rest), b = next(&rest), c = next(&rest);

	for (unsigned order = 0; order < VERSION_ORDERS; order++) {
		int ab = compare((enum version_order)order, a, b), bc = compare((enum version_order)order, b, c);

		if (ab <= 0 && bc <= 0 && compare((enum version_order)order, a, c) != (ab < bc ? ab : bc))
			abort();
	}
	return 0;
}
