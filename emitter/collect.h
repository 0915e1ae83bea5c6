/*
 * The sweep: runs every probe of the table over a root directory and fills in the facts and the inventory. What has not changed since the last
 * sweep is not read again.
 */
#ifndef FLEETSTATE_COLLECT_H
#define FLEETSTATE_COLLECT_H

#include "schema/cose.h"
#include "schema/facts.h"
#include "schema/slice.h"

#define COLLECT_IMAGE "root is an image" /* why what only a running system has is unknown */

/* What the maker's configuration says of the device; it goes before what a probe finds. NULL or "": observe. */
struct self;
struct declared {
	const char *vendor, *hwmodel, *hwversion, *serial, *oemid, *swname, *swversion;
	const char *config_files;	/* absolute paths and patterns (glob(7)), between blanks */
	const char *baseline;		/* the secure baseline, an absolute path that is looked up below the root */
	const char *baseline_key;	/* PEM file of the certificate or public key that it is signed by, outside the root */
	const char *default_passwords;	/* lines of name:password, below the root */
	const char *wipe;		/* how the maker wipes the device, for people */
	const struct self *self;	/* of a running system: the emitter itself; NULL: nothing is known of it */
	const char *expected_interfaces, *expected_sockets;	/* patterns between blanks; sockets as "tcp/22/sshd" */
	const char *measured_files;	/* absolute paths and patterns, between blanks */
	const char *tpm;	/* the TPM's device, or the Unix socket of a software one */
};

struct inventory {
	uint8_t *encoded;	/* the set of report.cddl: components in the bytewise order of their encodings, none twice */
	size_t len;
	size_t components;
	uint8_t digest[DIGEST_SIZE];	/* SHA-256 of `encoded` */
};

struct collect;

/* `declared` must outlive it. NULL with errno when `root` is no directory that can be opened, or memory ran out. */
struct collect *collect_new(const char *root, const struct declared *declared) WARN_UNUSED;
void collect_free(struct collect *);	/* NULL is fine */

/* Observes: afterwards each fact of the table is either set or unknown with its reason. `inventory` belongs to `collect` and is good until the next
   sweep. -1 only when memory ran out. */
int collect_sweep(struct collect *, struct inventory *inventory) WARN_UNUSED;
/* What was observed; belongs to `collect`. */
struct facts *collect_facts(struct collect *);
/* What is declared has changed: the next sweep looks at everything again. */
void collect_forget(struct collect *);

#endif
