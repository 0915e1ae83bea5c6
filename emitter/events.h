/*
 * What happened since the last report that told of events: merged by kind and subject, bounded, and kept in the state directory until such a report
 * is durable, together with how far each source has been read. A crash then neither loses nor doubles what was saved: the file names the report that
 * is to carry its events, and a start finds out whether that one is in the spool.
 */
#ifndef FLEETSTATE_EMITTER_EVENTS_H
#define FLEETSTATE_EMITTER_EVENTS_H

#include "emitter/durable.h"
#include "emitter/personal.h"
#include "schema/events.h"
#include "schema/report.h"

#define EVENTS_MAX 128		/* subjects in all */
#define EVENTS_OF_KIND 32	/* subjects of one kind: a port scan leaves room for the rest */
#define EVENTS_BYTES (16 * 1024)	/* all subjects */
#define CURSOR_MAX 512		/* of a journal's place; systemd's have 200 bytes */

/* How far a source has been read. All zero: not at all. */
struct positions {
	bool known;
	uint8_t boot_id[BOOT_ID_SIZE];
	struct place {
		uint64_t inode, offset;
	} btmp, wtmp, log;
	char cursor[CURSOR_MAX];	/* in the journal; "": none */
	uint8_t inventory[DIGEST_SIZE];	/* whose packages were compared last */
};

struct events;

/* Reads what was left; `newest` is the spool's newest report. A file that can't be read is told as lost. NULL and `error` when memory ran out. */
struct events *events_open(int dir, uint64_t newest, char *error) WARN_UNUSED;
void events_free(struct events *);

struct positions *events_positions(struct events *);	/* the caller moves them as it reads */

/* How personal parts are told from now on; it must outlive this, or until another is set. NULL: as they are. */
void events_set_personal(struct events *, const struct personal *);

/* `times` of them happened at `at`, in seconds. Parts are cut and cleaned; an absent one is not known. Without room the kind alone is counted. */
void events_add(struct events *, enum event_kind, uint64_t at, uint64_t times, const struct slice *parts, size_t n);
/* The same with strings: NULL is not known. */
void events_say(struct events *, enum event_kind, uint64_t at, const char *const *parts, size_t n);
size_t events_pending(const struct events *);
/* The section of the next report, until something is added; absent: nothing happened. */
struct slice events_section(struct events *) WARN_UNUSED;

/* Saves all that is pending and the positions. `seq`: the report that is to carry them, 0: none yet. 0, or -1 with errno. */
int events_save(struct events *, uint64_t seq) WARN_UNUSED;
/* Whether something was added or read since it was saved. */
bool events_unsaved(const struct events *);
/* The section is durable in the spool. */
void events_told(struct events *);

#endif
