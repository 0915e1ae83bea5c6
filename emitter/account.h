/*
 * The device's own side of the ledger: what the collector's newest receipt said, and which sequence numbers will never be sent. A drop is kept
 * until a report has declared it and a receipt covers that report. One small file, replaced as a whole.
 */
#ifndef FLEETSTATE_ACCOUNT_H
#define FLEETSTATE_ACCOUNT_H

#include "emitter/durable.h"
#include "schema/report.h"

/* What the collector said last. */
struct account {
	uint64_t iat;		/* of the receipt, the collector's clock; 0: there never was one */
	uint64_t up_to;
	struct seq_range missing[LIMIT_RECEIPT_MISSING];
	size_t missing_len;
};

struct drop {
	struct seq_range range;
	enum drop_cause cause;
	uint64_t declared;	/* by the report of that number; 0: not yet */
};

struct book {
	int dir;
	struct account account;
	uint64_t newest_iat, highest;	/* of all receipts taken: the latest iat, the highest up_to */
	uint8_t leaf[DIGEST_SIZE];	/* SHA-256 of the certificate that the collector got last, by a receipted report; 0: none */
	uint64_t ahead;	/* the first number that a receipt accounted for before we had used it; 0: none */
	struct drop *drops;	/* ascending, apart from each other; at most one more than there are records between them */
	size_t drops_len, drops_size;
};

/* Reads the file, or starts with an empty book when there is none. 0, or -1 and `error`. */
int book_load(struct book *, int dir, char *error) WARN_UNUSED;
void book_free(struct book *);
/* Overwrites `to`. 0, or -1 when memory ran out; the caller frees it. */
int book_copy(struct book *to, const struct book *from) WARN_UNUSED;
/* 0, or -1 with errno: the book then holds in memory only, and is saved with the next change. */
int book_save(const struct book *) WARN_UNUSED;

bool account_covers(const struct account *, uint64_t seq);	/* accounted for by the collector */
bool account_misses(const struct account *, uint64_t seq);	/* asked for by the collector */
bool book_dropped(const struct book *, uint64_t seq);

/* Adds what is not in the book yet. 0, or -1 when memory ran out. Saves nothing. */
int book_drop(struct book *, struct seq_range, enum drop_cause) WARN_UNUSED;
/* The report of that number is lost: what it declared is to be declared again. */
void book_undeclare(struct book *, uint64_t seq);
/* The collector's newest account; drops whose declaration it covers are forgotten. */
void book_settle(struct book *, const struct account *);
/* Copies the first undeclared drops into the report; and marks them, when it is durable. */
void book_declare(const struct book *, struct report *);
void book_declared(struct book *, const struct report *);
bool book_undeclared(const struct book *);	/* there are some */

#endif
