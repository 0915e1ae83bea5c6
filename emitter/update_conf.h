/*
 * Configuration of what updates whole images and of package managers other than apt, and the keys that updates are signed with. Pure.
 */
#ifndef FLEETSTATE_UPDATE_CONF_H
#define FLEETSTATE_UPDATE_CONF_H

#include <stdbool.h>

#include "schema/slice.h"

/* "[section]" and "name = value" lines, as dnf, RAUC, OSTree and fwupd write them; "#" and ";" begin a comment. */
void sections_parse(struct slice text, void (*take)(void *, struct slice section, struct slice name, struct slice value), void *);

/* A text of a JSON object or of libconfig's, by its name wherever it stands: mender.conf, swupdate.cfg. false: there is none. */
bool quoted_value(struct slice text, const char *name, struct slice *value) WARN_UNUSED;
/* Likewise `"name": true`. */
bool json_flag(struct slice text, const char *name);

struct opkg_conf {
	bool check_signature;
};
/* Calls `take` for each feed. */
void opkg_conf_parse(struct slice text, struct opkg_conf *, void (*take)(void *, struct slice feed), void *);

/* How many public keys or certificates the file holds: OpenPGP, armoured or not, or PEM. */
size_t update_keys_count(struct slice file);

#endif
