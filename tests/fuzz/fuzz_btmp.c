/* Any file of log-ins. */
#include <stdlib.h>

#include "emitter/btmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t sizes[] = {384, 400};
	struct slice text = {data, size};
	bool older;
	size_t record = btmp_record_size(size, text);

	if (record != 0 && record != 384 && record != 400)
		abort();
	for (size_t i = 0; i < 2; i++)
		if (btmp_count(text, sizes[i], 1000, 2000, &older) > size / sizes[i])
			abort();
	return 0;
}
