/*
 * What the system keeps data on, and whether something encrypts it: of a running system by its mounts and the kernel's device mapper, of an image by
 * fstab(5) and crypttab(5).
 */
#ifndef FLEETSTATE_VOLUMES_H
#define FLEETSTATE_VOLUMES_H

#include "emitter/mounts.h"
#include "emitter/source.h"

#define VOLUMES_MAX 256
#define VOLUME_PATH 256

enum cover { COVER_PLAIN, COVER_ENCRYPTED, COVER_MEMORY /* on no disk */, COVER_UNKNOWN };

struct volume {
	char point[VOLUME_PATH];	/* where it is mounted; "" for swap */
	bool writable, swap;
	enum cover cover;
	unsigned major, minor;	/* 0: not known */
};

struct volumes {
	struct volume at[VOLUMES_MAX];
	size_t len;
	char why[256];		/* they are not known; empty: they are */
	char swap_why[256];	/* likewise */
};
void volumes_read(struct source *, struct volumes *);

/* The mounts' file: of the first process, or, when that may not be read, of this one, whose view of them may be its own: then what is mounted read-only
   for it says nothing of the system, and only the file systems themselves do. NULL (source_why). */
const char *volumes_mountinfo(struct source *, bool *own) WARN_UNUSED;
bool volumes_writable(const struct mount *, bool own);

#endif
