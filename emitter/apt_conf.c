#include "emitter/apt_conf.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "emitter/paragraph.h"
#include "emitter/text.h"

#define DEPTH 16

/* ---- apt.conf ---- */

struct scanner {
	struct slice rest;
	char name[APT_NAME];
	size_t len; /* of name, that holds */
	size_t before[DEPTH]; /* len at each open brace */
	size_t depth;
	bool too_long;
	void (*take)(void *, const char *, struct slice);
	void *context;
};

static void
drop(struct slice *text, size_t n)
{
	n = n < text->len ? n : text->len;
	text->at += n;
	text->len -= n;
}

static void
drop_line(struct slice *text)
{
	struct slice line;

	(void)!text_line(text, &line);
}

/* Blanks and comments. */
static void
drop_filler(struct slice *text)
{
	const uint8_t *end;

	for (;;) {
		if (text->len == 0)
			return;
		if (strchr(" \t\r\n", text->at[0])) {
			drop(text, 1);
		} else if (text->at[0] == '#' || text_begins(*text, "//")) {
			drop_line(text);
		} else if (text_begins(*text, "/*")) {
			end = memmem(text->at + 2, text->len - 2, "*/", 2);
			drop(text, end ? (size_t)(end - text->at) + 2 : text->len);
		} else {
			return;
		}
	}
}

static struct slice
take_token(struct slice *text)
{
	struct slice token = {text->at, 0};

	if (text->len > 0 && text->at[0] == '"') {
		drop(text, 1);
		token.at = text->at;
		while (token.len < text->len && token.at[token.len] != '"')
			token.len++;
		drop(text, token.len + 1);
		return token;
	}
	while (token.len < text->len && token.at[token.len] != '\0' && !strchr(" \t\r\n{};\"", token.at[token.len]))
		token.len++;
	if (token.len == 0 && text->len > 0 && !strchr("{};", text->at[0]))
		token.len = 1;
	drop(text, token.len);
	return token;
}

static void
append(struct scanner *s, struct slice token)
{
	size_t mark = s->len > 0 ? 2 : 0;

	if (s->len + mark + token.len >= sizeof s->name) {
		s->too_long = true;
		return;
	}
	memcpy(s->name + s->len, "::", mark);
	memcpy(s->name + s->len + mark, token.at, token.len);
	s->len += mark + token.len;
	s->name[s->len] = '\0';
}

static void
tell(struct scanner *s, struct slice value)
{
	if (!s->too_long && s->len > 0)
		s->take(s->context, s->name, value);
}

/* One "name value;", "name { ... };" or, in a list, "value;". */
static void
scan(struct scanner *s)
{
	size_t len = s->len;
	bool quoted = s->rest.len > 0 && s->rest.at[0] == '"';
	struct slice name = take_token(&s->rest), value;

	drop_filler(&s->rest);
	if (s->rest.len > 0 && s->rest.at[0] == '{') {
		drop(&s->rest, 1);
		append(s, name);
		if (s->depth < DEPTH)
			s->before[s->depth] = len;
		s->depth++;
		return;
	}
	if (s->rest.len == 0 || s->rest.at[0] == ';') {
		append(s, (struct slice){(const uint8_t *)"", 0});
		if (name.len > 0 || quoted)
			tell(s, name);
	} else {
		value = take_token(&s->rest);
		append(s, name);
		tell(s, value);
		while (s->rest.len > 0 && s->rest.at[0] != ';' && s->rest.at[0] != '}') {
			size_t left = s->rest.len;

			drop_filler(&s->rest);
			if (s->rest.len > 0 && s->rest.at[0] != ';' && s->rest.at[0] != '}')
				(void)take_token(&s->rest);
			if (s->rest.len == left)
				drop(&s->rest, 1);
		}
	}
	s->len = len;
	s->too_long = false;
}

void
apt_conf_parse(struct slice text, void (*take)(void *, const char *, struct slice), void *context)
{
	struct scanner s = {.rest = text, .take = take, .context = context};

	for (;;) {
		drop_filler(&s.rest);
		if (s.rest.len == 0)
			return;
		if (s.rest.at[0] == ';') {
			drop(&s.rest, 1);
		} else if (s.rest.at[0] == '}') {
			drop(&s.rest, 1);
			if (s.depth > 0)
				s.depth--;
			s.len = s.depth < DEPTH ? s.before[s.depth] : s.len;
			s.len = s.depth == 0 ? 0 : s.len;
			s.name[s.len] = '\0';
			s.too_long = s.depth >= DEPTH;
		} else {
			scan(&s);
		}
	}
}

bool
apt_conf_is_yes(struct slice value)
{
	static const char *const yes[] = {"yes", "true", "on", "with", "enable"};
	uint64_t number;

	value = text_trim(value);
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		if (value.len == strlen(yes[i]) && strncasecmp((const char *)value.at, yes[i], value.len) == 0)
			return true;
	return text_number(value, 10, &number) && number > 0;
}

/* ---- sources ---- */

/* "arch=amd64,arm64", "trusted=yes" ... */
static void
read_option(struct slice option, struct apt_source *source)
{
	struct slice name, value;

	if (!text_cut(option, '=', &name, &value))
		return;
	if (text_is(name, "arch"))
		source->architectures = value;
	else if (text_is(name, "trusted"))
		source->trusted = apt_conf_is_yes(value);
	else if (text_is(name, "allow-insecure") || text_is(name, "allow-weak"))
		source->insecure = source->insecure || apt_conf_is_yes(value);
	else if (text_is(name, "signed-by"))
		source->signed_by = value.len > 0;
}

/* deb [ options ] uri suite components */
static void
read_source_line(struct slice line, void (*take)(void *, const struct apt_source *), void *context)
{
	struct apt_source source = {0};
	struct slice word, options;
	const uint8_t *comment = line.len ? memchr(line.at, '#', line.len) : NULL, *end;

	if (comment)
		line.len = (size_t)(comment - line.at);
	if (!text_word(&line, &word) || !text_is(word, "deb"))
		return;
	line = text_trim(line);
	if (line.len > 0 && line.at[0] == '[') {
		end = memchr(line.at, ']', line.len);
		if (!end)
			return;
		options = (struct slice){line.at + 1, (size_t)(end - line.at) - 1};
		line.len -= (size_t)(end - line.at) + 1;
		line.at = end + 1;
		while (text_word(&options, &word))
			read_option(word, &source);
	}
	if (!text_word(&line, &source.uri) || !text_word(&line, &source.suite))
		return;
	source.components = text_trim(line);
	take(context, &source);
}

void
apt_sources_parse_lines(struct slice text, void (*take)(void *, const struct apt_source *), void *context)
{
	struct slice line;

	while (text_line(&text, &line))
		read_source_line(line, take, context);
}

enum { TYPES, URIS, SUITES, COMPONENTS, ARCHITECTURES, TRUSTED, INSECURE, WEAK, SIGNED_BY, ENABLED, FIELDS };
static const char *const field_names[FIELDS] = {"Types",         "URIs",    "Suites",         "Components",
						"Architectures", "Trusted", "Allow-Insecure", "Allow-Weak",
						"Signed-By",     "Enabled"};

struct taker {
	void (*take)(void *, const struct apt_source *);
	void *context;
};

static bool
has_word(struct slice text, const char *wanted)
{
	struct slice word;

	while (text_word(&text, &word))
		if (text_is(word, wanted))
			return true;
	return false;
}

static void
take_paragraph(void *context, struct paragraphs *p)
{
	const struct taker *t = context;
	struct slice uris = paragraph_field(p, URIS), suites, enabled = paragraph_field(p, ENABLED);
	struct apt_source source = {
		.components = paragraph_field(p, COMPONENTS),
		.architectures = paragraph_field(p, ARCHITECTURES),
		.trusted = apt_conf_is_yes(paragraph_field(p, TRUSTED)),
		.insecure = apt_conf_is_yes(paragraph_field(p, INSECURE)) || apt_conf_is_yes(paragraph_field(p, WEAK)),
		.signed_by = paragraph_field(p, SIGNED_BY).len > 0,
	};

	if (!has_word(paragraph_field(p, TYPES), "deb") || (enabled.len > 0 && !apt_conf_is_yes(enabled)))
		return;
	while (text_word(&uris, &source.uri)) {
		suites = paragraph_field(p, SUITES);
		while (text_word(&suites, &source.suite))
			t->take(t->context, &source);
	}
}

void
apt_sources_parse_paragraphs(struct slice text, void (*take)(void *, const struct apt_source *), void *context)
{
	struct taker taker = {take, context};
	struct paragraphs *p = calloc(1, sizeof *p);

	if (!p)
		return;
	*p = (struct paragraphs){
		.names = field_names, .len = FIELDS, .last = FIELDS, .take = take_paragraph, .context = &taker};
	paragraphs_feed(p, text);
	paragraphs_end(p);
	free(p);
}

/* Without the scheme and who one is there; "/" becomes "_", and what has a meaning somewhere is written in hex. */
size_t
apt_list_name(struct slice uri, struct slice path, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	struct slice parts[] = {uri, path};
	const uint8_t *at = memmem(uri.at, uri.len, ":", 1), *slash;
	size_t len = 0;

	if (at) {
		drop(&parts[0], (size_t)(at - uri.at) + 1);
		if (text_begins(parts[0], "//"))
			drop(&parts[0], 2);
	}
	slash = parts[0].len ? memchr(parts[0].at, '/', parts[0].len) : NULL;
	at = parts[0].len ? memchr(parts[0].at, '@', slash ? (size_t)(slash - parts[0].at) : parts[0].len) : NULL;
	if (at)
		drop(&parts[0], (size_t)(at - parts[0].at) + 1);
	while (parts[0].len > 0 && parts[0].at[parts[0].len - 1] == '/')
		parts[0].len--;
	for (size_t i = 0; i < 2; i++) {
		if (i == 1 && len + 1 < size)
			out[len++] = '_';
		for (size_t j = 0; j < parts[i].len; j++) {
			uint8_t c = parts[i].at[j];

			if (len + 4 > size)
				return 0;
			if (c <= ' ' || c > '~' || strchr("\\|{}[]<>\"^~_=!@#$%&*", c)) {
				out[len++] = '%';
				out[len++] = hex[c >> 4];
				out[len++] = hex[c & 15];
			} else {
				out[len++] = c == '/' ? '_' : (char)c;
			}
		}
	}
	if (len >= size)
		return 0;
	out[len] = '\0';
	return len;
}
