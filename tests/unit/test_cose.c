/* COSE_Sign1: what we sign verifies, anything touched does not, and every other spelling is refused with its reason. */
#include <openssl/bn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/cbor.h"
#include "schema/cose.h"
#include "schema/topics.h"
#include "tests/unit/keys.h"

#define MESSAGE_MAX 16384

static const struct slice payload = {(const uint8_t *)"what the device saw", 19};

/* Messages by hand, in hex. A kid, and numbers r and s: small ones, half the group's order, and one over. */
#define KID "480102030405060708"
#define R32 "1111111111111111111111111111111111111111111111111111111111111111"
#define S32 "2222222222222222222222222222222222222222222222222222222222222222"
#define HALF256 "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8"
#define OVER256 "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a9"
#define R48 R32 "11111111111111111111111111111111"
#define HALF384 "7fffffffffffffffffffffffffffffffffffffffffffffffe3b1a6c0fa1b96efac0d06d9245853bd76760cb5666294b9"
#define OVER384 "7fffffffffffffffffffffffffffffffffffffffffffffffe3b1a6c0fa1b96efac0d06d9245853bd76760cb5666294ba"

static const struct {
	const char *what, *head, *header, *rest;
	enum reason reason;
} forms[] = {
	{"a good one", "d83dd284", "a2012604" KID, "a041005840" R32 S32, REASON_OK},
	{"the other name of ES256", "d83dd284", "a2012804" KID, "a041005840" R32 S32, REASON_OK},
	{"s is just half", "d83dd284", "a2012604" KID, "a041005840" R32 HALF256, REASON_OK},
	{"s one over half", "d83dd284", "a2012604" KID, "a041005840" R32 OVER256, REASON_NON_CANONICAL},
	{"s one over half, by the other name", "d83dd284", "a2012804" KID, "a041005840" R32 OVER256,
	 REASON_NON_CANONICAL},
	{"P-384, s is just half", "d83dd284", "a201382204" KID, "a041005860" R48 HALF384, REASON_OK},
	{"P-384, s one over half", "d83dd284", "a201382204" KID, "a041005860" R48 OVER384, REASON_NON_CANONICAL},
	{"P-384 by the other name", "d83dd284", "a201383204" KID, "a041005860" R48 OVER384, REASON_NON_CANONICAL},
	{"EdDSA has no such s", "d83dd284", "a2012704" KID, "a041005840" R32 OVER256, REASON_OK},
	{"EdDSA by the other name", "d83dd284", "a2013204" KID, "a041005840" R32 OVER256, REASON_OK},
	{"no tag", "84", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"tag 18 alone", "d284", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"tag 61 alone", "d83d84", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"tag 17", "d83dd184", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"tag 61 twice", "d83dd83dd284", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"a long tag", "d9003dd284", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"an array without end", "d83dd29f", "a2012604" KID, "a041005840" R32 S32 "ff", REASON_NON_CANONICAL},
	{"a long array head", "d83dd29804", "a2012604" KID, "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"a text", "6568656c6c6f", "a2012604" KID, "a041005840" R32 S32, REASON_MALFORMED},
	{"three items", "d83dd283", "a2012604" KID, "a04100", REASON_MALFORMED},
	{"five items", "d83dd285", "a2012604" KID, "a041005840" R32 S32 "00", REASON_MALFORMED},
	{"unprotected filled", "d83dd284", "a2012604" KID,
	 "a1044101"
	 "41005840" R32 S32,
	 REASON_NON_CANONICAL},
	{"unprotected no map", "d83dd284", "a2012604" KID, "8041005840" R32 S32, REASON_MALFORMED},
	{"payload elsewhere", "d83dd284", "a2012604" KID, "a0f65840" R32 S32, REASON_MALFORMED},
	{"payload a text", "d83dd284", "a2012604" KID, "a061615840" R32 S32, REASON_MALFORMED},
	{"signature too short", "d83dd284", "a2012604" KID,
	 "a04100583f" R32 "22222222222222222222222222222222222222222222222222222222222222", REASON_MALFORMED},
	{"signature too long", "d83dd284", "a2012604" KID, "a041005841" R32 S32 "22", REASON_MALFORMED},
	{"signature of P-384's length", "d83dd284", "a2012604" KID, "a041005860" R48 HALF384, REASON_MALFORMED},
	{"signature of P-256's length", "d83dd284", "a201382204" KID, "a041005840" R32 S32, REASON_MALFORMED},
	{"no signature", "d83dd284", "a2012604" KID, "a0410040", REASON_MALFORMED},
	{"signature over all limits", "d83dd284", "a2012604" KID, "a041005861" R48 HALF384 "00", REASON_LIMIT_EXCEEDED},
	{"bytes after", "d83dd284", "a2012604" KID, "a041005840" R32 S32 "00", REASON_TRAILING_BYTES},
	{"cut", "d83dd284", "a2012604" KID, "a041005840" R32, REASON_TRUNCATED},
	{"no header", "d83dd284", "", "a041005840" R32 S32, REASON_TRUNCATED},
	{"an empty header", "d83dd284", "a0", "a041005840" R32 S32, REASON_MALFORMED},
	{"no algorithm", "d83dd284", "a104" KID, "a041005840" R32 S32, REASON_MALFORMED},
	{"no kid", "d83dd284", "a10126", "a041005840" R32 S32, REASON_MALFORMED},
	{"kid of 7 bytes", "d83dd284",
	 "a201260447"
	 "01020304050607",
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"kid of 9 bytes", "d83dd284",
	 "a201260449"
	 "010203040506070809",
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"kid a text", "d83dd284",
	 "a2012604"
	 "68"
	 "6162636465666768",
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"header out of order", "d83dd284", "a204" KID "0126", "a041005840" R32 S32, REASON_NON_CANONICAL},
	{"algorithm twice", "d83dd284", "a30126012604" KID, "a041005840" R32 S32, REASON_DUPLICATE_KEY},
	{"crit", "d83dd284", "a3012602810404" KID, "a041005840" R32 S32, REASON_MALFORMED},
	{"a content type", "d83dd284",
	 "a301260300"
	 "04" KID,
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"an unknown label", "d83dd284", "a3012604" KID "1901f400", "a041005840" R32 S32, REASON_MALFORMED},
	{"a text label", "d83dd284", "a3012604" KID "616100", "a041005840" R32 S32, REASON_MALFORMED},
	{"bytes after the header", "d83dd284", "a2012604" KID "00", "a041005840" R32 S32, REASON_TRAILING_BYTES},
	{"algorithm none", "d83dd284", "a2010004" KID, "a041005840" R32 S32, REASON_ALGORITHM_UNKNOWN},
	{"ES512", "d83dd284", "a201382304" KID, "a041005840" R32 S32, REASON_ALGORITHM_UNKNOWN},
	{"HMAC", "d83dd284", "a2010504" KID, "a041005840" R32 S32, REASON_ALGORITHM_UNKNOWN},
	{"an algorithm like -7 in 32 bits", "d83dd284",
	 "a2013b0000000100000006"
	 "04" KID,
	 "a041005840" R32 S32, REASON_ALGORITHM_UNKNOWN},
	{"a text for an algorithm", "d83dd284",
	 "a201654553323536"
	 "04" KID,
	 "a041005840" R32 S32, REASON_ALGORITHM_UNKNOWN},
	{"bytes for an algorithm", "d83dd284",
	 "a2014126"
	 "04" KID,
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"one certificate", "d83dd284",
	 "a3012604" KID "1821"
	 "4130",
	 "a041005840" R32 S32, REASON_OK},
	{"three certificates", "d83dd284",
	 "a3012604" KID "1821"
	 "83413041314132",
	 "a041005840" R32 S32, REASON_OK},
	{"an array of one", "d83dd284",
	 "a3012604" KID "1821"
	 "814130",
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"an array of none", "d83dd284",
	 "a3012604" KID "1821"
	 "80",
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"four certificates", "d83dd284",
	 "a3012604" KID "1821"
	 "844130413141324133",
	 "a041005840" R32 S32, REASON_LIMIT_EXCEEDED},
	{"an empty certificate", "d83dd284",
	 "a3012604" KID "1821"
	 "8241304"
	 "0",
	 "a041005840" R32 S32, REASON_MALFORMED},
	{"a text for a certificate", "d83dd284",
	 "a3012604" KID "1821"
	 "6130",
	 "a041005840" R32 S32, REASON_MALFORMED},
};

static struct slice
compose(size_t row, uint8_t buffer[MESSAGE_MAX])
{
	char hex[MESSAGE_MAX];
	size_t header = strlen(forms[row].header) / 2;
	const char *long_head = header < 24 ? "" : "58";
	int len = snprintf(hex, sizeof hex, "%s%s%02x%s%s", forms[row].head, long_head,
			   (unsigned)(header < 24 ? 0x40 + header : header), forms[row].header, forms[row].rest);

	assert_true(hex_parse((struct slice){(uint8_t *)hex, (size_t)len}, buffer, (size_t)len / 2));
	return (struct slice){buffer, (size_t)len / 2};
}

static void
test_forms(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		uint8_t buffer[MESSAGE_MAX];
		struct cose_sign1 message = {.alg = 4711};
		enum reason got = cose_decode(compose(i, buffer), &message);

		if (got != forms[i].reason)
			fail_msg("%s: %s, not %s", forms[i].what, reason_name(got), reason_name(forms[i].reason));
		/* Nothing is given out on a refusal. */
		assert_true((message.alg == 4711) == (got != REASON_OK));
	}
}

static void
test_size_limits(void **state)
{
	static uint8_t big[LIMIT_MESSAGE + 1], out[LIMIT_MESSAGE + 1];
	struct slice chain[LIMIT_CHAIN_CERTS + 1];
	struct cose_sign1 message;
	struct cbor_writer w;
	size_t len;

	(void)state;
	assert_int_equal(cose_decode((struct slice){big, sizeof big}, &message), REASON_TOO_LARGE);
	assert_int_equal(cose_decode((struct slice){NULL, 0}, &message), REASON_TRUNCATED);
	/* The chain may fill its limit, with no byte more; and what the signer would not send, the decoder would not take. */
	for (size_t i = 0; i < LIMIT_CHAIN_CERTS + 1; i++)
		chain[i] = (struct slice){big, LIMIT_CHAIN / 2};
	len = cose_sign(keys[0], chain, 2, payload, out, sizeof out);
	assert_true(len > LIMIT_CHAIN);
	assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
	assert_int_equal(message.chain_len, 2);
	assert_int_equal(message.chain[1].len, LIMIT_CHAIN / 2);
	chain[1].len++;
	assert_int_equal(cose_sign(keys[0], chain, 2, payload, out, sizeof out), 0);
	chain[1].len = 0;
	assert_int_equal(cose_sign(keys[0], chain, 2, payload, out, sizeof out), 0);
	chain[0].len = chain[1].len = 10;
	assert_int_equal(cose_sign(keys[0], chain, LIMIT_CHAIN_CERTS + 1, payload, out, sizeof out), 0);
	assert_int_equal(cose_sign(keys[0], NULL, 0, (struct slice){big, LIMIT_MESSAGE}, out, sizeof out), 0);
	/* A chain of two that is one byte too long, in a header that is not. */
	cbor_writer_init(&w, out, sizeof out);
	cbor_write_encoded(&w, (struct slice){(const uint8_t *)"\xd8\x3d\xd2\x84", 4});
	cbor_write_bytes_head(&w, 2 + 1 + 1 + 1 + 8 + 2 + 1 + 3 + 3 + LIMIT_CHAIN + 1);
	cbor_write_encoded(&w, (struct slice){(const uint8_t *)"\xa3\x01\x26\x04\x48kidkidki\x18\x21\x82", 16});
	cbor_write_bytes(&w, (struct slice){big, LIMIT_CHAIN / 2});
	cbor_write_bytes(&w, (struct slice){big, LIMIT_CHAIN / 2 + 1});
	cbor_write_map(&w, 0);
	cbor_write_bytes(&w, payload);
	cbor_write_bytes(&w, (struct slice){(const uint8_t *)R32 S32, 64});
	assert_int_equal(cose_decode((struct slice){out, w.len}, &message), REASON_LIMIT_EXCEEDED);
}

static void
test_sign_and_verify(void **state)
{
	(void)state;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		uint8_t out[MESSAGE_MAX], kid[KID_SIZE], tbs[DIGEST_SIZE], again[DIGEST_SIZE];
		struct slice chain[] = {{(const uint8_t *)"leaf", 4}, {(const uint8_t *)"ca", 2}};
		struct cose_sign1 message;

		for (size_t certificates = 0; certificates <= 2; certificates++) {
			size_t len = cose_sign(keys[i], chain, certificates, payload, out, sizeof out);

			assert_true(len > 0);
			assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
			assert_int_equal(message.alg, algorithms[i]);
			assert_int_equal(message.chain_len, certificates);
			cose_key_kid(keys[i], kid);
			assert_memory_equal(message.kid.at, kid, KID_SIZE);
			assert_int_equal(message.payload.len, payload.len);
			assert_int_equal(cose_verify(&message, keys[i], tbs), REASON_OK);
			assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_OK);
			cose_tbs_digest(&message, again);
			assert_memory_equal(tbs, again, DIGEST_SIZE);
			assert_int_equal(cose_sign(keys[i], chain, certificates, payload, out, len - 1), 0);
		}
	}
}

/* The digest of what was signed, against a Sig_structure written out by hand. */
static void
test_tbs_by_hand(void **state)
{
	static const char hex[] = "846a5369676e6174757265314d"
				  "a2012604" KID "4043010203";
	uint8_t structure[64], want[DIGEST_SIZE], got[DIGEST_SIZE];
	struct cose_sign1 message = {.alg = -7};

	(void)state;
	assert_true(hex_parse((struct slice){(const uint8_t *)hex, strlen(hex)}, structure, strlen(hex) / 2));
	sha256((struct slice){structure, strlen(hex) / 2}, want);
	message.protected = (struct slice){structure + 13, 13};
	message.payload = (struct slice){structure + 28, 3};
	cose_tbs_digest(&message, got);
	assert_memory_equal(got, want, DIGEST_SIZE);
}

/* One bit anywhere: whatever still decodes does not verify, and only a changed text changes the digest of what was signed. */
static void
test_every_flipped_bit_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		uint8_t out[MESSAGE_MAX], before[DIGEST_SIZE], after[DIGEST_SIZE];
		size_t len = cose_sign(keys[i], NULL, 0, payload, out, sizeof out);
		struct cose_sign1 message;

		assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
		cose_tbs_digest(&message, before);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			bool text = out + bit / 8 < message.signature.at;
			enum reason got;

			out[bit / 8] ^= (uint8_t)(1 << bit % 8);
			got = cose_decode((struct slice){out, len}, &message);
			if (got == REASON_OK) {
				memset(after, 0, sizeof after);
				got = cose_verify(&message, keys[i], after);
				assert_true(got == REASON_BAD_SIGNATURE || got == REASON_ALGORITHM_MISMATCH);
				if (got == REASON_BAD_SIGNATURE)
					assert_int_equal(memcmp(before, after, DIGEST_SIZE) != 0, text);
			}
			out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void
test_wrong_keys(void **state)
{
	uint8_t out[MESSAGE_MAX], tbs[DIGEST_SIZE], untouched[DIGEST_SIZE];
	struct cose_sign1 message;

	(void)state;
	memset(untouched, 0xee, sizeof untouched);
	for (size_t i = 0; i < ALGORITHMS; i++) {
		size_t len = cose_sign(keys[i], NULL, 0, payload, out, sizeof out);

		assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
		for (size_t j = 0; j < ALGORITHMS; j++) {
			if (i == j)
				continue;
			memset(tbs, 0xee, sizeof tbs);
			assert_int_equal(cose_verify(&message, keys[j], tbs), REASON_ALGORITHM_MISMATCH);
			assert_memory_equal(tbs, untouched, sizeof tbs);
		}
		message.alg = -37;
		assert_int_equal(cose_verify(&message, keys[i], tbs), REASON_ALGORITHM_UNKNOWN);
	}
}

/* Numbers that DER writes in other ways than fixed width: zero, short, with the top bit. None signs, none trips. */
static void
test_odd_numbers_are_bad_signatures(void **state)
{
	static const uint8_t fills[] = {0x00, 0x01, 0x7f};
	uint8_t out[MESSAGE_MAX], signature[LIMIT_SIGNATURE];
	struct cose_sign1 message;

	(void)state;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		size_t len = cose_sign(keys[i], NULL, 0, payload, out, sizeof out);

		assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
		for (size_t f = 0; f < sizeof fills; f++) {
			memset(signature, fills[f], sizeof signature);
			message.signature = (struct slice){signature, message.signature.len};
			assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_BAD_SIGNATURE);
			memset(signature, 0, message.signature.len - 1);
			assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_BAD_SIGNATURE);
			memset(signature, 0xff, message.signature.len / 2);
			assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_BAD_SIGNATURE);
		}
		message.signature.len--;
		assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_BAD_SIGNATURE);
	}
}

/* A good signature spelt with n - s: it would verify, so it is the decoder that must refuse it. */
static void
test_respelt_signature(void **state)
{
	static const char order[] = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
	uint8_t out[MESSAGE_MAX];
	size_t len = cose_sign(keys[0], NULL, 0, payload, out, sizeof out);
	BIGNUM *n = NULL, *s = BN_bin2bn(out + len - 32, 32, NULL);
	struct cose_sign1 message;

	(void)state;
	assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
	assert_true(BN_hex2bn(&n, order) > 0 && BN_sub(s, n, s) == 1);
	assert_int_equal(BN_bn2binpad(s, out + len - 32, 32), 32);
	assert_int_equal(cose_verify(&message, keys[0], NULL), REASON_OK);
	assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_NON_CANONICAL);
	BN_free(n);
	BN_free(s);
}

/* Half of all signatures come out of OpenSSL with a high s. */
static void
test_signer_normalises(void **state)
{
	uint8_t out[MESSAGE_MAX];
	struct cose_sign1 message;

	(void)state;
	for (int n = 0; n < 64; n++) {
		for (size_t i = 0; i < 2; i++) {
			size_t len = cose_sign(keys[i], NULL, 0, payload, out, sizeof out);

			assert_int_equal(cose_decode((struct slice){out, len}, &message), REASON_OK);
			assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_OK);
		}
	}
}

/* Two of them, one after another, with `between`. */
static size_t
put_two(uint8_t *out, const char *between, size_t len, size_t *first)
{
	size_t second;

	*first = cose_sign(keys[0], NULL, 0, payload, out, MESSAGE_MAX);
	assert_true(*first > 0);
	memcpy(out + *first, between, len);
	second = cose_sign(keys[1], NULL, 0, payload, out + *first + len, MESSAGE_MAX - *first - len);
	assert_true(second > 0);
	return *first + len + second;
}

static void
test_a_sequence_is_taken_apart(void **state)
{
	uint8_t bytes[MESSAGE_MAX];
	struct slice items[3];
	struct cose_sign1 message;
	size_t first, len = put_two(bytes, "", 0, &first);

	(void)state;
	assert_int_equal(cose_split((struct slice){bytes, len}, items, 3), 2);
	assert_ptr_equal(items[0].at, bytes);
	assert_int_equal(items[0].len, first);
	assert_ptr_equal(items[1].at, bytes + first);
	assert_int_equal(items[1].len, len - first);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(cose_decode(items[i], &message), REASON_OK);
		assert_int_equal(cose_verify(&message, keys[i], NULL), REASON_OK);
	}
	assert_int_equal(cose_split((struct slice){bytes, first}, items, 3), 1);
	assert_int_equal(items[0].len, first);
	assert_int_equal(cose_split((struct slice){NULL, 0}, items, 3), 1);
	assert_int_equal(items[0].len, 0);
}

/* What does not say where it ends takes all that follows with it, and harms nothing before. */
static void
test_what_has_no_end_goes_to_the_end(void **state)
{
	static const struct {
		const char *what, *between;
		size_t len;
		enum reason reason;
	} rows[] = {
		{"another item", "\x01", 1, REASON_MALFORMED},
		{"a text", "\x65hello", 6, REASON_MALFORMED},
		{"a break", "\xff", 1, REASON_MALFORMED},
		{"a tag more", "\xd8\x3d", 2, REASON_NON_CANONICAL},
		{"a long head", "\xd9\x00\x3d\xd2\x84", 5, REASON_NON_CANONICAL},
		{"an array without end", "\xd8\x3d\xd2\x9f", 4, REASON_NON_CANONICAL},
		{"a length that is not there", "\xd8\x3d\xd2\x84\x59\x20\x00", 7, REASON_TRUNCATED},
		{"a length beyond all", "\xd8\x3d\xd2\x84\x5b\xff\xff\xff\xff\xff\xff\xff\xff", 13, REASON_TRUNCATED},
		{"five parts", "\xd8\x3d\xd2\x85", 4, REASON_MALFORMED},
		{"an unprotected map with something in it", "\xd8\x3d\xd2\x84\x40\xa1\x01\x02\x40\x40", 10,
		 REASON_NON_CANONICAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t bytes[MESSAGE_MAX];
		struct slice items[8];
		struct cose_sign1 message;
		size_t first, len = put_two(bytes, rows[i].between, rows[i].len, &first), n;
		enum reason got;

		n = cose_split((struct slice){bytes, len}, items, 8);
		assert_int_equal(n, 2);
		assert_int_equal(cose_decode(items[0], &message), REASON_OK);
		assert_int_equal(items[1].len, len - first);
		got = cose_decode(items[1], &message);
		if (got != rows[i].reason)
			fail_msg("%s: %s, not %s", rows[i].what, reason_name(got), reason_name(rows[i].reason));
		n = cose_split((struct slice){bytes, len - 1}, items, 8);
		assert_int_equal(n, 2);
		assert_int_equal(items[1].len, len - first - 1);
	}
}

static void
test_a_sequence_is_bounded(void **state)
{
	static const uint8_t least[LIMIT_SEQUENCE_LEAST] = {
		0xd8, 0x3d, 0xd2, 0x84, 0x40, 0xa0, 0x40, 0x58, LIMIT_SEQUENCE_LEAST - 9};
	static const uint8_t less[] = {0xd8, 0x3d, 0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40};
	static uint8_t bytes[LIMIT_SEQUENCE + sizeof least];
	struct slice items[LIMIT_SEQUENCE_REPORTS];
	size_t n;

	(void)state;
	for (size_t i = 0; i + sizeof least <= sizeof bytes; i += sizeof least)
		memcpy(bytes + i, least, sizeof least);
	n = cose_split((struct slice){bytes, LIMIT_SEQUENCE}, items, LIMIT_SEQUENCE_REPORTS);
	assert_int_equal(n, LIMIT_SEQUENCE_REPORTS);
	assert_int_equal(items[n - 2].len, sizeof least);
	assert_int_equal(items[n - 1].len, LIMIT_SEQUENCE - (n - 1) * sizeof least);
	/* Just as many as may be are that many. */
	n = cose_split((struct slice){bytes, LIMIT_SEQUENCE_REPORTS * sizeof least}, items, LIMIT_SEQUENCE_REPORTS);
	assert_int_equal(n, LIMIT_SEQUENCE_REPORTS);
	assert_int_equal(items[n - 1].len, sizeof least);
	assert_int_equal(cose_split((struct slice){bytes, LIMIT_SEQUENCE + 1}, items, LIMIT_SEQUENCE_REPORTS), 1);
	assert_int_equal(items[0].len, LIMIT_SEQUENCE + 1);
	/* Little ones are one item, to the end. */
	for (size_t i = 0; i + sizeof less <= LIMIT_SEQUENCE; i += sizeof less)
		memcpy(bytes + i, less, sizeof less);
	assert_int_equal(cose_split((struct slice){bytes, LIMIT_SEQUENCE}, items, LIMIT_SEQUENCE_REPORTS), 1);
	assert_int_equal(items[0].len, LIMIT_SEQUENCE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_size_limits),
		cmocka_unit_test(test_sign_and_verify),
		cmocka_unit_test(test_tbs_by_hand),
		cmocka_unit_test(test_every_flipped_bit_is_refused),
		cmocka_unit_test(test_wrong_keys),
		cmocka_unit_test(test_odd_numbers_are_bad_signatures),
		cmocka_unit_test(test_respelt_signature),
		cmocka_unit_test(test_signer_normalises),
		cmocka_unit_test(test_a_sequence_is_taken_apart),
		cmocka_unit_test(test_what_has_no_end_goes_to_the_end),
		cmocka_unit_test(test_a_sequence_is_bounded),
	};

	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
