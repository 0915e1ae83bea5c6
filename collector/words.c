#include "collector/words.h"

#include <string.h>

bool
word_is(struct slice text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.at, word, text.len) == 0;
}

bool
words_have(const char *words, const char *text, size_t len)
{
	words += strspn(words, " ");
	for (size_t n; *words != '\0'; words += n + strspn(words + n, " ")) {
		n = strcspn(words, " ");
		if (n == len && memcmp(words, text, len) == 0)
			return true;
	}
	return false;
}
