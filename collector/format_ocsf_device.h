/*
 * What OCSF 1.8.0 calls a device and a package, and its events of what a device is and runs. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_OCSF_DEVICE_H
#define FLEETSTATE_COLLECTOR_FORMAT_OCSF_DEVICE_H

#include "collector/format_device.h"

/* Classes and activities. */
enum { OCSF_ENTITY_MANAGEMENT = 3004, OCSF_DEVICE_INVENTORY = 5001, OCSF_SOFTWARE_INVENTORY = 5020 };
enum { OCSF_COLLECT = 2, OCSF_DELETE = 4 };

struct ocsf_package {
	struct slice name, version, architecture, purl; /* none, or empty: not known */
	struct slice type; /* as the device tells it: "dpkg"; none: it is the device's firmware */
	bool is_system;
};

/* The bracket, and what an event of each class begins with. */
void ocsf_begin(struct response *, int class, int activity, int64_t time_ms, struct slice tenant);
/* `,"device":{...}`. `seen`: also when it was first and last heard. */
void ocsf_device(struct response *, const struct device_row *, bool seen);
/* `,"package":{...}` */
void ocsf_package(struct response *, const struct ocsf_package *);

#endif
