#include "emitter/paragraph.h"

#include <string.h>
#include <strings.h>

static void
end_paragraph(struct paragraphs *p)
{
	if (p->any)
		p->take(p->context, p);
	for (size_t i = 0; i < p->len; i++) {
		p->fields[i].len = 0;
		p->fields[i].cut = false;
	}
	p->any = false;
	p->last = p->len;
}

static void
append(struct paragraph_field *to, struct slice value, bool cut)
{
	size_t room = sizeof to->at - to->len, len = value.len < room ? value.len : room;

	to->cut = to->cut || cut || value.len > room;
	memcpy(to->at + to->len, value.at, len);
	to->len += len;
}

static bool
take_line(void *context, struct slice line, bool cut)
{
	struct paragraphs *p = context;
	size_t len;
	const uint8_t *colon;

	if (line.len == 0 || (line.len == 1 && line.at[0] == '\r')) {
		end_paragraph(p);
		return true;
	}
	if (line.at[0] == '#')
		return true;
	if (line.at[0] == ' ' || line.at[0] == '\t') {
		if (p->last < p->len) {
			append(&p->fields[p->last], (struct slice){(const uint8_t *)"\n", 1}, false);
			append(&p->fields[p->last], text_trim(line), cut);
		}
		return true;
	}
	p->last = p->len;
	colon = memchr(line.at, ':', line.len);
	if (!colon)
		return true;
	p->any = true;
	len = (size_t)(colon - line.at);
	for (size_t i = 0; i < p->len; i++) {
		if (len != strlen(p->names[i]) || strncasecmp((const char *)line.at, p->names[i], len) != 0)
			continue;
		p->last = i;
		p->fields[i].len = 0;
		p->fields[i].cut = false;
		append(&p->fields[i], text_trim((struct slice){colon + 1, line.len - len - 1}), cut);
	}
	return true;
}

void
paragraphs_feed(struct paragraphs *p, struct slice piece)
{
	(void)!text_feed(&p->feed, piece, take_line, p);
}

void
paragraphs_end(struct paragraphs *p)
{
	(void)!text_feed_end(&p->feed, take_line, p);
	end_paragraph(p);
}

struct slice
paragraph_field(const struct paragraphs *p, size_t field)
{
	return (struct slice){p->fields[field].at, p->fields[field].len};
}
