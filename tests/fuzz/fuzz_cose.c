/*
 * Whatever cose_decode takes has one spelling: put together again from its parts it is the same bytes. And a message that verifies does not
 * with another payload. The keys are known to the world (the scalar 1, the seed of zeros), so that the corpus holds messages that verify.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schema/cbor.h"
#include "schema/cose.h"
#include "schema/topics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const public_keys[] = {
	"3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d812deb33"
	"a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
	"3076301006072a8648ce3d020106052b8104002203620004aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f7"
	"41e082542a385502f25dbf55296c3a545e3872760ab73617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113"
	"b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
	"302a300506032b65700321003b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
};

#define KEYS (sizeof public_keys / sizeof public_keys[0])

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
open_keys(struct cose_key *keys[KEYS])
{
	for (size_t i = 0; i < KEYS; i++) {
		size_t len = strlen(public_keys[i]);
		uint8_t der[128];

		require(hex_parse((struct slice){(const uint8_t *)public_keys[i], len}, der, len / 2));
		keys[i] = cose_key_from_spki((struct slice){der, len / 2});
		require(keys[i] != NULL);
	}
}

static void
write_header(const struct cose_sign1 *message, struct cbor_writer *w)
{
	cbor_write_map(w, message->chain_len > 0 ? 3 : 2);
	cbor_write_uint(w, 1);
	cbor_write_int(w, message->alg);
	cbor_write_uint(w, 4);
	cbor_write_bytes(w, message->kid);
	if (message->chain_len > 0)
		cbor_write_uint(w, 33);
	if (message->chain_len > 1)
		cbor_write_array(w, message->chain_len);
	for (size_t i = 0; i < message->chain_len; i++)
		cbor_write_bytes(w, message->chain[i]);
}

static void
check_spelling(const struct cose_sign1 *message, const uint8_t *data, size_t size)
{
	uint8_t header[LIMIT_HEADER], *copy = malloc(size);
	struct cbor_writer h, w;

	require(copy != NULL);
	cbor_writer_init(&h, header, sizeof header);
	write_header(message, &h);
	require(!h.overflow);
	cbor_writer_init(&w, copy, size);
	cbor_write_tag(&w, 61);
	cbor_write_tag(&w, 18);
	cbor_write_array(&w, 4);
	cbor_write_bytes(&w, (struct slice){header, h.len});
	cbor_write_map(&w, 0);
	cbor_write_bytes(&w, message->payload);
	cbor_write_bytes(&w, message->signature);
	require(!w.overflow && w.len == size && memcmp(copy, data, size) == 0);
	free(copy);
}

static void
check_verdict(const struct cose_sign1 *message, struct cose_key *key)
{
	uint8_t tbs[DIGEST_SIZE], again[DIGEST_SIZE];
	struct cose_sign1 other = *message;
	enum reason reason = cose_verify(message, key, tbs);

	if (reason == REASON_ALGORITHM_MISMATCH)
		return;
	require(reason == REASON_OK || reason == REASON_BAD_SIGNATURE);
	cose_tbs_digest(message, again);
	require(memcmp(tbs, again, DIGEST_SIZE) == 0);
	if (reason == REASON_BAD_SIGNATURE || message->payload.len == 0)
		return;
	other.payload.len--;
	require(cose_verify(&other, key, NULL) == REASON_BAD_SIGNATURE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cose_key *keys[KEYS];
	struct cose_sign1 message;

	if (keys[0] == NULL)
		open_keys(keys);
	if (cose_decode((struct slice){data, size}, &message) != REASON_OK)
		return 0;
	check_spelling(&message, data, size);
	for (size_t i = 0; i < KEYS; i++)
		check_verdict(&message, keys[i]);
	return 0;
}
