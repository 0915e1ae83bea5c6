/*
 * The spool's files: a head with the epoch, then records, each with a checksum over all of it. Pure, but for listing, loading and cutting files.
 */
#ifndef FLEETSTATE_SEGMENT_H
#define FLEETSTATE_SEGMENT_H

#include <stdbool.h>

#include "emitter/durable.h"

#define SEGMENT_SIZE (256 * 1024)	/* one record of any size may go over it */
#define SEGMENT_HEAD 16	/* magic and epoch */
#define RECORD_HEAD 24	/* magic, length, seq, flags, CRC-32C of all that and the message */
#define NAME_SIZE 24

struct spool_record {
	uint64_t seq;
	unsigned flags;
	size_t len;	/* of the message */
};

void segment_head(uint64_t epoch, uint8_t head[SEGMENT_HEAD]);
bool segment_parse(struct slice file, uint64_t *epoch) WARN_UNUSED;	/* false: not one of ours */
void record_head(uint8_t head[RECORD_HEAD], uint64_t seq, unsigned flags, struct slice message);
/* The record that begins at `at`, if a whole and sound one does. */
bool record_parse(struct slice file, size_t at, struct spool_record *) WARN_UNUSED;

/* A segment is named by a number that is not above any of its records'. */
void segment_name(uint64_t first, char name[NAME_SIZE]);
/* The names in a directory, ascending; the caller frees them. 0, or -1 with errno. */
int segment_list(int dir, uint64_t **names, size_t *len) WARN_UNUSED;
/* A whole file; the caller frees it. 0, or -1 with errno. */
int segment_load(int dir, uint64_t first, uint8_t **out, size_t *len) WARN_UNUSED;
int segment_sync(int dir, uint64_t first) WARN_UNUSED;	/* 0, or -1 with errno */
/* Cuts it to that size, durably. 0, or -1 with errno. */
int segment_truncate(int dir, uint64_t first, size_t size) WARN_UNUSED;

#endif
