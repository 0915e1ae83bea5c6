#include "schema/purl.h"

#include <string.h>

bool
purl_plain(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr(".-_~:", c) != NULL);
}

size_t
purl_encode(uint8_t c, char out[3])
{
	static const char hex[] = "0123456789ABCDEF";

	out[0] = purl_plain(c) ? (char)c : '%';
	out[1] = hex[c >> 4];
	out[2] = hex[c & 15];
	return purl_plain(c) ? 1 : 3;
}
