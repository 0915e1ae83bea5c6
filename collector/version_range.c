#include "collector/version_range.h"

#include <string.h>

#include "collector/request.h"
#include "collector/words.h"
#include "schema/version.h"

#define VERSION_RANGE_PREFIX "vers:"

/* The components' names are report.cddl's. */
struct version_kind {
	const char *name;
	enum version_order order;
	const char *components[5];
};

static const struct version_kind kinds[] = {
	{"deb", VERSION_DEBIAN, {"dpkg"}},
	{"opkg", VERSION_DEBIAN, {"opkg"}},
	{"rpm", VERSION_RPM, {"rpm"}},
	{"apk", VERSION_APK, {"apk"}},
	{"alpine", VERSION_APK, {"apk"}},
	{"semver", VERSION_SEMVER, {"image", "container", "firmware", "kernel-module"}},
};

static int
compare(const struct version_range *range, const struct version_constraint *constraint, struct slice version)
{
	return version_compare(range->kind->order, version,
			       (struct slice){(const uint8_t *)constraint->text, constraint->len});
}

/* ---- parsing ---- */

bool
version_range_is(const char *text)
{
	return strncmp(text, VERSION_RANGE_PREFIX, strlen(VERSION_RANGE_PREFIX)) == 0;
}

static const struct version_kind *
find_kind(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strlen(kinds[i].name) == len && memcmp(kinds[i].name, name, len) == 0)
			return &kinds[i];
	return NULL;
}

static size_t
take_comparator(const char *at, enum version_comparator *comparator)
{
	static const struct {
		const char *text;
		enum version_comparator comparator;
	} all[] = {{">=", VERSION_FROM}, {"<=", VERSION_UP_TO}, {"!=", VERSION_IS_NOT},
		   {">", VERSION_ABOVE}, {"<", VERSION_BELOW},  {"=", VERSION_IS}};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strncmp(at, all[i].text, strlen(all[i].text)) == 0) {
			*comparator = all[i].comparator;
			return strlen(all[i].text);
		}
	*comparator = VERSION_IS;
	return 0;
}

/* A version, percent-decoded, up to the next "|". NULL: it is none. */
static const char *
take_version(const char *at, struct version_constraint *out)
{
	for (out->len = 0; *at != '\0' && *at != '|'; at++) {
		char c = *at;

		if (c == '%') {
			int high = hex_digit(at[1]), low = high < 0 ? -1 : hex_digit(at[2]);

			if (low < 0)
				return NULL;
			c = (char)(high << 4 | low);
			at += 2;
		} else if (strchr("<>=!*", c) != NULL) {
			return NULL;
		}
		if ((unsigned char)c <= ' ' || c == 0x7f || out->len == LIMIT_VERSION)
			return NULL;
		out->text[out->len++] = c;
	}
	out->text[out->len] = '\0';
	return out->len == 0 ? NULL : at;
}

static bool
is_bound(const struct version_constraint *constraint)
{
	return constraint->comparator != VERSION_IS && constraint->comparator != VERSION_IS_NOT;
}

static bool
is_upper(const struct version_constraint *constraint)
{
	return constraint->comparator == VERSION_BELOW || constraint->comparator == VERSION_UP_TO;
}

/* Puts it in its place. False: its version is there already. */
static bool
insert(struct version_range *range, const struct version_constraint *new)
{
	size_t i = range->n;

	for (; i > 0; i--) {
		int order = compare(range, &range->constraints[i - 1],
				    (struct slice){(const uint8_t *)new->text, new->len});

		if (order == 0)
			return false;
		if (order > 0)
			break;
	}
	memmove(&range->constraints[i + 1], &range->constraints[i], (range->n - i) * sizeof *new);
	range->constraints[i] = *new;
	range->n++;
	return true;
}

/* Bounds of one side that follow each other: one of them says nothing. */
static bool
has_needless(const struct version_range *range)
{
	const struct version_constraint *last = NULL;

	for (size_t i = 0; i < range->n; i++) {
		const struct version_constraint *c = &range->constraints[i];

		if (!is_bound(c))
			continue;
		if (last != NULL && is_upper(last) == is_upper(c))
			return true;
		last = c;
	}
	return false;
}

bool
version_range_parse(const char *text, struct version_range *range, size_t *where, const char **why)
{
	const char *at = text + strlen(VERSION_RANGE_PREFIX);
	size_t len;

	memset(range, 0, sizeof *range);
	*where = 0;
	*why = "it begins with vers:deb/, vers:opkg/, vers:rpm/, vers:apk/ or vers:semver/";
	if (!version_range_is(text))
		return false;
	len = strcspn(at, "/");
	range->kind = find_kind(at, len);
	if (range->kind == NULL || at[len] != '/')
		return false;
	at += len + 1;
	range->all = strcmp(at, "*") == 0;
	while (!range->all) {
		struct version_constraint new;
		const char *end;

		*where = (size_t)(at - text);
		*why = "a constraint is <, <=, >, >=, = or != and a version, whose special characters are "
		       "percent-encoded";
		end = take_version(at + take_comparator(at, &new.comparator), &new);
		if (end == NULL)
			return false;
		*why = "that is more constraints than are taken";
		if (range->n == VERSION_RANGE_CONSTRAINTS)
			return false;
		*why = "its version is in another constraint";
		if (!insert(range, &new))
			return false;
		if (*end == '\0')
			break;
		at = end + 1;
	}
	*where = 0;
	*why = "one of its constraints makes another needless";
	return !has_needless(range);
}

/* ---- asking ---- */

static bool
is_of_kind(const struct version_kind *kind, struct slice type)
{
	for (size_t i = 0; i < sizeof kind->components / sizeof *kind->components && kind->components[i] != NULL; i++)
		if (word_is(type, kind->components[i]))
			return true;
	return false;
}

bool
version_range_has(const struct version_range *range, struct slice type, struct slice version)
{
	const struct version_constraint *below = NULL, *above = NULL;
	bool excludes_only = true;

	if (!is_of_kind(range->kind, type))
		return false;
	if (range->all)
		return true;
	for (size_t i = 0; i < range->n; i++) {
		const struct version_constraint *c = &range->constraints[i];
		int order = compare(range, c, version);

		if (order == 0)
			return c->comparator == VERSION_IS || c->comparator == VERSION_UP_TO ||
			       c->comparator == VERSION_FROM;
		excludes_only = excludes_only && c->comparator == VERSION_IS_NOT;
		if (!is_bound(c))
			continue;
		if (order > 0)
			below = c;
		else if (above == NULL)
			above = c;
	}
	/* The nearest bounds on either side decide: "from" below it, "up to" above it, or the one that there is. */
	if (below != NULL)
		return !is_upper(below);
	if (above != NULL)
		return is_upper(above);
	return excludes_only;
}
