#include "emitter/rpm.h"

#include <dlfcn.h>
#include <rpm/header.h>
#include <rpm/rpmdb.h>
#include <rpm/rpmlog.h>
#include <rpm/rpmmacro.h>
#include <rpm/rpmts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The newest first; what is called below is the same in all of them. */
static const char *const sonames[] = {"librpm.so.10", "librpm.so.9", "librpm.so.8"};
static const char *const io_sonames[] = {"librpmio.so.10", "librpmio.so.9", "librpmio.so.8"};

#define SYMBOL(name) __typeof__(name) *name
struct librpm {
	SYMBOL(rpmtsCreate);
	SYMBOL(rpmtsFree);
	SYMBOL(rpmtsSetVSFlags);
	SYMBOL(rpmtsInitIterator);
	SYMBOL(rpmdbNextIterator);
	SYMBOL(rpmdbFreeIterator);
	SYMBOL(headerGetString);
	SYMBOL(headerGetNumber);
	SYMBOL(rpmPushMacro);
	SYMBOL(rpmlogSetMask);
};

static bool
resolve(void *library, const char *name, void *function)
{
	void *symbol = dlsym(library, name);

	memcpy(function, &symbol, sizeof symbol);
	return symbol != NULL;
}

static bool
load(struct librpm *rpm)
{
	void *library = NULL, *io = NULL;

	for (size_t i = 0; i < sizeof sonames / sizeof sonames[0] && !(library && io); i++) {
		library = dlopen(sonames[i], RTLD_NOW);
		io = dlopen(io_sonames[i], RTLD_NOW);
	}
	return library && io && resolve(library, "rpmtsCreate", &rpm->rpmtsCreate) &&
	       resolve(library, "rpmtsFree", &rpm->rpmtsFree) &&
	       resolve(library, "rpmtsSetVSFlags", &rpm->rpmtsSetVSFlags) &&
	       resolve(library, "rpmtsInitIterator", &rpm->rpmtsInitIterator) &&
	       resolve(library, "rpmdbNextIterator", &rpm->rpmdbNextIterator) &&
	       resolve(library, "rpmdbFreeIterator", &rpm->rpmdbFreeIterator) &&
	       resolve(library, "headerGetString", &rpm->headerGetString) &&
	       resolve(library, "headerGetNumber", &rpm->headerGetNumber) &&
	       resolve(io, "rpmPushMacro", &rpm->rpmPushMacro) && resolve(io, "rpmlogSetMask", &rpm->rpmlogSetMask);
}

/* A text of the database, without what would end a line or a part of it. */
static const char *
part(const char *text)
{
	return text && !strpbrk(text, "\x1f\n") ? text : "";
}

static int
write_package(const struct librpm *rpm, Header h, int out)
{
	uint64_t epoch = rpm->headerGetNumber(h, RPMTAG_EPOCH);
	char line[4096], prefix[24] = "";
	int len;

	if (epoch > 0)
		snprintf(prefix, sizeof prefix, "%llu:", (unsigned long long)epoch);
	len = snprintf(line, sizeof line, "%s\x1f%s%s-%s\x1f%s\x1f%s\n", part(rpm->headerGetString(h, RPMTAG_NAME)),
		       prefix, part(rpm->headerGetString(h, RPMTAG_VERSION)),
		       part(rpm->headerGetString(h, RPMTAG_RELEASE)), part(rpm->headerGetString(h, RPMTAG_ARCH)),
		       part(rpm->headerGetString(h, RPMTAG_SOURCERPM)));
	if (len < 0)
		return -1;
	if ((size_t)len >= sizeof line) {
		len = sizeof line - 1;
		line[len - 1] = '\n';
	}
	return child_write(out, (struct slice){(const uint8_t *)line, (size_t)len});
}

/* Signatures were checked when the packages were installed; rpm's own configuration is not read, neither this system's nor the image's. */
static int
work(void *context, int input, int out, char why[CHILD_WHY])
{
	struct librpm rpm;
	rpmdbMatchIterator packages;
	char path[64];
	int result = 0;
	Header h;
	rpmts ts;

	(void)context;
	if (!load(&rpm)) {
		snprintf(why, CHILD_WHY, "librpm is not installed here");
		return -1;
	}
	rpm.rpmlogSetMask(0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", input);
	rpm.rpmPushMacro(NULL, "_dbpath", NULL, path, -1);
	rpm.rpmPushMacro(NULL, "_db_backend", NULL, "sqlite", -1);
	ts = rpm.rpmtsCreate();
	if (!ts) {
		snprintf(why, CHILD_WHY, "no memory");
		return -1;
	}
	(void)rpm.rpmtsSetVSFlags(ts, RPMVSF_MASK_NODIGESTS | RPMVSF_MASK_NOSIGNATURES | RPMVSF_NOHDRCHK);
	packages = rpm.rpmtsInitIterator(ts, (rpmDbiTagVal)RPMDBI_PACKAGES, NULL, 0);
	if (!packages) {
		snprintf(why, CHILD_WHY, "rpm's database can't be read, or is empty");
		return -1;
	}
	while (result == 0 && (h = rpm.rpmdbNextIterator(packages)))
		result = write_package(&rpm, h, out);
	return result;
}

/* "curl-7.76.1-14.el9.src.rpm" */
static void
read_source(struct slice file, struct component *c)
{
	static const char *const ends[] = {".src.rpm", ".nosrc.rpm"};
	size_t dashes = 0, at = 0;

	for (size_t i = 0; i < 2; i++) {
		size_t len = strlen(ends[i]);

		if (file.len <= len || memcmp(file.at + file.len - len, ends[i], len) != 0)
			continue;
		file.len -= len;
		for (at = file.len; at > 0 && dashes < 2; at--)
			dashes += file.at[at - 1] == '-';
		if (dashes < 2 || at == 0)
			return;
		c->source = (struct slice){file.at, at};
		c->source_version = (struct slice){file.at + at + 1, file.len - at - 1};
		return;
	}
}

/* A source's file name has no epoch, so it is left out of the question whether the version is another. */
static void
drop_same_version(struct component *c)
{
	const uint8_t *colon = memchr(c->version.at, ':', c->version.len);
	size_t epoch = colon ? (size_t)(colon - c->version.at) + 1 : 0;

	if (c->source_version.len == c->version.len - epoch &&
	    memcmp(c->source_version.at, c->version.at + epoch, c->source_version.len) == 0)
		c->source_version = (struct slice){NULL, 0};
}

bool
rpm_line(struct slice line, struct component *c)
{
	struct slice rest, file;

	memset(c, 0, sizeof *c);
	c->type = COMPONENT_RPM;
	if (!text_cut(line, RPM_MARK, &c->name, &rest) || c->name.len == 0 ||
	    !text_cut(rest, RPM_MARK, &c->version, &rest) || !text_cut(rest, RPM_MARK, &c->architecture, &file))
		return false;
	read_source(file, c);
	if (c->source_version.len > 0 && c->version.len > 0)
		drop_same_version(c);
	return true;
}

struct taker {
	void (*take)(void *, const struct component *, bool cut);
	void *context;
	struct text_feed feed;
};

/* Keys that rpm trusts lie among the packages as "gpg-pubkey". */
static bool
take_line(void *context, struct slice line, bool cut)
{
	struct taker *t = context;
	struct component c;

	if (rpm_line(line, &c) && !text_is(c.name, "gpg-pubkey"))
		t->take(t->context, &c, cut);
	return true;
}

static bool
take_piece(void *context, struct slice piece)
{
	struct taker *t = context;

	return text_feed(&t->feed, piece, take_line, t);
}

int
rpm_read(int directory, void (*take)(void *, const struct component *, bool), void *context, char why[CHILD_WHY])
{
	struct taker *t = calloc(1, sizeof *t);
	struct child child = {.work = work, .take = take_piece, .taker = t, .input = directory};
	int result;

	if (!t) {
		snprintf(why, CHILD_WHY, "no memory");
		return -1;
	}
	t->take = take;
	t->context = context;
	result = child_run(&child, why);
	if (result == 0)
		(void)!text_feed_end(&t->feed, take_line, t);
	free(t);
	return result;
}
