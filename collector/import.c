#include "collector/import.h"

#include <csv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 5 /* each once */

/* As the names stand in the first line, and in the documents. */
static const char *const columns[COLUMNS_MAX] = {"ueid", "serial", "model", "lifecycle", "labels"};

#define MARK_LEN 3

struct import {
	struct csv_parser parser;
	struct import_sink sink;
	uint64_t line, begun; /* that is read, and in which the row began; from 1 */
	uint64_t rows;
	const char *names[COLUMNS_MAX]; /* in the order of the first line */
	size_t names_len, at; /* of the row, the next column */
	json_t *document; /* of the row */
	json_t *ueids; /* of the rows so far, as an object's names */
	size_t mark; /* how much of the mark was read; MARK_LEN: there is none any more */
	bool named, faulty, stopped; /* the first line is over; the row has a fault; nothing more is read */
};

static void
fault(struct import *i, const char *column, const char *problem)
{
	i->faulty = true;
	i->sink.fault(i->sink.context, i->begun, column, problem);
}

static void
stop(struct import *i, const char *problem)
{
	if (!i->stopped)
		fault(i, "", problem);
	i->stopped = true;
}

/* ---- cells ---- */

static const char *
find_column(const char *name)
{
	for (size_t k = 0; k < COLUMNS_MAX; k++)
		if (strcmp(columns[k], name) == 0)
			return columns[k];
	return NULL;
}

static void
take_name(struct import *i, const char *text)
{
	const char *name = find_column(text);
	char shown[64];

	snprintf(shown, sizeof shown, "%s", text);
	for (size_t k = 0; k < i->names_len; k++)
		if (i->names[k] == name && name != NULL)
			name = NULL;
	if (name != NULL && i->names_len < COLUMNS_MAX)
		i->names[i->names_len++] = name;
	else
		fault(i, shown, "the columns are ueid, serial, model, lifecycle and labels, each once");
}

/* "site=berlin door=A" */
static json_t *
read_labels(struct import *i, const char *text)
{
	json_t *labels = json_object();

	for (text += strspn(text, " "); *text != '\0'; text += strspn(text, " ")) {
		size_t len = strcspn(text, " "), key = strcspn(text, "=");
		char name[IMPORT_CELL];

		if (key >= len) {
			fault(i, "labels", "labels: key=value, with spaces between");
			break;
		}
		memcpy(name, text, key);
		name[key] = '\0';
		if (json_object_get(labels, name) != NULL)
			fault(i, "labels", "labels: a key stands there twice");
		json_object_set_new(labels, name, json_stringn(text + key + 1, len - key - 1));
		text += len;
	}
	return labels;
}

static const char *
wrong_with(const char *text, size_t len)
{
	if (len >= IMPORT_CELL)
		return "too long";
	for (size_t k = 0; k < len; k++)
		if ((unsigned char)text[k] < 0x20 || text[k] == 0x7f)
			return "a control character is in it";
	return NULL;
}

static void
take_value(struct import *i, const char *text)
{
	const char *name;

	if (i->at >= i->names_len) {
		i->at++;
		return; /* the row's end tells of it */
	}
	name = i->names[i->at++];
	if (text[0] == '\0')
		return;
	if (strcmp(name, "labels") == 0)
		json_object_set_new(i->document, name, read_labels(i, text));
	else
		json_object_set_new(i->document, name, json_string(text));
}

static void
on_cell(void *bytes, size_t len, void *context)
{
	struct import *i = context;
	const char *text = bytes, *wrong = wrong_with(text, len);
	json_t *checked;

	if (i->stopped)
		return;
	checked = wrong == NULL ? json_stringn(text, len) : NULL;
	if (wrong == NULL && checked == NULL)
		wrong = "not UTF-8";
	json_decref(checked);
	if (wrong != NULL) {
		fault(i, i->named && i->at < i->names_len ? i->names[i->at] : "", wrong);
		i->at++;
	} else if (i->named) {
		take_value(i, text);
	} else {
		take_name(i, text);
	}
}

/* ---- rows ---- */

static bool
has_ueid(const struct import *i)
{
	for (size_t k = 0; k < i->names_len; k++)
		if (strcmp(i->names[k], "ueid") == 0)
			return true;
	return false;
}

static void
end_names(struct import *i)
{
	if (!i->faulty && !has_ueid(i))
		fault(i, "ueid", "there is no such column");
	i->named = true;
	i->stopped = i->faulty; /* what the cells mean is not known */
}

/* The database sees a part of the list at a time. */
static void
check_ueid(struct import *i)
{
	const char *ueid = json_string_value(json_object_get(i->document, "ueid"));

	if (ueid != NULL && json_object_get(i->ueids, ueid) != NULL)
		fault(i, "ueid", "ueid: that device stands there already");
	else if (ueid != NULL)
		json_object_set_new(i->ueids, ueid, json_true());
}

static void
end_row(struct import *i)
{
	if (i->at != i->names_len)
		fault(i, "", "it has not as many cells as the first line");
	if (!i->faulty)
		check_ueid(i);
	if (!i->faulty && ++i->rows > IMPORT_ROWS)
		stop(i, "too many devices: 100,000 at most");
	if (!i->faulty)
		i->sink.row(i->sink.context, i->begun, i->document);
}

/* An empty line is none. */
static void
on_row(int end, void *context)
{
	struct import *i = context;

	(void)end;
	if (i->stopped)
		return;
	if (i->named)
		end_row(i);
	else
		end_names(i);
	json_object_clear(i->document);
	i->at = 0;
	i->faulty = false;
	i->begun = i->line + 1;
}

/* ---- bytes ---- */

struct import *
import_new(const struct import_sink *sink)
{
	struct import *i = calloc(1, sizeof *i);

	if (i == NULL)
		return NULL;
	i->document = json_object();
	i->ueids = json_object();
	if (i->document == NULL || i->ueids == NULL ||
	    csv_init(&i->parser, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL) != 0) {
		json_decref(i->document);
		json_decref(i->ueids);
		free(i);
		return NULL;
	}
	i->sink = *sink;
	i->line = i->begun = 1;
	return i;
}

void
import_free(struct import *i)
{
	if (i == NULL)
		return;
	csv_free(&i->parser);
	json_decref(i->document);
	json_decref(i->ueids);
	free(i);
}

/* At most to the end of a line, so that it is known which one a row ends in. */
static void
feed_line(struct import *i, const char *at, size_t len)
{
	if (csv_parse(&i->parser, at, len, on_cell, on_row, i) != len)
		stop(i, csv_error(&i->parser) == CSV_EPARSE ? "a quote that does not belong there"
							    : "there is no memory for it");
	/* A quote that is never closed takes in all that follows. */
	if (i->parser.entry_pos > IMPORT_CELL)
		stop(i, "a cell is too long, or its quote is not closed");
}

/* U+FEFF, which some write before everything. How much of it is here; what only begins like it is no mark. */
static size_t
skip_mark(struct import *i, const char *at, size_t len)
{
	static const char mark[MARK_LEN + 1] = "\xef\xbb\xbf";
	size_t n = 0, seen;

	while (n < len && i->mark < MARK_LEN && at[n] == mark[i->mark]) {
		n++;
		i->mark++;
	}
	if (n == len || i->mark == MARK_LEN)
		return n;
	seen = i->mark;
	i->mark = MARK_LEN;
	if (seen > 0)
		feed_line(i, mark, seen);
	return n;
}

bool
import_feed(struct import *i, const char *at, size_t len)
{
	size_t skipped = skip_mark(i, at, len);

	at += skipped;
	len -= skipped;
	while (len > 0 && !i->stopped) {
		const char *end = memchr(at, '\n', len);
		size_t n = end == NULL ? len : (size_t)(end - at) + 1;

		/* An empty line moves where the next row begins. */
		if (i->at == 0 && i->parser.entry_pos == 0 && json_object_size(i->document) == 0 && !i->parser.quoted)
			i->begun = i->line;
		feed_line(i, at, n);
		i->line += end != NULL;
		at += n;
		len -= n;
	}
	return !i->stopped;
}

void
import_end(struct import *i)
{
	if (!i->stopped && csv_fini(&i->parser, on_cell, on_row, i) != 0)
		stop(i, "the quote of its last cell is not closed");
	if (!i->stopped && !i->named)
		stop(i, "there is not even a line of names");
}

/* ---- what was wrong ---- */

void
import_fault_add(struct import_faults *faults, uint64_t line, const char *column, const char *problem)
{
	json_t *made;

	if (faults->list == NULL)
		faults->list = json_array();
	if (faults->n++ >= IMPORT_FAULTS)
		return;
	/* A name of the list's own may have been cut inside a character. */
	made = json_pack("{s:I, s:s?, s:s}", "line", (json_int_t)line, "column", column[0] == '\0' ? NULL : column,
			 "problem", problem);
	if (made == NULL)
		made = json_pack("{s:I, s:n, s:s}", "line", (json_int_t)line, "column", "problem", problem);
	json_array_append_new(faults->list, made);
}

void
import_faults_free(struct import_faults *faults)
{
	json_decref(faults->list);
	*faults = (struct import_faults){NULL, 0};
}
