/*
 * A device as asset systems take it: our own members, and the shapes of others. Pure. Whatever a device says of itself is data there, never a formula.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_ASSET_H
#define FLEETSTATE_COLLECTOR_FORMAT_ASSET_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/format_device.h"

/* What a document tells of itself. */
struct asset_document {
	char tenant[64]; /* its id */
	int64_t position; /* of the feed, when it was begun */
	int64_t time_ms; /* since 1970, then */
	uint8_t id[16]; /* random */
};

struct asset_format {
	const char *name, *type; /* "csv", "text/csv" */
	void (*head)(struct response *, const struct asset_document *);
	void (*row)(struct response *, const struct asset_document *, const struct device_row *);
	const char *between; /* two rows */
	void (*tail)(struct response *);
};

/* NULL: there is none of that name. */
const struct asset_format *asset_format(const char *name) WARN_UNUSED;

#define ASSET_FORMATS "csv, ndjson, ocsf, cyclonedx, netbox or servicenow"

#endif
