/*
 * The part of `fleetstate verify` that looks whether a signed checkpoint covers the report.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_VERIFY_PROOF_H
#define FLEETSTATE_COLLECTOR_CLI_VERIFY_PROOF_H

#include "schema/proof.h"

struct coverage {
	const char *wrong;	/* NULL: it is covered, by this: */
	const char *detail;	/* more of what is wrong; NULL: no more */
	struct checkpoint checkpoint;
};

/* Ends the program when a file can't be read. `operator_ca` NULL: then nothing is believed. */
void verify_proof(const char *file, const char *operator_ca, struct slice report, struct coverage *);

#endif
