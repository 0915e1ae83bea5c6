/* Any database of packages: the inventory is a sorted set that its reader takes, and in which pieces the file came makes no difference. */
#include <stdlib.h>
#include <string.h>

#include "emitter/apk.h"
#include "emitter/components.h"
#include "emitter/dpkg.h"
#include "emitter/rpm.h"
#include "schema/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
take_package(void *context, const struct dpkg_package *package)
{
	if (package->condition == DPKG_INSTALLED)
		components_package(context, &package->component, package->cut);
	else if (package->condition == DPKG_BROKEN)
		components_broken(context, package->component.name);
}

static void
take_apk(void *context, const struct component *c, bool cut, bool broken)
{
	components_package(context, c, cut);
	if (broken)
		components_broken(context, c->name);
}

static bool
take_line(void *context, struct slice line, bool cut)
{
	struct component c;

	if (rpm_line(line, &c))
		components_package(context, &c, cut);
	return true;
}

/* Each format's reader of the same text, in turn. */
struct readers {
	struct dpkg *dpkg;
	struct apk apk;
	struct text_feed lines;
	struct components *components;
};

static void
feed(struct readers *r, unsigned format, struct slice piece)
{
	if (format < 3)
		dpkg_feed(r->dpkg, piece);
	else if (format == 3)
		apk_feed(&r->apk, piece);
	else
		(void)!text_feed(&r->lines, piece, take_line, r->components);
}

static void
read_in_pieces(struct slice text, size_t piece, unsigned format, struct inventory *inventory)
{
	struct components *components = components_new("debian", "bookworm");
	struct readers r = {
		.dpkg = dpkg_new(format == 1 ? COMPONENT_OPKG : COMPONENT_DPKG, take_package, components),
		.apk = {.take = take_apk, .context = components},
		.components = components,
	};
	struct components_result result;

	if (!components || !r.dpkg)
		abort();
	dpkg_begin(r.dpkg, format < 3 ? (enum dpkg_source)format : DPKG_STATUS);
	while (text.len > 0) {
		size_t len = text.len < piece ? text.len : piece;

		feed(&r, format, (struct slice){text.at, len});
		text.at += len;
		text.len -= len;
	}
	if (dpkg_end(r.dpkg) < 0)
		abort();
	apk_end(&r.apk);
	(void)!text_feed_end(&r.lines, take_line, components);
	dpkg_free(r.dpkg);
	if (components_finish(components, inventory, &result) < 0 || result.listed > result.installed)
		abort();
	if (result.listed != inventory->components || result.broken_len > LIMIT_SOCKETS + 1)
		abort();
	components_free(components);
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
	unsigned kind = size > 0 ? data[0] % 5 : DPKG_STATUS;
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
