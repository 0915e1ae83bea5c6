/*
 * The databases of apk-tools, in pieces as they are read: what is installed (lib/apk/db/installed), and an index of what could be (APKINDEX),
 * which look the same: lines of a letter, a colon and a value.
 */
#ifndef FLEETSTATE_APK_H
#define FLEETSTATE_APK_H

#include <stdbool.h>

#include "emitter/text.h"
#include "schema/report.h"

#define APK_TEXT 512

enum apk_field { APK_NAME, APK_VERSION, APK_ARCHITECTURE, APK_ORIGIN, APK_FLAGS, APK_FIELDS };

/* Begin with zeros but for the first two. Texts are valid during the call only. */
struct apk {
	void (*take)(void *, const struct component *, bool cut, bool broken);
	void *context;
	struct text_feed feed;
	struct {
		uint8_t at[APK_TEXT];
		size_t len;
		bool cut;
	} fields[APK_FIELDS];
};

void apk_feed(struct apk *, struct slice piece);
void apk_end(struct apk *);

#endif
