/*
 * The items of a sequence are all of it, in order; each but the last ends where it says itself, so that it comes out the same when it is alone; and
 * what is one good message is not taken apart.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "schema/cose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
check_alone(struct slice item)
{
	struct slice again[2];

	require(cose_split(item, again, 2) == 1 && again[0].at == item.at && again[0].len == item.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice whole = {data, size}, items[LIMIT_SEQUENCE_REPORTS];
	struct cose_sign1 message;
	const uint8_t *at = data;
	size_t n = cose_split(whole, items, LIMIT_SEQUENCE_REPORTS);

	require(n >= 1 && n <= LIMIT_SEQUENCE_REPORTS);
	for (size_t i = 0; i < n; i++) {
		require(items[i].at == at && items[i].len <= (size_t)(data + size - at));
		at += items[i].len;
		if (i + 1 < n)
			check_alone(items[i]);
		if (i + 1 < n)
			require(cose_decode(items[i], &message) != REASON_TRAILING_BYTES);
	}
	require(at == data + size);
	if (cose_decode(whole, &message) == REASON_OK)
		require(n == 1);
	return 0;
}
