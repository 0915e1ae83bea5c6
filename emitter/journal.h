/*
 * A file with one line for every report that became durable: "ueid epoch seq sha256". Tests hold it against what the collector says it has.
 * Any number of devices of one process may share it.
 */
#ifndef FLEETSTATE_JOURNAL_H
#define FLEETSTATE_JOURNAL_H

#include "emitter/durable.h"
#include "schema/report.h"

struct journal;

/* Opens or makes the file; a torn last line is cut off. NULL and `error` on failure. */
struct journal *journal_open(const char *file, char *error) WARN_UNUSED;
void journal_close(struct journal *);
/* The highest number in the file for this device and epoch, 0: none. */
uint64_t journal_last(const struct journal *, const struct ueid *, uint64_t epoch);
/* Appends a line and syncs it. 0, or -1 with errno. */
int journal_add(struct journal *, const struct ueid *, uint64_t epoch, uint64_t seq, const uint8_t digest[DIGEST_SIZE]) WARN_UNUSED;

#endif
