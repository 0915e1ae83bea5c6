/*
 * apt's configuration (apt.conf(5)), and its sources (sources.list(5)) in both of their spellings.
 */
#ifndef FLEETSTATE_APT_CONF_H
#define FLEETSTATE_APT_CONF_H

#include <stdbool.h>

#include "schema/slice.h"

#define APT_NAME 256	/* an option's whole name, with its "::"; longer ones are left out */

/* Calls `take` for each setting: "APT::Periodic::Enable", "1". An item of a list has a name that ends in "::". */
void apt_conf_parse(struct slice text, void (*take)(void *, const char *name, struct slice value), void *);
/* What apt takes for yes: yes, true, on, with, enable, 1 and above. */
bool apt_conf_is_yes(struct slice);

struct apt_source {
	struct slice uri, suite;
	struct slice components;	/* words */
	struct slice architectures;	/* words, or with commas between them; empty: all */
	bool trusted;	/* taken unsigned */
	bool insecure;	/* an unsigned or weakly signed one is let pass */
	bool signed_by;	/* its keys are its own */
};

/* sources.list and *.list. Calls `take` for each that is enabled and holds binary packages; texts are valid during the call only. */
void apt_sources_parse_lines(struct slice text, void (*take)(void *, const struct apt_source *), void *);
/* *.sources */
void apt_sources_parse_paragraphs(struct slice text, void (*take)(void *, const struct apt_source *), void *);

/* How the lists of what lies at `uri` and then `path` are called below var/lib/apt/lists; 0: it does not fit. */
size_t apt_list_name(struct slice uri, struct slice path, char *out, size_t size) WARN_UNUSED;

#endif
