/*
 * Words, and lists of them: as tables have them, with spaces between, and as people write them, with commas. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_WORDS_H
#define FLEETSTATE_COLLECTOR_WORDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "schema/slice.h"

/* Just this. */
bool word_is(struct slice, const char *word) WARN_UNUSED;
/* Whether the text, which has no space, is one of the words. */
bool words_have(const char *words, const char *text, size_t len) WARN_UNUSED;
/* The next word of those with commas between, and moves on: the list is NULL behind the last. False: it is NULL. An empty text is one word, which is empty. */
bool words_next(const char **list, struct slice *word) WARN_UNUSED;
/* All of them. */
json_t *words_array(const char *list) WARN_UNUSED;

#endif
