/*
 * Judges a batch against the ledgers: each report is new, late, a duplicate or a fork, and each device's ledger moves on a working copy. Nothing
 * outside the batch changes before judge_commit, so a transaction that fails leaves no trace. Pure: what only the database knows is handed in.
 */
#ifndef FLEETSTATE_COLLECTOR_JUDGE_H
#define FLEETSTATE_COLLECTOR_JUDGE_H

#include "collector/keyring.h"
#include "collector/message.h"

/* One epoch of a device in this batch. */
struct account {
	struct account *next;
	const struct ledger *before;	/* as the database has it */
	struct ledger ledger;		/* as it will be */
	struct ledger stored;		/* what `before` points to when the epoch is not the device's current one */
	int64_t certified;		/* not_before of its newest certificate seen in this batch, seconds; 0: none */
	int64_t first_seen_us;
	bool fresh, vouched, left, changed;
	int64_t duplicates, late, forks, chain_breaks;
	struct ledger_drops drops;	/* what its reports declared dropped and was missing */
	const struct message *state;	/* the newest of its reports with sections */
};

/* One device in this batch. */
struct docket {
	struct device *device;
	struct message **messages;	/* in the order of arrival */
	size_t n, stored;
	struct account *accounts, *current;
	bool other_epochs;		/* some report is of an epoch that memory does not know */
	int64_t vouched_until;		/* not_before of the newest certificate under a vouched epoch; handed in with other_epochs */
	bool reprovision;		/* the operator vouches for the next new epoch; likewise */
	int64_t unvouched;		/* how many epochs nobody vouched for; likewise */
	int64_t allowance;		/* reports that may still be stored; handed in for a pending device */
	bool fork, second_epoch;	/* found in this batch */
	bool was_away;			/* longer than its interval: it may stand as silent */
};

/* What a number is taken by, as the database has it. */
enum taken {
	TAKEN_GONE,		/* nothing that is still stored */
	TAKEN_SAME,		/* the same signed bytes */
	TAKEN_OTHER,		/* another report */
	TAKEN_SKIPPED,		/* a declaration that it was never made */
	TAKEN_OVERWRITTEN,	/* a declaration that it was lost */
};

#define JUDGE_LEAP_MAX (1 << 20)	/* numbers above the highest: two years of a report a minute */
#define JUDGE_EPOCHS_MAX 16	/* a device's that nobody vouched for: enough to see that its key is abroad */

struct judge {
	struct docket *dockets;		/* by device_id */
	size_t dockets_n;
	struct message **asked;		/* their numbers are taken: by what? judge_settle each, in this order */
	size_t asked_n;
	struct judge_pool *pool;
};

/* For batches of up to `max` messages. -1 when memory ran out. */
int judge_init(struct judge *, size_t max) WARN_UNUSED;
void judge_free(struct judge *);

/* Sorts the messages that were not refused and have a device. -1 when memory ran out. */
int judge_begin(struct judge *, struct message **, size_t n) WARN_UNUSED;
/* An epoch that the database knows of, and its gaps in ascending order. */
int judge_add_epoch(struct judge *, struct docket *, const struct ledger *, bool vouched) WARN_UNUSED;
/* Verdicts, but for those asked for. May refuse: by the ledger (GAPS_FULL, PENDING_FULL, SEQ_LEAP, EPOCH_FULL), and by what became of the device or its
   key since it was verified (DEVICE_RETIRED, KEY_REVOKED). -1 when memory ran out. */
int judge_run(struct judge *) WARN_UNUSED;
void judge_settle(struct judge *, struct message *, enum taken);
/* The transaction is in: ledgers move. judge_end without it forgets all. */
void judge_commit(struct judge *);
void judge_end(struct judge *);

bool message_is_stored(const struct message *);	/* its verdict is one that is kept */

#endif
