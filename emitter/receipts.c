#include "emitter/receipts.h"

#include <string.h>

static const struct {
	const char *name, *help;
} counters[COUNTERS] = {
#define COUNTER(symbol, name, help) {name, help},
#include "emitter/counters.def"
#undef COUNTER
};

const char *
counter_name(enum counter counter)
{
	return counters[counter].name;
}

const char *
counter_help(enum counter counter)
{
	return counters[counter].help;
}

/* Whoever has our report `up_to` has its digest. A report that has left the spool can't be compared: then the signature has to do, or a collector
   restored from an old copy would never be heard. Without a digest it must be a number that we do not have to show. */
static bool
digest_fits(const struct receipt *receipt, struct spool *spool)
{
	struct slice message = receipt->up_to > 0 ? spool_read(spool, receipt->up_to) : (struct slice){NULL, 0};
	if (message.at == NULL)
		return receipt->up_to > 0 || !receipt->has_digest;
	if (!receipt->has_digest)
		return spool_is_dropped(spool, receipt->up_to);
	uint8_t digest[DIGEST_SIZE];
	sha256(message, digest);
	return memcmp(digest, receipt->digest, DIGEST_SIZE) == 0;
}

enum counter
receipts_judge(const struct receipt *receipt, const struct ueid *ueid, uint64_t epoch, uint64_t last,
	       struct spool *spool)
{
	if (memcmp(&receipt->ueid, ueid, sizeof *ueid) != 0)
		return COUNTER_RECEIPTS_FOREIGN;
	if (receipt->epoch != epoch)
		return COUNTER_RECEIPTS_EPOCH;
	if (receipt->iat < spool_account(spool)->iat)
		return COUNTER_RECEIPTS_REPLAYED;
	if (receipt->up_to > last)
		return COUNTER_RECEIPTS_AHEAD;
	return digest_fits(receipt, spool) ? COUNTER_RECEIPTS : COUNTER_RECEIPTS_DIGEST;
}
