/*
 * Work that a library does on foreign bytes, in a process of its own: it may use so much time and memory and no more, it starts nothing, opens no
 * socket and writes no file, and whatever becomes of it, this process goes on.
 */
#ifndef FLEETSTATE_CHILD_H
#define FLEETSTATE_CHILD_H

#include <stdbool.h>

#include "schema/slice.h"

#define CHILD_SECONDS 10		/* less than the emitter is given to stop */
#define CHILD_MEMORY (256 * 1024 * 1024)	/* of address space, beyond what this process has */
#define CHILD_OUTPUT (512 * 1024 * 1024)
#define CHILD_WHY 128

struct child {
	/* In the child, which has no other descriptors than these two: 0, or -1 with the reason in `why`. */
	int (*work)(void *context, int input, int out, char why[CHILD_WHY]);
	/* In this process, for what the child writes to `out`; false to stop early, which is no error. */
	bool (*take)(void *taker, struct slice piece);
	void *context, *taker;
	int input;	/* what the work reads; -1: nothing */
};

/* -1 with the reason in `why`; some pieces may have been taken then. -2: likewise, but it was for want of a process, and may go well the next time.
   -3: likewise, but its time or its life ended before the work did, on a machine that may have had others to run; to try again costs as much. */
int child_run(const struct child *, char why[CHILD_WHY]) WARN_UNUSED;

/* For the work: writes all. -1: nobody reads any more. */
int child_write(int out, struct slice) WARN_UNUSED;

#endif
