/*
 * A device's row as the database gives it, in its binary format, printed as JSON and as comma-separated values. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_DEVICE_H
#define FLEETSTATE_COLLECTOR_FORMAT_DEVICE_H

#include "collector/response.h"
#include "schema/topics.h"

/* A device as lists and exports have it (openapi.yaml, Device), in the order of its members and columns; only ever appended. A row is
   COLUMN(symbol, "name", kind of its value, "SQL" over device d and device_hot h); the tenant is known by who is signed in (query_device). */
/* clang-format off */
#define DEVICE_TABLE(COLUMN) \
	COLUMN(UEID, "ueid", HEX, "d.ueid") \
	COLUMN(TENANT, "tenant", TEXT, "NULL::text") \
	COLUMN(SERIAL, "serial", TEXT, "d.serial") \
	COLUMN(VENDOR, "vendor", TEXT, "d.vendor") \
	COLUMN(HWMODEL, "hwmodel", TEXT, "d.hwmodel") \
	COLUMN(HWVERSION, "hwversion", TEXT, "d.hwversion") \
	COLUMN(OEMID, "oemid", TEXT, "d.oemid") \
	COLUMN(SWNAME, "swname", TEXT, "d.swname") \
	COLUMN(SWVERSION, "swversion", TEXT, "d.swversion") \
	COLUMN(KERNEL, "kernel", TEXT, "d.kernel") \
	COLUMN(LIFECYCLE, "lifecycle", TEXT, "d.lifecycle") \
	COLUMN(POSTURE, "posture", TEXT, "d.posture") \
	COLUMN(REASONS, "reasons", TEXTS, "d.reasons") \
	COLUMN(POSTURE_SINCE, "posture_since", TIME, "d.posture_since") \
	COLUMN(FIRST_SEEN, "first_seen", TIME, "d.first_seen") \
	COLUMN(LAST_SEEN, "last_seen", TIME, "h.last_seen") \
	COLUMN(EPOCH, "epoch", HEX, "CASE WHEN h.hi > 0 AND h.last_seen IS NOT NULL THEN h.epoch END") \
	COLUMN(SEQ, "seq", NUMBER, "CASE WHEN h.last_seen IS NOT NULL THEN nullif(h.hi, 0) END") \
	COLUMN(INTERVAL_S, "interval_s", NUMBER, "nullif(h.interval_s, 0)") \
	COLUMN(SUPPORT_UNTIL, "support_until", DATE, "d.support_until") \
	COLUMN(END_OF_LIFE, "end_of_life", DATE, "d.end_of_life") \
	COLUMN(STATE_DIGEST, "state_digest", HEX, "h.state_digest") \
	COLUMN(INVENTORY_DIGEST, "inventory_digest", HEX, "h.inventory_digest") \
	COLUMN(UNKNOWNS, "unknowns", NUMBER, "d.unknowns") \
	COLUMN(LABELS, "labels", TEXTS, "d.labels")
/* clang-format on */

#define DEVICE_SYMBOL(symbol, name, kind, sql) DEVICE_##symbol,
enum device_column { DEVICE_TABLE(DEVICE_SYMBOL) DEVICE_COLUMNS };

/* The names, with spaces between, as csv_row takes them. */
#define DEVICE_NAME(symbol, name, kind, sql) " " name
#define CSV_DEVICE DEVICE_TABLE(DEVICE_NAME)

struct device_row {
	struct slice cells[DEVICE_COLUMNS]; /* absent: NULL. One that is not as its kind should be fails the response */
	uint32_t left_out; /* a bit a column: it is not asked for */
	bool gone; /* it is not the tenant's any more: only its ueid is known */
};

/* Its name in hex, in the text. One that is none fails the response. */
struct slice device_ueid(struct response *, const struct device_row *, char text[UEID_HEX]);
/* An object, as an item of /v1/devices; of one that is gone {"ueid": ..., "gone": true}. */
void device_json(struct response *, const struct device_row *);
/* The line of names, and one for each device. `gone`: with a last column of that name. */
void device_csv_head(struct response *, bool gone);
void device_csv(struct response *, const struct device_row *, bool gone);
/* Milliseconds since 1970 of a column that is a time. False: it is not known; what is no time fails the response. */
bool device_time(struct response *, const struct device_row *, enum device_column, int64_t *ms) WARN_UNUSED;

#endif
