#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "emitter/probes.h"
#include "schema/report.h"

/* What is left of a message when all its other parts are at their largest. */
#define INVENTORY_MAX (LIMIT_MESSAGE - LIMIT_STATE - LIMIT_READINGS - LIMIT_HEADER - 16 * 1024)
#define COMPONENT_MAX (3 * LIMIT_NAME + 2 * LIMIT_VERSION + LIMIT_PURL + 64)
#define JOURNAL_MAX 4096 /* packages whose entry in the status is out of date */
#define BROKEN_MAX (LIMIT_SOCKETS + 1) /* one more than a list takes, so that it says it is not whole */
#define PIECE 65536

enum field { PACKAGE, STATUS, VERSION, ARCHITECTURE, SOURCE, FIELDS };
static const char *const field_names[FIELDS] = {"Package", "Status", "Version", "Architecture", "Source"};

enum condition { CONDITION_GONE, CONDITION_INSTALLED, CONDITION_BROKEN };

/* The third word of Status. */
static const struct {
	const char *status;
	enum condition condition;
} conditions[] = {
	{"installed", CONDITION_INSTALLED},     {"half-installed", CONDITION_BROKEN},
	{"half-configured", CONDITION_BROKEN},  {"unpacked", CONDITION_BROKEN},
	{"triggers-awaited", CONDITION_BROKEN}, {"triggers-pending", CONDITION_BROKEN},
};

struct text {
	uint8_t at[1024];
	size_t len;
	bool cut;
};

struct entry {
	size_t at, len; /* in the components' bytes */
};

struct dpkg {
	char *os_id, *distro; /* NULL: none */
	enum dpkg_source kind;
	struct text_feed feed;
	struct text fields[FIELDS];
	bool no_memory;

	uint64_t installed;
	const char *unlisted;
	uint8_t *bytes;
	size_t len, size;
	struct entry *entries;
	size_t entries_len, entries_size;

	char *journal[JOURNAL_MAX]; /* "name architecture" */
	size_t journal_len;
	char *broken[BROKEN_MAX];
	size_t broken_len;
};

struct dpkg *
dpkg_new(const char *os_id, const char *distro)
{
	struct dpkg *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->os_id = os_id ? strdup(os_id) : NULL;
	d->distro = distro ? strdup(distro) : NULL;
	if ((os_id && !d->os_id) || (distro && !d->distro)) {
		dpkg_free(d);
		return NULL;
	}
	return d;
}

static void
free_work(struct dpkg *d)
{
	for (size_t i = 0; i < d->journal_len; i++)
		free(d->journal[i]);
	free(d->bytes);
	free(d->entries);
	d->journal_len = 0;
	d->bytes = NULL;
	d->entries = NULL;
}

void
dpkg_free(struct dpkg *d)
{
	if (!d)
		return;
	free_work(d);
	for (size_t i = 0; i < d->broken_len; i++)
		free(d->broken[i]);
	free(d->os_id);
	free(d->distro);
	free(d);
}

/* What a purl may hold as it is; ":" needs no encoding anywhere. */
static bool
is_plain(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr(".-_~:", c));
}

struct writer {
	char *out;
	size_t len, size;
	bool overflow;
};

static void
put(struct writer *w, char c)
{
	if (w->len + 1 >= w->size)
		w->overflow = true;
	else
		w->out[w->len++] = c;
}

static void
put_literal(struct writer *w, const char *text)
{
	for (; *text; text++)
		put(w, *text);
}

static void
put_encoded(struct writer *w, struct slice text, bool lower)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];

		if (lower && c >= 'A' && c <= 'Z')
			c = (uint8_t)(c - 'A' + 'a');
		if (is_plain(c)) {
			put(w, (char)c);
			continue;
		}
		put(w, '%');
		put(w, hex[c >> 4]);
		put(w, hex[c & 15]);
	}
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

size_t
purl_deb(const char *os_id, const char *distro, struct slice name, struct slice version, struct slice arch, char *out,
	 size_t size)
{
	struct writer w = {out, 0, size, size == 0};

	put_literal(&w, "pkg:deb/");
	put_encoded(&w, string(os_id), true);
	put(&w, '/');
	put_encoded(&w, name, true);
	if (version.len > 0) {
		put(&w, '@');
		put_encoded(&w, version, false);
	}
	if (arch.len > 0) {
		put_literal(&w, "?arch=");
		put_encoded(&w, arch, false);
	}
	if (distro) {
		put_literal(&w, arch.len > 0 ? "&distro=" : "?distro=");
		put_encoded(&w, string(distro), false);
	}
	if (w.overflow)
		return 0;
	out[w.len] = '\0';
	return w.len;
}

/* Printable ASCII, which all of these are by Debian's policy; others could not be told apart on a page. */
static bool
is_sound(struct slice text, size_t min, size_t max)
{
	if (text.len < min || text.len > max)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] <= ' ' || text.at[i] > '~')
			return false;
	return true;
}

static struct slice
field(const struct dpkg *d, enum field which)
{
	return (struct slice){d->fields[which].at, d->fields[which].len};
}

/* "name (version)", or the name alone when the version is the same. Parts that only repeat the package's are left absent. */
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
	if (name.len > 0 && !(name.len == c->name.len && memcmp(name.at, c->name.at, name.len) == 0))
		c->source = name;
	if (version.len > 0 && !(version.len == c->version.len && memcmp(version.at, c->version.at, version.len) == 0))
		c->source_version = version;
}

static bool
is_sound_component(const struct component *c)
{
	return is_sound(c->name, 1, LIMIT_NAME) && is_sound(c->version, 0, LIMIT_VERSION) &&
	       is_sound(c->architecture, 0, LIMIT_NAME) && is_sound(c->source, 0, LIMIT_NAME) &&
	       is_sound(c->source_version, 0, LIMIT_VERSION);
}

static bool
reserve(struct dpkg *d, size_t more)
{
	size_t size = d->size ? d->size : PIECE, entries = d->entries_size ? d->entries_size : 1024;
	struct entry *moved_entries;
	uint8_t *moved;

	while (size - d->len < more)
		size *= 2;
	if (size > d->size) {
		moved = realloc(d->bytes, size);
		if (!moved)
			return false;
		d->bytes = moved;
		d->size = size;
	}
	if (d->entries_len == entries)
		entries *= 2;
	if (entries > d->entries_size) {
		moved_entries = realloc(d->entries, entries * sizeof *moved_entries);
		if (!moved_entries)
			return false;
		d->entries = moved_entries;
		d->entries_size = entries;
	}
	return true;
}

static void
add_component(struct dpkg *d)
{
	struct component c = {.type = COMPONENT_DPKG, .name = field(d, PACKAGE), .version = field(d, VERSION)};
	char purl[LIMIT_PURL + 1];
	struct cbor_writer w;

	if (d->fields[ARCHITECTURE].len > 0)
		c.architecture = field(d, ARCHITECTURE);
	read_source(field(d, SOURCE), &c);
	if (d->entries_len == LIMIT_COMPONENTS) {
		d->unlisted = "more than 20000";
		return;
	}
	if (d->fields[SOURCE].cut || !is_sound_component(&c)) {
		d->unlisted = "a package's name or version is malformed";
		return;
	}
	c.purl.len = d->os_id ? purl_deb(d->os_id, d->distro, c.name, c.version, c.architecture, purl, sizeof purl) : 0;
	c.purl.at = c.purl.len ? (const uint8_t *)purl : NULL;
	if (d->no_memory || !reserve(d, COMPONENT_MAX)) {
		d->no_memory = true;
		return;
	}
	cbor_writer_init(&w, d->bytes + d->len, d->size - d->len);
	component_encode(&c, &w);
	if (w.overflow || w.len > INVENTORY_MAX - d->len) {
		d->unlisted = "more than a message holds";
		return;
	}
	d->entries[d->entries_len++] = (struct entry){d->len, w.len};
	d->len += w.len;
}

static void
add_broken(struct dpkg *d)
{
	struct slice name = field(d, PACKAGE);

	if (d->broken_len == BROKEN_MAX)
		return;
	d->broken[d->broken_len] = strndup((const char *)name.at, name.len);
	if (d->broken[d->broken_len])
		d->broken_len++;
	else
		d->no_memory = true;
}

/* Whether the journal, which is read first and from its newest file, has had this package already. */
static bool
is_outdated(struct dpkg *d)
{
	struct slice name = field(d, PACKAGE), arch = field(d, ARCHITECTURE);
	char key[2 * sizeof d->fields[0].at + 2];
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

/* "want flag status". A package that must be installed again is broken, whatever else is said of it. */
static enum condition
condition(const struct dpkg *d)
{
	struct slice text = field(d, STATUS), want, flag, status;

	if (d->kind == DPKG_STATUS_D && text.len == 0)
		return CONDITION_INSTALLED;
	if (!text_word(&text, &want) || !text_word(&text, &flag) || !text_word(&text, &status))
		return CONDITION_GONE;
	for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++)
		if (text_is(status, conditions[i].status))
			return conditions[i].condition;
	return text_is(flag, "reinstreq") ? CONDITION_BROKEN : CONDITION_GONE;
}

static void
end_paragraph(struct dpkg *d)
{
	enum condition what;

	if (d->fields[PACKAGE].len > 0 && !is_outdated(d)) {
		what = condition(d);
		if (what == CONDITION_INSTALLED) {
			d->installed++;
			add_component(d);
		} else if (what == CONDITION_BROKEN) {
			add_broken(d);
		}
	}
	for (size_t i = 0; i < FIELDS; i++) {
		d->fields[i].len = 0;
		d->fields[i].cut = false;
	}
}

static void
keep(struct text *to, struct slice value, bool cut)
{
	to->cut = cut || value.len > sizeof to->at;
	to->len = value.len < sizeof to->at ? value.len : sizeof to->at;
	memcpy(to->at, value.at, to->len);
}

/* Fields that go on over several lines are none of ours. */
static bool
take_line(void *context, struct slice line, bool cut)
{
	struct dpkg *d = context;
	struct slice name, value;

	if (line.len == 0) {
		end_paragraph(d);
		return true;
	}
	if (line.at[0] == ' ' || line.at[0] == '\t' || !text_cut(line, ':', &name, &value))
		return true;
	for (size_t i = 0; i < FIELDS; i++)
		if (name.len == strlen(field_names[i]) &&
		    strncasecmp((const char *)name.at, field_names[i], name.len) == 0)
			keep(&d->fields[i], value, cut);
	return true;
}

void
dpkg_begin(struct dpkg *d, enum dpkg_source kind)
{
	d->kind = kind;
}

void
dpkg_feed(struct dpkg *d, struct slice piece)
{
	(void)!text_feed(&d->feed, piece, take_line, d);
}

void
dpkg_end(struct dpkg *d)
{
	(void)!text_feed_end(&d->feed, take_line, d);
	end_paragraph(d);
}

static int
by_bytes(const void *a, const void *b, void *context)
{
	const struct entry *x = a, *y = b;
	const uint8_t *bytes = context;
	int order = memcmp(bytes + x->at, bytes + y->at, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static size_t
without_repeats(struct dpkg *d)
{
	size_t n = 0;

	if (d->entries_len == 0)
		return 0;
	qsort_r(d->entries, d->entries_len, sizeof d->entries[0], by_bytes, d->bytes);
	for (size_t i = 0; i < d->entries_len; i++)
		if (n == 0 || by_bytes(&d->entries[n - 1], &d->entries[i], d->bytes) != 0)
			d->entries[n++] = d->entries[i];
	return n;
}

int
dpkg_finish(struct dpkg *d, struct inventory *out, struct dpkg_result *result)
{
	size_t n = without_repeats(d), size = d->len + 16;
	uint8_t *encoded = d->no_memory ? NULL : malloc(size);
	struct cbor_writer w;

	if (!encoded)
		return -1;
	cbor_writer_init(&w, encoded, size);
	cbor_write_array(&w, n);
	for (size_t i = 0; i < n; i++)
		cbor_write_encoded(&w, (struct slice){d->bytes + d->entries[i].at, d->entries[i].len});
	free_work(d);
	out->encoded = encoded;
	out->len = w.len;
	out->components = n;
	sha256((struct slice){encoded, w.len}, out->digest);
	*result = (struct dpkg_result){
		.installed = d->installed,
		.listed = n,
		.unlisted = d->unlisted,
		.broken = (const char *const *)d->broken,
		.broken_len = d->broken_len,
	};
	return 0;
}
