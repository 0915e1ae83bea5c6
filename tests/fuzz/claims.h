/*
 * What a payload has beside the claims that we know. Those are ignored, so that it can't come out the same again.
 */
#ifndef FLEETSTATE_TESTS_CLAIMS_H
#define FLEETSTATE_TESTS_CLAIMS_H

#include "schema/cbor.h"
#include "schema/limits.h"

static inline bool
has_unknown_claims(struct slice payload, bool (*is_known)(int64_t key))
{
	struct cbor_reader r;
	struct cbor_map map;
	int64_t key;
	bool unknown = false;

	cbor_reader_init(&r, payload);
	cbor_read_map(&r, &map, SIZE_MAX);
	while (cbor_map_next(&r, &map, &key)) {
		unknown = unknown || !is_known(key);
		cbor_read_item(&r, LIMIT_DEPTH);
	}
	return unknown;
}

#endif
