/*
 * What the kernel says of USB devices that come and go: a datagram of NUL-ended "KEY=value". Pure.
 */
#ifndef FLEETSTATE_UEVENT_H
#define FLEETSTATE_UEVENT_H

#include <stdbool.h>

#include "schema/slice.h"

struct usb_event {
	bool added;	/* else removed */
	char device[16];	/* vendor and product: "0781:5583" */
	const char *class;	/* "storage", "input" ...; NULL: of a whole device, or none that has a name */
};

/* False: of another subsystem, another action, or malformed. */
bool uevent_parse(struct slice datagram, struct usb_event *) WARN_UNUSED;

#endif
