/*
 * One message on its way through the pipeline. Each stage fills in its part and passes it on; none takes back what an earlier one wrote.
 */
#ifndef FLEETSTATE_COLLECTOR_MESSAGE_H
#define FLEETSTATE_COLLECTOR_MESSAGE_H

#include "schema/cose.h"
#include "schema/report.h"

struct device;
struct enrolment;

/* What became of a report in the ledger. */
enum ledger_verdict {
	LEDGER_NEW,		/* above the highest; stored */
	LEDGER_LATE,		/* filled a gap; stored */
	LEDGER_DUPLICATE,	/* already here: counted, answered, not stored */
	LEDGER_FORK,		/* another report under the same (epoch, seq): stored, flagged, the device is untrusted */
	LEDGER_SECOND_EPOCH,	/* an epoch that nobody vouched for: likewise */
};

enum report_flag { REPORT_LATE = 1, REPORT_FORK = 2, REPORT_CLOCK_SUSPECT = 4, REPORT_GRACE = 8, REPORT_CHAIN_BREAK = 16, REPORT_PENDING = 32,
	REPORT_SECOND_EPOCH = 64 };

struct message {
	/* subscribe */
	struct ueid ueid;		/* of the topic */
	struct slice bytes;		/* owned by the pipeline */
	int64_t received_us;		/* the collector's clock, microseconds since 1970 */
	enum reason reason;		/* REASON_OK so far; the stages after a refusal pass it by */
	/* verify */
	uint8_t sha256[DIGEST_SIZE];	/* of the whole message */
	uint8_t tbs[DIGEST_SIZE];	/* of what was signed */
	struct cose_sign1 cose;
	struct report report;		/* slices into bytes */
	struct device *device;		/* whom the keyring knows by the topic's ueid; NULL: nobody, yet */
	struct enrolment *enrolment;	/* a chain that a trust anchor vouches for, with a new key, or a later certificate of a known one: to be stored */
	bool parked;			/* unknown key and no chain: waits */
	unsigned flags;			/* of enum report_flag */
	/* store */
	bool inventory_found;		/* the tenant had the set before this report */
	bool inventory_stored;		/* the tenant has the set of its inventory digest, or has it with this report */
	enum ledger_verdict verdict;
	bool judged;			/* the reason is the ledger's: judged anew, it may fall */
	/* answer */
	uint64_t answered_epoch;	/* of one refused for good: what its receipt is addressed to */
};

#endif
