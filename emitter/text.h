/*
 * Lines, words and numbers of the small texts that a system describes itself with: slices in, slices of them out.
 */
#ifndef FLEETSTATE_TEXT_H
#define FLEETSTATE_TEXT_H

#include <stdbool.h>

#include "schema/slice.h"

/* Without blanks, line ends and NULs around it. */
struct slice text_trim(struct slice);
/* Just this. */
bool text_is(struct slice, const char *);
/* Begins with this. */
bool text_begins(struct slice, const char *);
/* Digits of the base only: no sign, nothing before or after, at most 64 bits. */
bool text_number(struct slice, unsigned base, uint64_t *out) WARN_UNUSED;
/* Takes the next line off `text`, without its end. false: there is none. */
bool text_line(struct slice *text, struct slice *line) WARN_UNUSED;
/* Takes the next word off `text`; between words are blanks, tabs and line ends. false: there is none. */
bool text_word(struct slice *text, struct slice *word) WARN_UNUSED;
/* Cuts "key : value" at the first `mark` into two trimmed parts. false: there is no mark. */
bool text_cut(struct slice line, char mark, struct slice *key, struct slice *value) WARN_UNUSED;

/* Lines out of pieces, as a large file is read. A line is cut behind 4,095 bytes; `take` is told, and returns false to stop. Begin with zeros. */
struct text_feed {
	uint8_t line[4095];
	size_t len;
	bool cut;
};
typedef bool text_take(void *, struct slice line, bool cut);
bool text_feed(struct text_feed *, struct slice piece, text_take *take, void *);	/* false: stopped */
bool text_feed_end(struct text_feed *, text_take *take, void *);	/* the last line, if it has no end */

#endif
