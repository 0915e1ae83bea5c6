#include "emitter/crypto_library.h"

#include <stdio.h>
#include <string.h>

#include "emitter/text.h"

#define LEVEL "-DOPENSSL_TLS_SECURITY_LEVEL="

static const struct {
	const char *mark, *name;
} libraries[] = {
	{"OpenSSL ", "OpenSSL"},
	{"LibreSSL ", "LibreSSL"},
	{"Mbed TLS ", "Mbed TLS"},
	{"mbed TLS ", "Mbed TLS"},
};

void
crypto_library_init(struct crypto_library *l)
{
	memset(l, 0, sizeof *l);
	l->level = -1;
}

static size_t
version_length(const uint8_t *at, size_t len)
{
	size_t i = 0, dots = 0;

	while (i < len && i < 24 &&
	       ((at[i] >= '0' && at[i] <= '9') || at[i] == '.' || at[i] == '-' || (at[i] >= 'a' && at[i] <= 'z'))) {
		dots += at[i] == '.';
		i++;
	}
	return i > 0 && at[0] >= '0' && at[0] <= '9' && dots >= 2 && i < len && (at[i] == ' ' || at[i] == '\0') ? i : 0;
}

static void
find_version(struct crypto_library *l, struct slice text)
{
	for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
		size_t mark = strlen(libraries[i].mark);
		const uint8_t *end = text.at + text.len, *at = text.at;

		while (!l->version[0] && (at = memmem(at, (size_t)(end - at), libraries[i].mark, mark))) {
			size_t len = version_length(at + mark, (size_t)(end - at) - mark);

			if (len > 0)
				snprintf(l->version, sizeof l->version, "%s %.*s", libraries[i].name, (int)len,
					 (const char *)at + mark);
			at += mark;
		}
	}
}

static void
find_level(struct crypto_library *l, struct slice text)
{
	const uint8_t *end = text.at + text.len, *at = text.at;

	while (l->level < 0 && (at = memmem(at, (size_t)(end - at), LEVEL, strlen(LEVEL)))) {
		at += strlen(LEVEL);
		if (at < end && *at >= '0' && *at <= '5')
			l->level = *at - '0';
	}
}

static void
look(struct crypto_library *l, struct slice text)
{
	if (!l->version[0])
		find_version(l, text);
	find_level(l, text);
}

/* What is cut in two by the border of two pieces stands whole in the seam of both. */
bool
crypto_library_feed(struct crypto_library *l, struct slice piece)
{
	size_t front = piece.len < LIBRARY_MARK ? piece.len : LIBRARY_MARK;

	if (piece.len == 0)
		return true;
	if (l->seam_len > LIBRARY_MARK) {
		memmove(l->seam, l->seam + l->seam_len - LIBRARY_MARK, LIBRARY_MARK);
		l->seam_len = LIBRARY_MARK;
	}
	memcpy(l->seam + l->seam_len, piece.at, front);
	l->seam_len += front;
	look(l, (struct slice){l->seam, l->seam_len});
	look(l, piece);
	if (piece.len > LIBRARY_MARK) {
		memcpy(l->seam, piece.at + piece.len - LIBRARY_MARK, LIBRARY_MARK);
		l->seam_len = LIBRARY_MARK;
	}
	return !l->version[0] || l->level < 0;
}

/* Without the argument: 1 from 1.1.0 on, 2 from 3.2 on. */
int
crypto_library_level(const struct crypto_library *l)
{
	struct slice version = {(const uint8_t *)l->version, strlen(l->version)}, major, minor, rest;
	uint64_t first, second;

	if (l->level >= 0)
		return l->level;
	if (!text_begins(version, "OpenSSL "))
		return -1;
	version.at += 8;
	version.len -= 8;
	if (!text_cut(version, '.', &major, &rest) || !text_cut(rest, '.', &minor, &rest) ||
	    !text_number(major, 10, &first) || !text_number(minor, 10, &second))
		return -1;
	if (first < 1 || (first == 1 && second < 1))
		return -1;
	return first > 3 || (first == 3 && second >= 2) ? 2 : 1;
}
