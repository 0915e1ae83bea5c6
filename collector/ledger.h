/*
 * The ledger of one device: which sequence numbers of the current epoch are here, missing or declared dropped. Pure; the store stage keeps it and
 * the database in step by compare-and-set on rev.
 */
#ifndef FLEETSTATE_COLLECTOR_LEDGER_H
#define FLEETSTATE_COLLECTOR_LEDGER_H

#include "schema/report.h"

/* Separate missing ranges that are kept for a device: 64 KiB, and as many rows. A report that would make one more is not taken in: it stays in
   the device's spool and is asked for again once earlier gaps were filled or declared dropped (filling a range from an end always goes). So the
   ledger never forgets a missing number, and never calls one missing that is here. */
#define LEDGER_GAPS 4096

struct ledger {
	int64_t rev;			/* of the row; what we last read or wrote; -1: the device has no row yet */
	bool started;			/* an epoch is known */
	uint64_t epoch, hi;
	bool has_head, has_sections_head;
	uint8_t head[DIGEST_SIZE];	/* SHA-256 of message hi */
	uint8_t sections_head[DIGEST_SIZE];
	uint8_t facts[FACTS_SIZE];
	bool facts_known;		/* device_state's digests give just these facts: no need to ask for the state */
	bool inventory_known;		/* the tenant has the set of device_state's inventory digest */
	int64_t last_seen_us, last_iat;
	uint32_t interval;
	struct seq_range *missing;	/* ascending, disjoint, all below hi; owned */
	size_t missing_len, missing_size;
};

enum ledger_place {
	PLACE_ABOVE,	/* new; opens a gap if seq > hi + 1 */
	PLACE_MISSING,	/* inside a gap */
	PLACE_TAKEN,	/* already here, or dropped: the stored report decides between duplicate and fork */
	PLACE_EPOCH,	/* another epoch */
};

enum ledger_place ledger_place(const struct ledger *, uint64_t epoch, uint64_t seq);
/* Take it in. ledger_add expects PLACE_ABOVE or PLACE_MISSING; -1 if memory ran out or LEDGER_GAPS is reached, and nothing changed. */
int ledger_add(struct ledger *, uint64_t seq) WARN_UNUSED;
/* Declared drops: out of the gaps. They lie below the seq of the report that declares them, so add that one first; what of the range is above hi
   is passed over. Returns how many numbers of it were missing, or -1 as ledger_add. */
int64_t ledger_drop(struct ledger *, struct seq_range) WARN_UNUSED;
/* What reports declared dropped and was missing until then. Owned by whoever keeps it: free `at`. */
struct ledger_drops {
	struct ledger_drop {
		struct seq_range range;
		enum drop_cause cause;
		uint64_t declared_by;	/* seq */
	} *at;
	size_t len, size;
};
/* Both for a whole report, its seq and what it declares: all or, with -1, nothing. What was really dropped is appended. */
int ledger_take(struct ledger *, const struct report *, struct ledger_drops *) WARN_UNUSED;
/* Begins an epoch: nothing here, nothing missing. What is known of the facts and the inventory stays. */
void ledger_start_epoch(struct ledger *, uint64_t epoch);
/* Overwrites `to`, which owns nothing or may be uninitialised. -1 if memory ran out: `to` is as before. */
int ledger_copy(struct ledger *to, const struct ledger *from) WARN_UNUSED;
void ledger_free(struct ledger *);	/* what it owns */

#endif
