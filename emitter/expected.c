#include "emitter/expected.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "emitter/text.h"

#define PATTERN_SIZE 128 /* a longer one matches nothing */

static bool
next_pattern(struct slice *patterns, char out[PATTERN_SIZE])
{
	struct slice word;

	while (text_word(patterns, &word)) {
		if (word.len >= PATTERN_SIZE)
			continue;
		memcpy(out, word.at, word.len);
		out[word.len] = '\0';
		return true;
	}
	return false;
}

bool
expects_interface(const char *patterns, const char *name)
{
	struct slice rest = {(const uint8_t *)patterns, strlen(patterns)};
	char pattern[PATTERN_SIZE];

	while (next_pattern(&rest, pattern))
		if (fnmatch(pattern, name, 0) == 0)
			return true;
	return false;
}

bool
expects_socket(const char *patterns, const char *protocol, unsigned port, const char *program)
{
	struct slice rest = {(const uint8_t *)patterns, strlen(patterns)};
	char pattern[PATTERN_SIZE], number[16], *slash, *second;

	snprintf(number, sizeof number, "%u", port);
	while (next_pattern(&rest, pattern)) {
		slash = strchr(pattern, '/');
		if (!slash)
			continue;
		*slash = '\0';
		second = strchr(slash + 1, '/');
		if (second)
			*second = '\0';
		if (fnmatch(pattern, protocol, 0) == 0 && fnmatch(slash + 1, number, 0) == 0 &&
		    (!second || fnmatch(second + 1, program, 0) == 0))
			return true;
	}
	return false;
}

bool
is_never_expected(const char *protocol, unsigned port)
{
	static const struct {
		const char *protocol;
		unsigned port;
	} services[] = {{"tcp", 21}, {"tcp", 23}, {"tcp", 79}, {"tcp", 512}, {"tcp", 513}, {"tcp", 514}, {"udp", 69}};

	for (size_t i = 0; i < sizeof services / sizeof services[0]; i++)
		if (services[i].port == port && strcmp(services[i].protocol, protocol) == 0)
			return true;
	return false;
}
