/*
 * The database of dpkg, and of opkg, whose status looks the same: in pieces as they are read. Fed first, the journal
 * (/var/lib/dpkg/updates) goes before what the status says of the same package.
 */
#ifndef FLEETSTATE_DPKG_H
#define FLEETSTATE_DPKG_H

#include <stdbool.h>

#include "schema/report.h"
#include "schema/slice.h"

enum dpkg_source { DPKG_JOURNAL, DPKG_STATUS, DPKG_STATUS_D /* one file a package, without a Status */ };

enum dpkg_condition { DPKG_GONE, DPKG_INSTALLED, DPKG_BROKEN /* neither the one nor the other */ };

/* A package that dpkg knows something of; all texts are valid during the call only. */
struct dpkg_package {
	enum dpkg_condition condition;
	bool held;	/* it is not to be updated */
	bool cut;	/* a text was too long */
	struct component component;	/* without purl */
};

struct dpkg;
/* NULL: no memory. */
struct dpkg *dpkg_new(enum component_type, void (*take)(void *, const struct dpkg_package *), void *context) WARN_UNUSED;
void dpkg_free(struct dpkg *);	/* NULL is fine */
void dpkg_begin(struct dpkg *, enum dpkg_source);	/* a file begins */
void dpkg_feed(struct dpkg *, struct slice);
int dpkg_end(struct dpkg *) WARN_UNUSED;	/* the file's end. -1: memory ran out */

#endif
