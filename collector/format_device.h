/*
 * A device's row as the database gives it, in its binary format, printed as JSON and as comma-separated values. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_DEVICE_H
#define FLEETSTATE_COLLECTOR_FORMAT_DEVICE_H

#include "collector/response.h"
#include "schema/topics.h"

/* A device as lists and exports have it (openapi.yaml, Device), in the order of its members and columns; only ever appended. A row is
   COLUMN(symbol, "name", kind of its value, where it comes from): a statement's own column, in the order of DEVICE_SQL; the device's card, which has them in
   this order (035_cards.sql); or who is signed in. */
/* clang-format off */
#define DEVICE_TABLE(COLUMN) \
	COLUMN(UEID, "ueid", HEX, OWN) \
	COLUMN(TENANT, "tenant", TEXT, CALLER) \
	COLUMN(SERIAL, "serial", TEXT, CARD) \
	COLUMN(VENDOR, "vendor", TEXT, CARD) \
	COLUMN(HWMODEL, "hwmodel", TEXT, CARD) \
	COLUMN(HWVERSION, "hwversion", TEXT, CARD) \
	COLUMN(OEMID, "oemid", TEXT, CARD) \
	COLUMN(SWNAME, "swname", TEXT, CARD) \
	COLUMN(SWVERSION, "swversion", TEXT, CARD) \
	COLUMN(KERNEL, "kernel", TEXT, CARD) \
	COLUMN(LIFECYCLE, "lifecycle", TEXT, CARD) \
	COLUMN(POSTURE, "posture", TEXT, CARD) \
	COLUMN(REASONS, "reasons", TEXTS, CARD) \
	COLUMN(POSTURE_SINCE, "posture_since", TIME, CARD) \
	COLUMN(FIRST_SEEN, "first_seen", TIME, CARD) \
	COLUMN(LAST_SEEN, "last_seen", TIME, OWN) \
	COLUMN(EPOCH, "epoch", HEX, OWN) \
	COLUMN(SEQ, "seq", NUMBER, OWN) \
	COLUMN(INTERVAL_S, "interval_s", NUMBER, OWN) \
	COLUMN(SUPPORT_UNTIL, "support_until", DATE, CARD) \
	COLUMN(END_OF_LIFE, "end_of_life", DATE, CARD) \
	COLUMN(STATE_DIGEST, "state_digest", HEX, OWN) \
	COLUMN(INVENTORY_DIGEST, "inventory_digest", HEX, OWN) \
	COLUMN(UNKNOWNS, "unknowns", NUMBER, CARD) \
	COLUMN(LABELS, "labels", TEXTS, CARD)
/* Of device d and device_hot h. */
#define DEVICE_SQL "d.ueid, h.last_seen, h.epoch, h.hi, h.interval_s, h.state_digest, h.inventory_digest, d.card"
#define DEVICE_WIDTH 8
/* clang-format on */

#define DEVICE_SYMBOL(symbol, name, kind, from) DEVICE_##symbol,
enum device_column { DEVICE_TABLE(DEVICE_SYMBOL) DEVICE_COLUMNS };

/* The names, with spaces between, as csv_row takes them. */
#define DEVICE_NAME(symbol, name, kind, from) " " name
#define CSV_DEVICE DEVICE_TABLE(DEVICE_NAME)

struct device_row {
	struct slice cells[DEVICE_COLUMNS]; /* absent: NULL. One that is not as its kind should be fails the response */
	uint32_t left_out; /* a bit a column: it is not asked for */
	bool gone; /* it is not the tenant's any more: only its ueid is known */
};

/* What of one device alone is told as well. */
#define DEVICE_LEDGER 5 /* sums over its epochs: duplicates, late, forks, chain_breaks, missing */
struct device_more {
	struct slice challenge, hold; /* JSON; absent: there is none */
	int64_t ledger[DEVICE_LEDGER];
};

/* Of the columns of DEVICE_SQL; the tenant is left to the caller. False: the card is none. */
bool device_read(const struct slice columns[DEVICE_WIDTH], struct device_row *) WARN_UNUSED;
/* Its name in hex, in the text. One that is none fails the response. */
struct slice device_ueid(struct response *, const struct device_row *, char text[UEID_HEX]);
/* An object, as an item of /v1/devices; of one that is gone {"ueid": ..., "gone": true}. */
void device_json(struct response *, const struct device_row *);
/* The same with more behind it, as /v1/devices/{ueid} has it. Of one that is not gone. */
void device_json_more(struct response *, const struct device_row *, const struct device_more *);
/* The line of names, and one for each device. `gone`: with a last column of that name. */
void device_csv_head(struct response *, bool gone);
void device_csv(struct response *, const struct device_row *, bool gone);
/* Milliseconds since 1970 of a column that is a time. False: it is not known; what is no time fails the response. */
bool device_time(struct response *, const struct device_row *, enum device_column, int64_t *ms) WARN_UNUSED;

#endif
