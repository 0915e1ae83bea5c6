#include "emitter/dpkg.h"

#include <stdlib.h>
#include <string.h>

#include "emitter/paragraph.h"

#define JOURNAL_MAX 4096 /* packages whose entry in the status is out of date */

enum field { PACKAGE, STATUS, VERSION, ARCHITECTURE, SOURCE, FIELDS };
static const char *const field_names[FIELDS] = {"Package", "Status", "Version", "Architecture", "Source"};

/* The third word of Status. */
static const struct {
	const char *status;
	enum dpkg_condition condition;
} conditions[] = {
	{"installed", DPKG_INSTALLED}, {"half-installed", DPKG_BROKEN},   {"half-configured", DPKG_BROKEN},
	{"unpacked", DPKG_BROKEN},     {"triggers-awaited", DPKG_BROKEN}, {"triggers-pending", DPKG_BROKEN},
};

struct dpkg {
	enum component_type type;
	void (*take)(void *, const struct dpkg_package *);
	void *context;
	enum dpkg_source kind;
	struct paragraphs paragraphs;
	bool no_memory;
	char *journal[JOURNAL_MAX]; /* "name architecture" */
	size_t journal_len;
};

static void end_paragraph(void *, struct paragraphs *);

struct dpkg *
dpkg_new(enum component_type type, void (*take)(void *, const struct dpkg_package *), void *context)
{
	struct dpkg *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->type = type;
	d->take = take;
	d->context = context;
	d->paragraphs.names = field_names;
	d->paragraphs.len = d->paragraphs.last = FIELDS;
	d->paragraphs.take = end_paragraph;
	d->paragraphs.context = d;
	return d;
}

void
dpkg_free(struct dpkg *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->journal_len; i++)
		free(d->journal[i]);
	free(d);
}

static struct slice
field(const struct dpkg *d, enum field which)
{
	return paragraph_field(&d->paragraphs, which);
}

/* "name (version)", or the name alone when the version is the same. */
static void
read_source(struct slice text, struct component *c)
{
	struct slice name, version = {NULL, 0};

	if (!text_cut(text, '(', &name, &version)) {
		name = text_trim(text);
	} else if (version.len > 0 && version.at[version.len - 1] == ')') {
		version.len--;
		version = text_trim(version);
	}
	c->source = name;
	c->source_version = version;
}

/* Whether the journal, which is read first and from its newest file, has had this package already. */
static bool
is_outdated(struct dpkg *d)
{
	struct slice name = field(d, PACKAGE), arch = field(d, ARCHITECTURE);
	char key[2 * PARAGRAPH_TEXT + 2];
	size_t len = name.len + 1 + arch.len;

	if (d->kind == DPKG_STATUS_D || (d->kind == DPKG_STATUS && d->journal_len == 0))
		return false;
	memcpy(key, name.at, name.len);
	key[name.len] = ' ';
	memcpy(key + name.len + 1, arch.at, arch.len);
	key[len] = '\0';
	for (size_t i = 0; i < d->journal_len; i++)
		if (strcmp(d->journal[i], key) == 0)
			return true;
	if (d->kind == DPKG_JOURNAL && d->journal_len < JOURNAL_MAX) {
		d->journal[d->journal_len] = strdup(key);
		if (d->journal[d->journal_len])
			d->journal_len++;
		else
			d->no_memory = true;
	}
	return false;
}

/* opkg's flags stand between commas. */
static bool
has_flag(struct slice flags, const char *flag)
{
	struct slice one;

	while (text_cut(flags, ',', &one, &flags))
		if (text_is(one, flag))
			return true;
	return text_is(flags, flag);
}

/* "want flags status". A package that must be installed again is broken, whatever else is said of it. */
static void
read_status(const struct dpkg *d, struct dpkg_package *out)
{
	struct slice text = field(d, STATUS), want, flags, status;

	if (d->kind == DPKG_STATUS_D && text.len == 0) {
		out->condition = DPKG_INSTALLED;
		return;
	}
	if (!text_word(&text, &want) || !text_word(&text, &flags) || !text_word(&text, &status))
		return;
	out->held = text_is(want, "hold") || has_flag(flags, "hold");
	if (text_is(flags, "reinstreq"))
		out->condition = DPKG_BROKEN;
	for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++)
		if (text_is(status, conditions[i].status))
			out->condition = conditions[i].condition;
}

static void
end_paragraph(void *context, struct paragraphs *paragraphs)
{
	struct dpkg *d = context;
	struct dpkg_package package = {.condition = DPKG_GONE, .cut = paragraphs->fields[SOURCE].cut};

	if (field(d, PACKAGE).len == 0 || is_outdated(d))
		return;
	read_status(d, &package);
	package.component = (struct component){
		.type = d->type,
		.name = field(d, PACKAGE),
		.version = field(d, VERSION),
		.architecture = field(d, ARCHITECTURE),
	};
	read_source(field(d, SOURCE), &package.component);
	d->take(d->context, &package);
}

void
dpkg_begin(struct dpkg *d, enum dpkg_source kind)
{
	d->kind = kind;
}

void
dpkg_feed(struct dpkg *d, struct slice piece)
{
	paragraphs_feed(&d->paragraphs, piece);
}

int
dpkg_end(struct dpkg *d)
{
	paragraphs_end(&d->paragraphs);
	return d->no_memory ? -1 : 0;
}
