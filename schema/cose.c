#include "schema/cose.h"

#include "schema/cbor.h"

#define TAG_CWT 61 /* RFC 8392 6 */
#define TAG_SIGN1 18 /* RFC 9052 2 */
#define HEADER_ALG 1
#define HEADER_KID 4
#define HEADER_CHAIN 33 /* RFC 9360 2 */

static void
read_certificate(struct cbor_reader *r, struct cose_sign1 *message, size_t *total)
{
	struct slice certificate = cbor_read_bytes(r, LIMIT_CHAIN - *total);

	if (r->error == REASON_OK && certificate.len == 0)
		cbor_fail(r, REASON_MALFORMED);
	if (r->error == REASON_OK)
		message->chain[message->chain_len++] = certificate;
	*total += certificate.len;
}

static void
read_chain(struct cbor_reader *r, struct cose_sign1 *message)
{
	size_t total = 0, n;

	if (cbor_peek(r) == CBOR_BYTES) {
		read_certificate(r, message, &total);
		return;
	}
	n = cbor_read_array(r, LIMIT_CHAIN_CERTS);
	/* RFC 9360 2: one certificate is not put into an array. */
	if (r->error == REASON_OK && n < 2)
		cbor_fail(r, REASON_MALFORMED);
	for (size_t i = 0; i < n && r->error == REASON_OK; i++)
		read_certificate(r, message, &total);
}

static void
read_alg(struct cbor_reader *r, struct cose_sign1 *message)
{
	int64_t alg;

	/* RFC 9052 3.1: an algorithm may be named by a text; none of ours is. */
	if (cbor_peek(r) == CBOR_TEXT)
		cbor_fail(r, REASON_ALGORITHM_UNKNOWN);
	alg = cbor_read_int(r);
	if (r->error == REASON_OK && !cose_alg_known(alg))
		cbor_fail(r, REASON_ALGORITHM_UNKNOWN);
	if (r->error == REASON_OK)
		message->alg = (int)alg;
}

static void
read_kid(struct cbor_reader *r, struct cose_sign1 *message)
{
	message->kid = cbor_read_bytes(r, SIZE_MAX);
	if (r->error == REASON_OK && message->kid.len != KID_SIZE)
		cbor_fail(r, REASON_MALFORMED);
}

static const struct {
	int64_t label;
	void (*read)(struct cbor_reader *, struct cose_sign1 *);
	bool required;
} headers[] = {
	{HEADER_ALG, read_alg, true},
	{HEADER_KID, read_kid, true},
	{HEADER_CHAIN, read_chain, false},
};

#define HEADERS (sizeof headers / sizeof headers[0])

/* No label is taken that isn't known, `crit` among them: so there is nothing critical that could be passed over (RFC 9052 3.1). */
static enum reason
decode_header(struct slice header, struct cose_sign1 *message)
{
	struct cbor_reader r;
	struct cbor_map map;
	int64_t label;
	bool seen[HEADERS] = {false};
	size_t i;

	cbor_reader_init(&r, header);
	cbor_read_map(&r, &map, SIZE_MAX);
	while (cbor_map_next(&r, &map, &label)) {
		for (i = 0; i < HEADERS && headers[i].label != label; i++)
			continue;
		if (i == HEADERS) {
			cbor_fail(&r, REASON_MALFORMED);
			break;
		}
		headers[i].read(&r, message);
		seen[i] = true;
	}
	for (i = 0; i < HEADERS; i++) {
		if (headers[i].required && !seen[i])
			cbor_fail(&r, REASON_MALFORMED);
	}
	return cbor_reader_end(&r);
}

static void
read_envelope(struct cbor_reader *r, struct cose_sign1 *message)
{
	struct cbor_map unprotected;

	/* A COSE_Sign1 without its tags: known, but not the one spelling. */
	if (cbor_peek(r) == CBOR_ARRAY)
		cbor_fail(r, REASON_NON_CANONICAL);
	cbor_read_tag(r, TAG_CWT);
	if (cbor_peek(r) == CBOR_ARRAY)
		cbor_fail(r, REASON_NON_CANONICAL);
	cbor_read_tag(r, TAG_SIGN1);
	if (cbor_read_array(r, SIZE_MAX) != 4)
		cbor_fail(r, REASON_MALFORMED);
	message->protected = cbor_read_bytes(r, LIMIT_HEADER);
	cbor_read_map(r, &unprotected, SIZE_MAX);
	if (unprotected.left != 0)
		cbor_fail(r, REASON_NON_CANONICAL);
	message->payload = cbor_read_bytes(r, LIMIT_MESSAGE);
	message->signature = cbor_read_bytes(r, LIMIT_SIGNATURE);
}

enum reason
cose_decode(struct slice bytes, struct cose_sign1 *out)
{
	struct cose_sign1 message = {0};
	struct cbor_reader r;
	enum reason reason;

	if (bytes.len > LIMIT_MESSAGE)
		return REASON_TOO_LARGE;
	cbor_reader_init(&r, bytes);
	read_envelope(&r, &message);
	reason = cbor_reader_end(&r);
	if (reason == REASON_OK)
		reason = decode_header(message.protected, &message);
	if (reason == REASON_OK)
		reason = cose_alg_check(message.alg, message.signature);
	if (reason == REASON_OK)
		*out = message;
	return reason;
}

/* RFC 8742: items one after another, each of which says itself where it ends. */
size_t
cose_split(struct slice sequence, struct slice *items, size_t max)
{
	struct cose_sign1 message = {0};
	struct cbor_reader r;
	size_t n = 0;

	cbor_reader_init(&r, sequence);
	while (n < max) {
		const uint8_t *at = r.at;

		items[n++] = (struct slice){at, (size_t)(r.end - at)};
		if (n == max || sequence.len > LIMIT_SEQUENCE)
			break;
		read_envelope(&r, &message);
		if (r.error != REASON_OK || r.at == r.end || r.at - at < LIMIT_SEQUENCE_LEAST)
			break;
		items[n - 1].len = (size_t)(r.at - at);
	}
	return n;
}

/* The Sig_structure, RFC 9052 4.4, in pieces, so that the payload is not copied. */
struct tbs {
	uint8_t front[32], middle[16], last[16];
	struct slice parts[6];
};

#define TBS_PARTS 6

static void
tbs_init(struct tbs *tbs, const struct cose_signed *part)
{
	struct cbor_writer front, middle, last;

	cbor_writer_init(&front, tbs->front, sizeof tbs->front);
	cbor_write_array(&front, 4);
	cbor_write_string(&front, "Signature1");
	cbor_write_bytes_head(&front, part->protected.len);
	cbor_writer_init(&middle, tbs->middle, sizeof tbs->middle);
	cbor_write_bytes_head(&middle, part->external.len);
	cbor_writer_init(&last, tbs->last, sizeof tbs->last);
	cbor_write_bytes_head(&last, part->payload.len);
	tbs->parts[0] = (struct slice){tbs->front, front.len};
	tbs->parts[1] = part->protected;
	tbs->parts[2] = (struct slice){tbs->middle, middle.len};
	tbs->parts[3] = part->external;
	tbs->parts[4] = (struct slice){tbs->last, last.len};
	tbs->parts[5] = part->payload;
}

static struct cose_signed
signed_part(const struct cose_sign1 *message)
{
	/* external_aad is empty: everything that matters is in the message. */
	return (struct cose_signed){.alg = message->alg,
				    .protected = message->protected,
				    .payload = message->payload,
				    .signature = message->signature};
}

void
cose_tbs_digest(const struct cose_sign1 *message, uint8_t digest[DIGEST_SIZE])
{
	struct cose_signed part = signed_part(message);
	struct tbs tbs;

	tbs_init(&tbs, &part);
	sha256_parts(tbs.parts, TBS_PARTS, digest);
}

enum reason
cose_verify_signed(const struct cose_signed *part, struct cose_key *key, uint8_t digest[DIGEST_SIZE])
{
	struct tbs tbs;

	tbs_init(&tbs, part);
	return cose_key_verify(key, part->alg, tbs.parts, TBS_PARTS, part->signature, digest);
}

enum reason
cose_verify(const struct cose_sign1 *message, struct cose_key *key, uint8_t digest[DIGEST_SIZE])
{
	struct cose_signed part = signed_part(message);

	return cose_verify_signed(&part, key, digest);
}

static void
write_header(struct cbor_writer *w, const struct cose_key *key, const struct slice *chain, size_t chain_len)
{
	uint8_t kid[KID_SIZE];

	cose_key_kid(key, kid);
	cbor_write_map(w, chain_len > 0 ? 3 : 2);
	cbor_write_uint(w, HEADER_ALG);
	cbor_write_int(w, cose_key_alg(key));
	cbor_write_uint(w, HEADER_KID);
	cbor_write_bytes(w, (struct slice){kid, KID_SIZE});
	if (chain_len == 0)
		return;
	cbor_write_uint(w, HEADER_CHAIN);
	if (chain_len > 1)
		cbor_write_array(w, chain_len);
	for (size_t i = 0; i < chain_len; i++)
		cbor_write_bytes(w, chain[i]);
}

static void
write_message(struct cbor_writer *w, const struct cose_signed *part)
{
	cbor_write_tag(w, TAG_CWT);
	cbor_write_tag(w, TAG_SIGN1);
	cbor_write_array(w, 4);
	cbor_write_bytes(w, part->protected);
	cbor_write_map(w, 0);
	cbor_write_bytes(w, part->payload);
	cbor_write_bytes(w, part->signature);
}

static bool
chain_fits(const struct slice *chain, size_t chain_len)
{
	size_t room = LIMIT_CHAIN;

	if (chain_len > LIMIT_CHAIN_CERTS)
		return false;
	for (size_t i = 0; i < chain_len; i++) {
		if (chain[i].len == 0 || chain[i].len > room)
			return false;
		room -= chain[i].len;
	}
	return true;
}

size_t
cose_sign(struct cose_key *key, const struct slice *chain, size_t chain_len, struct slice payload, uint8_t *out,
	  size_t size)
{
	uint8_t header[LIMIT_HEADER], signature[LIMIT_SIGNATURE];
	struct cose_signed part = {.alg = cose_key_alg(key), .payload = payload};
	struct cbor_writer w;
	struct tbs tbs;

	if (!chain_fits(chain, chain_len))
		return 0;
	cbor_writer_init(&w, header, sizeof header);
	write_header(&w, key, chain, chain_len);
	if (w.overflow)
		return 0;
	part.protected = (struct slice){header, w.len};
	tbs_init(&tbs, &part);
	part.signature = (struct slice){signature, cose_key_sign(key, tbs.parts, TBS_PARTS, signature)};
	if (part.signature.len == 0)
		return 0;
	cbor_writer_init(&w, out, size);
	write_message(&w, &part);
	return w.overflow || w.len > LIMIT_MESSAGE ? 0 : w.len;
}
