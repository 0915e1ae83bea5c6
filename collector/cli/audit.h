/*
 * What the parts of `fleetstate audit` share.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_AUDIT_H
#define FLEETSTATE_COLLECTOR_CLI_AUDIT_H

#include "collector/audit.h"
#include "collector/enrol.h"
#include "schema/checkpoint.h"

/* Where a finding is: a device's reports, a checkpoint, or the audit log. */
struct audit_place {
	const struct ueid *ueid;	/* NULL: a checkpoint alone */
	uint64_t epoch, first, last;
	uint64_t checkpoint;		/* 0: none */
	uint64_t entry;			/* of the audit log; 0: none */
};

/* Any thread. */
typedef void audit_print(void *context, enum finding, const struct audit_place *, const char *detail);

struct checkpoint_audit {
	struct database *db;
	const char *tenant, *ueid;	/* scope, NULL: all */
	int64_t since_us;		/* as in struct audit */
	const struct anchors *anchors;	/* the operator's, that signers must end at; NULL: signatures are not looked at */
	struct slice held;		/* a checkpoint's message that somebody kept elsewhere, or absent */
	audit_print *print;
	void *context;
	uint64_t checkpoints;		/* how many were looked at */
};

/* Whether the receipts' signer made it, by a certificate that was good then. */
enum reason operator_signed(const struct anchors *, const struct cose_sign1 *, uint64_t iat) WARN_UNUSED;
/* Every checkpoint, the way from each to the one before, the leaves that are kept, and that what they name is stored. -1: the database fails. */
int audit_checkpoints(struct checkpoint_audit *) WARN_UNUSED;

/* NULL, or what is wrong with a checkpoint's message in itself. */
const char *audit_read_checkpoint(const struct anchors *, struct slice message, struct checkpoint *) WARN_UNUSED;

struct log_audit {
	struct database *db;
	const struct anchors *anchors;	/* these two as above */
	struct slice held;
	audit_print *print;
	void *context;
	uint64_t entries;		/* how many were looked at */
	uint64_t expired;		/* how many were past their retention */
};

/* Every entry of the audit log, the way from each to the one before, and that it goes as far as its head and the checkpoints say. -1: the database
   fails. */
int audit_log(struct log_audit *) WARN_UNUSED;

#endif
