/* Any payload: what receipt_decode takes has one spelling, and can be told as JSON. */
#include <stdlib.h>
#include <string.h>

#include "schema/receipt.h"
#include "tests/fuzz/claims.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
is_known(int64_t key)
{
	return key == 6 || key == 256 || key == 265 || key == -65550 || key == -65551;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[LIMIT_RECEIPT];
	struct slice payload = {data, size};
	struct receipt receipt;
	struct cbor_writer w;
	json_t *json;

	if (receipt_decode(payload, &receipt) != REASON_OK)
		return 0;
	cbor_writer_init(&w, out, sizeof out);
	receipt_encode(&receipt, &w);
	if (!has_unknown_claims(payload, is_known) && (w.overflow || w.len != size || memcmp(out, data, size) != 0))
		abort();
	json = receipt_json(&receipt);
	if (!json)
		abort();
	json_decref(json);
	return 0;
}
