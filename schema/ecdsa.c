#include "schema/ecdsa.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <string.h>

static const uint8_t half_p256[] = {
	0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
};
static const uint8_t half_p384[] = {
	0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xe3, 0xb1, 0xa6, 0xc0, 0xfa, 0x1b, 0x96, 0xef,
	0xac, 0x0d, 0x06, 0xd9, 0x24, 0x58, 0x53, 0xbd, 0x76, 0x76, 0x0c, 0xb5, 0x66, 0x62, 0x94, 0xb9,
};

/* Half the group's order, rounded down: the largest s allowed. */
static const uint8_t *
half_order(size_t width)
{
	return width == sizeof half_p256 ? half_p256 : half_p384;
}

bool
ecdsa_s_is_high(struct slice signature)
{
	size_t width = signature.len / 2;

	return memcmp(signature.at + width, half_order(width), width) > 0;
}

/* An INTEGER of DER out of one that is big endian and `width` long. Returns its end. */
static uint8_t *
put_integer(uint8_t *der, const uint8_t *number, size_t width)
{
	while (width > 1 && *number == 0) {
		number++;
		width--;
	}
	*der++ = 0x02;
	*der++ = (uint8_t)(width + (*number >> 7));
	if (*number & 0x80)
		*der++ = 0;
	memcpy(der, number, width);
	return der + width;
}

/* An ECDSA-Sig-Value (RFC 3279 2.2.3) of these curves is under 128 bytes and so has a length of one. */
size_t
ecdsa_print(struct slice signature, uint8_t der[ECDSA_DER_MAX])
{
	size_t width = signature.len / 2;
	uint8_t *end = put_integer(der + 2, signature.at, width);

	end = put_integer(end, signature.at + width, width);
	der[0] = 0x30;
	der[1] = (uint8_t)(end - der - 2);
	return (size_t)(end - der);
}

/* Brings s down to n - s when it is over half of n = 2 * half + 1: that signs as well. */
static int
normalise(uint8_t *signature, size_t len)
{
	int width = (int)(len / 2);
	BIGNUM *s, *order;
	int status = -1;

	if (!ecdsa_s_is_high((struct slice){signature, len}))
		return 0;
	s = BN_bin2bn(signature + width, width, NULL);
	order = BN_bin2bn(half_order(len / 2), width, NULL);
	if (s == NULL || order == NULL)
		goto out;
	if (!BN_lshift1(order, order) || !BN_add_word(order, 1) || !BN_sub(s, order, s))
		goto out;
	if (BN_bn2binpad(s, signature + width, width) == width)
		status = 0;
out:
	BN_free(s);
	BN_free(order);
	return status;
}

int
ecdsa_parse(struct slice der, size_t len, uint8_t *signature)
{
	int width = (int)(len / 2);
	const unsigned char *at = der.at;
	ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &at, (long)der.len);
	int status = -1;

	if (parsed == NULL)
		return -1;
	if (BN_bn2binpad(ECDSA_SIG_get0_r(parsed), signature, width) == width &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(parsed), signature + width, width) == width)
		status = normalise(signature, len);
	ECDSA_SIG_free(parsed);
	return status;
}
