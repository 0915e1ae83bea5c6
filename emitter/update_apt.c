#include "emitter/update_apt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emitter/apt_policy.h"
#include "emitter/dpkg.h"
#include "emitter/unpack.h"

#define LISTS "var/lib/apt/lists/"
#define LIST_MAX (512 * 1024 * 1024)
#define STATUS "var/lib/dpkg/status"
#define STATUS_MAX (128 * 1024 * 1024)
#define FILES_MAX 1024
#define NAME_SIZE 512
#define PATH_SIZE 800

struct names {
	char *at[FILES_MAX];
	size_t len;
	const char *const *ends;
};

/* What apt and run-parts take: letters, digits, "-", "_" and ".". */
static bool
is_taken(const char *name, const char *const *ends)
{
	size_t len = strlen(name);

	if (name[0] == '.' || len >= 255)
		return false;
	for (const char *c = name; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
		      strchr("-_.", *c)))
			return false;
	for (; *ends; ends++) {
		size_t end = strlen(*ends);

		if (end == 0 ? !strchr(name, '.') : len > end && strcmp(name + len - end, *ends) == 0)
			return true;
	}
	return false;
}

static bool
take_name(void *context, int directory, const char *name)
{
	struct names *names = context;

	(void)directory;
	if (is_taken(name, names->ends)) {
		names->at[names->len] = strdup(name);
		names->len += names->at[names->len] != NULL;
	}
	return names->len < FILES_MAX;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void
each_file(struct probe *p, const char *directory, const char *const *ends, void (*take)(void *, const char *),
	  void *context)
{
	struct names *names = calloc(1, sizeof *names);
	char path[PATH_SIZE];

	if (!names) {
		p->no_memory = true;
		return;
	}
	names->ends = ends;
	(void)!source_list(p->source, directory, SOURCE_NAMES, take_name, names);
	qsort(names->at, names->len, sizeof names->at[0], by_name);
	for (size_t i = 0; i < names->len; i++) {
		snprintf(path, sizeof path, "%s/%s", directory, names->at[i]);
		take(context, path);
		free(names->at[i]);
	}
	free(names);
}

/* ---- configuration and sources ---- */

struct conf_files {
	struct probe *probe;
	void (*take)(void *, const char *, struct slice);
	void *context;
};

static void
read_settings(void *context, const char *path)
{
	struct conf_files *s = context;
	struct slice text = source_read(s->probe->source, path, SOURCE_FILE);

	if (text.at)
		apt_conf_parse(text, s->take, s->context);
}

void
apt_each_setting(struct probe *p, void (*take)(void *, const char *, struct slice), void *context)
{
	static const char *const ends[] = {"", ".conf", NULL};
	struct conf_files s = {p, take, context};

	each_file(p, "etc/apt/apt.conf.d", ends, read_settings, &s);
	read_settings(&s, "etc/apt/apt.conf");
}

struct sources {
	struct probe *probe;
	void (*take)(void *, const struct apt_source *);
	void *context;
};

/* `take` may read other files, so the text is its own. */
static void
read_sources(void *context, const char *path)
{
	struct sources *s = context;
	struct slice text = source_read(s->probe->source, path, SOURCE_FILE);
	size_t len = strlen(path);
	uint8_t *own = text.at && text.len ? malloc(text.len) : NULL;

	if (!own)
		return;
	memcpy(own, text.at, text.len);
	text.at = own;
	if (len > 8 && strcmp(path + len - 8, ".sources") == 0)
		apt_sources_parse_paragraphs(text, s->take, s->context);
	else
		apt_sources_parse_lines(text, s->take, s->context);
	free(own);
}

void
apt_each_source(struct probe *p, void (*take)(void *, const struct apt_source *), void *context)
{
	static const char *const ends[] = {".list", ".sources", NULL};
	struct sources s = {p, take, context};

	read_sources(&s, "etc/apt/sources.list");
	each_file(p, "etc/apt/sources.list.d", ends, read_sources, &s);
}

/* ---- what waits ---- */

struct pending {
	struct probe *probe;
	struct apt_policy *policy;
	char architectures[8][32]; /* the native one first */
	size_t architectures_len;
	size_t lists;
	char why[256];
	uint64_t n, security;
};

static void
find_native(void *context, const struct dpkg_package *package)
{
	struct pending *w = context;
	struct slice architecture = package->component.architecture;

	if (!text_is(package->component.name, "dpkg") || package->condition == DPKG_GONE ||
	    architecture.len >= sizeof w->architectures[0])
		return;
	memcpy(w->architectures[0], architecture.at, architecture.len);
	w->architectures[0][architecture.len] = '\0';
	w->architectures_len = 1;
	apt_policy_native(w->policy, architecture);
}

static void
take_installed(void *context, const struct dpkg_package *package)
{
	struct pending *w = context;

	if (package->condition != DPKG_GONE && !package->cut)
		apt_policy_installed(w->policy, package->component.name, package->component.architecture,
				     package->component.version);
}

static bool
feed_status(void *context, struct slice piece)
{
	dpkg_feed(context, piece);
	return true;
}

static bool
read_status(struct pending *w, void (*take)(void *, const struct dpkg_package *))
{
	struct dpkg *dpkg = dpkg_new(COMPONENT_DPKG, take, w);
	int result;

	if (!dpkg)
		return false;
	dpkg_begin(dpkg, DPKG_STATUS);
	result = source_stream(w->probe->source, STATUS, STATUS_MAX, feed_status, dpkg);
	if (dpkg_end(dpkg) < 0)
		result = -1;
	dpkg_free(dpkg);
	if (result < 0)
		snprintf(w->why, sizeof w->why, "%s", source_why(w->probe->source));
	return result == 0;
}

/* dpkg's own list of them has the native one too. */
static void
read_architectures(struct pending *w)
{
	struct slice text = source_read(w->probe->source, "var/lib/dpkg/arch", SOURCE_ATTRIBUTE), word;

	while (text_word(&text, &word) && w->architectures_len < 7) {
		if (word.len >= sizeof w->architectures[0] || text_is(word, w->architectures[0]))
			continue;
		memcpy(w->architectures[w->architectures_len], word.at, word.len);
		w->architectures[w->architectures_len++][word.len] = '\0';
	}
	strcpy(w->architectures[w->architectures_len++], "all");
}

static bool
feed_list(void *context, struct slice piece)
{
	apt_policy_feed(context, piece);
	return true;
}

static void
read_list(struct pending *w, const char *name, const struct apt_release *release)
{
	char path[PATH_SIZE], why[CHILD_WHY];
	int fd, result;

	snprintf(path, sizeof path, LISTS "%s", name);
	if (source_exists(w->probe->source, path)) {
		apt_policy_begin(w->policy, release);
		w->lists++;
		if (source_stream(w->probe->source, path, LIST_MAX, feed_list, w->policy) < 0)
			snprintf(w->why, sizeof w->why, "%s", source_why(w->probe->source));
		apt_policy_end(w->policy);
		return;
	}
	for (unsigned kind = 0; kind < UNPACK_KINDS; kind++) {
		snprintf(path, sizeof path, LISTS "%s%s", name, unpack_suffix((enum unpack_kind)kind));
		if (!source_exists(w->probe->source, path))
			continue;
		fd = source_open(w->probe->source, path, false);
		if (fd < 0) {
			snprintf(w->why, sizeof w->why, "%s", source_why(w->probe->source));
			return;
		}
		apt_policy_begin(w->policy, release);
		w->lists++;
		result = unpack((enum unpack_kind)kind, fd, feed_list, w->policy, why);
		if (result < 0)
			snprintf(w->why, sizeof w->why, "%.100s: %s", path, why);
		if (result == -2)
			source_trace_transient(w->probe->source);
		else if (result == -3)
			source_trace_later(w->probe->source);
		apt_policy_end(w->policy);
		close(fd);
		return;
	}
}

static void
read_release(struct pending *w, const char *prefix, struct apt_release *release)
{
	static const char *const names[] = {"InRelease", "Release"};
	char path[PATH_SIZE];
	struct slice text;

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof path, LISTS "%s_%s", prefix, names[i]);
		text = source_read(w->probe->source, path, 16 * SOURCE_FILE);
		if (text.at) {
			apt_release_parse(text, release);
			return;
		}
	}
}

static void
copy_text(char *out, size_t size, struct slice text)
{
	snprintf(out, size, "%.*s", (int)(text.len < size ? text.len : size - 1),
		 text.len ? (const char *)text.at : "");
}

static void
name_site(struct slice uri, char out[APT_TEXT])
{
	const uint8_t *at = memmem(uri.at, uri.len, "://", 3);
	struct slice rest, user, host;

	out[0] = '\0';
	if (!at)
		return;
	rest = (struct slice){at + 3, (size_t)(uri.at + uri.len - at) - 3};
	if (!text_cut(rest, '/', &host, &user))
		host = rest;
	if (text_cut(host, '@', &user, &rest))
		host = rest;
	if (text_cut(host, ':', &rest, &user))
		host = rest;
	copy_text(out, APT_TEXT, host);
}

static bool
wants_architecture(struct slice wanted, const char *architecture)
{
	struct slice rest = wanted, one;

	if (wanted.len == 0 || strcmp(architecture, "all") == 0)
		return true;
	while (rest.len > 0) {
		size_t len = 0;

		while (len < rest.len && !memchr(", \t\n", rest.at[len], 4))
			len++;
		one = (struct slice){rest.at, len};
		if (text_is(one, architecture))
			return true;
		len += len < rest.len;
		rest.at += len;
		rest.len -= len;
	}
	return false;
}

static void
read_component(struct pending *w, const struct apt_source *source, const char *prefix, struct slice component,
	       struct apt_release *release)
{
	char name[NAME_SIZE];

	copy_text(release->component, sizeof release->component, component);
	for (size_t i = 0; i < w->architectures_len; i++) {
		if (!wants_architecture(source->architectures, w->architectures[i]))
			continue;
		if (snprintf(name, sizeof name, "%s_%s_binary-%s_Packages", prefix, release->component,
			     w->architectures[i]) < (int)sizeof name)
			read_list(w, name, release);
	}
}

/* A suite that ends in "/" is a directory by itself, without components. */
static void
take_source(void *context, const struct apt_source *source)
{
	bool flat = source->suite.len > 0 && source->suite.at[source->suite.len - 1] == '/';
	struct slice components = source->components, component;
	struct pending *w = context;
	struct apt_release release;
	char path[256], prefix[256], name[NAME_SIZE];

	memset(&release, 0, sizeof release);
	snprintf(path, sizeof path, "%s%.*s", flat ? "" : "dists/", (int)(source->suite.len - flat),
		 (const char *)source->suite.at);
	if (source->suite.len > 200 ||
	    apt_list_name(source->uri, (struct slice){(const uint8_t *)path, strlen(path)}, prefix, sizeof prefix) == 0)
		return;
	name_site(source->uri, release.site);
	read_release(w, prefix, &release);
	if (flat) {
		snprintf(name, sizeof name, "%s_Packages", prefix);
		read_list(w, name, &release);
	}
	while (!flat && text_word(&components, &component)) {
		for (size_t i = 0; i < component.len; i++)
			if (component.at[i] == '/')
				component.len = 0;
		if (component.len > 0)
			read_component(w, source, prefix, component, &release);
	}
}

static void
take_setting(void *context, const char *name, struct slice value)
{
	struct pending *w = context;

	if (strcasecmp(name, "APT::Default-Release") == 0 && value.len > 0)
		apt_policy_default_release(w->policy, value);
}

static void
read_preferences(void *context, const char *path)
{
	struct pending *w = context;
	struct slice text = source_read(w->probe->source, path, SOURCE_FILE);

	if (text.at)
		apt_policy_preferences(w->policy, text);
	else if (!source_missing(w->probe->source))
		snprintf(w->why, sizeof w->why, "%s", source_why(w->probe->source));
}

static void
tell_one(void *context, const struct apt_pending *one)
{
	struct pending *w = context;
	char line[800];

	w->n++;
	w->security += one->security;
	snprintf(line, sizeof line, "%s %s -> %s%s", one->name, one->from, one->to, one->security ? " security" : "");
	facts_add_text(w->probe->facts, FACT_UPDATE_PENDING_NAMES, line);
}

static void
all_unknown(struct probe *p, const char *why)
{
	for (unsigned fact = FACT_UPDATE_PENDING; fact <= FACT_UPDATE_PENDING_NAMES; fact++)
		facts_unknown(p->facts, (enum fact)fact, why);
}

static void
tell(struct pending *w)
{
	struct facts *facts = w->probe->facts;
	const char *why;

	if (w->why[0] == '\0' && w->lists == 0)
		snprintf(w->why, sizeof w->why, "no lists of packages were fetched");
	facts_begin_list(facts, FACT_UPDATE_PENDING_NAMES);
	why = w->why[0] ? w->why : apt_policy_finish(w->policy, tell_one, w);
	if (why) {
		all_unknown(w->probe, why);
		return;
	}
	facts_set_uint(facts, FACT_UPDATE_PENDING, w->n);
	facts_set_uint(facts, FACT_UPDATE_PENDING_SECURITY, w->security);
}

void
apt_pending(struct probe *p)
{
	static const char *const ends[] = {"", ".pref", NULL};
	struct pending *w = calloc(1, sizeof *w);

	if (w)
		w->policy = apt_policy_new();
	if (!w || !w->policy) {
		free(w);
		p->no_memory = true;
		return;
	}
	w->probe = p;
	if (read_status(w, find_native) && read_status(w, take_installed)) {
		read_architectures(w);
		apt_each_setting(p, take_setting, w);
		read_preferences(w, "etc/apt/preferences");
		each_file(p, "etc/apt/preferences.d", ends, read_preferences, w);
		apt_each_source(p, take_source, w);
	}
	tell(w);
	apt_policy_free(w->policy);
	free(w);
}
