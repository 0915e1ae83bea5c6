#include "emitter/accounts.h"

#include <string.h>

#include "emitter/text.h"

#define ROUNDS_MAX 200000 /* of SHA-crypt, 5,000 if none are named */

/* Takes what is before the next colon; an empty field when nothing is left. */
static struct slice
next_field(struct slice *line)
{
	const uint8_t *end = line->len ? memchr(line->at, ':', line->len) : NULL;
	struct slice field = {line->at, end ? (size_t)(end - line->at) : line->len};

	line->at += field.len + (end != NULL);
	line->len -= field.len + (end != NULL);
	return field;
}

/* As strtoul: blanks and a sign may stand in front. */
static bool
read_id(struct slice field, uint64_t *out)
{
	while (field.len > 0 && (field.at[0] == ' ' || field.at[0] == '\t'))
		field.at++, field.len--;
	if (field.len > 0 && (field.at[0] == '+' || field.at[0] == '-'))
		field.at++, field.len--;
	return text_number(field, 10, out);
}

/* The name; empty when the line is none of an account: a comment, or one of NIS. */
static struct slice
begin(struct slice *line)
{
	struct slice nothing = {NULL, 0}, name;

	if (line->len > 0 && memchr(line->at, '\0', line->len))
		return nothing;
	while (line->len > 0 && (line->at[0] == ' ' || line->at[0] == '\t'))
		line->at++, line->len--;
	while (line->len > 0 && line->at[line->len - 1] == '\r')
		line->len--;
	if (line->len == 0 || line->at[0] == '#' || line->at[0] == '+' || line->at[0] == '-')
		return nothing;
	name = next_field(line);
	return name;
}

bool
account_parse(struct slice line, struct account *out)
{
	struct account a = {.name = begin(&line)};

	if (a.name.len == 0)
		return false;
	a.password = next_field(&line);
	if (!read_id(next_field(&line), &a.uid) || !read_id(next_field(&line), &a.gid))
		return false;
	(void)next_field(&line);
	a.home = next_field(&line);
	a.shell = next_field(&line);
	*out = a;
	return true;
}

bool
shadow_parse(struct slice line, struct shadow *out)
{
	struct shadow s = {.name = begin(&line)};

	if (s.name.len == 0)
		return false;
	s.password = next_field(&line);
	for (int i = 0; i < 5; i++)
		(void)next_field(&line);
	s.expires = text_number(next_field(&line), 10, &s.expiry);
	*out = s;
	return true;
}

bool
group_parse(struct slice line, struct group *out)
{
	struct group g = {.name = begin(&line)};

	if (g.name.len == 0)
		return false;
	(void)next_field(&line);
	if (!read_id(next_field(&line), &g.gid))
		return false;
	g.members = line;
	*out = g;
	return true;
}

bool
group_member(struct slice *members, struct slice *name)
{
	struct slice rest;

	while (members->len > 0) {
		if (!text_cut(*members, ',', name, &rest)) {
			*name = text_trim(*members);
			rest = (struct slice){NULL, 0};
		}
		*members = rest;
		if (name->len > 0)
			return true;
	}
	return false;
}

static const struct {
	const char *prefix;
	enum password kind;
	size_t least; /* of its length */
} hashes[] = {
	{"$1$", PASSWORD_WEAK, 26},   {"$2a$", PASSWORD_SOUND, 60},  {"$2b$", PASSWORD_SOUND, 60},
	{"$2x$", PASSWORD_SOUND, 60}, {"$2y$", PASSWORD_SOUND, 60},  {"$3$", PASSWORD_WEAK, 36},
	{"$5$", PASSWORD_SOUND, 47},  {"$6$", PASSWORD_SOUND, 90},   {"$7$", PASSWORD_SOUND, 50},
	{"$md5", PASSWORD_WEAK, 26},  {"$sha1$", PASSWORD_WEAK, 36}, {"$y$", PASSWORD_SOUND, 50},
	{"$gy$", PASSWORD_SOUND, 50},
};

static bool
is_des(struct slice field)
{
	static const char letters[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	bool extended = field.len == 20 && field.at[0] == '_';

	if (field.len < 13 || (field.len != 13 && !extended && field.len % 11 != 2))
		return false;
	for (size_t i = extended; i < field.len; i++)
		if (!memchr(letters, field.at[i], sizeof letters - 1))
			return false;
	return true;
}

enum password
password_kind(struct slice field)
{
	if (field.len == 0)
		return PASSWORD_EMPTY;
	if (field.at[0] == '!' || field.at[0] == '*')
		return PASSWORD_LOCKED;
	for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++)
		if (text_begins(field, hashes[i].prefix))
			return field.len < hashes[i].least ? PASSWORD_NONE : hashes[i].kind;
	return is_des(field) ? PASSWORD_WEAK : PASSWORD_NONE;
}

/* "$6$rounds=5000$salt$hash", "$sha1$40000$salt$hash". */
static bool
few_rounds(struct slice rest, const char *name)
{
	struct slice number, more;
	uint64_t rounds;

	if (!text_begins(rest, name))
		return true;
	rest.at += strlen(name);
	rest.len -= strlen(name);
	return text_cut(rest, '$', &number, &more) && text_number(number, 10, &rounds) && rounds <= ROUNDS_MAX;
}

static bool
is_cheap_yescrypt(struct slice parameters)
{
	struct slice first, more;

	/* Flavour, logarithm of N, r: "j9T" is the default, 4096 blocks of 4 KiB. The digits' order is that of ASCII. */
	return text_cut(parameters, '$', &first, &more) && first.len == 3 && first.at[0] == 'j' && first.at[1] <= 'A' &&
	       first.at[2] <= 'T';
}

bool
password_is_cheap(struct slice field)
{
	struct slice rest = field;
	uint64_t cost;

	if (field.len > 256)
		return false;
	if (field.len < 4 || field.at[0] != '$')
		return field.len == 0 || field.at[0] != '_';
	if (text_begins(field, "$5$") || text_begins(field, "$6$"))
		return few_rounds((struct slice){rest.at + 3, rest.len - 3}, "rounds=");
	if (text_begins(field, "$sha1$"))
		return few_rounds((struct slice){rest.at + 6, rest.len - 6}, "");
	if (text_begins(field, "$2"))
		return field.len > 6 && text_number((struct slice){field.at + 4, 2}, 10, &cost) && cost <= 12;
	if (text_begins(field, "$y$"))
		return is_cheap_yescrypt((struct slice){rest.at + 3, rest.len - 3});
	if (text_begins(field, "$gy$"))
		return is_cheap_yescrypt((struct slice){rest.at + 4, rest.len - 4});
	if (text_begins(field, "$7$"))
		return field.at[3] <= 'C' && text_begins((struct slice){rest.at + 4, rest.len - 4}, "6..../....");
	return text_begins(field, "$1$") || text_begins(field, "$3$");
}

bool
shell_lets_in(struct slice shell)
{
	static const char *const none[] = {"nologin",  "false", "true",   "sync",
					   "shutdown", "halt",  "reboot", "poweroff"};
	size_t begin_at = shell.len;

	while (begin_at > 0 && shell.at[begin_at - 1] != '/')
		begin_at--;
	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		if (text_is((struct slice){shell.at + begin_at, shell.len - begin_at}, none[i]))
			return false;
	return true;
}

static bool
is_key_kind(struct slice word)
{
	static const char *const kinds[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-", "webauthn-sk-"};

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (text_begins(word, kinds[i]))
			return true;
	return false;
}

/* Options are one word but for blanks between double quotes. */
static void
skip_options(struct slice *line)
{
	bool quoted = false;

	while (line->len > 0 && (quoted || (line->at[0] != ' ' && line->at[0] != '\t'))) {
		if (line->at[0] == '\\' && line->len > 1 && line->at[1] == '"')
			line->at++, line->len--;
		else if (line->at[0] == '"')
			quoted = !quoted;
		line->at++;
		line->len--;
	}
}

bool
authorised_key(struct slice line)
{
	struct slice rest = text_trim(line), kind, key;

	if (rest.len == 0 || rest.at[0] == '#')
		return false;
	if (!text_word(&rest, &kind))
		return false;
	if (!is_key_kind(kind)) {
		rest = text_trim(line);
		skip_options(&rest);
		if (!text_word(&rest, &kind) || !is_key_kind(kind))
			return false;
	}
	return text_word(&rest, &key) && text_begins(key, "AAAA");
}
