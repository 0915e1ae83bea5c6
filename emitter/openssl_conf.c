#include "emitter/openssl_conf.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "emitter/text.h"

#define LINE_BYTES 4096

/* A comment goes to the line's end, but not from within quotes. */
static struct slice
without_comment(struct slice line)
{
	uint8_t quote = 0;

	for (size_t i = 0; i < line.len; i++) {
		uint8_t c = line.at[i];

		if (c == '\\') {
			i++;
		} else if (quote != 0) {
			quote = c == quote ? 0 : quote;
		} else if (c == '"' || c == '\'' || c == '`') {
			quote = c;
		} else if (c == '#') {
			line.len = i;
			break;
		}
	}
	return line;
}

/* Takes quotes and backslashes off. false: too long. */
static bool
unquote(struct slice text, char *out, size_t size)
{
	size_t len = 0;
	uint8_t quote = 0;

	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];

		if (c == '\\' && i + 1 < text.len) {
			c = text.at[++i];
		} else if (quote != 0 && c == quote) {
			quote = 0;
			continue;
		} else if (quote == 0 && (c == '"' || c == '\'' || c == '`')) {
			quote = c;
			continue;
		}
		if (len + 1 >= size || c == '\0')
			return false;
		out[len++] = (char)c;
	}
	out[len] = '\0';
	return true;
}

/* What leads to the defaults, and the defaults themselves; all else of a configuration, most of it, is for others. */
static bool
may_matter(const char *name)
{
	static const char *const names[] = {"openssl_conf", "ssl_conf", "system_default", "minprotocol",
					    "maxprotocol",  "protocol", "cipherstring"};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcasecmp(dot ? dot + 1 : name, names[i]) == 0)
			return true;
	return false;
}

static void
keep(struct openssl_conf *c, const char *section, const char *name, const char *value)
{
	size_t i = 0;

	while (i < c->len && (strcmp(c->entries[i].section, section) != 0 || strcmp(c->entries[i].name, name) != 0))
		i++;
	if (i == CONF_ENTRIES) {
		c->more = true;
		return;
	}
	/* The last one of a name counts, and is then the last of its section. */
	if (i < c->len)
		memmove(&c->entries[i], &c->entries[i + 1], (c->len - i - 1) * sizeof c->entries[0]);
	else
		c->len++;
	snprintf(c->entries[c->len - 1].section, sizeof c->entries[0].section, "%s", section);
	snprintf(c->entries[c->len - 1].name, sizeof c->entries[0].name, "%s", name);
	snprintf(c->entries[c->len - 1].value, sizeof c->entries[0].value, "%s", value);
}

static void
take_setting(struct openssl_conf *c, struct slice name, struct slice value)
{
	char section[64], key[64], text[CONF_TEXT];
	const char *inner;

	if (!unquote(name, key, sizeof key) || !unquote(value, text, sizeof text))
		c->more = c->more || name.len < sizeof key;
	else if (!(inner = strstr(key, "::")) && may_matter(key))
		keep(c, c->section, key, text);
	else if (inner && may_matter(inner + 2)) {
		snprintf(section, sizeof section, "%.*s", (int)(inner - key), key);
		keep(c, section, inner + 2, text);
	}
}

static void
take_line(struct openssl_conf *c, struct slice line, const struct openssl_include *files)
{
	struct slice name, value;
	char path[CONF_TEXT];

	line = text_trim(without_comment(line));
	if (line.len == 0 || line.at[0] == ';')
		return;
	if (line.at[0] == '[') {
		line.at++, line.len--;
		if (!text_cut(line, ']', &name, &value) || !unquote(name, c->section, sizeof c->section))
			c->more = true;
		return;
	}
	if (text_begins(line, ".include") && line.len > 8 && strchr(" \t=", line.at[8]) && line.at[8] != '\0') {
		value = text_trim((struct slice){line.at + 8, line.len - 8});
		if (value.len > 0 && value.at[0] == '=')
			value = text_trim((struct slice){value.at + 1, value.len - 1});
		if (!unquote(value, path, sizeof path) || !path[0])
			c->more = true;
		else if (files)
			files->take(files->context, c, path);
		return;
	}
	if (text_cut(line, '=', &name, &value))
		take_setting(c, name, value);
}

/* A backslash at its end goes on with the next line. */
void
openssl_conf_parse(struct openssl_conf *c, struct slice text, const struct openssl_include *files)
{
	uint8_t joined[LINE_BYTES];
	struct slice line;
	size_t len = 0;

	while (text_line(&text, &line)) {
		while (line.len > 0 && line.at[line.len - 1] == '\r')
			line.len--;
		bool goes_on = line.len > 0 && line.at[line.len - 1] == '\\' &&
			       !(line.len > 1 && line.at[line.len - 2] == '\\');

		if (len == 0 && !goes_on) {
			take_line(c, line, files);
			continue;
		}
		line.len -= goes_on;
		if (line.len > sizeof joined - len) {
			c->more = true;
			line.len = sizeof joined - len;
		}
		memcpy(joined + len, line.at, line.len);
		len += line.len;
		if (goes_on)
			continue;
		take_line(c, (struct slice){joined, len}, files);
		len = 0;
	}
	if (len > 0)
		take_line(c, (struct slice){joined, len}, files);
}

static const char *
find(const struct openssl_conf *c, const char *section, const char *name)
{
	for (size_t i = 0; i < c->len; i++)
		if (strcmp(c->entries[i].section, section) == 0 && strcmp(c->entries[i].name, name) == 0)
			return c->entries[i].value;
	return NULL;
}

static void
take_floor(struct openssl_default *out, const char *value)
{
	static const char *const floors[] = {
		[FLOOR_NONE] = "None",      [FLOOR_SSL3] = "SSLv3",     [FLOOR_TLS1] = "TLSv1",
		[FLOOR_TLS1_1] = "TLSv1.1", [FLOOR_TLS1_2] = "TLSv1.2", [FLOOR_TLS1_3] = "TLSv1.3"};

	if (strncmp(value, "DTLS", 4) == 0)
		return;
	for (size_t i = FLOOR_NONE; i < sizeof floors / sizeof floors[0]; i++)
		if (strcmp(value, floors[i]) == 0) {
			out->floor = (enum tls_floor)i;
			return;
		}
	out->unsure = true;
}

static void
take_level(struct openssl_default *out, const char *value)
{
	const char *at;

	while ((at = strstr(value, "@SECLEVEL="))) {
		value = at + 10;
		if (value[0] >= '0' && value[0] <= '5')
			out->level = value[0] - '0';
		else
			out->unsure = true;
	}
	out->unsure = out->unsure || strchr(value, '$') != NULL;
}

/* The names of a section's commands may have something and a dot in front. */
static void
take_command(struct openssl_default *out, const char *name, const char *value)
{
	const char *dot = strrchr(name, '.');

	name = dot ? dot + 1 : name;
	if (strchr(value, '$'))
		out->unsure = true;
	else if (strcasecmp(name, "MinProtocol") == 0)
		take_floor(out, value);
	else if (strcasecmp(name, "Protocol") == 0)
		out->unsure = true;
	else if (strcasecmp(name, "CipherString") == 0)
		take_level(out, value);
}

void
openssl_conf_default(const struct openssl_conf *c, struct openssl_default *out)
{
	static const char *const way[] = {"openssl_conf", "ssl_conf", "system_default"};
	const char *section = "default";

	*out = (struct openssl_default){.level = -1};
	for (size_t i = 0; i < sizeof way / sizeof way[0]; i++) {
		section = find(c, section, way[i]);
		if (!section)
			return;
		out->unsure = out->unsure || strchr(section, '$') != NULL;
	}
	for (size_t i = 0; i < c->len; i++)
		if (strcmp(c->entries[i].section, section) == 0)
			take_command(out, c->entries[i].name, c->entries[i].value);
}
