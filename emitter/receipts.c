#include "emitter/receipts.h"

#include <string.h>

static const char *const counters[COUNTERS] = {
#define COUNTER(symbol, name, help) name,
#include "emitter/counters.def"
#undef COUNTER
};

const char *
counter_name(enum counter counter)
{
	return counters[counter];
}

enum fit { FITS_NOT, FITS_UNSEEN, FITS };

/* Whoever has our report `up_to` has its digest. A report that has left the spool can't be compared: then the signature has to do, or a collector
   restored from an old copy would never be heard. Without a digest it must be a number that we do not have to show. */
static enum fit
compare_digest(const struct receipt *receipt, struct spool *spool)
{
	struct slice message = receipt->up_to > 0 ? spool_read(spool, receipt->up_to) : (struct slice){NULL, 0};
	if (message.at == NULL)
		return receipt->up_to > 0 || !receipt->has_digest ? FITS_UNSEEN : FITS_NOT;
	if (!receipt->has_digest)
		return spool_is_dropped(spool, receipt->up_to) ? FITS_UNSEEN : FITS_NOT;
	uint8_t digest[DIGEST_SIZE];
	sha256(message, digest);
	return memcmp(digest, receipt->digest, DIGEST_SIZE) == 0 ? FITS : FITS_NOT;
}

enum counter
receipts_judge(const struct receipt *receipt, const struct ueid *ueid, uint64_t epoch, uint64_t last,
	       struct spool *spool)
{
	if (memcmp(&receipt->ueid, ueid, sizeof *ueid) != 0)
		return COUNTER_RECEIPTS_FOREIGN;
	if (receipt->epoch != epoch)
		return COUNTER_RECEIPTS_EPOCH;
	if (receipt->up_to > last)
		return COUNTER_RECEIPTS_AHEAD;
	if (!spool_is_later(spool, receipt->iat, receipt->up_to))
		return COUNTER_RECEIPTS_REPLAYED;
	enum fit fit = compare_digest(receipt, spool);
	if (fit != FITS && receipt->iat < spool_account(spool)->iat)
		return COUNTER_RECEIPTS_REPLAYED;
	return fit != FITS_NOT ? COUNTER_RECEIPTS : COUNTER_RECEIPTS_DIGEST;
}

struct account
receipts_account(const struct receipt *receipt)
{
	struct account account = {.iat = receipt->iat, .up_to = receipt->up_to, .missing_len = receipt->missing_len};
	memcpy(account.missing, receipt->missing, sizeof account.missing);
	return account;
}

bool
receipts_leaf(const struct account *account, struct spool *spool, uint8_t digest[DIGEST_SIZE])
{
	bool found = false;
	for (struct spool_record r = {0}; spool_next(spool, r.seq, &r);) {
		struct cose_sign1 cose;
		if ((r.flags & SPOOL_CHAIN) == 0 || !account_covers(account, r.seq))
			continue;
		if (cose_decode(spool_read(spool, r.seq), &cose) != REASON_OK || cose.chain_len == 0)
			continue;
		sha256(cose.chain[0], digest);
		found = true;
	}
	return found;
}
