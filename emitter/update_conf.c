#include "emitter/update_conf.h"

#include <stdlib.h>
#include <string.h>

#include "emitter/text.h"

void
sections_parse(struct slice text, void (*take)(void *, struct slice, struct slice, struct slice), void *context)
{
	struct slice section = {(const uint8_t *)"", 0}, line, name, value;

	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#' || line.at[0] == ';')
			continue;
		if (line.at[0] == '[' && line.at[line.len - 1] == ']')
			section = text_trim((struct slice){line.at + 1, line.len - 2});
		else if (text_cut(line, '=', &name, &value))
			take(context, section, name, value);
	}
}

/* What follows "name" and ":" or "=", where the name stands as a word by itself. */
static bool
find_value(struct slice text, const char *name, struct slice *rest)
{
	size_t len = strlen(name);
	const uint8_t *at;

	while (text.len > len && (at = memmem(text.at, text.len, name, len))) {
		bool begins = at == text.at || strchr(" \t\r\n\"{,;", at[-1]);
		struct slice after = {at + len, (size_t)(text.at + text.len - at) - len};

		text = after;
		if (after.len > 0 && after.at[0] == '"')
			after.at++, after.len--;
		after = text_trim(after);
		if (!begins || after.len == 0 || (after.at[0] != ':' && after.at[0] != '='))
			continue;
		*rest = text_trim((struct slice){after.at + 1, after.len - 1});
		return true;
	}
	return false;
}

bool
quoted_value(struct slice text, const char *name, struct slice *value)
{
	const uint8_t *end;
	struct slice rest;

	if (!find_value(text, name, &rest) || rest.len < 2 || rest.at[0] != '"')
		return false;
	end = memchr(rest.at + 1, '"', rest.len - 1);
	if (!end)
		return false;
	*value = (struct slice){rest.at + 1, (size_t)(end - rest.at) - 1};
	return true;
}

bool
json_flag(struct slice text, const char *name)
{
	struct slice rest;

	return find_value(text, name, &rest) && text_begins(rest, "true");
}

/* "option check_signature [1]", "src/gz name uri". */
void
opkg_conf_parse(struct slice text, struct opkg_conf *conf, void (*take)(void *, struct slice), void *context)
{
	struct slice line, word, name, value;

	while (text_line(&text, &line)) {
		if (!text_word(&line, &word) || !text_word(&line, &name))
			continue;
		if (text_is(word, "option") && text_is(name, "check_signature"))
			conf->check_signature = !text_word(&line, &value) || !text_is(value, "0");
		else if (text_begins(word, "src") && text_word(&line, &value))
			take(context, name);
	}
}

/* ---- keys ---- */

static size_t
count_of(struct slice text, const char *mark)
{
	size_t n = 0, len = strlen(mark);
	const uint8_t *at;

	while (text.len >= len && (at = memmem(text.at, text.len, mark, len))) {
		n++;
		text.len -= (size_t)(at - text.at) + len;
		text.at = at + len;
	}
	return n;
}

/* The length of a packet's body (RFC 4880 4.2); false: it is not one, or has no definite length. */
static bool
read_header(struct slice *text, unsigned *tag, size_t *len)
{
	uint8_t head = text->at[0], first;
	size_t octets;

	if (!(head & 0x80) || text->len < 2)
		return false;
	first = text->at[1];
	if (head & 0x40) {
		*tag = head & 0x3f;
		if (first >= 224 && first < 255)
			return false;
		octets = first < 192 ? 1 : first < 224 ? 2 : 5;
	} else {
		*tag = (head >> 2) & 0xf;
		if ((head & 3) == 3)
			return false;
		octets = (size_t)1 << (head & 3);
	}
	if (text->len < 1 + octets)
		return false;
	*len = 0;
	if ((head & 0x40) && octets == 2) {
		*len = (size_t)(first - 192) * 256 + text->at[2] + 192;
	} else {
		for (size_t i = octets == 5 ? 1 : 0; i < octets; i++)
			*len = *len << 8 | text->at[1 + i];
	}
	text->at += 1 + octets;
	text->len -= 1 + octets;
	return *len <= text->len;
}

/* Tag 6: a public key that is no subkey. */
static size_t
count_packets(struct slice text)
{
	size_t n = 0, len;
	unsigned tag;

	while (text.len > 0 && read_header(&text, &tag, &len)) {
		n += tag == 6;
		text.at += len;
		text.len -= len;
	}
	return n;
}

static int
digit(uint8_t c)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

/* One armoured block, behind its first mark: headers, an empty line, base64, a line of "=" and a checksum. */
static size_t
count_armoured(struct slice block)
{
	uint8_t *bytes = malloc(block.len);
	struct slice line;
	size_t n = 0, len = 0;
	uint32_t bits = 0;
	unsigned held = 0;

	if (!bytes)
		return 0;
	(void)!text_line(&block, &line);
	while (text_line(&block, &line) && text_trim(line).len > 0)
		;
	while (text_line(&block, &line) && line.len > 0 && line.at[0] != '=' && line.at[0] != '-') {
		for (size_t i = 0; i < line.len && digit(line.at[i]) >= 0; i++) {
			bits = bits << 6 | (uint32_t)digit(line.at[i]);
			held += 6;
			if (held < 8)
				continue;
			held -= 8;
			bytes[len++] = (uint8_t)(bits >> held);
		}
	}
	n = count_packets((struct slice){bytes, len});
	free(bytes);
	return n;
}

size_t
update_keys_count(struct slice file)
{
	static const char armour[] = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
	const uint8_t *at = file.len ? memmem(file.at, file.len, armour, sizeof armour - 1) : NULL;
	size_t n = 0;

	if (!at && file.len > 0 && (file.at[0] & 0x80))
		return count_packets(file);
	for (; at; at = file.len ? memmem(file.at, file.len, armour, sizeof armour - 1) : NULL) {
		file.len -= (size_t)(at - file.at) + sizeof armour - 1;
		file.at = at + sizeof armour - 1;
		n += count_armoured(file);
	}
	if (n > 0)
		return n;
	return count_of(file, "-----BEGIN CERTIFICATE-----") + count_of(file, "-----BEGIN PUBLIC KEY-----") +
	       count_of(file, "untrusted comment:");
}
