#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/conffiles.h"
#include "emitter/probes.h"

#define STATUS_MAX (128 * 1024 * 1024)

static const char *const databases[] = {"var/lib/dpkg/status", "usr/lib/opkg/status", "var/lib/opkg/status"};

static bool
feed(void *context, struct slice piece)
{
	conffiles_feed(context, piece);
	return true;
}

static int
by_path(const void *a, const void *b, void *paths)
{
	return strcmp((const char *)paths + ((const struct conffile *)a)->path,
		      (const char *)paths + ((const struct conffile *)b)->path);
}

static bool
is_same(struct slice text, const struct conffile *file)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	return EVP_Digest(text.at, text.len, digest, &len, file->digest_len == 16 ? EVP_md5() : EVP_sha256(), NULL) ==
		       1 &&
	       len == file->digest_len && memcmp(digest, file->digest, len) == 0;
}

/* What one package took over from another stands in both: as either brought it will do. */
static size_t
same_path(const struct conffiles *c, size_t i)
{
	size_t n = 1;

	while (i + n < c->len && strcmp(c->paths + c->at[i].path, c->paths + c->at[i + n].path) == 0)
		n++;
	return n;
}

static void
check(struct probe *p, const struct conffiles *c, size_t first, size_t n, char why[256])
{
	const char *path = c->paths + c->at[first].path;
	struct slice text = source_read(p->source, path, SOURCE_FILE);
	char line[LIMIT_SENT_TEXT + 16];
	bool same = false;

	for (size_t i = first; text.at && i < first + n; i++)
		same = same || is_same(text, &c->at[i]);
	if (same)
		return;
	if (!text.at && !source_missing(p->source)) {
		if (!why[0])
			snprintf(why, 256, "%s", source_why(p->source));
		return;
	}
	snprintf(line, sizeof line, "%.*s%s", LIMIT_SENT_TEXT - 8, path, text.at ? "" : " missing");
	facts_add_text(p->facts, FACT_CONFIGURATION_PACKAGED_CHANGED, line);
}

/* MD5 is what dpkg keeps. A system that keeps to FIPS 140 has none. */
static bool
has_md5(void)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len;

	return EVP_Digest("", 0, digest, &len, EVP_md5(), NULL) == 1;
}

static void
compare(struct probe *p, struct conffiles *c)
{
	char why[256] = "";
	size_t n;

	if (c->len > 0)
		qsort_r(c->at, c->len, sizeof c->at[0], by_path, c->paths);
	facts_begin_list(p->facts, FACT_CONFIGURATION_PACKAGED_CHANGED);
	for (size_t i = 0; i < c->len; i += n) {
		n = same_path(c, i);
		check(p, c, i, n, why);
	}
	if (c->more)
		snprintf(why, sizeof why, "packages have more configuration files than are looked at");
	if (why[0])
		facts_unknown(p->facts, FACT_CONFIGURATION_PACKAGED_CHANGED, why);
}

void
probe_packaged(struct probe *p)
{
	struct conffiles *c;
	size_t i = 0;

	while (i < sizeof databases / sizeof databases[0] && !source_exists(p->source, databases[i]))
		i++;
	if (i == sizeof databases / sizeof databases[0] || !has_md5()) {
		facts_unknown(p->facts, FACT_CONFIGURATION_PACKAGED_CHANGED,
			      i == sizeof databases / sizeof databases[0] ? "neither dpkg nor opkg knows of any"
									  : "no MD5 here");
		return;
	}
	c = calloc(1, sizeof *c);
	if (!c) {
		p->no_memory = true;
		return;
	}
	if (source_stream(p->source, databases[i], STATUS_MAX, feed, c) < 0) {
		facts_unknown(p->facts, FACT_CONFIGURATION_PACKAGED_CHANGED, source_why(p->source));
	} else {
		conffiles_end(c);
		compare(p, c);
	}
	free(c);
}
