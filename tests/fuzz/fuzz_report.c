/* Any payload: what report_decode takes has one spelling, and can be told as JSON. */
#include <stdlib.h>
#include <string.h>

#include "schema/report.h"
#include "tests/fuzz/claims.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
is_known(int64_t key)
{
	return key == 6 || key == 10 || key == 256 || key == 265 || key == 267 || (key >= -65544 && key <= -65537);
}

static void
check_same_again(const struct report *report, struct slice payload)
{
	uint8_t *out = malloc(payload.len);
	struct cbor_writer w;

	cbor_writer_init(&w, out, payload.len);
	report_encode(report, &w);
	if (w.overflow || w.len != payload.len || memcmp(out, payload.at, payload.len) != 0)
		abort();
	free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice payload = {data, size};
	struct report report;
	json_t *json;

	if (report_decode(payload, &report) != REASON_OK)
		return 0;
	if (!has_unknown_claims(payload, is_known))
		check_same_again(&report, payload);
	json = report_json(&report);
	if (!json)
		abort();
	json_decref(json);
	return 0;
}
