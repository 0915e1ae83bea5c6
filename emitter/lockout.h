/*
 * What becomes of failed log-ins by one of PAM's services: whether they lock the account, and how long they make wait.
 */
#ifndef FLEETSTATE_LOCKOUT_H
#define FLEETSTATE_LOCKOUT_H

#include "emitter/source.h"

struct lockout {
	bool locks;
	uint64_t tries, unlock_s;	/* unlock_s 0: somebody must */
	double delay_s;
	char why[256];	/* it is not known; empty: it is */
};
/* false: there is no such service. */
bool lockout_read(struct source *, const char *service, struct lockout *) WARN_UNUSED;

#endif
