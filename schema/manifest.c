#include "schema/manifest.h"

#include <string.h>

#include "schema/claims.h"

#define BODY_ITEMS 7

static void
read_iat(struct cbor_reader *r, void *message)
{
	struct manifest *m = message;

	m->iat = cbor_read_uint_max(r, 0, LIMIT_IAT);
}

static void
write_iat(struct cbor_writer *w, const void *message)
{
	const struct manifest *m = message;

	cbor_write_uint(w, m->iat);
}

/* One that is empty says nothing. */
static void
read_name(struct cbor_reader *r, char *out, size_t size)
{
	struct slice text = cbor_read_text(r, size - 1);

	if (text.len == 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
	else
		memcpy(out, text.at, text.len);
}

static void
write_name(struct cbor_writer *w, const char *name)
{
	cbor_write_text(w, (struct slice){(const uint8_t *)name, strlen(name)});
}

static void
read_body(struct cbor_reader *r, void *message)
{
	struct manifest *m = message;

	if (cbor_read_array(r, SIZE_MAX) != BODY_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	read_name(r, m->tenant, sizeof m->tenant);
	read_name(r, m->format, sizeof m->format);
	m->rows = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	m->size = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	cbor_read_bytes_exact(r, m->sha256, DIGEST_SIZE);
	m->position = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	m->has_since = !cbor_at_null(r);
	if (m->has_since)
		m->since = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	else
		cbor_read_null(r);
	/* Nobody could ask for what had not happened. */
	if (m->has_since && m->since > m->position)
		cbor_fail(r, REASON_CLAIM_INVALID);
}

static void
write_body(struct cbor_writer *w, const void *message)
{
	const struct manifest *m = message;

	cbor_write_array(w, BODY_ITEMS);
	write_name(w, m->tenant);
	write_name(w, m->format);
	cbor_write_uint(w, m->rows);
	cbor_write_uint(w, m->size);
	cbor_write_bytes(w, (struct slice){m->sha256, DIGEST_SIZE});
	cbor_write_uint(w, m->position);
	if (m->has_since)
		cbor_write_uint(w, m->since);
	else
		cbor_write_null(w);
}

static const struct claim claims[] = {
	{6, true, 0, read_iat, NULL, write_iat},
	{265, true, 0, claim_read_profile, NULL, claim_write_profile},
	{-65570, true, 0, read_body, NULL, write_body},
};
#define CLAIMS (sizeof claims / sizeof claims[0])

enum reason
manifest_decode(struct slice payload, struct manifest *out)
{
	memset(out, 0, sizeof *out);
	if (payload.len > LIMIT_MANIFEST)
		return REASON_TOO_LARGE;
	return claims_decode(payload, claims, CLAIMS, out);
}

void
manifest_encode(const struct manifest *m, struct cbor_writer *w)
{
	claims_encode(claims, CLAIMS, m, w);
}
