/*
 * The audit of one device's evidence: from the stored bytes alone, each report's digest, signature and place, the chain through them, and whether
 * all are there that the ledger speaks of. Pure: rows in, findings out.
 */
#ifndef FLEETSTATE_COLLECTOR_AUDIT_H
#define FLEETSTATE_COLLECTOR_AUDIT_H

#include "collector/key_cache.h"
#include "collector/message.h"

#define AUDIT_REVOKED_GRACE 60	/* seconds: of clocks that differ, and of reports on their way to the commit */

enum finding {
#define FINDING(symbol, name, help) FINDING_##symbol,
#include "collector/audit_findings.def"
#undef FINDING
	FINDINGS
};

const char *finding_name(enum finding);
const char *finding_help(enum finding);

/* A row of `report`. */
struct audit_row {
	uint64_t epoch, seq;
	int64_t received_us, issued_us;	/* microseconds since 1970 */
	uint8_t sha256[DIGEST_SIZE];	/* as recorded */
	unsigned flags;			/* of enum report_flag */
	struct slice message;
};

/* What retention took of an epoch: quiet reports, and those with sections. */
struct audit_expired {
	uint64_t seq;			/* the highest; 0: nothing went */
	uint64_t n;			/* numbers that went */
	uint8_t sha256[DIGEST_SIZE];	/* of message seq */
};
enum { EXPIRED_QUIET, EXPIRED_SECTIONS, EXPIRED_KINDS };

/* What the ledger says of an epoch. */
struct audit_epoch {
	uint64_t epoch, hi;
	int64_t first_seen_us;
	bool vouched;
	bool has_head;			/* the device's current one: */
	uint8_t head[DIGEST_SIZE];	/* SHA-256 of message hi */
	struct seq_range *excused;	/* known to be missing or dropped: ascending; owned */
	bool *dropped;			/* of each: declared or another tenant's, rather than missing; owned */
	struct slice *ends;		/* of each: the digest of its last message where another tenant has it, or absent; owned, what it names is not */
	size_t excused_len;
	struct audit_expired expired[EXPIRED_KINDS];
};

/* Told of each finding; `last` is above `first` for a run of numbers. `detail` may be NULL. */
typedef void audit_tell(void *context, enum finding, uint64_t epoch, uint64_t first, uint64_t last, const char *detail);

struct audit {
	const struct device *device;	/* ueid and keys */
	struct key_cache *cache;
	const struct audit_epoch *epochs;	/* ascending as signed numbers, as PostgreSQL sorts them */
	size_t epochs_len;
	int64_t since_us;		/* only reports received since then are given; INT64_MIN: all */
	audit_tell *tell;
	void *context;
	/* While it runs. */
	const struct audit_epoch *epoch;	/* of the last row; NULL: none yet */
	bool any;			/* a row of this epoch was seen */
	uint64_t seq;			/* the last one's that is no fork */
	int64_t received_us;
	uint8_t sha256[DIGEST_SIZE];
	uint64_t full;			/* the last one's with sections that is no fork; 0: none yet */
	uint8_t full_sha256[DIGEST_SIZE];
	uint64_t gone;			/* numbers of this epoch that only retention accounts for */
	struct {
		uint64_t n, epoch, seq;	/* of quiet reports in a row whose own signatures are bad; the last one */
		uint8_t kid[KID_SIZE];
	} doubt;			/* until the next report vouches for them or does not */
	uint64_t reports;		/* looked at */
	uint64_t expired;		/* by retention, of all epochs */
};

/* Rows in the order of epoch (signed), seq, reception. The caller has set what stands above "while it runs", the rest is zero. */
void audit_row(struct audit *, const struct audit_row *);
/* After the last row: what the ends of the epochs lack. */
void audit_end(struct audit *);

#endif
