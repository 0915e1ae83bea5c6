/*
 * What the spool is made of, for the two files that keep it: spool.c, which appends and reads, and reclaim.c, which makes room. Nobody else
 * includes it.
 */
#ifndef FLEETSTATE_SHELF_H
#define FLEETSTATE_SHELF_H

#include "emitter/spool.h"

struct entry {
	uint32_t seq;	/* above the segment's first */
	uint32_t offset, len;
	uint32_t flags;
};

struct segment {
	uint64_t first;	/* names the file, and is not above any of its records */
	uint32_t size;
	bool sealed;	/* a write failed: nothing more goes in */
	struct entry *entries;
	size_t len, room;
};

struct spool {
	int dir, active;	/* the newest segment's descriptor, -1: none is open */
	uint64_t epoch;
	size_t limit, segment_size;
	struct segment *segments;	/* ascending */
	size_t len, room;
	size_t bytes;
	bool grouped, unsynced;	/* appends wait for spool_sync; some do */
	uint64_t durable;	/* all up to here are */
	struct book book;
	uint8_t *buffer;
	size_t buffer_size;
	uint64_t dropped, damaged;
};

int shelf_add_entry(struct segment *, const struct spool_record *, size_t offset) WARN_UNUSED;	/* 0, or -1 when memory ran out */
struct segment *shelf_newest(struct spool *);	/* NULL: there is none */
uint64_t shelf_newest_seq(const struct spool *);	/* 0: there is none */
bool shelf_is_pending(const struct spool *, uint64_t seq);	/* neither accounted for nor given up */
void shelf_close_active(struct spool *);

/* Gives up what the limit leaves no room for: receipted records first, then quiet ones, then any, the oldest first, and never the newest. 0, or -1
   with errno: EFBIG it can't ever fit, ENOSPC nothing more may go, or the disk has no room to write what stays. Then nothing that waits for a receipt was given
   up for it. */
int shelf_make_room(struct spool *, size_t need) WARN_UNUSED;
/* Writes the segment anew, durably, with all that is in it. 0, or -1 with errno. */
int shelf_rewrite(struct spool *, struct segment *) WARN_UNUSED;
/* The disk is fuller than the limit says: removes the oldest file of which all is receipted. 0; 1: there is none; -1 with errno. */
int shelf_free_disk(struct spool *) WARN_UNUSED;
bool shelf_disk_is_full(int error);	/* that errno says so */

#endif
