#include "collector/format_asset.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "collector/code_point.h"
#include "collector/csv.h"
#include "collector/draft.h"
#include "collector/format_ocsf_device.h"
#include "collector/members.h"
#include "collector/words.h"

static void
no_head(struct response *out, const struct asset_document *document)
{
	(void)out;
	(void)document;
}

static void
no_tail(struct response *out)
{
	(void)out;
}

/* ---- our own ---- */

static void
csv_begin(struct response *out, const struct asset_document *document)
{
	(void)document;
	device_csv_head(out, true);
}

static void
csv_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	(void)document;
	device_csv(out, row, true);
}

static void
ndjson_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	(void)document;
	device_json(out, row);
	response_append(out, "\n", 1);
}

/* ---- NetBox: its bulk import of devices, which wants role, manufacturer, type, site and status of each ---- */

#define NETBOX_COLUMNS "name role manufacturer device_type serial asset_tag status site platform description"

#define NETBOX_SERIAL                                                                                                  \
	50 /* characters that its serial numbers have at most: one longer would be refused, and all of the import with it */

/* What the other system calls a lifecycle. */
static const char *
lifecycle_as(const struct device_row *row, const char *const (*map)[2], size_t n, const char *other)
{
	for (size_t i = 0; i < n; i++)
		if (word_is(row->cells[DEVICE_LIFECYCLE], map[i][0]))
			return map[i][1];
	return other;
}
#define LIFECYCLE_AS(row, map, other) lifecycle_as(row, map, sizeof map / sizeof *map, other)

static const char *
netbox_status(const struct device_row *row)
{
	static const char *const map[][2] = {
		{"pending", "planned"}, {"active", "active"}, {"retired", "decommissioning"}};

	return LIFECYCLE_AS(row, map, "offline");
}

static void
netbox_begin(struct response *out, const struct asset_document *document)
{
	(void)document;
	csv_head(out, NETBOX_COLUMNS);
}

/* With an apostrophe before it NetBox would keep another value than the device's, without one it is a formula to whom opens the file in a spreadsheet. */
static bool
netbox_takes(struct slice value, size_t most)
{
	return code_points((const char *)value.at, value.len) <= most && !csv_is_formula(value);
}

/* The text of a cell that the device tells, or nothing, which the description says then. */
static struct slice
netbox_told(const struct device_row *row, int cell, const char *column, size_t most, struct draft *description)
{
	if (netbox_takes(row->cells[cell], most))
		return row->cells[cell];
	draft_printf(description, ", %s left out", column);
	return (struct slice){NULL, 0};
}

static void
netbox_print(struct response *out, const struct slice *cells, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		response_text(out, i == 0 ? "\"" : ",\"");
		csv_text(out, cells[i]);
		response_append(out, "\"", 1);
	}
	response_append(out, "\r\n", 2);
}

static void
netbox_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	char hex[UEID_HEX];
	struct draft description = {0};
	const struct slice ueid = device_ueid(out, row, hex);

	draft_slice(&description, row->gone ? text_slice("gone") : or_unknown(row->cells[DEVICE_POSTURE]));
	const struct slice vendor = netbox_told(row, DEVICE_VENDOR, "manufacturer", SIZE_MAX, &description),
			   model = netbox_told(row, DEVICE_HWMODEL, "device_type", SIZE_MAX, &description),
			   serial = netbox_told(row, DEVICE_SERIAL, "serial", NETBOX_SERIAL, &description),
			   platform = netbox_told(row, DEVICE_SWNAME, "platform", SIZE_MAX, &description);
	const struct slice cells[] = {ueid,
				      text_slice("IoT device"),
				      or_unknown(vendor),
				      or_unknown(model),
				      serial,
				      ueid,
				      text_slice(netbox_status(row)),
				      text_slice(document->tenant),
				      platform,
				      {(const uint8_t *)description.at, description.len}};

	netbox_print(out, cells, sizeof cells / sizeof *cells);
	out->failed = out->failed || description.failed;
	draft_free(&description);
}

/* ---- ServiceNow: the body of its Identification and Reconciliation API ---- */

static void
servicenow_begin(struct response *out, const struct asset_document *document)
{
	(void)document;
	response_text(out, "{\"items\":[");
}

/* install_status: 1 installed, 4 pending install, 7 retired. */
static const char *
servicenow_status(const struct device_row *row)
{
	static const char *const map[][2] = {{"pending", "4"}, {"active", "1"}};

	return LIFECYCLE_AS(row, map, "7");
}

static void
servicenow_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	char hex[UEID_HEX];
	const struct slice ueid = device_ueid(out, row, hex);

	(void)document;
	response_text(out, "{\"className\":\"cmdb_ci_hardware\"");
	member_text(out, "internal_id", ueid);
	response_text(out, ",\"values\":{");
	member_text(out, "name", ueid);
	member_text(out, "serial_number", row->cells[DEVICE_SERIAL]);
	member_text(out, "manufacturer", row->cells[DEVICE_VENDOR]);
	member_text(out, "model_id", row->cells[DEVICE_HWMODEL]);
	member_text(out, "os", row->cells[DEVICE_SWNAME]);
	member_text(out, "os_version", row->cells[DEVICE_SWVERSION]);
	member_text(out, "install_status", text_slice(servicenow_status(row)));
	response_text(out, "},\"sys_object_source_info\":{\"source_name\":\"fleetstate\"");
	member_text(out, "source_native_key", ueid);
	response_text(out, "}}");
}

static void
servicenow_end(struct response *out)
{
	response_text(out, "],\"relations\":[]}");
}

/* ---- OCSF 1.8.0: Device Inventory Info 5001, and Software Inventory Info 5020 of the firmware; of what is gone, Entity Management 3004 ---- */

static void
ocsf_head(struct response *out, const struct asset_document *document, int class, int activity)
{
	ocsf_begin(out, class, activity, document->time_ms, text_slice(document->tenant));
}

/* What the device does not tell of itself: no attribute of a device is for it, status is how the event went, and unmapped an object without members. */
static void
ocsf_enrich(struct response *out, const struct device_row *row)
{
	char hex[UEID_HEX];

	response_text(out, ",\"enrichments\":[{\"name\":\"device.uid\"");
	member_text(out, "value", device_ueid(out, row, hex));
	response_text(out, ",\"provider\":\"fleetstate\",\"data\":{");
	member_text(out, "lifecycle", row->cells[DEVICE_LIFECYCLE]);
	member_text(out, "posture", row->cells[DEVICE_POSTURE]);
	response_text(out, "}}]");
}

static void
ocsf_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	const struct ocsf_package firmware = {
		.name = row->cells[DEVICE_SWNAME], .version = row->cells[DEVICE_SWVERSION], .is_system = true};
	char hex[UEID_HEX];

	if (row->gone) {
		ocsf_head(out, document, OCSF_ENTITY_MANAGEMENT, OCSF_DELETE);
		response_text(out, ",\"entity\":{");
		member_text(out, "uid", device_ueid(out, row, hex));
		response_text(out, ",\"type\":\"Device\"}}\n");
		return;
	}
	ocsf_head(out, document, OCSF_DEVICE_INVENTORY, OCSF_COLLECT);
	ocsf_device(out, row, true);
	ocsf_enrich(out, row);
	response_text(out, "}\n");
	if (firmware.name.at == NULL)
		return;
	ocsf_head(out, document, OCSF_SOFTWARE_INVENTORY, OCSF_COLLECT);
	ocsf_device(out, row, false);
	ocsf_package(out, &firmware);
	response_text(out, "}\n");
}

/* ---- CycloneDX 1.6: one bill of materials, whose components are the devices ---- */

static void
cyclonedx_begin(struct response *out, const struct asset_document *document)
{
	const uint8_t *id = document->id;
	time_t seconds = (time_t)(document->time_ms / 1000);
	char when[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	/* A UUID of version 4, RFC 9562 5.4. */
	response_printf(
		out,
		"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"serialNumber\":\"urn:uuid:%02x%02x%02x%02x-%"
		"02x%02x-"
		"4%01x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\",\"version\":1,\"metadata\":{\"timestamp\":\"%s\",",
		id[0], id[1], id[2], id[3], id[4], id[5], id[6] & 15, id[7], (id[8] & 63) | 128, id[9], id[10], id[11],
		id[12], id[13], id[14], id[15], when);
	response_text(out, "\"lifecycles\":[{\"phase\":\"operations\"}],\"properties\":[{\"name\":\"fleetstate:"
			   "position\",\"value\":");
	response_printf(out, "\"%" PRId64 "\"}]},\"components\":[", document->position);
}

static void
add_property(struct response *out, const char *name, struct slice value)
{
	if (value.at == NULL)
		return;
	member_comma(out);
	response_text(out, "{");
	member_text(out, "name", text_slice(name));
	member_text(out, "value", value);
	response_text(out, "}");
}

static void
cyclonedx_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	char hex[UEID_HEX];

	(void)document;
	response_text(out, "{\"type\":\"device\"");
	member_text(out, "bom-ref", device_ueid(out, row, hex));
	member_text(out, "name", or_unknown(row->cells[DEVICE_HWMODEL]));
	member_text(out, "version", row->cells[DEVICE_HWVERSION]);
	if (row->cells[DEVICE_VENDOR].at != NULL) {
		response_text(out, ",\"manufacturer\":{");
		member_text(out, "name", row->cells[DEVICE_VENDOR]);
		response_text(out, "}");
	}
	response_text(out, ",\"properties\":[");
	add_property(out, "fleetstate:serial", row->cells[DEVICE_SERIAL]);
	add_property(out, "fleetstate:lifecycle", row->cells[DEVICE_LIFECYCLE]);
	add_property(out, "fleetstate:posture", row->cells[DEVICE_POSTURE]);
	add_property(out, "fleetstate:firmware", row->cells[DEVICE_SWNAME]);
	add_property(out, "fleetstate:firmware-version", row->cells[DEVICE_SWVERSION]);
	add_property(out, "fleetstate:gone", row->gone ? text_slice("true") : (struct slice){NULL, 0});
	response_text(out, "]}");
}

static void
cyclonedx_end(struct response *out)
{
	response_text(out, "]}");
}

static const struct asset_format formats[] = {
	{"csv", CSV_TYPE, csv_begin, csv_add, "", no_tail},
	{"ndjson", NDJSON_TYPE, no_head, ndjson_add, "", no_tail},
	{"ocsf", NDJSON_TYPE, no_head, ocsf_add, "", no_tail},
	{"cyclonedx", CYCLONEDX_TYPE, cyclonedx_begin, cyclonedx_add, ",", cyclonedx_end},
	{"netbox", CSV_TYPE, netbox_begin, netbox_add, "", no_tail},
	{"servicenow", "application/json", servicenow_begin, servicenow_add, ",", servicenow_end},
};

const struct asset_format *
asset_format(const char *name)
{
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}
