/*
 * The durable, bounded outbox: every signed report lies here before it is published, and until the collector has accounted for it and the room is
 * needed. It also keeps that account, and the sequence numbers that will never be sent, until they are declared and the declaration is receipted.
 */
#ifndef FLEETSTATE_SPOOL_H
#define FLEETSTATE_SPOOL_H

#include "emitter/account.h"
#include "emitter/segment.h"
#include "emitter/sign.h"

enum spool_flag {
	SPOOL_SECTIONS = 1,	/* state, inventory or events: evidence, the last to be given up */
	SPOOL_DECLARES = 2,	/* carries a declared drop: as precious */
	SPOOL_CHAIN = 4,	/* brings the certificate chain; no more precious than without */
};

struct spool_stats {
	size_t records, pending, bytes;	/* in the spool; of those not accounted for; on the disk */
	uint64_t dropped, damaged;	/* given up for want of room; found unreadable; since the start */
};

struct spool;

/* Opens or makes the directory `name` below `at`; at most `limit` bytes of records are kept. Torn and damaged records are passed over, and
   counted. NULL and `error` on failure, which includes records of another epoch. */
struct spool *spool_open(int at, const char *name, uint64_t epoch, size_t limit, char *error) WARN_UNUSED;
void spool_close(struct spool *);

/* Makes a message durable, but see spool_group. Its seq is above all before. 0, or -1 with errno: then it is not in the spool (ENOSPC, EIO; EFBIG: can't ever fit). */
int spool_append(struct spool *, uint64_t seq, unsigned flags, struct slice message) WARN_UNUSED;
/* From now on appends are durable only after spool_sync: what is above spool_durable must not be published. */
void spool_group(struct spool *);
/* 0, or -1 with errno: then they are not durable yet. */
int spool_sync(struct spool *) WARN_UNUSED;
uint64_t spool_durable(const struct spool *);	/* all up to that number */
/* The oldest record above `after` that is neither accounted for nor discarded. False: there is none. */
bool spool_next(struct spool *, uint64_t after, struct spool_record *out);
/* The same, of all records that can be read. */
bool spool_next_any(struct spool *, uint64_t after, struct spool_record *out);
/* The message, in the spool's own buffer until the next call. Absent: not here, or unreadable. */
struct slice spool_read(struct spool *, uint64_t seq) WARN_UNUSED;
/* The newest record that has all of these flags; seq 0: none. */
struct link spool_newest(struct spool *, unsigned flags);

const struct account *spool_account(const struct spool *);
/* Whether a receipt can't be older than any that was settled: its iat is later; or, as a clock that went back says nothing, its up_to is above all of
   theirs, for in one life of the collector's ledger that only grows. */
bool spool_is_later(const struct spool *, uint64_t iat, uint64_t up_to);
/* Takes over the collector's account: forgets drops whose declaration it covers, and turns what it misses and we no longer have into drops.
   0, or -1 with errno when it could not be made durable; it holds in memory all the same. */
int spool_settle(struct spool *, const struct account *) WARN_UNUSED;
/* That number was refused for good or never made: it will not be sent (again), and is declared. 0, or -1 as above. */
int spool_drop(struct spool *, struct seq_range, enum drop_cause) WARN_UNUSED;
/* Copies drops that no report has declared yet into the report, which will have number `seq`. */
void spool_declare(struct spool *, struct report *);
/* The report with these drops is in the spool. */
void spool_declared(struct spool *, const struct report *);
bool spool_has_drops(const struct spool *);	/* undeclared ones */
bool spool_is_dropped(const struct spool *, uint64_t seq);

/* The certificate that the collector has, as SHA-256; all zero: none yet. Set it before the account that says so is settled, which saves it. */
const uint8_t *spool_leaf(const struct spool *);
void spool_set_leaf(struct spool *, const uint8_t digest[DIGEST_SIZE]);
/* A receipt accounted for a number that was not used yet; the first such number is kept. 0, or -1 as above. */
int spool_note_ahead(struct spool *, uint64_t seq) WARN_UNUSED;
uint64_t spool_ahead(const struct spool *);	/* 0: none */

void spool_stats(const struct spool *, struct spool_stats *);

#endif
