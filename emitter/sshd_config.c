#include "emitter/sshd_config.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "emitter/text.h"

#define DEPTH_MAX 16 /* as sshd */
#define LINE_MAX_BYTES 4096
#define WORDS_MAX 64

enum kind { FLAG, ROOT, NUMBER, TIME, WORD, WORDS };

/* As OpenSSH 9.2 is compiled; a list's "" is its own default, of which none is weak. */
static const struct {
	const char *name;
	enum kind kind;
	bool in_match;
	const char *initial;
} keywords[SSHD_KEYWORDS] = {
	[SSHD_PERMIT_ROOT_LOGIN] = {"permitrootlogin", ROOT, true, "prohibit-password"},
	[SSHD_PASSWORD] = {"passwordauthentication", FLAG, true, "yes"},
	[SSHD_KEYBOARD_INTERACTIVE] = {"kbdinteractiveauthentication", FLAG, true, "yes"},
	[SSHD_EMPTY_PASSWORDS] = {"permitemptypasswords", FLAG, true, "no"},
	[SSHD_PUBKEY] = {"pubkeyauthentication", FLAG, true, "yes"},
	[SSHD_USE_PAM] = {"usepam", FLAG, false, "no"},
	[SSHD_MAX_AUTH_TRIES] = {"maxauthtries", NUMBER, true, "6"},
	[SSHD_LOGIN_GRACE_TIME] = {"logingracetime", TIME, false, "120"},
	[SSHD_AUTHENTICATION_METHODS] = {"authenticationmethods", WORDS, true, "any"},
	[SSHD_AUTHORIZED_KEYS_FILE] = {"authorizedkeysfile", WORDS, true, ".ssh/authorized_keys .ssh/authorized_keys2"},
	[SSHD_AUTHORIZED_KEYS_COMMAND] = {"authorizedkeyscommand", WORDS, true, "none"},
	[SSHD_CIPHERS] = {"ciphers", WORD, false, ""},
	[SSHD_MACS] = {"macs", WORD, false, ""},
	[SSHD_KEX] = {"kexalgorithms", WORD, false, ""},
	[SSHD_HOST_KEY_ALGORITHMS] = {"hostkeyalgorithms", WORD, false, ""},
	[SSHD_PUBKEY_ALGORITHMS] = {"pubkeyacceptedalgorithms", WORD, true, ""},
	[SSHD_CA_ALGORITHMS] = {"casignaturealgorithms", WORD, false, ""},
};

static const struct {
	const char *name;
	enum sshd_keyword keyword;
} aliases[] = {
	{"challengeresponseauthentication", SSHD_KEYBOARD_INTERACTIVE},
	{"skeyauthentication", SSHD_KEYBOARD_INTERACTIVE},
	{"dsaauthentication", SSHD_PUBKEY},
	{"pubkeyacceptedkeytypes", SSHD_PUBKEY_ALGORITHMS},
};

/* From the tightest to the loosest. */
static const char *const roots[] = {"no", "forced-commands-only", "prohibit-password", "yes"};

void
sshd_config_init(struct sshd_config *c)
{
	memset(c, 0, sizeof *c);
}

static void
broken(struct sshd_config *c, const char *what, const char *name)
{
	if (!c->broken[0])
		snprintf(c->broken, sizeof c->broken, "%s: %s", name, what);
}

/* ---- words, as sshd's argv_split cuts them ---- */

struct words {
	char text[LINE_MAX_BYTES];
	const char *at[WORDS_MAX];
	size_t len;
};

static bool
is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* One word from text[*i] on; false when a quote is left open. */
static bool
split_word(struct slice text, size_t *i, char *out, size_t *len)
{
	uint8_t quote = 0;

	for (; *i < text.len; ++*i) {
		uint8_t c = text.at[*i];

		if (c == '\\' && *i + 1 < text.len &&
		    (text.at[*i + 1] == '\'' || text.at[*i + 1] == '"' || text.at[*i + 1] == '\\' ||
		     (quote == 0 && text.at[*i + 1] == ' '))) {
			++*i;
			out[(*len)++] = (char)text.at[*i];
		} else if (quote == 0 && (c == ' ' || c == '\t')) {
			break;
		} else if (quote == 0 && (c == '"' || c == '\'')) {
			quote = c;
		} else if (quote != 0 && c == quote) {
			quote = 0;
		} else {
			out[(*len)++] = (char)c;
		}
	}
	return quote == 0;
}

static bool
split(struct slice text, struct words *words)
{
	size_t used = 0;

	words->len = 0;
	if (text.len >= sizeof words->text / 2)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == ' ' || text.at[i] == '\t')
			continue;
		if (text.at[i] == '#')
			break;
		if (words->len == WORDS_MAX)
			return false;
		words->at[words->len++] = words->text + used;
		if (!split_word(text, &i, words->text, &used))
			return false;
		words->text[used++] = '\0';
	}
	return true;
}

/* The first word, and what is behind it: one "=" may stand between. */
static bool
take_keyword(struct slice *line, char *out, size_t size)
{
	size_t i = 0, begin, len;
	bool quoted;

	while (line->len > 0 && is_space(line->at[line->len - 1]))
		line->len--;
	while (i < line->len && is_space(line->at[i]))
		i++;
	if (i == line->len || line->at[i] == '#')
		return false;
	quoted = line->at[i] == '"';
	i += quoted;
	begin = i;
	while (i < line->len &&
	       (quoted ? line->at[i] != '"' : !is_space(line->at[i]) && line->at[i] != '=' && line->at[i] != '"'))
		i++;
	len = i - begin;
	if (len == 0 || len >= size)
		return false;
	for (size_t k = 0; k < len; k++)
		out[k] = (char)(line->at[begin + k] >= 'A' && line->at[begin + k] <= 'Z' ? line->at[begin + k] + 32
											 : line->at[begin + k]);
	out[len] = '\0';
	i += quoted && i < line->len;
	while (i < line->len && is_space(line->at[i]))
		i++;
	if (i < line->len && line->at[i] == '=')
		i++;
	while (i < line->len && is_space(line->at[i]))
		i++;
	line->at += i;
	line->len -= i;
	return true;
}

/* ---- values ---- */

static bool
read_time(const char *text, uint64_t *seconds)
{
	static const char units[] = "smhdw";
	static const uint64_t factors[] = {1, 60, 3600, 86400, 604800};
	uint64_t total = 0;

	if (!*text)
		return false;
	while (*text) {
		size_t digits = strspn(text, "0123456789");
		const char *unit;
		uint64_t number;

		if (!text_number((struct slice){(const uint8_t *)text, digits}, 10, &number) || number > INT_MAX)
			return false;
		text += digits;
		unit = *text ? strchr(units, *text | 0x20) : units;
		if (!unit)
			return false;
		text += *text != '\0';
		total += number * factors[unit - units];
		if (total > INT_MAX)
			return false;
	}
	*seconds = total;
	return true;
}

/* Writes the value as it is kept. false: sshd would not take it. */
static bool
read_value(enum kind kind, const struct words *words, char out[SSHD_VALUE])
{
	const char *first = words->len ? words->at[0] : "";
	uint64_t number;
	size_t len = 0;

	out[0] = '\0';
	if (words->len == 0 || (kind != WORDS && words->len > 1))
		return false;
	switch (kind) {
	case FLAG:
		snprintf(out, SSHD_VALUE, "%s", strcasecmp(first, "yes") == 0 ? "yes" : "no");
		return strcasecmp(first, "yes") == 0 || strcasecmp(first, "no") == 0;
	case ROOT:
		if (strcasecmp(first, "without-password") == 0)
			first = "prohibit-password";
		for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++)
			if (strcasecmp(first, roots[i]) == 0)
				snprintf(out, SSHD_VALUE, "%s", roots[i]);
		return out[0] != '\0';
	case NUMBER:
	case TIME:
		if (kind == TIME ? !read_time(first, &number)
				 : !text_number((struct slice){(const uint8_t *)first, strlen(first)}, 10, &number) ||
					   number > INT_MAX)
			return false;
		snprintf(out, SSHD_VALUE, "%llu", (unsigned long long)number);
		return true;
	case WORD:
	case WORDS:
		break;
	}
	for (size_t i = 0; i < words->len; i++) {
		size_t more = strlen(words->at[i]);

		if (len + more + 2 > SSHD_VALUE)
			return false;
		if (len > 0)
			out[len++] = ' ';
		memcpy(out + len, words->at[i], more);
		len += more;
	}
	out[len] = '\0';
	return len > 0;
}

static void
note_match(struct sshd_config *c, enum sshd_keyword keyword, const char *text, const char *criteria)
{
	if (c->matched_len == SSHD_MATCHED) {
		c->matched_more = true;
		return;
	}
	c->matched[c->matched_len].keyword = keyword;
	snprintf(c->matched[c->matched_len].criteria, sizeof c->matched[0].criteria, "%s", criteria);
	snprintf(c->matched[c->matched_len].text, sizeof c->matched[0].text, "%.63s", text);
	c->matched_len++;
}

static void
set(struct sshd_config *c, enum sshd_keyword keyword, const struct words *words, const struct sshd_place *place)
{
	char text[SSHD_VALUE];

	if (!read_value(keywords[keyword].kind, words, text)) {
		broken(c, "bad value", keywords[keyword].name);
		return;
	}
	if (!place->active && !keywords[keyword].in_match) {
		broken(c, "not allowed in a Match block", keywords[keyword].name);
		return;
	}
	if (place->match_active && keywords[keyword].in_match && !c->values[keyword].matched) {
		c->values[keyword].matched = c->values[keyword].set = true;
		strcpy(c->values[keyword].text, text);
	} else if (place->active && !c->values[keyword].set) {
		c->values[keyword].set = true;
		strcpy(c->values[keyword].text, text);
	} else if (!place->active && !place->match_active) {
		note_match(c, keyword, text, place->criteria);
	}
}

/* Without a connection nothing but "all" matches. */
static void
begin_match(struct sshd_config *c, const struct words *words, struct sshd_place *place)
{
	bool all = words->len == 1 && strcasecmp(words->at[0], "all") == 0;
	size_t len = 0;

	if (words->len == 0 || (!all && words->len % 2 != 0))
		broken(c, "bad condition", "match");
	place->active = all && !place->never;
	place->match_active = all && !place->match_never;
	place->match_only = false;
	place->criteria[0] = '\0';
	for (size_t i = 0; i < words->len; i++) {
		int more = snprintf(place->criteria + len, sizeof place->criteria - len, "%s%s", i ? " " : "",
				    words->at[i]);

		len = len + (size_t)more < sizeof place->criteria ? len + (size_t)more : sizeof place->criteria - 1;
	}
}

static void
include(struct sshd_config *c, const struct words *words, const struct sshd_place *place,
	const struct sshd_include *include)
{
	struct sshd_place inner = *place;

	if (words->len == 0)
		broken(c, "no argument", "include");
	if (place->depth + 1 > DEPTH_MAX) {
		broken(c, "nested too deep", "include");
		return;
	}
	inner.depth++;
	inner.never = !place->active;
	inner.match_never = !place->match_only && !place->match_active;
	for (size_t i = 0; i < words->len && include; i++)
		include->take(include->context, c, words->at[i], &inner);
}

static void
parse_line(struct sshd_config *c, struct slice line, struct sshd_place *place, const struct sshd_include *files)
{
	char name[64];
	struct words words;

	if (line.len > 0 && memchr(line.at, '\0', line.len)) {
		broken(c, "a NUL", "a line");
		return;
	}
	if (!take_keyword(&line, name, sizeof name))
		return;
	for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
		if (strcmp(name, aliases[i].name) == 0)
			strcpy(name, keywords[aliases[i].keyword].name);
	if (!split(line, &words)) {
		broken(c, "a quote without its end, or too long", name);
		return;
	}
	if (strcmp(name, "match") == 0)
		begin_match(c, &words, place);
	else if (strcmp(name, "include") == 0)
		include(c, &words, place, files);
	else
		for (size_t i = 0; i < SSHD_KEYWORDS; i++)
			if (strcmp(name, keywords[i].name) == 0)
				set(c, (enum sshd_keyword)i, &words, place);
}

void
sshd_config_parse(struct sshd_config *c, struct slice text, const struct sshd_place *place,
		  const struct sshd_include *files)
{
	struct sshd_place here = {.active = true, .match_only = true};
	struct slice line;

	if (place)
		here = *place;
	while (text_line(&text, &line))
		parse_line(c, line, &here, files);
}

/* ---- what is in effect ---- */

const char *
sshd_config_text(const struct sshd_config *c, enum sshd_keyword keyword)
{
	return c->values[keyword].set ? c->values[keyword].text : keywords[keyword].initial;
}

bool
sshd_config_flag(const struct sshd_config *c, enum sshd_keyword keyword)
{
	return strcmp(sshd_config_text(c, keyword), "yes") == 0;
}

uint64_t
sshd_config_number(const struct sshd_config *c, enum sshd_keyword keyword)
{
	const char *text = sshd_config_text(c, keyword);
	uint64_t number = 0;

	(void)!text_number((struct slice){(const uint8_t *)text, strlen(text)}, 10, &number);
	return number;
}

/* "publickey,password password" lets a password alone in. */
static bool
method_alone(const char *methods, const char *method)
{
	size_t len = strlen(method);

	for (const char *at = methods; *at; at += strspn(at, " ")) {
		size_t list = strcspn(at, " ");

		if (strncmp(at, method, len) == 0 && (list == len || (list > len && at[len] == ':')) &&
		    !memchr(at, ',', list))
			return true;
		at += list;
	}
	return strcmp(methods, "any") == 0;
}

bool
sshd_takes_passwords(const struct sshd_config *c)
{
	const char *methods = sshd_config_text(c, SSHD_AUTHENTICATION_METHODS);

	if (sshd_config_flag(c, SSHD_PASSWORD) && method_alone(methods, "password"))
		return true;
	return sshd_config_flag(c, SSHD_KEYBOARD_INTERACTIVE) && sshd_config_flag(c, SSHD_USE_PAM) &&
	       method_alone(methods, "keyboard-interactive");
}

static uint64_t
looseness(enum sshd_keyword keyword, const char *text)
{
	uint64_t number = 0;

	switch (keyword) {
	case SSHD_PERMIT_ROOT_LOGIN:
		while (number < 3 && strcmp(text, roots[number]) != 0)
			number++;
		return number;
	case SSHD_PASSWORD:
	case SSHD_KEYBOARD_INTERACTIVE:
	case SSHD_EMPTY_PASSWORDS:
		return strcmp(text, "yes") == 0;
	case SSHD_MAX_AUTH_TRIES:
		(void)!text_number((struct slice){(const uint8_t *)text, strlen(text)}, 10, &number);
		return number;
	case SSHD_AUTHENTICATION_METHODS:
		return strcmp(text, "any") == 0 || method_alone(text, "password") ||
		       method_alone(text, "keyboard-interactive");
	default:
		return 0;
	}
}

void
sshd_loosened(const struct sshd_config *c, void (*take)(void *, const char *), void *context)
{
	char text[256];

	for (size_t i = 0; i < c->matched_len; i++) {
		enum sshd_keyword keyword = c->matched[i].keyword;

		if (looseness(keyword, c->matched[i].text) <= looseness(keyword, sshd_config_text(c, keyword)))
			continue;
		snprintf(text, sizeof text, "%s: %s %s", c->matched[i].criteria, keywords[keyword].name,
			 c->matched[i].text);
		take(context, text);
	}
}

/* Those that OpenSSH 9.2 still has, none by default. HMAC-SHA-1 in full is not among them: NIST SP 800-131A lets it pass. */
static const struct {
	enum sshd_keyword keyword;
	const char *name;
} weak[] = {
	{SSHD_CIPHERS, "3des-cbc"},
	{SSHD_CIPHERS, "aes128-cbc"},
	{SSHD_CIPHERS, "aes192-cbc"},
	{SSHD_CIPHERS, "aes256-cbc"},
	{SSHD_CIPHERS, "rijndael-cbc@lysator.liu.se"},
	{SSHD_CIPHERS, "blowfish-cbc"},
	{SSHD_CIPHERS, "cast128-cbc"},
	{SSHD_CIPHERS, "arcfour"},
	{SSHD_CIPHERS, "arcfour128"},
	{SSHD_CIPHERS, "arcfour256"},
	{SSHD_MACS, "hmac-sha1-96"},
	{SSHD_MACS, "hmac-sha1-96-etm@openssh.com"},
	{SSHD_MACS, "hmac-md5"},
	{SSHD_MACS, "hmac-md5-etm@openssh.com"},
	{SSHD_MACS, "hmac-md5-96"},
	{SSHD_MACS, "hmac-md5-96-etm@openssh.com"},
	{SSHD_MACS, "hmac-ripemd160"},
	{SSHD_KEX, "diffie-hellman-group1-sha1"},
	{SSHD_KEX, "diffie-hellman-group14-sha1"},
	{SSHD_KEX, "diffie-hellman-group-exchange-sha1"},
	{SSHD_HOST_KEY_ALGORITHMS, "ssh-rsa"},
	{SSHD_HOST_KEY_ALGORITHMS, "ssh-rsa-cert-v01@openssh.com"},
	{SSHD_HOST_KEY_ALGORITHMS, "ssh-dss"},
	{SSHD_HOST_KEY_ALGORITHMS, "ssh-dss-cert-v01@openssh.com"},
	{SSHD_PUBKEY_ALGORITHMS, "ssh-rsa"},
	{SSHD_PUBKEY_ALGORITHMS, "ssh-rsa-cert-v01@openssh.com"},
	{SSHD_PUBKEY_ALGORITHMS, "ssh-dss"},
	{SSHD_PUBKEY_ALGORITHMS, "ssh-dss-cert-v01@openssh.com"},
	{SSHD_CA_ALGORITHMS, "ssh-rsa"},
	{SSHD_CA_ALGORITHMS, "ssh-dss"},
};

/* "-" takes away from the default, which has none of them; "+" and "^" add. Names may be patterns, and "!" before one takes away. */
static bool
takes_algorithm(const char *list, const char *name)
{
	char item[128];
	bool found = false;

	if (*list == '-')
		return false;
	list += *list == '+' || *list == '^';
	while (*list) {
		size_t len = strcspn(list, ",");

		snprintf(item, sizeof item, "%.*s", len < sizeof item ? (int)len : (int)sizeof item - 1, list);
		if (item[0] == '!' && fnmatch(item + 1, name, FNM_NOESCAPE) == 0)
			return false;
		found = found || (item[0] != '!' && !strchr(item, '[') && fnmatch(item, name, FNM_NOESCAPE) == 0);
		list += len;
		list += *list == ',';
	}
	return found;
}

void
sshd_weak(const struct sshd_config *c, void (*take)(void *, const char *), void *context)
{
	char text[96];

	for (size_t i = 0; i < sizeof weak / sizeof weak[0]; i++) {
		if (!takes_algorithm(sshd_config_text(c, weak[i].keyword), weak[i].name))
			continue;
		snprintf(text, sizeof text, "%s %s", keywords[weak[i].keyword].name, weak[i].name);
		take(context, text);
	}
}
