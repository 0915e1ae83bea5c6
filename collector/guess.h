/*
 * Who tries credentials that are not good: counted by where it comes from and by how the credential begins, so that each further answer can be
 * delayed. Of bounded size, whoever tries; the caller has the clock.
 */
#ifndef FLEETSTATE_COLLECTOR_GUESS_H
#define FLEETSTATE_COLLECTOR_GUESS_H

#include <stdint.h>

#include "schema/slice.h"

struct guess_limits {
	int64_t free;		/* so many failures are answered at once; 0: all are */
	int64_t longest_s;	/* of a delay */
	int64_t window_s;	/* after so long without a failure all is forgotten */
};

struct guesses;

/* NULL if memory or random bytes ran out. */
struct guesses *guesses_new(const struct guess_limits *) WARN_UNUSED;
void guesses_free(struct guesses *);

/* One more failure: for how many milliseconds its answer is to be kept back. Any thread. */
int64_t guesses_failed(struct guesses *, const char *source, const char *hint, int64_t now_ms) WARN_UNUSED;

#endif
