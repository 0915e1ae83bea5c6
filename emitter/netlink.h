/*
 * Questions to the running kernel over netlink: one request, all of its answers, within half a second.
 */
#ifndef FLEETSTATE_NETLINK_H
#define FLEETSTATE_NETLINK_H

#include <stdbool.h>

#include "schema/slice.h"

#define NETLINK_ALIGN(len) (((len) + 3) & ~(size_t)3)

/* Pure. Takes the next attribute off, also one that holds attributes. false: there is none, or it claims more than there is. */
struct netlink_attribute {
	unsigned type;
	struct slice value;
};
bool netlink_attribute(struct slice *text, struct netlink_attribute *out) WARN_UNUSED;

/* Sends `message`, of this type, as a question for all there is, and calls `take` with the payload of each answer; what it returns false for ends
   the question. -1 with errno: EPERM without the capability, EOVERFLOW when there is no end to the answers. */
int netlink_dump(int protocol, unsigned type, struct slice message, bool (*take)(void *, struct slice payload), void *) WARN_UNUSED;

#endif
