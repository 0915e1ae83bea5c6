#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/crypto_library.h"
#include "emitter/glob.h"
#include "emitter/openssl_conf.h"
#include "emitter/probes.h"

#define LIBRARY_MAX (32 * 1024 * 1024)
#define INCLUDES_MAX 64

/* ---- the library ---- */

static const char *const libraries[] = {
	"usr/lib/*-linux-*/libcrypto.so.3",
	"usr/lib64/libcrypto.so.3",
	"usr/lib/libcrypto.so.3",
	"lib/libcrypto.so.3",
	"usr/lib/*-linux-*/libcrypto.so.1*",
	"usr/lib64/libcrypto.so.1*",
	"usr/lib/libcrypto.so.*",
	"lib/libcrypto.so.*",
	"usr/lib/*-linux-*/libmbedcrypto.so.*",
	"usr/lib/libmbedcrypto.so.*",
};

struct search {
	struct probe *probe;
	struct crypto_library found;
	bool any;
	char why[256];
};

static bool
feed(void *context, struct slice piece)
{
	return crypto_library_feed(context, piece);
}

static bool
read_library(void *context, const char *path)
{
	struct search *s = context;

	s->any = true;
	crypto_library_init(&s->found);
	if (source_stream(s->probe->source, path, LIBRARY_MAX, feed, &s->found) < 0)
		snprintf(s->why, sizeof s->why, "%s", source_why(s->probe->source));
	return s->found.version[0] == '\0';
}

static void
find_library(struct search *s)
{
	crypto_library_init(&s->found);
	for (size_t i = 0; i < sizeof libraries / sizeof libraries[0] && !s->found.version[0]; i++)
		(void)!source_glob(s->probe->source, libraries[i], 8, read_library, s);
	if (s->found.version[0])
		facts_set_text(s->probe->facts, FACT_DATA_CRYPTO_LIBRARY, s->found.version);
	else if (s->why[0])
		facts_unknown(s->probe->facts, FACT_DATA_CRYPTO_LIBRARY, s->why);
	else
		facts_unknown(s->probe->facts, FACT_DATA_CRYPTO_LIBRARY,
			      s->any ? "the library does not tell its version" : "no OpenSSL or Mbed TLS");
}

/* ---- its configuration ---- */

struct reading {
	struct probe *probe;
	struct openssl_conf conf;
	unsigned files;
	char why[256];
};

static void include(void *context, struct openssl_conf *conf, const char *path);

static void
read_file(struct reading *r, const char *path)
{
	const struct openssl_include files = {include, r};
	struct slice text = source_read(r->probe->source, path, SOURCE_FILE);
	uint8_t *copy = text.at && r->files < INCLUDES_MAX ? malloc(text.len + 1) : NULL;

	if (!copy) {
		if (!r->why[0])
			snprintf(r->why, sizeof r->why, "%s",
				 text.at ? "openssl.cnf includes too much" : source_why(r->probe->source));
		return;
	}
	r->files++;
	memcpy(copy, text.at, text.len);
	openssl_conf_parse(&r->conf, (struct slice){copy, text.len}, &files);
	free(copy);
}

static bool
include_one(void *context, const char *path)
{
	read_file(context, path);
	return true;
}

/* A file, or of a directory all that is called so. What is missing OpenSSL passes over. */
static void
include(void *context, struct openssl_conf *conf, const char *path)
{
	struct reading *r = context;
	char pattern[CONF_TEXT + 16];
	struct stat st;

	(void)conf;
	if (path[0] != '/' || strchr(path, '$')) {
		snprintf(r->why, sizeof r->why, "openssl.cnf includes %.100s", path);
		return;
	}
	if (source_stat(r->probe->source, path, &st) < 0)
		return;
	if (!S_ISDIR(st.st_mode)) {
		read_file(r, path);
		return;
	}
	snprintf(pattern, sizeof pattern, "%s/*.c[on][nf]*", path);
	if (source_glob(r->probe->source, pattern, INCLUDES_MAX, include_one, r) < 0)
		snprintf(r->why, sizeof r->why, "openssl.cnf includes too much");
}

static const char *
floor_name(int of)
{
	static const char *const names[] = {
		[FLOOR_NONE] = "none",  [FLOOR_SSL3] = "SSL 3", [FLOOR_TLS1] = "1.0",
		[FLOOR_TLS1_1] = "1.1", [FLOOR_TLS1_2] = "1.2", [FLOOR_TLS1_3] = "1.3",
	};

	return names[of];
}

static void
state_unknown(struct probe *p, const char *why)
{
	facts_unknown(p->facts, FACT_DATA_TLS_FLOOR, why);
	facts_unknown(p->facts, FACT_DATA_TLS_SECURITY_LEVEL, why);
}

/* From level 1 on OpenSSL 3 takes no version before 1.2, whatever is configured. */
static void
state_default(struct probe *p, const struct openssl_default *d, const struct crypto_library *library)
{
	int level = d->level >= 0 ? d->level : crypto_library_level(library), least = (int)d->floor;

	if (level >= 1 && strncmp(library->version, "OpenSSL 3", 9) == 0 && least < FLOOR_TLS1_2)
		least = FLOOR_TLS1_2;
	if (level >= 0)
		facts_set_uint(p->facts, FACT_DATA_TLS_SECURITY_LEVEL, (uint64_t)level);
	else
		facts_unknown(p->facts, FACT_DATA_TLS_SECURITY_LEVEL, "neither openssl.cnf nor the library tells it");
	if (least != FLOOR_UNSET)
		facts_set_text(p->facts, FACT_DATA_TLS_FLOOR, floor_name(least));
	else
		facts_unknown(p->facts, FACT_DATA_TLS_FLOOR, "openssl.cnf sets none");
}

static void
read_configuration(struct probe *p, const struct crypto_library *library)
{
	static const char *const files[] = {"etc/ssl/openssl.cnf", "etc/pki/tls/openssl.cnf",
					    "usr/lib/ssl/openssl.cnf"};
	struct reading r = {.probe = p, .conf = {.section = "default"}};
	struct openssl_default found = {.level = -1};
	size_t i = 0;

	if (strncmp(library->version, "OpenSSL ", 8) != 0) {
		state_unknown(p, "no OpenSSL");
		return;
	}
	r.conf.entries = calloc(CONF_ENTRIES, sizeof r.conf.entries[0]);
	if (!r.conf.entries) {
		p->no_memory = true;
		return;
	}
	while (i < sizeof files / sizeof files[0] && !source_exists(p->source, files[i]))
		i++;
	if (i < sizeof files / sizeof files[0])
		read_file(&r, files[i]);
	openssl_conf_default(&r.conf, &found);
	if (r.why[0])
		state_unknown(p, r.why);
	else if (r.conf.more || found.unsure)
		state_unknown(p, "openssl.cnf says more than is understood here");
	else
		state_default(p, &found, library);
	free(r.conf.entries);
}

/* ---- Fedora's policies ---- */

static void
read_policy(struct probe *p)
{
	static const char *const files[] = {"etc/crypto-policies/state/current", "etc/crypto-policies/config"};
	struct slice text = {NULL, 0}, line;

	for (size_t i = 0; i < sizeof files / sizeof files[0] && !text.at; i++)
		text = source_read(p->source, files[i], SOURCE_ATTRIBUTE);
	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#')
			continue;
		facts_set_textn(p->facts, FACT_DATA_CRYPTO_POLICY, line);
		return;
	}
	facts_unknown(p->facts, FACT_DATA_CRYPTO_POLICY,
		      source_missing(p->source) ? "no etc/crypto-policies" : source_why(p->source));
}

void
probe_cryptography(struct probe *p)
{
	struct search s = {.probe = p};

	find_library(&s);
	read_configuration(p, &s.found);
	read_policy(p);
}
