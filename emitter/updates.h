/*
 * What is found out of updating, in parts: probe_update.c tells them, update_trust.c whose word is taken, update_slots.c the way back.
 */
#ifndef FLEETSTATE_UPDATES_H
#define FLEETSTATE_UPDATES_H

#include "emitter/probes.h"

#define NO_UPDATER "nothing that updates this system was found"

enum updater { UPDATER_APT, UPDATER_DNF, UPDATER_OPKG, UPDATER_APK, UPDATER_RAUC, UPDATER_MENDER, UPDATER_SWUPDATE, UPDATER_OSTREE, UPDATER_FWUPD, UPDATERS };

struct updates {
	struct probe *probe;
	bool has[UPDATERS];
	bool unsigned_any;
	bool owner_known;
	uid_t owner;
	size_t slots, deployments;
};

void updates_signatures(struct updates *);	/* signatures_enforced, unsigned_sources */
void updates_keys(struct updates *);	/* keys, keyring_sha256 */
void updates_unprivileged(struct updates *);	/* unprivileged */
void updates_slots(struct updates *);	/* slots, rollback */
void updates_reboot(struct updates *);	/* reboot_needed */

#endif
