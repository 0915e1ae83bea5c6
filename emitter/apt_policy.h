/*
 * Which installed packages apt would update, and to what: the lists' versions ranked as apt_preferences(5) says. Lists are fed in pieces; only what
 * concerns an installed package is kept.
 */
#ifndef FLEETSTATE_APT_POLICY_H
#define FLEETSTATE_APT_POLICY_H

#include <stdbool.h>

#include "schema/slice.h"

#define APT_TEXT 128	/* of a release's names */

/* A release file, and where it came from. Texts end in NUL. */
struct apt_release {
	char site[APT_TEXT], origin[APT_TEXT], label[APT_TEXT], suite[APT_TEXT], codename[APT_TEXT], version[APT_TEXT], component[APT_TEXT];
	bool not_automatic, but_automatic_upgrades;
};
/* Fills in what the file says; site and component are the caller's. */
void apt_release_parse(struct slice text, struct apt_release *);
bool apt_release_is_security(const struct apt_release *);

struct apt_policy;
/* NULL: no memory. */
struct apt_policy *apt_policy_new(void) WARN_UNUSED;
void apt_policy_free(struct apt_policy *);	/* NULL is fine */

/* dpkg's own architecture, first: what is for all architectures goes with it. */
void apt_policy_native(struct apt_policy *, struct slice architecture);
void apt_policy_installed(struct apt_policy *, struct slice name, struct slice architecture, struct slice version);
/* What `APT::Default-Release` says. */
void apt_policy_default_release(struct apt_policy *, struct slice);
/* A file of preferences; the first pin that fits goes before later ones. */
void apt_policy_preferences(struct apt_policy *, struct slice text);
/* A list begins. */
void apt_policy_begin(struct apt_policy *, const struct apt_release *);
void apt_policy_feed(struct apt_policy *, struct slice piece);
void apt_policy_end(struct apt_policy *);

struct apt_pending {
	const char *name, *from, *to;
	bool security;	/* some version above the installed one, up to the new one, is in a source of security updates */
};
/* Calls `take` for each. NULL; or why it can't be told. */
const char *apt_policy_finish(struct apt_policy *, void (*take)(void *, const struct apt_pending *), void *) WARN_UNUSED;

#endif
