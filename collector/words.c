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

bool
words_next(const char **list, struct slice *word)
{
	const char *at = *list;
	size_t len;

	if (at == NULL)
		return false;
	len = strcspn(at, ",");
	*word = (struct slice){(const uint8_t *)at, len};
	*list = at[len] == '\0' ? NULL : at + len + 1;
	return true;
}

json_t *
words_array(const char *list)
{
	json_t *array = json_array();
	struct slice word;

	while (words_next(&list, &word))
		json_array_append_new(array, json_stringn((const char *)word.at, word.len));
	return array;
}
