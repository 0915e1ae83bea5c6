/*
 * What makes a report this device's: the signing key and its certificate chain, the epoch, a sequence number that never repeats, and the
 * digest of the message before. All of it survives crashes in one small file of the state directory.
 */
#ifndef FLEETSTATE_SIGN_H
#define FLEETSTATE_SIGN_H

#include <stdbool.h>

#include "emitter/durable.h"
#include "schema/report.h"

#define SEQ_RESERVE 64	/* numbers reserved at a time: one synced write in so many reports */

struct signer;

/* A message that was made, as its successor refers to it. seq 0: there is none. */
struct link {
	uint64_t seq;
	uint8_t digest[DIGEST_SIZE];
};

/* `key` is a URI for cose_key_open; `certificate` a PEM file, leaf first, whose leaf's common name is the ueid and holds that key. The state is
   read from the directory, or a new epoch begins there. `boot_id` has 16 bytes. NULL and `error` on failure; a state file that can't be read is one:
   beginning anew would repeat numbers. */
struct signer *signer_open(int dir, const char *key, const char *certificate, const uint8_t *boot_id, char *error) WARN_UNUSED;
void signer_free(struct signer *);

/* The spool's newest records, of any kind and with sections, may be newer than the state. Reserves the first numbers. If the last run did not
   stop cleanly, *skipped becomes the numbers that will never be used, else {0, 0}. 0, or -1 and `error`. */
int signer_start(struct signer *, const struct link *newest, const struct link *sections, struct seq_range *skipped, char *error) WARN_UNUSED;

/* Takes the next number, fills in everything of the report that is the signer's (ueid, epoch, seq, prev, bootcount, boot id, sections_prev),
   encodes and signs it. The number is used up whatever becomes of the message; `report->seq` is 0 if none was taken. Returns the message, the
   caller frees `at`; absent with errno on failure. */
struct slice signer_sign(struct signer *, struct report *, bool with_chain) WARN_UNUSED;
/* The message is durable: the next one refers to it. */
void signer_commit(struct signer *, const struct report *, const uint8_t digest[DIGEST_SIZE]);
/* Lowers the ceiling to the last number used. 0, or -1 with errno: then the next start skips some numbers, no harm. */
int signer_stop(struct signer *) WARN_UNUSED;

const struct ueid *signer_ueid(const struct signer *);
uint64_t signer_epoch(const struct signer *);
uint64_t signer_seq(const struct signer *);	/* the last one used */
uint64_t signer_not_before(const struct signer *);	/* our certificate's beginning, seconds since 1970; 0: not known */
const uint8_t *signer_leaf(const struct signer *);	/* SHA-256 of our certificate: DIGEST_SIZE bytes */

#endif
