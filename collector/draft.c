#include "collector/draft.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
draft_empty(struct draft *d)
{
	d->len = 0;
	d->failed = false;
}

void
draft_free(struct draft *d)
{
	free(d->at);
	*d = (struct draft){0};
}

void
draft_add(struct draft *d, const void *at, size_t len)
{
	if (d->failed || len == 0)
		return;
	if (len > d->size - d->len) {
		size_t size = d->size == 0 ? 1024 : d->size;
		char *more;

		while (len > size - d->len && size < SIZE_MAX / 4)
			size *= 2;
		more = len > size - d->len ? NULL : realloc(d->at, size);
		if (more == NULL) {
			d->failed = true;
			return;
		}
		d->at = more;
		d->size = size;
	}
	memcpy(d->at + d->len, at, len);
	d->len += len;
}

void
draft_text(struct draft *d, const char *text)
{
	draft_add(d, text, strlen(text));
}

void
draft_slice(struct draft *d, struct slice s)
{
	draft_add(d, s.at, s.len);
}

void
draft_printf(struct draft *d, const char *format, ...)
{
	char text[256];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	assert(len >= 0 && (size_t)len < sizeof text);
	draft_add(d, text, (size_t)len);
}

void
draft_hex(struct draft *d, struct slice bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		draft_printf(d, "%02x", bytes.at[i]);
}

void
draft_json_string(struct draft *d, struct slice text)
{
	size_t from = 0;

	draft_text(d, "\"");
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] >= ' ' && text.at[i] != '"' && text.at[i] != '\\')
			continue;
		draft_add(d, text.at + from, i - from);
		draft_printf(d, "\\u%04x", text.at[i]);
		from = i + 1;
	}
	draft_add(d, text.at + from, text.len - from);
	draft_text(d, "\"");
}

void
draft_json(struct draft *d, json_t *value)
{
	char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);

	json_decref(value);
	if (text == NULL)
		d->failed = true;
	else
		draft_text(d, text);
	free(text);
}
