#include "emitter/conffiles.h"

#include <string.h>
#include <strings.h>

static bool
read_digest(struct slice hex, struct conffile *file)
{
	uint64_t byte;

	if (hex.len != 32 && hex.len != 64)
		return false;
	file->digest_len = hex.len / 2;
	for (size_t i = 0; i < file->digest_len; i++) {
		if (!text_number((struct slice){hex.at + 2 * i, 2}, 16, &byte))
			return false;
		file->digest[i] = (uint8_t)byte;
	}
	return true;
}

/* " /etc/a b 0123... [obsolete]": a file that the package no longer has is nobody's any more, and one without a digest was never installed. */
static void
take_file(struct conffiles *c, struct slice line)
{
	struct slice path = text_trim(line), digest = path;
	struct conffile file = {.path = c->paths_len};
	size_t end = path.len;

	while (end > 0 && path.at[end - 1] != ' ')
		end--;
	if (end < 2 || path.at[0] != '/')
		return;
	digest.at += end;
	digest.len -= end;
	path.len = end - 1;
	if (!read_digest(digest, &file))
		return;
	if (c->len == CONFFILES_MAX || path.len + 1 > sizeof c->paths - c->paths_len) {
		c->more = true;
		return;
	}
	memcpy(c->paths + c->paths_len, path.at, path.len);
	c->paths_len += path.len;
	c->paths[c->paths_len++] = '\0';
	c->at[c->len++] = file;
}

static void
end_paragraph(struct conffiles *c)
{
	if (!c->installed) {
		c->len = c->paragraph;
		c->paths_len = c->len ? c->at[c->len - 1].path + strlen(c->paths + c->at[c->len - 1].path) + 1 : 0;
	}
	c->paragraph = c->len;
	c->installed = c->inside = false;
}

static bool
is_field(struct slice line, const char *name)
{
	return line.len >= strlen(name) && strncasecmp((const char *)line.at, name, strlen(name)) == 0;
}

static bool
ends_with(struct slice text, const char *end)
{
	size_t len = strlen(end);

	return text.len >= len && memcmp(text.at + text.len - len, end, len) == 0;
}

static bool
take_line(void *context, struct slice line, bool cut)
{
	struct conffiles *c = context;

	if (line.len == 0) {
		end_paragraph(c);
		return true;
	}
	if (line.at[0] == ' ' || line.at[0] == '\t') {
		if (c->inside && !cut && !memchr(line.at, '\0', line.len))
			take_file(c, line);
		return true;
	}
	c->inside = is_field(line, "Conffiles:");
	if (is_field(line, "Status:"))
		c->installed = ends_with(text_trim(line), " installed");
	return true;
}

void
conffiles_feed(struct conffiles *c, struct slice piece)
{
	(void)!text_feed(&c->feed, piece, take_line, c);
}

void
conffiles_end(struct conffiles *c)
{
	(void)!text_feed_end(&c->feed, take_line, c);
	end_paragraph(c);
}
