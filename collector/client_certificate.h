/*
 * What a client's certificate can be known by, when somebody maps it to a tenant and a role. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_CLIENT_CERTIFICATE_H
#define FLEETSTATE_COLLECTOR_CLIENT_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/slice.h"

#define CERTIFICATE_MARKS 16	/* of one certificate; what more it has does not count */
#define CERTIFICATE_MARK_SIZE 1025

/* As a certificate is mapped: "fingerprint:" and SHA-256 in lower-case hex, "uri:", "dns:" or "email:" and a name of that kind, "subject:" and the
   distinguished name as RFC 2253 writes it. */
bool certificate_mark_ok(const char *) WARN_UNUSED;

/* What a certificate is known by, the most telling first. */
struct certificate_marks {
	char text[CERTIFICATE_MARKS][CERTIFICATE_MARK_SIZE];
	size_t n;
};

/* Of one in DER that was verified. -1: it can't be read. */
int certificate_marks(struct slice der, struct certificate_marks *) WARN_UNUSED;

#endif
