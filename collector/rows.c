#include "collector/rows.h"

#include <string.h>

#define KEPT_MAX (1u << 20) /* one large inventory is no reason to hold its memory for ever */

static enum array_type
type_of(char letter)
{
	switch (letter) {
	case '4':
		return ARRAY_INT4;
	case '8':
		return ARRAY_INT8;
	case 'b':
		return ARRAY_BYTEA;
	case 't':
		return ARRAY_TEXT;
	case 'z':
		return ARRAY_TIMESTAMPTZ;
	case 'o':
		return ARRAY_BOOL;
	default:
		return ARRAY_JSONB;
	}
}

void
rows_empty(struct rows *r, const char *columns)
{
	r->columns = (int)strlen(columns);
	r->n = 0;
	for (int i = 0; i < r->columns; i++) {
		if (r->column[i].size > KEPT_MAX)
			pg_array_free(&r->column[i]);
		pg_array_begin(&r->column[i], type_of(columns[i]));
	}
}

void
rows_free(struct rows *r)
{
	for (int i = 0; i < COLUMNS_MAX; i++)
		pg_array_free(&r->column[i]);
}

struct rows *
row_begin(struct rows *r)
{
	r->at = 0;
	r->n++;
	return r;
}

void
row_int(struct rows *r, int64_t v)
{
	pg_array_int(&r->column[r->at++], v);
}

void
row_time(struct rows *r, int64_t us)
{
	pg_array_time_us(&r->column[r->at++], us);
}

void
row_slice(struct rows *r, struct slice s)
{
	pg_array_bytes(&r->column[r->at++], s);
}

void
row_bytes(struct rows *r, const void *at, size_t len)
{
	row_slice(r, (struct slice){at, len});
}

void
row_text(struct rows *r, const char *text)
{
	row_bytes(r, text, strlen(text));
}

void
row_null(struct rows *r)
{
	pg_array_null(&r->column[r->at++]);
}

bool
rows_failed(const struct rows *r)
{
	for (int i = 0; i < r->columns; i++)
		if (r->column[i].failed)
			return true;
	return false;
}
