#include "emitter/measured.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emitter/glob.h"
#include "schema/limits.h"
#include "schema/topics.h"

#define FILES_MAX LIMIT_SOCKETS
#define FILE_MAX ((size_t)256 * 1024 * 1024)
#define SWEEP_MAX ((uint64_t)512 * 1024 * 1024) /* read in one sweep, a second or two; the rest waits for the next */
#define PATH_SIZE 512
#define INFO "var/lib/dpkg/info"
#define INFO_MAX 65536 /* files of dpkg: five a package */
#define MD5SUMS_MAX (16 * 1024 * 1024)
#define YOUNG_S 2 /* as the trace of a probe: it may change again without another time stamp */

enum owner { OWNER_NONE, OWNER_SAME, OWNER_ALTERED };

struct file {
	char path[PATH_SIZE];
	struct source_stamp stamp;
	uint8_t sha256[DIGEST_SIZE], md5[16];
	bool read; /* the digests are those of the stamp */
	bool missing;
	bool seen; /* in this sweep */
	enum owner owner;
};

struct measured {
	struct file *files;
	size_t len;
	struct source_stamp info; /* dpkg's directory when owners were looked up */
	bool stale; /* a file is new or changed: owners must be looked up */
	struct probe *probe;
	uint64_t left; /* of SWEEP_MAX */
	size_t waiting; /* files for which it did not last */
	char why[256]; /* one could not be measured */
};

void
measured_free(struct measured *m)
{
	if (!m)
		return;
	free(m->files);
	free(m);
}

struct digests {
	EVP_MD_CTX *sha256, *md5;
};

static bool
take_piece(void *context, struct slice piece)
{
	struct digests *d = context;

	return EVP_DigestUpdate(d->sha256, piece.at, piece.len) == 1 &&
	       (!d->md5 || EVP_DigestUpdate(d->md5, piece.at, piece.len) == 1);
}

static void
digest(struct measured *m, struct file *file)
{
	struct digests d = {EVP_MD_CTX_new(), EVP_MD_CTX_new()};

	/* Where only FIPS 140 is allowed there is no MD5: then the packages' can't be compared with. */
	if (d.md5 && EVP_DigestInit_ex(d.md5, EVP_md5(), NULL) != 1) {
		EVP_MD_CTX_free(d.md5);
		d.md5 = NULL;
	}
	file->read = d.sha256 && EVP_DigestInit_ex(d.sha256, EVP_sha256(), NULL) == 1 &&
		     source_stream(m->probe->source, file->path, FILE_MAX, take_piece, &d) == 0 &&
		     EVP_DigestFinal_ex(d.sha256, file->sha256, NULL) == 1;
	memset(file->md5, 0, sizeof file->md5);
	if (file->read && d.md5)
		(void)!EVP_DigestFinal_ex(d.md5, file->md5, NULL);
	file->missing = !file->read && source_missing(m->probe->source);
	if (!file->read && !file->missing)
		snprintf(m->why, sizeof m->why, "%s", source_why(m->probe->source));
	EVP_MD_CTX_free(d.sha256);
	EVP_MD_CTX_free(d.md5);
}

static struct file *
file_of(struct measured *m, const char *path)
{
	struct file *moved;

	for (size_t i = 0; i < m->len; i++)
		if (strcmp(m->files[i].path, path) == 0)
			return &m->files[i];
	if (m->len == FILES_MAX || strlen(path) >= PATH_SIZE)
		return NULL;
	moved = realloc(m->files, (m->len + 1) * sizeof *moved);
	if (!moved) {
		m->probe->no_memory = true;
		return NULL;
	}
	m->files = moved;
	memset(&moved[m->len], 0, sizeof *moved);
	strcpy(moved[m->len].path, path);
	return &moved[m->len++];
}

static bool
take_path(void *context, const char *path)
{
	struct measured *m = context;
	struct file *file = file_of(m, path);
	struct source_stamp now;

	if (!file) {
		snprintf(m->why, sizeof m->why, "more than %d files, or a path of more than %d bytes", FILES_MAX,
			 PATH_SIZE - 1);
		return true;
	}
	file->seen = true;
	source_stamp(m->probe->source, path, &now);
	if ((file->read || file->missing) && memcmp(&file->stamp, &now, sizeof now) == 0 &&
	    now.changed_s <= time(NULL) - YOUNG_S)
		return true;
	file->read = false;
	/* One that is larger than may be read is refused at once. */
	if (now.size <= FILE_MAX && now.size > m->left) {
		m->waiting++;
		return true;
	}
	m->left -= now.size <= FILE_MAX ? now.size : 0;
	file->stamp = now;
	digest(m, file);
	m->stale = true;
	return true;
}

/* A path without a wildcard that is not there stands in the list without a digest. */
static void
take_pattern(struct measured *m, struct slice word)
{
	char pattern[PATH_SIZE];

	while (word.len > 0 && word.at[0] == '/')
		word.at++, word.len--;
	if (word.len == 0 || word.len >= sizeof pattern) {
		snprintf(m->why, sizeof m->why, "measured_files has a path that is empty or too long");
		return;
	}
	memcpy(pattern, word.at, word.len);
	pattern[word.len] = '\0';
	if (!strpbrk(pattern, "*?["))
		(void)take_path(m, pattern);
	else if (source_glob(m->probe->source, pattern, FILES_MAX, take_path, m) < 0)
		snprintf(m->why, sizeof m->why, "%s", source_why(m->probe->source));
}

static void
forget_unseen(struct measured *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->len; i++)
		if (m->files[i].seen)
			m->files[kept++] = m->files[i];
	m->len = kept;
}

bool
md5sums_parse(struct slice line, uint8_t md5[16], struct slice *path)
{
	if (line.len < 35 || line.at[32] != ' ' || line.at[33] != ' ' ||
	    !hex_parse((struct slice){line.at, 32}, md5, 16))
		return false;
	*path = (struct slice){line.at + 34, line.len - 34};
	return true;
}

/* Debian's merged /usr: a package may have installed to /bin what now lies in /usr/bin. */
static bool
same_path(struct slice path, const char *measured)
{
	if (text_is(path, measured))
		return true;
	return strncmp(measured, "usr/", 4) == 0 && text_is(path, measured + 4);
}

static bool
take_sum(void *context, struct slice line, bool cut)
{
	struct measured *m = context;
	struct slice path;
	uint8_t md5[16];

	if (cut || !md5sums_parse(line, md5, &path))
		return true;
	for (size_t i = 0; i < m->len; i++) {
		struct file *file = &m->files[i];

		if ((file->read || file->missing) && same_path(path, file->path))
			file->owner =
				file->read && memcmp(md5, file->md5, sizeof md5) == 0 ? OWNER_SAME : OWNER_ALTERED;
	}
	return true;
}

struct sums {
	struct measured *measured;
	struct text_feed feed;
};

static bool
feed_sums(void *context, struct slice piece)
{
	struct sums *sums = context;

	return text_feed(&sums->feed, piece, take_sum, sums->measured);
}

static bool
take_info(void *context, int directory, const char *name)
{
	struct sums *sums = context;
	size_t len = strlen(name);
	char path[320];

	(void)directory;
	if (len < 9 || len > 255 || strcmp(name + len - 8, ".md5sums") != 0)
		return true;
	snprintf(path, sizeof path, INFO "/%s", name);
	memset(&sums->feed, 0, sizeof sums->feed);
	if (source_stream(sums->measured->probe->source, path, MD5SUMS_MAX, feed_sums, sums) == 0)
		(void)text_feed_end(&sums->feed, take_sum, sums->measured);
	return true;
}

/* -1: there is no dpkg here. */
static int
look_up_owners(struct measured *m)
{
	struct sums *sums;
	struct source_stamp now;
	int result = 0;

	source_stamp(m->probe->source, INFO, &now);
	if (now.inode == 0)
		return -1;
	if (!m->stale && memcmp(&now, &m->info, sizeof now) == 0)
		return 0;
	sums = calloc(1, sizeof *sums);
	if (!sums) {
		m->probe->no_memory = true;
		return -1;
	}
	for (size_t i = 0; i < m->len; i++)
		m->files[i].owner = OWNER_NONE;
	sums->measured = m;
	result = source_list(m->probe->source, INFO, INFO_MAX, take_info, sums);
	m->info = now;
	m->stale = false;
	free(sums);
	return result;
}

static void
state(struct measured *m)
{
	struct facts *facts = m->probe->facts;
	bool owners = look_up_owners(m) == 0;
	char path[PATH_SIZE + 1], hex[2 * DIGEST_SIZE + 1];

	facts_begin_list(facts, FACT_INTEGRITY_MEASURED_FILES);
	facts_begin_list(facts, FACT_INTEGRITY_PACKAGED_ALTERED);
	for (size_t i = 0; i < m->len; i++) {
		struct file *file = &m->files[i];
		struct fact_field row[2] = {{.kind = FIELD_TEXT}, {.kind = FIELD_ABSENT}};

		snprintf(path, sizeof path, "/%s", file->path);
		row[0].bytes = (struct slice){(const uint8_t *)path, strlen(path)};
		if (file->read) {
			hex_print(file->sha256, sizeof file->sha256, hex);
			row[1] = (struct fact_field){.kind = FIELD_TEXT, .bytes = {(const uint8_t *)hex, strlen(hex)}};
		}
		facts_add_row(facts, FACT_INTEGRITY_MEASURED_FILES, row, 2);
		if (file->owner == OWNER_ALTERED)
			facts_add_text(facts, FACT_INTEGRITY_PACKAGED_ALTERED, path);
	}
	if (!owners)
		facts_unknown(facts, FACT_INTEGRITY_PACKAGED_ALTERED, "only dpkg's packages are compared with");
	else if (m->why[0])
		facts_unknown(facts, FACT_INTEGRITY_PACKAGED_ALTERED, m->why);
}

void
measured_observe(struct probe *p)
{
	struct slice words = {(const uint8_t *)"", 0}, word;
	struct measured *m;
	char why[64];

	if (p->declared && p->declared->measured_files)
		words = (struct slice){(const uint8_t *)p->declared->measured_files,
				       strlen(p->declared->measured_files)};
	if (text_trim(words).len == 0) {
		facts_unknown(p->facts, FACT_INTEGRITY_MEASURED_FILES, "measured_files is not set");
		facts_unknown(p->facts, FACT_INTEGRITY_PACKAGED_ALTERED, "measured_files is not set");
		return;
	}
	m = p->measured = p->measured ? p->measured : calloc(1, sizeof *m);
	if (!m) {
		p->no_memory = true;
		return;
	}
	m->probe = p;
	m->left = SWEEP_MAX;
	m->waiting = 0;
	m->why[0] = '\0';
	for (size_t i = 0; i < m->len; i++)
		m->files[i].seen = false;
	while (text_word(&words, &word))
		take_pattern(m, word);
	forget_unseen(m);
	if (m->waiting == 0) {
		state(m);
		return;
	}
	snprintf(why, sizeof why, "%zu files are still to be measured", m->waiting);
	facts_unknown(p->facts, FACT_INTEGRITY_MEASURED_FILES, why);
	facts_unknown(p->facts, FACT_INTEGRITY_PACKAGED_ALTERED, why);
}
