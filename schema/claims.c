#include "schema/claims.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#define EPOCH_SIZE 8
#define HEX_MAX 64 /* bytes of the longest that is shown in hex, a nonce */

/* The OID 2.25.<3f0c8c52-6a0e-4c0f-9d6b-5b1f7a5e8259 as an integer>, content octets only (RFC 9711 4.3.2). */
static const uint8_t profile[] = {0x69, 0xfe, 0x8c, 0xc6, 0x94, 0xcd, 0xa0, 0xf2, 0xb0, 0x9f,
				  0x9d, 0xb5, 0xd6, 0xe3, 0xf7, 0xd2, 0xfa, 0x84, 0x59};

static size_t
find(const struct claim *table, size_t n, int64_t key)
{
	size_t i = 0;

	while (i < n && table[i].key != key)
		i++;
	return i;
}

static bool
is_complete(const struct claim *table, size_t n, uint32_t seen)
{
	for (size_t i = 0; i < n; i++) {
		bool there = seen >> i & 1;

		if (table[i].required && !there)
			return false;
		if (there && table[i].with != 0 && !(seen >> find(table, n, table[i].with) & 1))
			return false;
	}
	return true;
}

enum reason
claims_decode(struct slice payload, const struct claim *table, size_t n, void *message)
{
	struct cbor_reader r;
	struct cbor_map map;
	int64_t key;
	uint32_t seen = 0;
	enum reason reason;

	assert(n <= 32);
	cbor_reader_init(&r, payload);
	cbor_read_map(&r, &map, SIZE_MAX); /* bounded by the bytes there are */
	while (cbor_map_next(&r, &map, &key)) {
		size_t i = find(table, n, key);

		if (i == n) {
			cbor_read_item(&r, LIMIT_DEPTH - 1);
			continue;
		}
		table[i].read(&r, message);
		seen |= UINT32_C(1) << i;
	}
	reason = cbor_reader_end(&r);
	return reason == REASON_OK && !is_complete(table, n, seen) ? REASON_CLAIM_MISSING : reason;
}

static bool
is_present(const struct claim *claim, const void *message)
{
	return !claim->present || claim->present(message);
}

void
claims_encode(const struct claim *table, size_t n, const void *message, struct cbor_writer *w)
{
	size_t pairs = 0;

	for (size_t i = 0; i < n; i++)
		pairs += is_present(&table[i], message);
	cbor_write_map(w, pairs);
	for (size_t i = 0; i < n; i++) {
		if (!is_present(&table[i], message))
			continue;
		cbor_write_int(w, table[i].key);
		table[i].write(w, message);
	}
}

/* A profile of another type, a URI, is another profile too. */
void
claim_read_profile(struct cbor_reader *r, void *message)
{
	struct slice named;

	(void)message;
	if (cbor_peek(r) != CBOR_BYTES) {
		cbor_read_item(r, LIMIT_DEPTH - 1);
		cbor_fail(r, REASON_PROFILE_UNKNOWN);
		return;
	}
	named = cbor_read_bytes(r, SIZE_MAX);
	if (named.len != sizeof profile || memcmp(named.at, profile, sizeof profile) != 0)
		cbor_fail(r, REASON_PROFILE_UNKNOWN);
}

void
claim_write_profile(struct cbor_writer *w, const void *message)
{
	(void)message;
	cbor_write_bytes(w, (struct slice){profile, sizeof profile});
}

void
claim_read_ueid(struct cbor_reader *r, struct ueid *ueid)
{
	cbor_read_bytes_exact(r, ueid->bytes, UEID_SIZE);
	if (ueid->bytes[0] != 0x01) /* RFC 9711 4.2.1.1: RAND */
		cbor_fail(r, REASON_CLAIM_INVALID);
}

struct slice
claim_read_nonce(struct cbor_reader *r)
{
	struct slice nonce = cbor_read_bytes(r, SIZE_MAX);

	if (nonce.len < LIMIT_NONCE_MIN || nonce.len > LIMIT_NONCE)
		cbor_fail(r, REASON_CLAIM_INVALID);
	return nonce;
}

uint64_t
claim_read_epoch(struct cbor_reader *r)
{
	uint8_t bytes[EPOCH_SIZE];
	uint64_t epoch = 0;

	cbor_read_bytes_exact(r, bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		epoch = epoch << 8 | bytes[i];
	return epoch;
}

static void
put_epoch(uint64_t epoch, uint8_t bytes[EPOCH_SIZE])
{
	for (size_t i = EPOCH_SIZE; i-- > 0; epoch >>= 8)
		bytes[i] = (uint8_t)(epoch & 0xff);
}

void
claim_write_epoch(struct cbor_writer *w, uint64_t epoch)
{
	uint8_t bytes[EPOCH_SIZE];

	put_epoch(epoch, bytes);
	cbor_write_bytes(w, (struct slice){bytes, sizeof bytes});
}

bool
claim_read_digest(struct cbor_reader *r, uint8_t digest[DIGEST_SIZE])
{
	if (cbor_at_null(r)) {
		cbor_read_null(r);
		return false;
	}
	cbor_read_bytes_exact(r, digest, DIGEST_SIZE);
	return true;
}

void
claim_write_digest(struct cbor_writer *w, bool there, const uint8_t digest[DIGEST_SIZE])
{
	if (there)
		cbor_write_bytes(w, (struct slice){digest, DIGEST_SIZE});
	else
		cbor_write_null(w);
}

struct seq_range
claim_read_range(struct cbor_reader *r)
{
	struct seq_range range;

	range.first = cbor_read_uint_max(r, 1, LIMIT_SEQ);
	range.last = cbor_read_uint_max(r, range.first, LIMIT_SEQ);
	return range;
}

void
claim_write_range(struct cbor_writer *w, struct seq_range range)
{
	cbor_write_uint(w, range.first);
	cbor_write_uint(w, range.last);
}

json_t *
claim_json_hex(const uint8_t *bytes, size_t len)
{
	char hex[2 * HEX_MAX + 1];

	assert(len <= HEX_MAX);
	hex_print(bytes, len, hex);
	return json_string(hex);
}

json_t *
claim_json_ueid(const struct ueid *ueid)
{
	return claim_json_hex(ueid->bytes, UEID_SIZE);
}

json_t *
claim_json_epoch(uint64_t epoch)
{
	uint8_t bytes[EPOCH_SIZE];

	put_epoch(epoch, bytes);
	return claim_json_hex(bytes, sizeof bytes);
}

json_t *
claim_json_time(uint64_t seconds)
{
	time_t when = (time_t)seconds;
	struct tm utc;
	char text[32];

	if (seconds > LIMIT_IAT || !gmtime_r(&when, &utc) ||
	    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		return NULL;
	return json_string(text);
}
