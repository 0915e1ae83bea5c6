#include "schema/receipt.h"

#include <string.h>

#include "schema/claims.h"

#define ACCOUNT_ITEMS 7
#define PAIR_ITEMS 2
#define WANT_ALL (WANT_CHAIN | WANT_STATE | WANT_INVENTORY)

/*
 * The claims, in the order of receipt.cddl.
 */
static void
read_iat(struct cbor_reader *r, void *message)
{
	struct receipt *receipt = message;

	receipt->iat = cbor_read_uint_max(r, 0, LIMIT_IAT);
}

static void
write_iat(struct cbor_writer *w, const void *message)
{
	const struct receipt *receipt = message;

	cbor_write_uint(w, receipt->iat);
}

static void
read_ueid(struct cbor_reader *r, void *message)
{
	struct receipt *receipt = message;

	claim_read_ueid(r, &receipt->ueid);
}

static void
write_ueid(struct cbor_writer *w, const void *message)
{
	const struct receipt *receipt = message;

	cbor_write_bytes(w, (struct slice){receipt->ueid.bytes, UEID_SIZE});
}

/* Ascending, apart from each other, and within what the account is of. */
static void
read_missing(struct cbor_reader *r, struct receipt *receipt)
{
	size_t n = cbor_read_array(r, LIMIT_RECEIPT_MISSING);
	uint64_t before = 0;

	for (size_t i = 0; i < n; i++) {
		if (cbor_read_array(r, SIZE_MAX) != PAIR_ITEMS)
			cbor_fail(r, REASON_CLAIM_INVALID);
		receipt->missing[i] = claim_read_range(r);
		if (receipt->missing[i].first <= before || receipt->missing[i].last > receipt->up_to)
			cbor_fail(r, REASON_CLAIM_INVALID);
		before = receipt->missing[i].last;
	}
	receipt->missing_len = n;
}

static void
read_refused(struct cbor_reader *r, struct receipt *receipt)
{
	size_t n = cbor_read_array(r, LIMIT_RECEIPT_REFUSED);

	for (size_t i = 0; i < n; i++) {
		if (cbor_read_array(r, SIZE_MAX) != PAIR_ITEMS)
			cbor_fail(r, REASON_CLAIM_INVALID);
		cbor_read_bytes_exact(r, receipt->refused[i].digest, DIGEST_SIZE);
		receipt->refused[i].reason = cbor_read_text(r, LIMIT_NAME);
	}
	receipt->refused_len = n;
}

static void
read_account(struct cbor_reader *r, void *message)
{
	struct receipt *receipt = message;

	if (cbor_read_array(r, SIZE_MAX) != ACCOUNT_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	receipt->epoch = claim_read_epoch(r);
	receipt->up_to = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	receipt->has_digest = claim_read_digest(r, receipt->digest);
	if (receipt->has_digest && receipt->up_to == 0)
		cbor_fail(r, REASON_CLAIM_INVALID); /* of what? */
	read_missing(r, receipt);
	read_refused(r, receipt);
	receipt->wants = (unsigned)cbor_read_uint_max(r, 0, WANT_ALL);
	receipt->pace_ms = (uint32_t)cbor_read_uint_max(r, 0, UINT32_MAX);
}

static void
write_account(struct cbor_writer *w, const void *message)
{
	const struct receipt *receipt = message;

	cbor_write_array(w, ACCOUNT_ITEMS);
	claim_write_epoch(w, receipt->epoch);
	cbor_write_uint(w, receipt->up_to);
	claim_write_digest(w, receipt->has_digest, receipt->digest);
	cbor_write_array(w, receipt->missing_len);
	for (size_t i = 0; i < receipt->missing_len; i++) {
		cbor_write_array(w, PAIR_ITEMS);
		claim_write_range(w, receipt->missing[i]);
	}
	cbor_write_array(w, receipt->refused_len);
	for (size_t i = 0; i < receipt->refused_len; i++) {
		cbor_write_array(w, PAIR_ITEMS);
		cbor_write_bytes(w, (struct slice){receipt->refused[i].digest, DIGEST_SIZE});
		cbor_write_text(w, receipt->refused[i].reason);
	}
	cbor_write_uint(w, receipt->wants);
	cbor_write_uint(w, receipt->pace_ms);
}

static void
read_nonce(struct cbor_reader *r, void *message)
{
	struct receipt *receipt = message;

	receipt->nonce = claim_read_nonce(r);
}

static bool
has_nonce(const void *message)
{
	const struct receipt *receipt = message;

	return receipt->nonce.at;
}

static void
write_nonce(struct cbor_writer *w, const void *message)
{
	const struct receipt *receipt = message;

	cbor_write_bytes(w, receipt->nonce);
}

static const struct claim claims[] = {
	{6, true, 0, read_iat, NULL, write_iat},
	{256, true, 0, read_ueid, NULL, write_ueid},
	{265, true, 0, claim_read_profile, NULL, claim_write_profile},
	{-65550, true, 0, read_account, NULL, write_account},
	{-65551, false, 0, read_nonce, has_nonce, write_nonce},
};
#define CLAIMS (sizeof claims / sizeof claims[0])

enum reason
receipt_decode(struct slice payload, struct receipt *out)
{
	memset(out, 0, sizeof *out);
	if (payload.len > LIMIT_RECEIPT)
		return REASON_TOO_LARGE;
	return claims_decode(payload, claims, CLAIMS, out);
}

void
receipt_encode(const struct receipt *receipt, struct cbor_writer *w)
{
	claims_encode(claims, CLAIMS, receipt, w);
}

/*
 * To JSON. json_object_set_new and json_array_append_new answer -1 when their value is NULL, that is when memory ran out.
 */
static json_t *
refused_json(const struct receipt *receipt, size_t i)
{
	struct slice reason = receipt->refused[i].reason;
	json_t *item = json_object();

	if (json_object_set_new(item, "sha256", claim_json_hex(receipt->refused[i].digest, DIGEST_SIZE)) < 0 ||
	    json_object_set_new(item, "reason", json_stringn((const char *)reason.at, reason.len)) < 0) {
		json_decref(item);
		return NULL;
	}
	return item;
}

static json_t *
missing_json(const struct receipt *receipt, size_t i)
{
	return json_pack("[I, I]", (json_int_t)receipt->missing[i].first, (json_int_t)receipt->missing[i].last);
}

static json_t *
want_json(const struct receipt *receipt, size_t i)
{
	static const char *const names[] = {"chain", "state", "inventory"};

	return receipt->wants >> i & 1 ? json_string(names[i]) : json_null();
}

static json_t *
list_json(const struct receipt *receipt, size_t n, json_t *(*item)(const struct receipt *, size_t))
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *made = item(receipt, i);

		if (made && json_is_null(made))
			continue;
		if (json_array_append_new(list, made) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *
receipt_json(const struct receipt *receipt)
{
	json_t *object = json_object();

	if (json_object_set_new(object, "ueid", claim_json_ueid(&receipt->ueid)) < 0 ||
	    json_object_set_new(object, "epoch", claim_json_epoch(receipt->epoch)) < 0 ||
	    json_object_set_new(object, "issued_at", claim_json_time(receipt->iat)) < 0 ||
	    json_object_set_new(object, "up_to", json_integer((json_int_t)receipt->up_to)) < 0 ||
	    (receipt->has_digest &&
	     json_object_set_new(object, "digest", claim_json_hex(receipt->digest, DIGEST_SIZE)) < 0) ||
	    json_object_set_new(object, "missing", list_json(receipt, receipt->missing_len, missing_json)) < 0 ||
	    json_object_set_new(object, "refused", list_json(receipt, receipt->refused_len, refused_json)) < 0 ||
	    json_object_set_new(object, "wants", list_json(receipt, 3, want_json)) < 0 ||
	    json_object_set_new(object, "pace_ms", json_integer(receipt->pace_ms)) < 0 ||
	    (receipt->nonce.at &&
	     json_object_set_new(object, "nonce", claim_json_hex(receipt->nonce.at, receipt->nonce.len)) < 0)) {
		json_decref(object);
		return NULL;
	}
	return object;
}
