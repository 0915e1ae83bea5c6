/* Any payload of a baseline: what is taken is written again to the byte. */
#include <stdlib.h>
#include <string.h>

#include "schema/baseline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct baseline *baseline = malloc(sizeof *baseline);
	uint8_t *again = malloc(size + 1);

	if (baseline_decode((struct slice){data, size}, baseline) == REASON_OK &&
	    (baseline_encode(baseline, again, size + 1) != size || memcmp(again, data, size) != 0))
		abort();
	free(again);
	free(baseline);
	return 0;
}
