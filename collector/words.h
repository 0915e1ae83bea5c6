/*
 * Words, and lists of them as tables have them, with spaces between. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_WORDS_H
#define FLEETSTATE_COLLECTOR_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "schema/slice.h"

/* Just this. */
bool word_is(struct slice, const char *word) WARN_UNUSED;
/* Whether the text, which has no space, is one of the words. */
bool words_have(const char *words, const char *text, size_t len) WARN_UNUSED;

#endif
