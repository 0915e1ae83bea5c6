#include "collector/cli/show.h"

#include <stdlib.h>
#include <string.h>

#include "collector/cli/cli.h"
#include "collector/code_point.h"
#include "collector/csv.h"

#define WIDE 64 /* a column of a table is made no wider for one long text: a SHA-256 in hex */
#define CELL_GAP 2 /* spaces between two cells, at least */
#define TEXT 40 /* what is wider is a text, which may be cut; but not to less than */
#define TEXT_LEAST 16

int
show_width(const char *text)
{
	return (int)code_points(text, strlen(text));
}

void
show_cell(FILE *out, const char *text, int room)
{
	size_t left = strlen(text), n;
	int pad = room - show_width(text);

	for (; left > 0; text += n, left -= n) {
		uint32_t c = code_point((const uint8_t *)text, left, &n);

		if (c == CODE_POINT_NONE || code_point_is_control(c))
			fputc('?', out);
		else
			fwrite(text, 1, n, out);
	}
	/* What is longer than its column does not run into the next one. */
	if (room > 0 && pad < CELL_GAP)
		pad = CELL_GAP;
	while (pad-- > 0)
		fputc(' ', out);
}

/* What stands in a cell; free() it. */
static char *
text_of(const json_t *value)
{
	char *text = json_is_string(value)                  ? strdup(json_string_value(value))
		     : value == NULL || json_is_null(value) ? strdup("")
							    : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	if (text == NULL)
		cli_die(CLI_NO, "out of memory");
	return text;
}

static void
widen(json_t *columns, const char *name, int width)
{
	int known = (int)json_integer_value(json_object_get(columns, name));

	if (width > WIDE)
		width = WIDE;
	json_object_set_new(columns, name, json_integer(width > known ? width : known));
}

static void
add_column(struct show *s, const char *name, const json_t *items)
{
	widen(s->columns, name, show_width(name));
	for (size_t i = 0; i < json_array_size(items); i++) {
		char *text = text_of(json_object_get(json_array_get(items, i), name));

		widen(s->columns, name, show_width(text));
		free(text);
	}
}

static void
add_columns(struct show *s, const char *list, const char *between, const json_t *items)
{
	char *names = strdup(list), *rest = NULL;

	for (char *name = strtok_r(names, between, &rest); name != NULL; name = strtok_r(NULL, between, &rest))
		add_column(s, name, items);
	free(names);
}

/* Columns that do not fit are left out, but that a text may be cut. */
static void
fit(struct show *s)
{
	const char *name;
	json_t *width, *left;
	void *next;
	int at = 0;

	s->left_out = json_array();
	json_object_foreach_safe(s->columns, next, name, width)
	{
		int wide = (int)json_integer_value(width), room = s->room - at;

		if (wide > room && wide > TEXT && room >= TEXT_LEAST) {
			wide = room;
			json_integer_set(width, wide);
		}
		if (wide <= room) {
			at += wide + CELL_GAP;
			continue;
		}
		left = json_string(name);
		json_object_del(s->columns, name);
		json_array_append_new(s->left_out, left);
	}
}

/* Once, from the first page: whoever reads the rows wants the same columns in all of them. A script wants them whatever matches, too. */
static void
make_columns(struct show *s, const json_t *items)
{
	s->columns = json_object();
	if (s->fields != NULL || (s->as == SHOW_TABLE && s->usual != NULL)) {
		add_columns(s, s->fields != NULL ? s->fields : s->usual, ",", items);
		return;
	}
	if (s->as == SHOW_CSV && s->members != NULL)
		add_columns(s, s->members, " ", items);
	for (size_t i = 0; i < json_array_size(items); i++) {
		json_t *item = json_array_get(items, i), *value;
		const char *name;

		json_object_foreach(item, name, value) if (json_object_get(s->columns, name) == NULL)
			add_column(s, name, items);
	}
}

static void
print_csv_cell(FILE *out, const char *text, bool first)
{
	struct response cell = {0};

	csv_text(&cell, (struct slice){(const uint8_t *)text, strlen(text)});
	fprintf(out, "%s\"", first ? "" : ",");
	if (cell.len > 0)
		fwrite(cell.body, 1, cell.len, out);
	fputc('"', out);
	response_free(&cell);
}

/* The bytes of so many characters. */
static int
length_of(const char *text, int characters)
{
	int at = 0;

	for (; text[at] != '\0' && (characters > 0 || ((unsigned char)text[at] & 0xc0) == 0x80); at++)
		characters -= ((unsigned char)text[at] & 0xc0) != 0x80;
	return at;
}

/* In a terminal nothing runs out of its column. */
static void
print_table_cell(const struct show *s, const char *text, int wide, int room)
{
	char *cut = NULL;

	if (s->left_out != NULL && show_width(text) > wide &&
	    asprintf(&cut, "%.*s\u2026", length_of(text, wide - 1), text) < 0)
		cli_die(CLI_NO, "out of memory");
	show_cell(s->out, cut == NULL ? text : cut, room);
	free(cut);
}

/* `item` NULL: the head. */
static void
print_row(struct show *s, const json_t *item)
{
	size_t n = json_object_size(s->columns), i = 0;
	const char *name;
	json_t *width;

	json_object_foreach(s->columns, name, width)
	{
		char *text = item == NULL ? strdup(name) : text_of(json_object_get(item, name));

		if (text == NULL)
			cli_die(CLI_NO, "out of memory");
		if (s->as == SHOW_CSV)
			print_csv_cell(s->out, text, i == 0);
		else
			print_table_cell(s, text, (int)json_integer_value(width),
					 ++i == n ? 0 : (int)json_integer_value(width) + CELL_GAP);
		i += s->as == SHOW_CSV;
		free(text);
	}
	fputs(s->as == SHOW_CSV ? "\r\n" : "\n", s->out);
}

static void
print_json(FILE *out, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	if (text == NULL)
		cli_die(CLI_NO, "out of memory");
	fputs(text, out);
	free(text);
}

static json_t *
chosen(const struct show *s, json_t *item)
{
	json_t *some;
	const char *name;
	json_t *width;

	if (s->fields == NULL || !json_is_object(item))
		return json_incref(item);
	some = json_object();
	json_object_foreach(s->columns, name, width) json_object_set(some, name, json_object_get(item, name));
	return some;
}

static void
print_item(struct show *s, json_t *item)
{
	json_t *some;

	if (s->as == SHOW_JSON) {
		if (!s->lines)
			fputs(s->items == 0 ? "[\n" : ",\n", s->out);
		some = chosen(s, item);
		print_json(s->out, some);
		json_decref(some);
		if (s->lines)
			fputc('\n', s->out);
	} else if (json_is_string(item)) { /* a line already */
		if (s->as == SHOW_CSV || s->fields != NULL)
			cli_die(CLI_WRONG, "the items are lines of text in this format: neither --csv nor --fields");
		fprintf(s->out, "%s\n", json_string_value(item));
	} else {
		if (s->items == 0)
			print_row(s, NULL);
		print_row(s, item);
	}
	s->items++;
}

void
show_items(struct show *s, const json_t *items)
{
	if (s->columns == NULL && json_array_size(items) > 0) {
		make_columns(s, items);
		if (s->as == SHOW_TABLE && s->room > 0 && s->fields == NULL)
			fit(s);
	}
	for (size_t i = 0; i < json_array_size(items); i++)
		print_item(s, json_array_get(items, i));
	fflush(s->out);
}

static void
tell_left_out(const struct show *s)
{
	json_t *name;
	size_t i;

	fflush(s->out);
	fputs("fleetstate: left out, as the terminal is narrow:", stderr);
	json_array_foreach(s->left_out, i, name) fprintf(stderr, " %s", json_string_value(name));
	fputc('\n', stderr);
}

void
show_end(struct show *s)
{
	if (s->as == SHOW_JSON && !s->lines)
		fputs(s->items == 0 ? "[]\n" : "\n]\n", s->out);
	if (s->as == SHOW_CSV && s->items == 0 && (s->fields != NULL || s->members != NULL)) {
		make_columns(s, NULL);
		print_row(s, NULL);
	}
	if (json_array_size(s->left_out) > 0)
		tell_left_out(s);
}

/* The members of objects in objects, by their path: "boot.secure". */
static void
flatten(json_t *flat, const char *path, const json_t *value)
{
	const char *name;
	json_t *member;
	char *longer;

	if (json_object_size(value) == 0) {
		json_object_set(flat, path, (json_t *)value);
		return;
	}
	json_object_foreach((json_t *)value, name, member)
	{
		if (asprintf(&longer, "%s%s%s", path, path[0] == '\0' ? "" : ".", name) < 0)
			cli_die(CLI_NO, "out of memory");
		flatten(flat, longer, member);
		free(longer);
	}
}

/* A line for each. */
static void
print_members(FILE *out, const json_t *object)
{
	json_t *flat = json_object(), *value;
	const char *name;
	int room = 0;

	flatten(flat, "", object);
	json_object_foreach(flat, name, value) room = show_width(name) > room ? show_width(name) : room;
	json_object_foreach(flat, name, value)
	{
		char *text = text_of(value);

		show_cell(out, name, room + CELL_GAP);
		show_cell(out, text, 0);
		fputc('\n', out);
		free(text);
	}
	json_decref(flat);
}

void
show_object(struct show *s, const json_t *object)
{
	json_t *row = json_pack("[O]", object), *some;

	make_columns(s, row);
	some = chosen(s, json_array_get(row, 0));
	if (s->as == SHOW_JSON) {
		print_json(s->out, some);
		fputc('\n', s->out);
	} else if (s->as == SHOW_CSV) {
		print_row(s, NULL);
		print_row(s, object);
	} else if (json_object_size(some) > 0) {
		print_members(s->out, some);
	}
	json_decref(some);
	json_decref(row);
}

void
show_with_items(struct show *s, const json_t *object)
{
	json_t *rest;

	if (s->as == SHOW_JSON) {
		show_object(s, object);
		return;
	}
	if (s->as == SHOW_TABLE) {
		rest = json_copy((json_t *)object);
		json_object_del(rest, "items");
		if (json_is_null(json_object_get(rest, "next")))
			json_object_del(rest, "next");
		print_members(s->out, rest);
		fputc('\n', s->out);
		json_decref(rest);
	}
	show_items(s, json_object_get(object, "items"));
	show_end(s);
}

void
show_free(struct show *s)
{
	json_decref(s->columns);
	json_decref(s->left_out);
	s->columns = s->left_out = NULL;
}
