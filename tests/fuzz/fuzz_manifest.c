/* Any payload: what manifest_decode takes has one spelling. */
#include <stdlib.h>
#include <string.h>

#include "schema/manifest.h"
#include "tests/fuzz/claims.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
is_known(int64_t key)
{
	return key == 6 || key == 265 || key == -65570;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[LIMIT_MANIFEST];
	struct slice payload = {data, size};
	struct manifest manifest;
	struct cbor_writer w;

	if (manifest_decode(payload, &manifest) != REASON_OK)
		return 0;
	cbor_writer_init(&w, out, sizeof out);
	manifest_encode(&manifest, &w);
	if (!has_unknown_claims(payload, is_known) && (w.overflow || w.len != size || memcmp(out, data, size) != 0))
		abort();
	return 0;
}
