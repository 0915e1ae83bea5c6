#include "emitter/sudoers.h"

#include <stdio.h>
#include <string.h>

#include "emitter/text.h"

#define LINE_BYTES 8192
#define ITEM 128
#define ALIAS_DEPTH 4
#define LOOKUPS_MAX 2000 /* of aliases, each a way through the whole text */
#define GIVEN_MAX 4096 /* that aliases within aliases may multiply to */

/* ---- lines ---- */

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* A number sign begins a comment, but not a user's or group's number. */
static size_t
without_comment(const char *line, size_t len)
{
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (line[i] == '\\')
			i++;
		else if (line[i] == '"')
			quoted = !quoted;
		else if (line[i] == '#' && !quoted && !(i + 1 < len && line[i + 1] >= '0' && line[i + 1] <= '9'))
			return i;
	}
	return len;
}

/* "@include FILE", "#includedir DIRECTORY": with the number sign only where the line begins. */
static bool
is_include(struct slice line, char path[256], bool *directory)
{
	struct slice word;

	if (!text_word(&line, &word) || (word.at[0] != '@' && word.at[0] != '#'))
		return false;
	word.at++, word.len--;
	*directory = text_is(word, "includedir");
	if (!*directory && !text_is(word, "include"))
		return false;
	line = text_trim(line);
	if (line.len > 1 && line.at[0] == '"' && line.at[line.len - 1] == '"')
		line.at++, line.len -= 2;
	if (line.len == 0 || line.len >= 256)
		return false;
	snprintf(path, 256, "%.*s", (int)line.len, (const char *)line.at);
	return true;
}

static void
keep_line(struct sudoers *s, const char *line, size_t len)
{
	len = without_comment(line, len);
	while (len > 0 && is_blank((uint8_t)line[len - 1]))
		len--;
	if (len == 0)
		return;
	if (len + 1 > sizeof s->text - s->len) {
		s->more = true;
		return;
	}
	memcpy(s->text + s->len, line, len);
	s->len += len;
	s->text[s->len++] = '\n';
}

void
sudoers_parse(struct sudoers *s, struct slice text, const struct sudoers_include *files)
{
	char joined[LINE_BYTES], path[256];
	struct slice line;
	bool directory, goes_on = false;
	size_t len = 0;

	while (text_line(&text, &line)) {
		if (line.len > 0 && memchr(line.at, '\0', line.len)) {
			s->more = true;
			continue;
		}
		if (len == 0 && is_include(line, path, &directory)) {
			if (files)
				files->take(files->context, s, path, directory);
			continue;
		}
		goes_on = line.len > 0 && line.at[line.len - 1] == '\\';
		line.len -= goes_on;
		if (line.len + 1 > sizeof joined - len) {
			s->more = true;
			line.len = sizeof joined - len - 1;
		}
		if (line.len > 0)
			memcpy(joined + len, line.at, line.len);
		len += line.len;
		if (goes_on && len + 1 < sizeof joined) {
			joined[len++] = ' ';
			continue;
		}
		keep_line(s, joined, len);
		len = 0;
	}
	keep_line(s, joined, len);
}

bool
sudoers_file(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && !strchr(name, '.') && name[len - 1] != '~';
}

/* ---- lists ---- */

static void
skip_blanks(struct slice *text)
{
	while (text->len > 0 && is_blank(text->at[0]))
		text->at++, text->len--;
}

/* An item ends at a blank or at one of `ends`, unless a backslash or quotes stand before. */
static bool
take_item(struct slice *text, const char *ends, char out[ITEM])
{
	bool quoted = false;
	size_t len = 0;

	skip_blanks(text);
	for (; text->len > 0; text->at++, text->len--) {
		uint8_t c = text->at[0];

		if (c == '\\' && text->len > 1) {
			text->at++, text->len--;
			c = text->at[0];
		} else if (c == '"') {
			quoted = !quoted;
			continue;
		} else if (!quoted && (is_blank(c) || strchr(ends, c))) {
			break;
		}
		if (len < ITEM - 1)
			out[len++] = (char)c;
	}
	out[len] = '\0';
	return len > 0;
}

/* "!! ! alice" is a way of writing "not alice". */
static bool
take_negation(struct slice *text)
{
	bool negated = false;

	skip_blanks(text);
	while (text->len > 0 && text->at[0] == '!') {
		negated = !negated;
		text->at++, text->len--;
		skip_blanks(text);
	}
	return negated;
}

static bool
take_comma(struct slice *text)
{
	skip_blanks(text);
	if (text->len == 0 || text->at[0] != ',')
		return false;
	text->at++, text->len--;
	return true;
}

static bool
is_alias_name(const char *name)
{
	return name[0] >= 'A' && name[0] <= 'Z' &&
	       name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == '\0' && strcmp(name, "ALL") != 0;
}

/* Where the next definition of a line begins: behind a colon that nothing escapes. */
static bool
next_part(struct slice *text)
{
	bool quoted = false;

	for (; text->len > 0; text->at++, text->len--) {
		if (text->at[0] == '\\' && text->len > 1) {
			text->at++, text->len--;
		} else if (text->at[0] == '"') {
			quoted = !quoted;
		} else if (text->at[0] == ':' && !quoted) {
			text->at++, text->len--;
			return true;
		}
	}
	return false;
}

/* The members of an alias: "User_Alias A = x, y : B = z". */
static bool
find_alias(struct sudoers *s, const char *kind, const char *name, struct slice *members)
{
	struct slice text = {(const uint8_t *)s->text, s->len}, line, word;
	char item[ITEM];

	if (s->lookups++ >= LOOKUPS_MAX) {
		s->more = true;
		return false;
	}
	while (text_line(&text, &line)) {
		if (!text_word(&line, &word) || !text_is(word, kind))
			continue;
		do {
			if (!take_item(&line, "=", item))
				break;
			skip_blanks(&line);
			if (line.len == 0 || line.at[0] != '=')
				break;
			line.at++, line.len--;
			if (strcmp(item, name) == 0) {
				*members = line;
				return true;
			}
		} while (next_part(&line));
	}
	return false;
}

/* Whether a list has one of the names, through aliases too, and no negation takes that away. The last that fits counts. */
static bool
list_has(struct sudoers *s, struct slice *text, const char *kind, const char *ends, const char *const *names,
	 unsigned depth)
{
	char item[ITEM];
	bool has = false;

	do {
		bool negated = take_negation(text), fits = false;
		struct slice members;

		if (!take_item(text, ends, item))
			break;
		for (size_t i = 0; names[i]; i++)
			fits = fits || strcmp(item, names[i]) == 0;
		if (!fits && is_alias_name(item) && depth < ALIAS_DEPTH && find_alias(s, kind, item, &members))
			fits = list_has(s, &members, kind, ":,", names, depth + 1);
		if (fits)
			has = !negated;
	} while (take_comma(text));
	return has;
}

/* ---- who, as whom, what ---- */

struct grant {
	bool root, all, some, without_password;
};

/* "(alice, root : group)". None of it: root. Only a group: the user stays who he is. */
static bool
runs_as_root(struct sudoers *s, struct slice *text)
{
	static const char *const roots[] = {"root", "ALL", "#0", NULL};
	bool root;

	text->at++, text->len--;
	skip_blanks(text);
	root = list_has(s, text, "Runas_Alias", ",:)", roots, 0);
	while (text->len > 0 && text->at[0] != ')')
		text->at++, text->len--;
	if (text->len > 0)
		text->at++, text->len--;
	return root;
}

static const char *const tags[] = {"NOPASSWD",  "PASSWD",      "NOEXEC",     "EXEC",         "SETENV", "NOSETENV",
				   "LOG_INPUT", "NOLOG_INPUT", "LOG_OUTPUT", "NOLOG_OUTPUT", "FOLLOW", "NOFOLLOW",
				   "MAIL",      "NOMAIL",      "INTERCEPT",  "NOINTERCEPT"};

/* "NOPASSWD:". true: one was taken. */
static bool
take_tag(struct slice *text, bool *without_password)
{
	struct slice rest = *text;
	char item[ITEM];

	skip_blanks(&rest);
	if (!take_item(&rest, ":,(", item))
		return false;
	skip_blanks(&rest);
	if (rest.len == 0 || rest.at[0] != ':')
		return false;
	for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
		if (strcmp(item, tags[i]) != 0)
			continue;
		if (i < 2)
			*without_password = i == 0;
		rest.at++, rest.len--;
		*text = rest;
		return true;
	}
	return false;
}

/* "TIMEOUT=5m", "ROLE=x": before a command, and with its arguments behind. */
static void
skip_command(struct slice *text)
{
	bool quoted = false;

	for (; text->len > 0; text->at++, text->len--) {
		if (text->at[0] == '\\' && text->len > 1)
			text->at++, text->len--;
		else if (text->at[0] == '"')
			quoted = !quoted;
		else if (!quoted && (text->at[0] == ',' || text->at[0] == ':'))
			return;
	}
}

static void
read_commands(struct sudoers *s, struct slice *text, bool no_authentication, struct grant *grant)
{
	static const char *const everything[] = {"ALL", NULL};
	bool root = true, without_password = no_authentication;

	do {
		struct slice before, members;
		char item[ITEM];
		bool negated, all;

		skip_blanks(text);
		if (text->len > 0 && text->at[0] == '(')
			root = runs_as_root(s, text);
		while (take_tag(text, &without_password))
			continue;
		negated = take_negation(text);
		before = *text;
		skip_command(text);
		before.len -= text->len;
		if (!take_item(&before, ",:", item) || negated || !root)
			continue;
		all = strcmp(item, "ALL") == 0;
		if (!all && is_alias_name(item) && find_alias(s, "Cmnd_Alias", item, &members))
			all = list_has(s, &members, "Cmnd_Alias", ",:", everything, 1);
		grant->root = true;
		grant->all = grant->all || all;
		grant->some = grant->some || !all;
		grant->without_password = grant->without_password || without_password;
	} while (take_comma(text));
}

struct giving {
	struct sudoers *sudoers;
	sudoers_take *take;
	void *context;
	const struct grant *grant;
	size_t given;
};

static void
give(struct giving *g, struct slice *users, unsigned depth)
{
	char item[ITEM];

	do {
		bool negated = take_negation(users);
		struct slice members;

		if (!take_item(users, ",:=", item) || g->given++ >= GIVEN_MAX)
			return;
		if (negated || strcmp(item, "root") == 0 || strcmp(item, "#0") == 0)
			continue;
		if (is_alias_name(item) && depth < ALIAS_DEPTH && find_alias(g->sudoers, "User_Alias", item, &members))
			give(g, &members, depth + 1);
		else
			g->take(g->context, item, g->grant->all, g->grant->without_password);
	} while (take_comma(users));
}

/* "users hosts = commands : hosts = commands". Which host it is for is not looked at: one that is named may be this one. */
static void
read_specification(struct sudoers *s, struct slice line, sudoers_take *take, void *context)
{
	struct slice users = line;
	struct grant grant = {0};
	struct giving giving = {s, take, context, &grant, 0};
	char item[ITEM];

	do {
		(void)take_negation(&line);
		if (!take_item(&line, ",:=", item))
			return;
	} while (take_comma(&line));
	do {
		while (line.len > 0 && line.at[0] != '=')
			line.at++, line.len--;
		if (line.len == 0)
			break;
		line.at++, line.len--;
		read_commands(s, &line, s->no_authentication, &grant);
	} while (next_part(&line));
	if (grant.root)
		give(&giving, &users, 0);
}

static bool
is_definition(struct slice word)
{
	static const char *const names[] = {"User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (text_is(word, names[i]))
			return true;
	return text_begins(word, "Defaults");
}

static bool
turns_off_authentication(struct slice word, struct slice line)
{
	char item[ITEM];

	if (!text_is(word, "Defaults"))
		return false;
	do {
		bool negated = take_negation(&line);

		if (!take_item(&line, ",", item))
			return false;
		if (negated && strcmp(item, "authenticate") == 0)
			return true;
		skip_command(&line);
	} while (take_comma(&line));
	return false;
}

void
sudoers_administrators(struct sudoers *s, sudoers_take *take, void *context)
{
	struct slice text = {(const uint8_t *)s->text, s->len}, line, rest, word;

	for (struct slice all = text; text_line(&all, &rest);)
		if (text_word(&rest, &word) && turns_off_authentication(word, rest))
			s->no_authentication = true;
	while (text_line(&text, &line)) {
		rest = line;
		if (text_word(&rest, &word) && !is_definition(word))
			read_specification(s, line, take, context);
	}
}

/* ---- doas ---- */

/* permit|deny [options] identity [as target] [cmd command [args ...]] */
bool
doas_parse(struct slice line, struct slice *who, bool *all_commands, bool *without_password)
{
	const uint8_t *comment = line.len ? memchr(line.at, '#', line.len) : NULL;
	struct slice word;

	if (comment)
		line.len = (size_t)(comment - line.at);
	if (!text_word(&line, &word) || !text_is(word, "permit"))
		return false;
	*without_password = false;
	*all_commands = true;
	word.len = 0;
	while (text_word(&line, &word)) {
		if (text_is(word, "nopass"))
			*without_password = true;
		else if (text_is(word, "setenv") || word.at[0] == '{')
			while (word.at[word.len - 1] != '}' && text_word(&line, &word))
				continue;
		else if (!text_is(word, "persist") && !text_is(word, "keepenv") && !text_is(word, "nolog"))
			break;
		word.len = 0;
	}
	if (word.len == 0 || text_is(word, "root"))
		return false;
	*who = word;
	if (text_word(&line, &word) && text_is(word, "as")) {
		if (!text_word(&line, &word) || !text_is(word, "root"))
			return false;
		if (!text_word(&line, &word))
			word.len = 0;
	}
	if (word.len > 0 && text_is(word, "cmd"))
		*all_commands = false;
	return true;
}
