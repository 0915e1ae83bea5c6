#include "emitter/apt_policy.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "emitter/paragraph.h"
#include "schema/version.h"

#define INSTALLED_MAX 65536
#define OFFERS_MAX 262144
#define OFFERS_EACH 64 /* each is compared with each */
#define TEXTS_MAX (16 * 1024 * 1024)
#define FILES_MAX 256
#define PINS_MAX 128
#define PIN_TEXT 256
#define NEVER SHRT_MIN

struct offer {
	uint32_t version, next; /* in texts; in offers, 0: the last */
	uint16_t file;
};

struct installed {
	uint32_t name, version, offers; /* in texts; in offers, 0: none */
	uint32_t hash, count;
};

enum pin_kind { PIN_RELEASE, PIN_ORIGIN, PIN_VERSION };

struct pin {
	char package[PIN_TEXT], pattern[PIN_TEXT]; /* package "": any */
	enum pin_kind kind;
	int priority;
};

struct apt_policy {
	const char *why;
	char *texts;
	size_t texts_len, texts_size;
	struct installed *installed;
	size_t installed_len, installed_size;
	uint32_t *table; /* index + 1 by hash of "name:architecture" */
	size_t table_size;
	struct offer *offers;
	size_t offers_len, offers_size;
	struct apt_release files[FILES_MAX];
	size_t files_len;
	struct pin *pins;
	size_t pins_len;
	struct paragraphs list;
	char native[32];
};

enum { PACKAGE, VERSION, ARCHITECTURE, LIST_FIELDS };
static const char *const list_fields[LIST_FIELDS] = {"Package", "Version", "Architecture"};

static void take_offer(void *, struct paragraphs *);

struct apt_policy *
apt_policy_new(void)
{
	struct apt_policy *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->pins = calloc(PINS_MAX, sizeof *p->pins);
	if (!p->pins) {
		free(p);
		return NULL;
	}
	p->offers_len = 1;
	p->list = (struct paragraphs){
		.names = list_fields, .len = LIST_FIELDS, .last = LIST_FIELDS, .take = take_offer, .context = p};
	return p;
}

void
apt_policy_free(struct apt_policy *p)
{
	if (!p)
		return;
	free(p->texts);
	free(p->installed);
	free(p->table);
	free(p->offers);
	free(p->pins);
	free(p);
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* Makes room for one more; false and why: there is none. */
static bool
room(struct apt_policy *p, void *array, size_t *size, size_t len, size_t more, size_t each, size_t max)
{
	size_t wanted = *size ? *size : 1024;
	void *moved, *old;

	if (p->why)
		return false;
	if (len + more > max) {
		p->why = "more packages and versions than are looked at";
		return false;
	}
	while (wanted < len + more)
		wanted *= 2;
	if (wanted <= *size)
		return true;
	memcpy(&old, array, sizeof old);
	moved = realloc(old, wanted * each);
	if (!moved) {
		p->why = "no memory";
		return false;
	}
	memcpy(array, &moved, sizeof moved);
	*size = wanted;
	return true;
}

static bool
keep(struct apt_policy *p, struct slice text, uint32_t *at)
{
	if (!room(p, &p->texts, &p->texts_size, p->texts_len, text.len + 1, 1, TEXTS_MAX))
		return false;
	memcpy(p->texts + p->texts_len, text.at, text.len);
	p->texts[p->texts_len + text.len] = '\0';
	*at = (uint32_t)p->texts_len;
	p->texts_len += text.len + 1;
	return true;
}

/* FNV-1a */
static uint32_t
hash_of(struct slice key)
{
	uint32_t hash = 2166136261;

	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ key.at[i]) * 16777619;
	return hash;
}

#define KEY_SIZE (2 * PARAGRAPH_TEXT + 2)

/* What is for all architectures goes with the native one. */
static struct slice
make_key(const struct apt_policy *p, struct slice name, struct slice architecture, char key[KEY_SIZE])
{
	if (name.len > PARAGRAPH_TEXT || architecture.len > PARAGRAPH_TEXT)
		name.len = 0;
	if (text_is(architecture, "all") || architecture.len == 0 || architecture.len > PARAGRAPH_TEXT)
		architecture = string(p->native);
	memcpy(key, name.at, name.len);
	key[name.len] = ':';
	memcpy(key + name.len + 1, architecture.at, architecture.len);
	key[name.len + 1 + architecture.len] = '\0';
	return (struct slice){(const uint8_t *)key, name.len + 1 + architecture.len};
}

static void
put_in_table(struct apt_policy *p, size_t i)
{
	size_t at = p->installed[i].hash & (p->table_size - 1);

	while (p->table[at])
		at = (at + 1) & (p->table_size - 1);
	p->table[at] = (uint32_t)i + 1;
}

static bool
grow_table(struct apt_policy *p)
{
	size_t size = p->table_size ? 2 * p->table_size : 4096;

	if (2 * (p->installed_len + 1) <= p->table_size)
		return true;
	free(p->table);
	p->table = calloc(size, sizeof *p->table);
	p->table_size = p->table ? size : 0;
	for (size_t i = 0; p->table && i < p->installed_len; i++)
		put_in_table(p, i);
	if (!p->table)
		p->why = "no memory";
	return p->table != NULL;
}

void
apt_policy_native(struct apt_policy *p, struct slice architecture)
{
	if (architecture.len < sizeof p->native) {
		memcpy(p->native, architecture.at, architecture.len);
		p->native[architecture.len] = '\0';
	}
}

void
apt_policy_installed(struct apt_policy *p, struct slice name, struct slice architecture, struct slice version)
{
	struct installed one = {0};
	char buffer[KEY_SIZE];
	struct slice key;

	key = make_key(p, name, architecture, buffer);
	one.hash = hash_of(key);
	if (!room(p, &p->installed, &p->installed_size, p->installed_len, 1, sizeof one, INSTALLED_MAX) ||
	    !keep(p, key, &one.name) || !keep(p, version, &one.version) || !grow_table(p))
		return;
	p->installed[p->installed_len] = one;
	put_in_table(p, p->installed_len++);
}

static struct installed *
find(const struct apt_policy *p, struct slice key)
{
	uint32_t hash = hash_of(key);

	for (size_t at = hash & (p->table_size - 1); p->table_size && p->table[at];
	     at = (at + 1) & (p->table_size - 1)) {
		struct installed *one = &p->installed[p->table[at] - 1];

		if (one->hash == hash && text_is(key, p->texts + one->name))
			return one;
	}
	return NULL;
}

static void
take_offer(void *context, struct paragraphs *paragraphs)
{
	struct apt_policy *p = context;
	struct slice version = paragraph_field(paragraphs, VERSION);
	struct offer offer = {.file = (uint16_t)(p->files_len - 1)};
	struct installed *one;
	char buffer[KEY_SIZE];

	if (p->why || version.len == 0 || paragraph_field(paragraphs, PACKAGE).len == 0)
		return;
	one = find(p, make_key(p, paragraph_field(paragraphs, PACKAGE), paragraph_field(paragraphs, ARCHITECTURE),
			       buffer));
	if (one && one->count++ == OFFERS_EACH) {
		p->why = "more versions of one package than are looked at";
		return;
	}
	if (!one || !room(p, &p->offers, &p->offers_size, p->offers_len, 1, sizeof offer, OFFERS_MAX) ||
	    !keep(p, version, &offer.version))
		return;
	offer.next = one->offers;
	one->offers = (uint32_t)p->offers_len;
	p->offers[p->offers_len++] = offer;
}

void
apt_policy_begin(struct apt_policy *p, const struct apt_release *release)
{
	if (p->files_len == FILES_MAX)
		p->why = "more than 256 lists";
	else
		p->files[p->files_len++] = *release;
}

void
apt_policy_feed(struct apt_policy *p, struct slice piece)
{
	if (!p->why)
		paragraphs_feed(&p->list, piece);
}

void
apt_policy_end(struct apt_policy *p)
{
	paragraphs_end(&p->list);
}

/* ---- release files ---- */

enum { ORIGIN, LABEL, SUITE, CODENAME, RELEASE_VERSION, NOT_AUTOMATIC, BUT_AUTOMATIC, RELEASE_FIELDS_LEN };
static const char *const release_fields[RELEASE_FIELDS_LEN] = {
	"Origin", "Label", "Suite", "Codename", "Version", "NotAutomatic", "ButAutomaticUpgrades"};

static void
copy(char out[APT_TEXT], struct slice text)
{
	size_t len = text.len < APT_TEXT ? text.len : APT_TEXT - 1;

	memcpy(out, text.at, len);
	out[len] = '\0';
}

/* In a signed file the armour's headers are a paragraph of their own, and so is the signature. */
static void
take_release(void *context, struct paragraphs *p)
{
	struct apt_release *r = context;

	if (paragraph_field(p, SUITE).len == 0 && paragraph_field(p, CODENAME).len == 0 &&
	    paragraph_field(p, ORIGIN).len == 0)
		return;
	copy(r->origin, paragraph_field(p, ORIGIN));
	copy(r->label, paragraph_field(p, LABEL));
	copy(r->suite, paragraph_field(p, SUITE));
	copy(r->codename, paragraph_field(p, CODENAME));
	copy(r->version, paragraph_field(p, RELEASE_VERSION));
	r->not_automatic = text_is(paragraph_field(p, NOT_AUTOMATIC), "yes");
	r->but_automatic_upgrades = text_is(paragraph_field(p, BUT_AUTOMATIC), "yes");
}

void
apt_release_parse(struct slice text, struct apt_release *out)
{
	struct paragraphs *p = calloc(1, sizeof *p);

	if (!p)
		return;
	*p = (struct paragraphs){.names = release_fields,
				 .len = RELEASE_FIELDS_LEN,
				 .last = RELEASE_FIELDS_LEN,
				 .take = take_release,
				 .context = out};
	paragraphs_feed(p, text);
	paragraphs_end(p);
	free(p);
}

static bool
ends_in(const char *text, const char *end)
{
	size_t len = strlen(text), tail = strlen(end);

	return len >= tail && strcmp(text + len - tail, end) == 0;
}

bool
apt_release_is_security(const struct apt_release *r)
{
	return ends_in(r->suite, "-security") || ends_in(r->codename, "-security") || strcasestr(r->label, "security");
}

/* ---- pins ---- */

enum { PIN_PACKAGE, PIN, PIN_PRIORITY, EXPLANATION, PIN_FIELDS };
static const char *const pin_fields[PIN_FIELDS] = {"Package", "Pin", "Pin-Priority", "Explanation"};

static const struct {
	const char *word;
	enum pin_kind kind;
} pin_kinds[] = {{"release", PIN_RELEASE}, {"origin", PIN_ORIGIN}, {"version", PIN_VERSION}};

static void
add_pin(struct apt_policy *p, struct slice package, enum pin_kind kind, struct slice pattern, int priority)
{
	struct pin *pin = &p->pins[p->pins_len];

	if (p->pins_len == PINS_MAX || package.len >= PIN_TEXT || pattern.len >= PIN_TEXT) {
		p->why = "more or longer pins than are looked at";
		return;
	}
	if (text_begins(package, "/") || memmem(pattern.at, pattern.len, "/", 1)) {
		p->why = "a pin with a regular expression is not understood";
		return;
	}
	if (text_begins(package, "src:")) {
		p->why = "a pin by source package is not understood";
		return;
	}
	pin->kind = kind;
	pin->priority = priority;
	if (!text_is(package, "*"))
		memcpy(pin->package, package.at, package.len);
	memcpy(pin->pattern, pattern.at, pattern.len);
	p->pins_len++;
}

static bool
read_priority(struct slice text, int *out)
{
	bool negative = text.len > 0 && text.at[0] == '-';
	uint64_t number;

	if (text_is(text, "never")) {
		*out = NEVER;
		return true;
	}
	if (negative)
		text.at++, text.len--;
	if (!text_number(text, 10, &number) || number > SHRT_MAX)
		return false;
	*out = negative ? -(int)number : (int)number;
	return true;
}

static void
take_pin(void *context, struct paragraphs *paragraphs)
{
	struct slice names = paragraph_field(paragraphs, PIN_PACKAGE), pin = paragraph_field(paragraphs, PIN), word,
		     name;
	struct apt_policy *p = context;
	int priority;

	if (!text_word(&pin, &word) || !read_priority(paragraph_field(paragraphs, PIN_PRIORITY), &priority))
		return;
	pin = text_trim(pin);
	if (pin.len > 1 && pin.at[0] == '"' && pin.at[pin.len - 1] == '"')
		pin = (struct slice){pin.at + 1, pin.len - 2};
	for (size_t i = 0; i < sizeof pin_kinds / sizeof pin_kinds[0]; i++)
		while (text_is(word, pin_kinds[i].word) && !p->why && text_word(&names, &name))
			add_pin(p, name, pin_kinds[i].kind, pin, priority);
}

void
apt_policy_preferences(struct apt_policy *p, struct slice text)
{
	struct paragraphs *file = calloc(1, sizeof *file);

	if (!file) {
		p->why = "no memory";
		return;
	}
	*file = (struct paragraphs){
		.names = pin_fields, .len = PIN_FIELDS, .last = PIN_FIELDS, .take = take_pin, .context = p};
	paragraphs_feed(file, text);
	paragraphs_end(file);
	free(file);
}

void
apt_policy_default_release(struct apt_policy *p, struct slice release)
{
	add_pin(p, string("*"), PIN_RELEASE, release, 990);
}

static bool
matches(const char *pattern, const char *text)
{
	return strcasecmp(pattern, text) == 0 || fnmatch(pattern, text, FNM_CASEFOLD) == 0;
}

/* "a=stable,n=bookworm", "bookworm", "12*" or "*". */
static bool
release_matches(const char *pattern, const struct apt_release *r)
{
	const struct {
		char letter;
		const char *text;
	} names[] = {{'a', r->suite}, {'n', r->codename}, {'o', r->origin},
		     {'l', r->label}, {'v', r->version},  {'c', r->component}};
	char whole[PIN_TEXT], *rest = whole, *one;
	bool any = false;

	if (strcmp(pattern, "*") == 0)
		return true;
	if (!strchr(pattern, '='))
		return pattern[0] >= '0' && pattern[0] <= '9'
			       ? matches(pattern, r->version)
			       : matches(pattern, r->suite) || matches(pattern, r->codename);
	strcpy(whole, pattern);
	while ((one = strsep(&rest, ","))) {
		one += strspn(one, " ");
		if (!one[0] || one[1] != '=')
			continue;
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
			if (names[i].letter != one[0])
				continue;
			any = true;
			if (!matches(one + 2, names[i].text))
				return false;
		}
	}
	return any;
}

static bool
file_matches(const struct pin *pin, const struct apt_release *r)
{
	if (pin->kind == PIN_RELEASE)
		return release_matches(pin->pattern, r);
	return pin->kind == PIN_ORIGIN && matches(pin->pattern, r->site);
}

/* A name may be followed by its architecture; `name` always is. */
static bool
names_package(const struct pin *pin, const char *name)
{
	const char *colon = strrchr(name, ':'), *pin_colon = strrchr(pin->package, ':');
	char bare[PIN_TEXT], wanted[PIN_TEXT];

	snprintf(bare, sizeof bare, "%.*s", (int)(colon - name), name);
	snprintf(wanted, sizeof wanted, "%s", pin->package);
	if (pin_colon) {
		wanted[pin_colon - pin->package] = '\0';
		if (strcmp(pin_colon, ":any") != 0 && strcmp(pin_colon, colon) != 0)
			return false;
	}
	return pin->package[0] != '\0' && (strcmp(wanted, bare) == 0 || fnmatch(wanted, bare, 0) == 0);
}

static int
file_priority(const struct apt_policy *p, const struct apt_release *r)
{
	for (size_t i = 0; i < p->pins_len; i++)
		if (p->pins[i].package[0] == '\0' && file_matches(&p->pins[i], r))
			return p->pins[i].priority;
	if (!r->not_automatic)
		return 500;
	return r->but_automatic_upgrades ? 100 : 1;
}

/* Of one version: what the first pin of this package says that fits it or any file it is in, else the best of its files. */
static int
priority_of(const struct apt_policy *p, const struct installed *one, const char *version)
{
	bool is_current = strcmp(version, p->texts + one->version) == 0;
	int best = is_current ? 100 : INT_MIN, priority;

	for (size_t i = 0; i < p->pins_len; i++) {
		const struct pin *pin = &p->pins[i];
		bool fits = pin->kind == PIN_VERSION && matches(pin->pattern, version);

		if (!names_package(pin, p->texts + one->name))
			continue;
		for (uint32_t at = one->offers; at && !fits; at = p->offers[at].next)
			fits = strcmp(p->texts + p->offers[at].version, version) == 0 &&
			       file_matches(pin, &p->files[p->offers[at].file]);
		if (fits)
			return pin->priority;
	}
	for (uint32_t at = one->offers; at; at = p->offers[at].next) {
		if (strcmp(p->texts + p->offers[at].version, version) != 0)
			continue;
		priority = file_priority(p, &p->files[p->offers[at].file]);
		best = priority > best ? priority : best;
	}
	return best;
}

static int
compare(const char *a, const char *b)
{
	return version_compare(VERSION_DEBIAN, string(a), string(b));
}

/* The version that apt would have, NULL: none. Of equal rank the newest; an older one than is installed only from 1000 on. */
static const char *
candidate(const struct apt_policy *p, const struct installed *one)
{
	const char *current = p->texts + one->version, *best = NULL;
	int best_priority = -1;

	for (uint32_t at = 0, next = one->offers;; at = next, next = p->offers[at].next) {
		const char *version = at ? p->texts + p->offers[at].version : current;
		int priority = priority_of(p, one, version);

		if (priority > 0 && (priority >= 1000 || compare(version, current) >= 0) &&
		    (priority > best_priority || (priority == best_priority && best && compare(version, best) > 0))) {
			best = version;
			best_priority = priority;
		}
		if (!next)
			return best;
	}
}

static bool
has_security(const struct apt_policy *p, const struct installed *one, const char *to)
{
	for (uint32_t at = one->offers; at; at = p->offers[at].next) {
		const char *version = p->texts + p->offers[at].version;

		if (apt_release_is_security(&p->files[p->offers[at].file]) &&
		    compare(version, p->texts + one->version) > 0 && compare(version, to) <= 0)
			return true;
	}
	return false;
}

const char *
apt_policy_finish(struct apt_policy *p, void (*take)(void *, const struct apt_pending *), void *context)
{
	for (size_t i = 0; i < p->installed_len && !p->why; i++) {
		const struct installed *one = &p->installed[i];
		const char *to = candidate(p, one);
		const char *architecture = strrchr(p->texts + one->name, ':') + 1;
		char name[PIN_TEXT];

		if (!to || compare(to, p->texts + one->version) <= 0)
			continue;
		/* Another architecture's package is told with it. */
		if (strcmp(architecture, p->native) == 0)
			snprintf(name, sizeof name, "%.*s", (int)(architecture - 1 - (p->texts + one->name)),
				 p->texts + one->name);
		else
			snprintf(name, sizeof name, "%s", p->texts + one->name);
		take(context, &(struct apt_pending){name, p->texts + one->version, to, has_security(p, one, to)});
	}
	return p->why;
}
