#include "emitter/text.h"

#include <string.h>

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\0';
}

struct slice
text_trim(struct slice text)
{
	while (text.len > 0 && is_blank(text.at[0]))
		text.at++, text.len--;
	while (text.len > 0 && is_blank(text.at[text.len - 1]))
		text.len--;
	return text;
}

bool
text_is(struct slice text, const char *other)
{
	return text.len == strlen(other) && (text.len == 0 || memcmp(text.at, other, text.len) == 0);
}

bool
text_begins(struct slice text, const char *other)
{
	size_t len = strlen(other);

	return text.len >= len && memcmp(text.at, other, len) == 0;
}

static unsigned
digit_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10U;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10U;
	return UINT8_MAX;
}

bool
text_number(struct slice text, unsigned base, uint64_t *out)
{
	uint64_t number = 0;

	for (size_t i = 0; i < text.len; i++) {
		unsigned digit = digit_value(text.at[i]);

		if (digit >= base || number > (UINT64_MAX - digit) / base)
			return false;
		number = number * base + digit;
	}
	if (text.len == 0)
		return false;
	*out = number;
	return true;
}

bool
text_line(struct slice *text, struct slice *line)
{
	const uint8_t *end;

	if (text->len == 0)
		return false;
	end = memchr(text->at, '\n', text->len);
	line->at = text->at;
	line->len = end ? (size_t)(end - text->at) : text->len;
	text->at += line->len + (end != NULL);
	text->len -= line->len + (end != NULL);
	return true;
}

bool
text_word(struct slice *text, struct slice *word)
{
	while (text->len > 0 && is_blank(text->at[0]))
		text->at++, text->len--;
	if (text->len == 0)
		return false;
	word->at = text->at;
	while (text->len > 0 && !is_blank(text->at[0]))
		text->at++, text->len--;
	word->len = (size_t)(text->at - word->at);
	return true;
}

bool
text_cut(struct slice line, char mark, struct slice *key, struct slice *value)
{
	const uint8_t *at = line.len ? memchr(line.at, mark, line.len) : NULL;

	if (!at)
		return false;
	*key = text_trim((struct slice){line.at, (size_t)(at - line.at)});
	*value = text_trim((struct slice){at + 1, (size_t)(line.at + line.len - at - 1)});
	return true;
}

bool
text_feed(struct text_feed *feed, struct slice piece, text_take *take, void *context)
{
	const uint8_t *end;
	size_t len, room;

	while (piece.len > 0) {
		end = memchr(piece.at, '\n', piece.len);
		len = end ? (size_t)(end - piece.at) : piece.len;
		room = sizeof feed->line - feed->len;
		feed->cut = feed->cut || len > room;
		memcpy(feed->line + feed->len, piece.at, len < room ? len : room);
		feed->len += len < room ? len : room;
		if (!end)
			return true;
		piece.at += len + 1;
		piece.len -= len + 1;
		if (!take(context, (struct slice){feed->line, feed->len}, feed->cut))
			return false;
		feed->len = 0;
		feed->cut = false;
	}
	return true;
}

bool
text_feed_end(struct text_feed *feed, text_take *take, void *context)
{
	struct slice line = {feed->line, feed->len};
	bool cut = feed->cut, any = feed->len > 0;

	feed->len = 0;
	feed->cut = false;
	return !any || take(context, line, cut);
}
