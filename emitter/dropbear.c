#include "emitter/dropbear.h"

#include <string.h>
#include <strings.h>

#include "emitter/pam.h"
#include "emitter/text.h"

#define TRIES 10 /* MAX_AUTH_TRIES of dropbear's default_options.h */

void
dropbear_init(struct dropbear *d)
{
	*d = (struct dropbear){.tries = TRIES};
}

void
dropbear_arguments(struct slice text, struct dropbear *d)
{
	struct slice arguments, word;
	uint64_t number;

	if (!setting_find(text, "DROPBEAR_EXTRA_ARGS", &arguments))
		return;
	while (text_word(&arguments, &word)) {
		while (word.len > 0 && (word.at[0] == '"' || word.at[0] == '\''))
			word.at++, word.len--;
		while (word.len > 0 && (word.at[word.len - 1] == '"' || word.at[word.len - 1] == '\''))
			word.len--;
		if (word.len < 2 || word.at[0] != '-')
			continue;
		for (size_t i = 1; i < word.len; i++) {
			d->no_root |= word.at[i] == 'w';
			d->no_password |= word.at[i] == 's';
			d->no_root_password |= word.at[i] == 'g';
			d->empty_password |= word.at[i] == 'B';
			/* These take the rest, or the next word. */
			if (!strchr("TbdrpWKIcPm", word.at[i]))
				continue;
			struct slice value = {word.at + i + 1, word.len - i - 1};

			if (value.len == 0 && !text_word(&arguments, &value))
				break;
			if (word.at[i] == 'T' && text_number(value, 10, &number))
				d->tries = number;
			break;
		}
	}
}

static struct slice
unquote(struct slice text)
{
	if (text.len > 1 && (text.at[0] == '\'' || text.at[0] == '"') && text.at[text.len - 1] == text.at[0])
		text.at++, text.len -= 2;
	return text;
}

static bool
is_off(struct slice value)
{
	static const char *const off[] = {"off", "0", "no", "false", "disabled"};

	for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
		if (value.len == strlen(off[i]) && strncasecmp((const char *)value.at, off[i], value.len) == 0)
			return true;
	return false;
}

static void
loosen(struct dropbear *to, const struct dropbear *one, bool first)
{
	if (first) {
		*to = *one;
		return;
	}
	to->no_root &= one->no_root;
	to->no_password &= one->no_password;
	to->no_root_password &= one->no_root_password;
	to->tries = one->tries > to->tries ? one->tries : to->tries;
}

void
dropbear_uci(struct slice text, struct dropbear *d)
{
	struct dropbear one;
	bool in_one = false, enabled = true, first = true;
	struct slice line, word, name, value;
	uint64_t number;

	dropbear_init(&one);
	while (text_line(&text, &line)) {
		if (!text_word(&line, &word))
			continue;
		if (text_is(word, "config")) {
			if (in_one && enabled) {
				loosen(d, &one, first);
				first = false;
			}
			in_one = text_word(&line, &name) && text_is(unquote(name), "dropbear");
			enabled = true;
			dropbear_init(&one);
			continue;
		}
		if (!text_is(word, "option") || !text_word(&line, &name))
			continue;
		name = unquote(name);
		value = unquote(text_trim(line));
		if (text_is(name, "PasswordAuth"))
			one.no_password = is_off(value);
		else if (text_is(name, "RootPasswordAuth"))
			one.no_root_password = is_off(value);
		else if (text_is(name, "RootLogin"))
			one.no_root = is_off(value);
		else if (text_is(name, "MaxAuthTries") && text_number(value, 10, &number))
			one.tries = number;
		else if (text_is(name, "enable"))
			enabled = !is_off(value);
	}
	if (in_one && enabled)
		loosen(d, &one, first);
}
