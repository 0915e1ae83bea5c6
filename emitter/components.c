#include "emitter/components.h"

#include <stdlib.h>
#include <string.h>

#include "schema/cose.h"
#include "schema/purl.h"

/* What is left of a message when all its other parts are at their largest. */
#define INVENTORY_MAX (LIMIT_MESSAGE - LIMIT_STATE - LIMIT_READINGS - LIMIT_HEADER - 16 * 1024)
#define COMPONENT_MAX (3 * LIMIT_NAME + 2 * LIMIT_VERSION + LIMIT_PURL + 64)
#define BROKEN_MAX (LIMIT_SOCKETS + 1) /* one more than a list takes, so that it says it is not whole */
#define PIECE 65536

struct entry {
	size_t at, len; /* in the components' bytes */
	bool package;
};

struct components {
	char *os_id, *distro; /* NULL: none */
	bool no_memory;
	uint64_t installed;
	const char *unlisted;
	uint8_t *bytes;
	size_t len, size;
	struct entry *entries;
	size_t entries_len, entries_size;
	char *broken[BROKEN_MAX];
	size_t broken_len;
};

struct components *
components_new(const char *os_id, const char *distro)
{
	struct components *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->os_id = os_id ? strdup(os_id) : NULL;
	c->distro = distro ? strdup(distro) : NULL;
	if ((os_id && !c->os_id) || (distro && !c->distro)) {
		components_free(c);
		return NULL;
	}
	return c;
}

void
components_free(struct components *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->broken_len; i++)
		free(c->broken[i]);
	free(c->bytes);
	free(c->entries);
	free(c->os_id);
	free(c->distro);
	free(c);
}

/* ---- purls ---- */

struct writer {
	char *out;
	size_t len, size;
	bool overflow;
	bool qualified;
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
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];
		char encoded[3];
		size_t n;

		if (lower && c >= 'A' && c <= 'Z')
			c = (uint8_t)(c - 'A' + 'a');
		n = purl_encode(c, encoded);
		for (size_t k = 0; k < n; k++)
			put(w, encoded[k]);
	}
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void
put_qualifier(struct writer *w, const char *name, struct slice value)
{
	if (value.len == 0)
		return;
	put(w, w->qualified ? '&' : '?');
	w->qualified = true;
	put_literal(w, name);
	put(w, '=');
	put_encoded(w, value, false);
}

/* An epoch stands in the version of a deb's purl, and beside it in an rpm's. */
static const struct {
	enum component_type type;
	const char *name;
	bool lower; /* names are written small */
	bool epoch; /* as a qualifier */
} purl_types[] = {
	{COMPONENT_DPKG, "deb", true, false},
	{COMPONENT_OPKG, "opkg", false, false},
	{COMPONENT_APK, "apk", true, false},
	{COMPONENT_RPM, "rpm", false, true},
};

size_t
purl_write(enum component_type type, const char *os_id, const char *distro, const struct component *c, char *out,
	   size_t size)
{
	struct writer w = {.out = out, .size = size, .overflow = size == 0};
	struct slice version = c->version, epoch = {NULL, 0};
	const uint8_t *colon;
	size_t i = 0;

	while (i < sizeof purl_types / sizeof purl_types[0] && purl_types[i].type != type)
		i++;
	if (i == sizeof purl_types / sizeof purl_types[0])
		return 0;
	colon = purl_types[i].epoch && version.len ? memchr(version.at, ':', version.len) : NULL;
	if (colon) {
		epoch = (struct slice){version.at, (size_t)(colon - version.at)};
		version = (struct slice){colon + 1, version.len - epoch.len - 1};
	}
	put_literal(&w, "pkg:");
	put_literal(&w, purl_types[i].name);
	put(&w, '/');
	put_encoded(&w, string(os_id), true);
	put(&w, '/');
	put_encoded(&w, c->name, purl_types[i].lower);
	if (version.len > 0) {
		put(&w, '@');
		put_encoded(&w, version, false);
	}
	put_qualifier(&w, "arch", c->architecture);
	put_qualifier(&w, "distro", distro ? string(distro) : (struct slice){NULL, 0});
	put_qualifier(&w, "epoch", epoch);
	if (w.overflow)
		return 0;
	out[w.len] = '\0';
	return w.len;
}

/* ---- the set ---- */

/* Printable ASCII, which all of these are by the distributions' policies; others could not be told apart on a page. */
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

static bool
is_sound_component(const struct component *c)
{
	return is_sound(c->name, 1, LIMIT_NAME) && is_sound(c->version, 0, LIMIT_VERSION) &&
	       is_sound(c->architecture, 0, LIMIT_NAME) && is_sound(c->source, 0, LIMIT_NAME) &&
	       is_sound(c->source_version, 0, LIMIT_VERSION);
}

static bool
reserve(struct components *c, size_t more)
{
	size_t size = c->size ? c->size : PIECE, entries = c->entries_size ? c->entries_size : 1024;
	struct entry *moved_entries;
	uint8_t *moved;

	while (size - c->len < more)
		size *= 2;
	if (size > c->size) {
		moved = realloc(c->bytes, size);
		if (!moved)
			return false;
		c->bytes = moved;
		c->size = size;
	}
	if (c->entries_len == entries)
		entries *= 2;
	if (entries > c->entries_size) {
		moved_entries = realloc(c->entries, entries * sizeof *moved_entries);
		if (!moved_entries)
			return false;
		c->entries = moved_entries;
		c->entries_size = entries;
	}
	return true;
}

static void
add(struct components *c, const struct component *one, bool package)
{
	struct cbor_writer w;

	if (c->no_memory || !reserve(c, COMPONENT_MAX)) {
		c->no_memory = true;
		return;
	}
	cbor_writer_init(&w, c->bytes + c->len, c->size - c->len);
	component_encode(one, &w);
	if (w.overflow || w.len > INVENTORY_MAX - c->len) {
		c->unlisted = "more than a message holds";
		return;
	}
	c->entries[c->entries_len++] = (struct entry){c->len, w.len, package};
	c->len += w.len;
}

void
components_add(struct components *c, const struct component *one)
{
	if (c->entries_len < LIMIT_COMPONENTS && is_sound_component(one))
		add(c, one, false);
}

static bool
same(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

void
components_package(struct components *c, const struct component *package, bool cut)
{
	struct component one = *package;
	char purl[LIMIT_PURL + 1];

	c->installed++;
	if (c->entries_len == LIMIT_COMPONENTS) {
		c->unlisted = "more than 20000";
		return;
	}
	if (one.architecture.len == 0)
		one.architecture.at = NULL;
	if (one.source.len == 0 || same(one.source, one.name))
		one.source = (struct slice){NULL, 0};
	if (one.source_version.len == 0 || same(one.source_version, one.version))
		one.source_version = (struct slice){NULL, 0};
	if (cut || !is_sound_component(&one)) {
		c->unlisted = "a package's name or version is malformed";
		return;
	}
	one.purl.len = c->os_id ? purl_write(one.type, c->os_id, c->distro, &one, purl, sizeof purl) : 0;
	one.purl.at = one.purl.len ? (const uint8_t *)purl : NULL;
	add(c, &one, true);
}

void
components_broken(struct components *c, struct slice name)
{
	if (c->broken_len == BROKEN_MAX)
		return;
	c->broken[c->broken_len] = strndup((const char *)name.at, name.len);
	if (c->broken[c->broken_len])
		c->broken_len++;
	else
		c->no_memory = true;
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
without_repeats(struct components *c)
{
	size_t n = 0;

	if (c->entries_len == 0)
		return 0;
	qsort_r(c->entries, c->entries_len, sizeof c->entries[0], by_bytes, c->bytes);
	for (size_t i = 0; i < c->entries_len; i++)
		if (n == 0 || by_bytes(&c->entries[n - 1], &c->entries[i], c->bytes) != 0)
			c->entries[n++] = c->entries[i];
	return n;
}

int
components_finish(struct components *c, struct inventory *out, struct components_result *result)
{
	size_t n = without_repeats(c), size = c->len + 16, packages = 0;
	uint8_t *encoded = c->no_memory ? NULL : malloc(size);
	struct cbor_writer w;

	if (!encoded)
		return -1;
	cbor_writer_init(&w, encoded, size);
	cbor_write_array(&w, n);
	for (size_t i = 0; i < n; i++) {
		cbor_write_encoded(&w, (struct slice){c->bytes + c->entries[i].at, c->entries[i].len});
		packages += c->entries[i].package;
	}
	free(c->bytes);
	free(c->entries);
	c->bytes = NULL;
	c->entries = NULL;
	c->len = c->size = c->entries_len = c->entries_size = 0;
	out->encoded = encoded;
	out->len = w.len;
	out->components = n;
	sha256((struct slice){encoded, w.len}, out->digest);
	*result = (struct components_result){
		.installed = c->installed,
		.listed = packages,
		.unlisted = c->unlisted,
		.broken = (const char *const *)c->broken,
		.broken_len = c->broken_len,
	};
	return 0;
}
