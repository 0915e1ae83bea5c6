/*
 * The kernel's answer about a network interface. Pure.
 */
#ifndef FLEETSTATE_LINKS_H
#define FLEETSTATE_LINKS_H

#include <linux/if.h>
#include <stdbool.h>

#include "schema/slice.h"

/* The payload of a RTM_NEWLINK: an Ethernet interface with the address that its maker burned in. false: malformed, or it has none. */
bool link_permanent_parse(struct slice payload, char name[IFNAMSIZ], uint8_t mac[6]) WARN_UNUSED;

#endif
