/*
 * Files that survive a crash: written beside, synced, renamed, and the directory synced, so that a reader finds the old content or the new one.
 * All names are relative to a directory that is held open, which also is the lock that keeps two emitters from one state.
 */
#ifndef FLEETSTATE_DURABLE_H
#define FLEETSTATE_DURABLE_H

#include <stdbool.h>
#include <sys/types.h>

#include "schema/slice.h"

#define ERROR_SIZE 256	/* of the `error` buffers below; always one line */

/* Opens a directory, making it (0700), durably, if its parent is there. Returns its descriptor, -1 and `error`. */
int durable_directory(int at, const char *path, char *error) WARN_UNUSED;
/* Takes the directory for this process; the lock goes with the descriptor. -1 and `error` when another process holds it. */
int durable_lock(int dir, const char *path, char *error) WARN_UNUSED;
/* Replaces the file `name` (mode 0600). With `sync` false it is atomic but may be lost with the power. 0, or -1 with errno. */
int durable_write(int dir, const char *name, struct slice content, bool sync) WARN_UNUSED;
/* Removes what durable_write had begun when the power went. */
void durable_sweep(int dir);
/* Reads a file of at most `size` bytes. Returns its length, -1 with errno (EFBIG when it is longer). */
ssize_t durable_read(int dir, const char *name, uint8_t *out, size_t size) WARN_UNUSED;
/* Writes all of it at that place, through interruptions. 0, or -1 with errno; a part may have been written. */
int write_all_at(int fd, struct slice content, off_t at) WARN_UNUSED;
/* Reads just `len` bytes from that place. 0, or -1 with errno (EIO when the file ends before). */
int read_all_at(int fd, uint8_t *out, size_t len, off_t at) WARN_UNUSED;

#endif
