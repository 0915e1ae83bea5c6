#include "schema/topics.h"

#include <stdio.h>
#include <string.h>

#include "schema/key.h"
#include "schema/limits.h"

#define ROOT "fleetstate/1/"
#define REPORT "/report"

static const char digits[] = "0123456789abcdef";

void
hex_print(const uint8_t *bytes, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 0xf];
	}
	*out = '\0';
}

/* Of lower-case digits, one more than their value; 0 for what is none. */
static const uint8_t values[UINT8_MAX + 1] = {
	['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
	['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* -1 for what is no lower-case digit. */
static int
digit_value(uint8_t c)
{
	return values[c] - 1;
}

bool
hex_parse(struct slice hex, uint8_t *out, size_t len)
{
	int any = 0;

	if (hex.len / 2 != len || hex.len % 2 != 0)
		return false;
	/* Negative once one is. */
	for (size_t i = 0; i < hex.len; i++)
		any |= digit_value(hex.at[i]);
	if (any < 0)
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(digit_value(hex.at[2 * i]) << 4 | digit_value(hex.at[2 * i + 1]));
	return true;
}

bool
ueid_parse(struct slice hex, struct ueid *ueid)
{
	struct ueid parsed;

	if (!hex_parse(hex, parsed.bytes, sizeof parsed.bytes))
		return false;
	/* RFC 9711 4.2.1.1: the type byte of RAND. */
	if (parsed.bytes[0] != 0x01)
		return false;
	*ueid = parsed;
	return true;
}

void
ueid_print(const struct ueid *ueid, char hex[UEID_HEX])
{
	hex_print(ueid->bytes, sizeof ueid->bytes, hex);
}

unsigned
ueid_shard(const struct ueid *ueid)
{
	uint8_t digest[DIGEST_SIZE];

	sha256((struct slice){ueid->bytes, sizeof ueid->bytes}, digest);
	return digest[0] >> 4;
}

/* Takes `text` off the front. */
static bool
skip(struct slice *topic, const char *text)
{
	size_t len = strlen(text);

	if (topic->len < len || memcmp(topic->at, text, len) != 0)
		return false;
	topic->at += len;
	topic->len -= len;
	return true;
}

/* Takes `len` bytes off the front; absent when there are fewer. */
static struct slice
take(struct slice *topic, size_t len)
{
	struct slice part = {NULL, 0};

	if (topic->len < len)
		return part;
	part = (struct slice){topic->at, len};
	topic->at += len;
	topic->len -= len;
	return part;
}

enum reason
topic_parse_report(struct slice topic, struct ueid *ueid)
{
	unsigned shard;
	struct slice part;

	if (topic.at == NULL || topic.len > LIMIT_TOPIC || !skip(&topic, ROOT))
		return REASON_TOPIC_MALFORMED;
	part = take(&topic, 1);
	if (part.at == NULL || digit_value(part.at[0]) < 0 || !skip(&topic, "/"))
		return REASON_TOPIC_MALFORMED;
	shard = (unsigned)digit_value(part.at[0]);
	part = take(&topic, UEID_HEX - 1);
	if (part.at == NULL || !skip(&topic, REPORT) || topic.len != 0)
		return REASON_TOPIC_MALFORMED;
	if (!ueid_parse(part, ueid))
		return REASON_TOPIC_MALFORMED;
	return shard == ueid_shard(ueid) ? REASON_OK : REASON_WRONG_SHARD;
}

void
topic_print_report(const struct ueid *ueid, char *out, size_t size)
{
	char hex[UEID_HEX];

	ueid_print(ueid, hex);
	snprintf(out, size, ROOT "%x/%s" REPORT, ueid_shard(ueid), hex);
}

void
topic_print_receipt(const struct ueid *ueid, char *out, size_t size)
{
	char hex[UEID_HEX];

	ueid_print(ueid, hex);
	snprintf(out, size, ROOT "%s/receipt", hex);
}
