/* Any status: the inventory is a sorted set that its reader takes, and in which pieces the file came makes no difference. */
#include <stdlib.h>
#include <string.h>

#include "emitter/probes.h"
#include "schema/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_in_pieces(struct slice text, size_t piece, enum dpkg_source kind, struct inventory *inventory)
{
	struct dpkg *dpkg = dpkg_new("debian", "bookworm");
	struct dpkg_result result;

	if (!dpkg)
		abort();
	dpkg_begin(dpkg, kind);
	while (text.len > 0) {
		size_t len = text.len < piece ? text.len : piece;

		dpkg_feed(dpkg, (struct slice){text.at, len});
		text.at += len;
		text.len -= len;
	}
	dpkg_end(dpkg);
	if (dpkg_finish(dpkg, inventory, &result) < 0 || result.listed > result.installed)
		abort();
	if (result.listed != inventory->components || result.broken_len > LIMIT_SOCKETS + 1)
		abort();
	dpkg_free(dpkg);
}

static void
check_set(const struct inventory *inventory)
{
	struct slice last = {NULL, 0};
	struct cbor_reader r;
	struct component c;
	size_t n;

	cbor_reader_init(&r, (struct slice){inventory->encoded, inventory->len});
	n = cbor_read_array(&r, LIMIT_COMPONENTS);
	for (size_t i = 0; i < n; i++) {
		struct slice one = {r.at, 0};

		component_decode(&r, &c);
		one.len = (size_t)(r.at - one.at);
		if (last.at && memcmp(last.at, one.at, last.len < one.len ? last.len : one.len) >= 0)
			abort();
		last = one;
	}
	if (cbor_reader_end(&r) != REASON_OK)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum dpkg_source kind = size > 0 ? (enum dpkg_source)(data[0] % 3) : DPKG_STATUS;
	struct slice text = {data, size};
	struct inventory whole, parts;

	read_in_pieces(text, size ? size : 1, kind, &whole);
	read_in_pieces(text, size % 7 + 1, kind, &parts);
	check_set(&whole);
	if (memcmp(whole.digest, parts.digest, sizeof whole.digest) != 0)
		abort();
	free(whole.encoded);
	free(parts.encoded);
	return 0;
}
