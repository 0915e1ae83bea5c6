#include "schema/purl.h"

#include <stdbool.h>
#include <string.h>

/* What stands as it is (clause 5.4); ":" needs no encoding anywhere. All else is "%" and two digits, which are capital. */
static bool
is_plain(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr(".-_~:", c) != NULL);
}

size_t
purl_encode(uint8_t c, char out[3])
{
	static const char hex[] = "0123456789ABCDEF";
	bool plain = is_plain(c);

	out[0] = plain ? (char)c : '%';
	out[1] = hex[c >> 4];
	out[2] = hex[c & 15];
	return plain ? 1 : 3;
}
