/*
 * All reading below the root directory that the emitter looks at: "/" of the running device, or an image unpacked somewhere. Nothing leads
 * out of the root, nothing blocks, nothing but regular files is opened, and every read has a limit.
 *
 * Paths are relative to the root and begin without a slash: "etc/os-release". Symbolic links are followed as if the root were "/".
 */
#ifndef FLEETSTATE_SOURCE_H
#define FLEETSTATE_SOURCE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "schema/slice.h"

#define SOURCE_ATTRIBUTE (64 * 1024)	/* a file of /proc or /sys, most are far smaller */
#define SOURCE_FILE (1024 * 1024)	/* a file of configuration */
#define SOURCE_NAMES 65536		/* names in one directory: /proc of a crowded machine */

struct source;

/* NULL with errno when `root` is no directory that can be opened. */
struct source *source_new(const char *root) WARN_UNUSED;
void source_free(struct source *);
bool source_is_live(const struct source *);	/* the root is this system's own */
/* For tests: links are resolved here, as they are by themselves on a kernel before 5.6, which has no openat2. */
void source_walk(struct source *);

/* A new sweep: forgets refusals, and gives back what an unusually large file took. */
void source_rewind(struct source *);
/* How often permission was refused since; more, for what was not looked at again. */
size_t source_denied(const struct source *);
void source_add_denied(struct source *, size_t);

/* Why the last call failed, for people: "no etc/os-release", "etc/os-release is larger than 1 MiB". Valid until the next failure. */
const char *source_why(const struct source *);
/* Whether it failed because nothing is there. */
bool source_missing(const struct source *);

/* The whole file, valid until the next read; an absent slice on failure or if it is larger than `max`. */
struct slice source_read(struct source *, const char *path, size_t max) WARN_UNUSED;
/* In pieces of at most 64 KiB, for files too large to hold. `take` returns false to stop early, which is no error. -1 on failure, also when it
   is larger than `max`; some pieces may have been given then. */
int source_stream(struct source *, const char *path, size_t max, bool (*take)(void *, struct slice), void *) WARN_UNUSED;

/* The last `max` bytes of a file that may be larger; `skipped` is how many stand before them. Valid until the next read. */
struct slice source_read_tail(struct source *, const char *path, size_t max, uint64_t *skipped) WARN_UNUSED;
/* Kind, owner and mode of what `path` leads to; nothing is opened. -1 on failure. */
int source_stat(struct source *, const char *path, struct stat *) WARN_UNUSED;

/* For a library that reads it: the regular file, or the directory, opened to read. The caller closes it. -1 on failure. */
int source_open(struct source *, const char *path, bool directory) WARN_UNUSED;

/* What tells a changed file from an unchanged one. All zero when there is none; compare with memcmp. */
struct source_stamp {
	uint64_t device, inode, size;
	int64_t modified_s, modified_ns, changed_s, changed_ns;
};
void source_stamp(struct source *, const char *path, struct source_stamp *);
bool source_exists(struct source *, const char *path);

/*
 * What was looked at between begin and end, whether it was there or not. While all of it is as it was, what was found there still holds. What
 * comes from the kernel itself (below /proc, /sys and /dev of the running system), and what was changed a moment ago, never holds.
 */
struct source_trace {
	struct traced *at;
	size_t len, size;
	char *paths;
	size_t paths_len, paths_size;
	size_t denied;	/* how often permission was refused meanwhile */
	bool transient;
	int64_t until;	/* seconds of the monotonic clock, from when it holds no longer; 0: no such time */
	unsigned postponed;	/* how often in a row there was one */
};
void source_trace_begin(struct source *, struct source_trace *);	/* forgets what it held; a zeroed struct is fine */
void source_trace_end(struct source *);
/* What is found now depends on more than files: on the time, on the network's state. */
void source_trace_transient(struct source *);
/* What failed may go well another time, but to try costs much: after minutes, and when it goes on failing after ever longer, up to a day. */
void source_trace_later(struct source *);
bool source_trace_holds(struct source *, const struct source_trace *);
void source_trace_free(struct source_trace *);

/* Calls `take` for each name but "." and ".."; `directory` is open, for readlinkat. Returning false stops, which is no error. -1 when it can't
   be read, or has more than `max` names: those were given. */
int source_list(struct source *, const char *path, size_t max, bool (*take)(void *, int directory, const char *name), void *) WARN_UNUSED;

#endif
