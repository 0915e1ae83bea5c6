#include "emitter/pam.h"

#include <string.h>
#include <strings.h>

#include "emitter/text.h"

static bool
is_word(struct slice text, const char *word)
{
	return text.len == strlen(word) && strncasecmp((const char *)text.at, word, text.len) == 0;
}

bool
pam_next_line(struct slice *text, char joined[PAM_LINE], struct slice *line)
{
	struct slice piece;
	size_t len = 0;

	if (!text_line(text, line))
		return false;
	while (line->len > 0 && line->at[line->len - 1] == '\\') {
		if (len + line->len >= PAM_LINE)
			break;
		memcpy(joined + len, line->at, line->len - 1);
		len += line->len - 1;
		joined[len++] = ' ';
		if (!text_line(text, &piece))
			piece = (struct slice){NULL, 0};
		*line = piece;
	}
	if (len == 0)
		return true;
	piece = *line;
	if (piece.len > PAM_LINE - len)
		piece.len = PAM_LINE - len;
	if (piece.len > 0)
		memcpy(joined + len, piece.at, piece.len);
	*line = (struct slice){(const uint8_t *)joined, len + piece.len};
	return true;
}

/* A word, or what stands between brackets. */
static bool
take_word(struct slice *line, struct slice *word)
{
	struct slice rest = text_trim(*line);
	const uint8_t *end = rest.len ? memchr(rest.at, ']', rest.len) : NULL;

	if (rest.len == 0 || rest.at[0] != '[')
		return text_word(line, word);
	if (!end)
		return false;
	*word = (struct slice){rest.at + 1, (size_t)(end - rest.at) - 1};
	*line = (struct slice){end + 1, (size_t)(rest.at + rest.len - end) - 1};
	return true;
}

bool
pam_parse(struct slice line, struct pam_line *out)
{
	static const char *const types[] = {"auth", "account", "password", "session"};
	struct pam_line parsed = {0};
	struct slice word, control;
	size_t type = 0;

	if (!text_word(&line, &word) || word.at[0] == '#')
		return false;
	if (is_word(word, "@include")) {
		parsed.include = parsed.every_type = true;
		if (!text_word(&line, &parsed.module))
			return false;
		*out = parsed;
		return true;
	}
	if (word.at[0] == '-')
		word.at++, word.len--;
	while (type < sizeof types / sizeof types[0] && !is_word(word, types[type]))
		type++;
	if (type == sizeof types / sizeof types[0] || !take_word(&line, &control) || !take_word(&line, &parsed.module))
		return false;
	parsed.type = (enum pam_type)type;
	parsed.include = is_word(control, "include") || is_word(control, "substack");
	for (size_t i = parsed.module.len; i > 0 && !parsed.include; i--)
		if (parsed.module.at[i - 1] == '/') {
			parsed.module.at += i;
			parsed.module.len -= i;
			break;
		}
	parsed.arguments = line;
	*out = parsed;
	return parsed.module.len > 0;
}

bool
pam_argument(struct slice arguments, const char *name, struct slice *value)
{
	struct slice word, key, rest;
	bool found = false;

	while (take_word(&arguments, &word)) {
		if (word.len > 0 && word.at[0] == '#')
			break;
		if (!text_cut(word, '=', &key, &rest)) {
			key = word;
			rest = (struct slice){NULL, 0};
		}
		if (!text_is(key, name))
			continue;
		*value = rest;
		found = true;
	}
	return found;
}

bool
setting_find(struct slice text, const char *name, struct slice *value)
{
	struct slice line, key, rest;
	bool found = false;

	while (text_line(&text, &line)) {
		const uint8_t *comment = line.len ? memchr(line.at, '#', line.len) : NULL;

		if (comment)
			line.len = (size_t)(comment - line.at);
		if (!text_cut(line, '=', &key, &rest)) {
			rest = text_trim(line);
			if (!text_word(&rest, &key))
				continue;
			rest = text_trim(rest);
		}
		if (!text_is(key, name))
			continue;
		if (rest.len > 1 && rest.at[0] == '"' && rest.at[rest.len - 1] == '"')
			rest.at++, rest.len -= 2;
		*value = rest;
		found = true;
	}
	return found;
}
