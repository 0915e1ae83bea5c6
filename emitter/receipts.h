/*
 * What a trusted receipt is to this device: ours and new, or one of several things that are only counted. Pure, but for reading the spool.
 */
#ifndef FLEETSTATE_RECEIPTS_H
#define FLEETSTATE_RECEIPTS_H

#include "emitter/spool.h"
#include "schema/receipt.h"

enum counter {
#define COUNTER(symbol, name, help) COUNTER_##symbol,
#include "emitter/counters.def"
#undef COUNTER
	COUNTERS
};

const char *counter_name(enum counter);

/* COUNTER_RECEIPTS: it holds for us. Else what to count. `last` is the last number that we used. A later receipt is told from a replayed one by its iat, or by an up_to above that of every receipt taken, if our report of that number is still
   here and has the digest: so a collector whose clock was ahead for a while is heard again with the next report that it stores. */
enum counter receipts_judge(const struct receipt *, const struct ueid *, uint64_t epoch, uint64_t last, struct spool *);
struct account receipts_account(const struct receipt *);
/* The certificate in the newest report that has one and that this account covers, as SHA-256. False: none that was waiting for a receipt. */
bool receipts_leaf(const struct account *, struct spool *, uint8_t digest[DIGEST_SIZE]);

#endif
