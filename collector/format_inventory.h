/*
 * A device's software inventory as a bill of materials (CycloneDX 1.6), as events of OCSF and as comma-separated values. Pure. The same inventory of the
 * same device is the same text, but for the metadata.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_INVENTORY_H
#define FLEETSTATE_COLLECTOR_FORMAT_INVENTORY_H

#include "collector/format_device.h"

/* What a component is told by, in the order of its columns. COLUMN(symbol, "name") */
#define INVENTORY_TABLE(COLUMN)                                                                                        \
	COLUMN(TYPE, "type")                                                                                           \
	COLUMN(NAME, "name")                                                                                           \
	COLUMN(VERSION, "version")                                                                                     \
	COLUMN(ARCHITECTURE, "architecture")                                                                           \
	COLUMN(SOURCE, "source")                                                                                       \
	COLUMN(SOURCE_VERSION, "source_version")                                                                       \
	COLUMN(PURL, "purl")

#define INVENTORY_SYMBOL(symbol, name) INVENTORY_##symbol,
enum inventory_column { INVENTORY_TABLE(INVENTORY_SYMBOL) INVENTORY_COLUMNS };

struct inventory_row {
	struct slice cells[INVENTORY_COLUMNS]; /* texts; absent: not known */
	struct slice digest; /* SHA-256 of the component as the device encodes it */
};

/* Whose it is. */
struct inventory_of {
	const struct device_row *device; /* it has an inventory */
	int64_t told_ms; /* since 1970: when it told the state that names it */
};

struct inventory_format {
	const char *name, *type; /* "csv", "text/csv" */
	void (*head)(struct response *, const struct inventory_of *);
	void (*row)(struct response *, const struct inventory_of *, const struct inventory_row *, bool first);
	void (*tail)(struct response *);
};

#define INVENTORY_FORMATS "csv, cyclonedx or ocsf"

/* NULL: there is none of that name. */
const struct inventory_format *inventory_format(const char *name) WARN_UNUSED;

#endif
