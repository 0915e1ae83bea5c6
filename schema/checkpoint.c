#include "schema/checkpoint.h"

#include <endian.h>
#include <string.h>

#include "schema/claims.h"

#define BODY_ITEMS 4
#define AUDIT_ITEMS 2

static void
read_iat(struct cbor_reader *r, void *message)
{
	struct checkpoint *checkpoint = message;

	checkpoint->iat = cbor_read_uint_max(r, 0, LIMIT_IAT);
}

static void
write_iat(struct cbor_writer *w, const void *message)
{
	const struct checkpoint *checkpoint = message;

	cbor_write_uint(w, checkpoint->iat);
}

static void
read_body(struct cbor_reader *r, void *message)
{
	struct checkpoint *checkpoint = message;

	if (cbor_read_array(r, SIZE_MAX) != BODY_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	checkpoint->number = cbor_read_uint_max(r, 1, LIMIT_SEQ);
	checkpoint->has_previous = claim_read_digest(r, checkpoint->previous);
	if (checkpoint->has_previous != (checkpoint->number > 1))
		cbor_fail(r, REASON_CLAIM_INVALID);
	checkpoint->devices = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	cbor_read_bytes_exact(r, checkpoint->root, DIGEST_SIZE);
}

static void
write_body(struct cbor_writer *w, const void *message)
{
	const struct checkpoint *checkpoint = message;

	cbor_write_array(w, BODY_ITEMS);
	cbor_write_uint(w, checkpoint->number);
	claim_write_digest(w, checkpoint->has_previous, checkpoint->previous);
	cbor_write_uint(w, checkpoint->devices);
	cbor_write_bytes(w, (struct slice){checkpoint->root, DIGEST_SIZE});
}

static void
read_audit(struct cbor_reader *r, void *message)
{
	struct checkpoint *checkpoint = message;

	if (cbor_read_array(r, SIZE_MAX) != AUDIT_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	checkpoint->audit_number = cbor_read_uint_max(r, 1, LIMIT_SEQ);
	cbor_read_bytes_exact(r, checkpoint->audit_hash, DIGEST_SIZE);
	checkpoint->has_audit = true;
}

static bool
has_audit(const void *message)
{
	const struct checkpoint *checkpoint = message;

	return checkpoint->has_audit;
}

static void
write_audit(struct cbor_writer *w, const void *message)
{
	const struct checkpoint *checkpoint = message;

	cbor_write_array(w, AUDIT_ITEMS);
	cbor_write_uint(w, checkpoint->audit_number);
	cbor_write_bytes(w, (struct slice){checkpoint->audit_hash, DIGEST_SIZE});
}

static const struct claim claims[] = {
	{6, true, 0, read_iat, NULL, write_iat},
	{265, true, 0, claim_read_profile, NULL, claim_write_profile},
	{-65560, true, 0, read_body, NULL, write_body},
	{-65561, false, 0, read_audit, has_audit, write_audit},
};
#define CLAIMS (sizeof claims / sizeof claims[0])

enum reason
checkpoint_decode(struct slice payload, struct checkpoint *out)
{
	memset(out, 0, sizeof *out);
	if (payload.len > LIMIT_CHECKPOINT)
		return REASON_TOO_LARGE;
	return claims_decode(payload, claims, CLAIMS, out);
}

void
checkpoint_encode(const struct checkpoint *checkpoint, struct cbor_writer *w)
{
	claims_encode(claims, CLAIMS, checkpoint, w);
}

void
checkpoint_leaf_hash(const struct checkpoint_leaf *leaf, merkle_hash out)
{
	const uint64_t numbers[2] = {htobe64(leaf->epoch), htobe64(leaf->seq)};
	uint8_t bytes[CHECKPOINT_LEAF], *at = bytes;

	memcpy(at, leaf->ueid.bytes, UEID_SIZE);
	memcpy(at += UEID_SIZE, numbers, sizeof numbers);
	memcpy(at += sizeof numbers, leaf->head, DIGEST_SIZE);
	at += DIGEST_SIZE;
	if (leaf->has_sections) {
		memcpy(at, leaf->sections, DIGEST_SIZE);
		at += DIGEST_SIZE;
	}
	merkle_leaf((struct slice){bytes, (size_t)(at - bytes)}, out);
}
