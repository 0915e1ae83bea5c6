#include "collector/code_point.h"

uint32_t
code_point(const uint8_t *at, size_t left, size_t *len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = at[0] < 0x80 ? 1 : at[0] >> 5 == 6 ? 2 : at[0] >> 4 == 14 ? 3 : at[0] >> 3 == 30 ? 4 : 0;
	uint32_t c = n == 1 ? at[0] : n == 0 ? 0 : at[0] & (0x7fu >> n);

	*len = 1;
	if (n == 0 || n > left)
		return CODE_POINT_NONE;
	for (size_t i = 1; i < n; i++) {
		if (at[i] >> 6 != 2)
			return CODE_POINT_NONE;
		c = c << 6 | (at[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return CODE_POINT_NONE;
	*len = n;
	return c;
}

size_t
code_points(const char *at, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)at[i] & 0xc0) != 0x80;
	return n;
}

bool
code_point_is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029 || (c >= 0x202a && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}
