#include "emitter/apk.h"

#include <string.h>

static const char letters[APK_FIELDS + 1] = "PVAof";

static struct slice
field(const struct apk *a, enum apk_field which)
{
	return (struct slice){a->fields[which].at, a->fields[which].len};
}

/* The flags say what went wrong when it was installed: f its files, s a script, x extended attributes. */
static void
end_package(struct apk *a)
{
	struct component c = {
		.type = COMPONENT_APK,
		.name = field(a, APK_NAME),
		.version = field(a, APK_VERSION),
		.architecture = field(a, APK_ARCHITECTURE),
		.source = field(a, APK_ORIGIN),
	};
	bool cut = false;

	for (size_t i = 0; i < APK_FLAGS; i++)
		cut = cut || a->fields[i].cut;
	if (c.name.len > 0)
		a->take(a->context, &c, cut, a->fields[APK_FLAGS].len > 0);
	for (size_t i = 0; i < APK_FIELDS; i++) {
		a->fields[i].len = 0;
		a->fields[i].cut = false;
	}
}

static bool
take_line(void *context, struct slice line, bool cut)
{
	struct apk *a = context;
	const char *letter;
	size_t i, len;

	if (line.len == 0) {
		end_package(a);
		return true;
	}
	letter = line.len > 2 && line.at[1] == ':' && line.at[0] ? strchr(letters, line.at[0]) : NULL;
	if (!letter)
		return true;
	i = (size_t)(letter - letters);
	len = line.len - 2;
	a->fields[i].cut = cut || len > APK_TEXT;
	a->fields[i].len = len < APK_TEXT ? len : APK_TEXT;
	memcpy(a->fields[i].at, line.at + 2, a->fields[i].len);
	return true;
}

void
apk_feed(struct apk *a, struct slice piece)
{
	(void)!text_feed(&a->feed, piece, take_line, a);
}

void
apk_end(struct apk *a)
{
	(void)!text_feed_end(&a->feed, take_line, a);
	end_package(a);
}
