#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/glob.h"
#include "emitter/probes.h"
#include "schema/baseline.h"
#include "schema/topics.h"

#define FILES_MAX LIMIT_BASELINE_FILES

struct watched {
	char path[LIMIT_BASELINE_PATH + 1]; /* absolute */
};

struct watch {
	struct probe *probe;
	struct watched *files; /* FILES_MAX, sorted and each once when all are known */
	size_t len;
	bool any, more; /* something is declared; more than fits, or what can't be listed */
	bool owners; /* of an image that somebody unpacked as himself they say nothing */

	struct baseline *baseline; /* NULL: none that is believed */
	uint8_t *message;
	char baseline_why[256], drift_why[256];
	int64_t changed;
};

/* ---- the baseline ---- */

static void
no_baseline(struct watch *w, const char *why)
{
	snprintf(w->baseline_why, sizeof w->baseline_why, "%s", why);
}

/* Nothing of it is believed before its signature, and that only by the one key that the maker named. */
static void
verify_baseline(struct watch *w, struct slice message, const char *key_file)
{
	char error[256] = "", stamped[PATH_MAX];
	struct source_stamp stamp;
	struct facts *facts = w->probe->facts;
	struct cose_key *key;
	enum reason reason;

	/* The key lies outside the root, which is the same place on a running system. */
	snprintf(stamped, sizeof stamped, "%s", key_file);
	if (source_is_live(w->probe->source))
		source_stamp(w->probe->source, stamped, &stamp);
	else
		source_trace_transient(w->probe->source);
	key = cose_key_open_public(key_file, error);
	if (!key) {
		no_baseline(w, error);
		facts_unknown(facts, FACT_CONFIGURATION_BASELINE_SIGNED, error);
		return;
	}
	w->baseline = malloc(sizeof *w->baseline);
	reason = w->baseline ? baseline_open(message, key, w->baseline) : REASON_OK;
	cose_key_free(key);
	if (!w->baseline) {
		w->probe->no_memory = true;
		return;
	}
	facts_set_bool(facts, FACT_CONFIGURATION_BASELINE_SIGNED, reason == REASON_OK);
	if (reason == REASON_OK)
		return;
	snprintf(w->baseline_why, sizeof w->baseline_why, "the baseline is not believed: %s", reason_name(reason));
	free(w->baseline);
	w->baseline = NULL;
}

static void
read_baseline(struct watch *w)
{
	const struct declared *d = w->probe->declared;
	struct facts *facts = w->probe->facts;
	uint8_t digest[DIGEST_SIZE];
	char hex[2 * DIGEST_SIZE + 1];
	struct slice text;

	if (!d || !d->baseline || !d->baseline[0]) {
		no_baseline(w, "baseline is not set");
	} else {
		text = source_read(w->probe->source, d->baseline, LIMIT_BASELINE);
		w->message = text.at ? malloc(text.len + 1) : NULL;
		if (!w->message)
			no_baseline(w, source_why(w->probe->source));
	}
	if (!w->message) {
		facts_unknown(facts, FACT_CONFIGURATION_BASELINE, w->baseline_why);
		facts_unknown(facts, FACT_CONFIGURATION_BASELINE_SIGNED, w->baseline_why);
		return;
	}
	memcpy(w->message, text.at, text.len);
	text.at = w->message;
	sha256(text, digest);
	hex_print(digest, sizeof digest, hex);
	facts_set_text(facts, FACT_CONFIGURATION_BASELINE, hex);
	if (d->baseline_key && d->baseline_key[0]) {
		verify_baseline(w, text, d->baseline_key);
	} else {
		no_baseline(w, "baseline_key is not set");
		facts_unknown(facts, FACT_CONFIGURATION_BASELINE_SIGNED, w->baseline_why);
	}
}

/* ---- which files ---- */

static bool
add_path(void *context, const char *path)
{
	struct watch *w = context;
	const char *slash = path[0] == '/' ? "" : "/";
	struct stat st;

	if (source_stat(w->probe->source, path, &st) == 0 && S_ISDIR(st.st_mode))
		return true;
	if (w->len == FILES_MAX || strlen(path) + strlen(slash) > LIMIT_BASELINE_PATH) {
		w->more = true;
		return false;
	}
	snprintf(w->files[w->len++].path, sizeof w->files[0].path, "%s%s", slash, path);
	return true;
}

/* A path that is named as it is belongs to the files also when it is missing. */
static void
add_pattern(struct watch *w, struct slice word)
{
	char pattern[LIMIT_BASELINE_PATH + 1];

	w->any = true;
	if (word.len < 2 || word.len >= sizeof pattern || word.at[0] != '/') {
		w->more = true;
		return;
	}
	snprintf(pattern, sizeof pattern, "%.*s", (int)word.len, (const char *)word.at);
	if (!strpbrk(pattern, "*?["))
		(void)add_path(w, pattern);
	else if (source_glob(w->probe->source, pattern, FILES_MAX, add_path, w) < 0)
		w->more = true;
}

static int
by_path(const void *a, const void *b)
{
	return strcmp(((const struct watched *)a)->path, ((const struct watched *)b)->path);
}

static void
find_files(struct watch *w)
{
	const struct declared *d = w->probe->declared;
	const char *declared = d && d->config_files ? d->config_files : "";
	struct slice text = {(const uint8_t *)declared, strlen(declared)}, word;
	size_t n = 0;

	while (text_word(&text, &word))
		add_pattern(w, word);
	for (size_t i = 0; w->baseline && i < w->baseline->patterns_len; i++)
		add_pattern(w, w->baseline->patterns[i]);
	for (size_t i = 0; w->baseline && i < w->baseline->files_len; i++)
		add_pattern(w, w->baseline->files[i].path);
	if (w->len > 0)
		qsort(w->files, w->len, sizeof w->files[0], by_path);
	for (size_t i = 0; i < w->len; i++)
		if (n == 0 || by_path(&w->files[n - 1], &w->files[i]) != 0)
			w->files[n++] = w->files[i];
	w->len = n;
}

/* ---- how they are ---- */

static const struct baseline_file *
find_in_baseline(const struct baseline *b, const char *path)
{
	size_t low = 0, high = b ? b->files_len : 0, len = strlen(path);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct slice other = b->files[middle].path;
		int order = memcmp(path, other.at, len < other.len ? len : other.len);

		if (order == 0)
			order = (len > other.len) - (len < other.len);
		if (order == 0)
			return &b->files[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static void
note_drift(struct watch *w, const char *path, const char *what)
{
	char text[LIMIT_SENT_TEXT + 64];

	snprintf(text, sizeof text, "%s %s", path, what);
	facts_add_text(w->probe->facts, FACT_CONFIGURATION_DRIFT, text);
}

struct seen {
	bool there, digested;
	struct stat st;
	uint8_t digest[DIGEST_SIZE];
};

/* NULL: not known. The first thing that differs; all of them go into the list. */
static const char *
compare(struct watch *w, const char *path, const struct seen *seen)
{
	const struct baseline_file *file = find_in_baseline(w->baseline, path);
	const char *drift = "none";
	char what[48];

	if (!w->baseline)
		return NULL;
	if (!file) {
		/* Declared here, and unknown to the baseline: that it is missing is no news. */
		if (seen->there)
			note_drift(w, path, "added");
		return seen->there ? "added" : "none";
	}
	if (!seen->there) {
		note_drift(w, path, "missing");
		return "missing";
	}
	if (w->owners && (seen->st.st_uid != file->uid || seen->st.st_gid != file->gid)) {
		snprintf(what, sizeof what, "owner %u:%u", seen->st.st_uid, seen->st.st_gid);
		note_drift(w, path, what);
		drift = "owner";
	}
	if ((seen->st.st_mode & 07777) != file->mode) {
		snprintf(what, sizeof what, "mode %04o", seen->st.st_mode & 07777);
		note_drift(w, path, what);
		drift = "mode";
	}
	if (!seen->digested)
		return NULL;
	if (memcmp(seen->digest, file->sha256.at, DIGEST_SIZE) != 0) {
		note_drift(w, path, "changed");
		drift = "changed";
	}
	return drift;
}

static struct fact_field
text_field(const char *text)
{
	return (struct fact_field){.kind = text ? FIELD_TEXT : FIELD_ABSENT,
				   .bytes = {(const uint8_t *)text, text ? strlen(text) : 0}};
}

static void
state_file(struct watch *w, const char *path)
{
	struct source *source = w->probe->source;
	struct seen seen = {.there = source_stat(source, path, &seen.st) == 0};
	char hex[2 * DIGEST_SIZE + 1];
	struct fact_field row[5] = {text_field(path)};
	struct slice text;

	if (seen.there) {
		text = source_read(source, path, SOURCE_FILE);
		seen.digested = text.at != NULL;
		if (seen.digested)
			sha256(text, seen.digest);
	}
	if ((seen.there && !seen.digested) || (!seen.there && !source_missing(source)))
		snprintf(w->drift_why, sizeof w->drift_why, "%s", source_why(source));
	if (seen.there && seen.st.st_mtim.tv_sec > w->changed)
		w->changed = seen.st.st_mtim.tv_sec;
	if (seen.digested) {
		hex_print(seen.digest, DIGEST_SIZE, hex);
		row[1] = text_field(hex);
	}
	if (seen.there) {
		row[2] = (struct fact_field){.kind = FIELD_UINT, .number = seen.st.st_uid};
		row[3] = (struct fact_field){.kind = FIELD_UINT, .number = seen.st.st_mode & 07777};
	}
	row[4] = text_field(compare(w, path, &seen));
	facts_add_row(w->probe->facts, FACT_CONFIGURATION_FILES, row, 5);
}

static void
state_files(struct watch *w)
{
	struct facts *facts = w->probe->facts;

	facts_begin_list(facts, FACT_CONFIGURATION_FILES);
	facts_begin_list(facts, FACT_CONFIGURATION_DRIFT);
	for (size_t i = 0; i < w->len; i++)
		state_file(w, w->files[i].path);
	if (w->more)
		snprintf(w->drift_why, sizeof w->drift_why, "more files are declared than can be watched");
	if (w->more)
		facts_unknown(facts, FACT_CONFIGURATION_FILES, w->drift_why);
	if (!w->baseline || w->drift_why[0])
		facts_unknown(facts, FACT_CONFIGURATION_DRIFT, w->baseline ? w->drift_why : w->baseline_why);
	if (w->changed > 0)
		facts_set_uint(facts, FACT_CONFIGURATION_CHANGED, (uint64_t)w->changed);
	else
		facts_unknown(facts, FACT_CONFIGURATION_CHANGED,
			      w->any ? "no declared file is there" : "no file is declared");
}

void
probe_configuration(struct probe *p)
{
	struct watch w = {.probe = p, .files = calloc(FILES_MAX, sizeof *w.files)};
	struct stat root;

	if (!w.files) {
		p->no_memory = true;
		return;
	}
	w.owners = source_is_live(p->source) || (source_stat(p->source, ".", &root) == 0 && root.st_uid == 0);
	read_baseline(&w);
	find_files(&w);
	if (!w.any && !source_exists(p->source, "etc")) {
		facts_unknown(p->facts, FACT_CONFIGURATION_FILES, "no etc");
		facts_unknown(p->facts, FACT_CONFIGURATION_DRIFT, w.baseline_why);
		facts_unknown(p->facts, FACT_CONFIGURATION_CHANGED, "no etc");
	} else {
		state_files(&w);
	}
	free(w.files);
	free(w.message);
	free(w.baseline);
}
