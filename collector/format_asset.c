#include "collector/format_asset.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "collector/csv.h"
#include "collector/words.h"
#include "schema/topics.h"

#define NOTHING_KNOWN "unknown" /* where a system wants a text, and the device has not said it */

/* ---- JSON: what goes in after a bracket, and after another member ---- */

static void
add_comma(struct response *out)
{
	if (!out->failed && out->len > 0 && strchr("{[", out->body[out->len - 1]) == NULL)
		response_append(out, ",", 1);
}

static void
add_name(struct response *out, const char *name)
{
	add_comma(out);
	response_append(out, "\"", 1);
	response_text(out, name);
	response_append(out, "\":", 2);
}

/* Nothing of what is not known. */
static void
add_text(struct response *out, const char *name, struct slice text)
{
	if (text.at == NULL)
		return;
	add_name(out, name);
	response_string(out, text);
}

static void
add_number(struct response *out, const char *name, int64_t number)
{
	add_name(out, name);
	response_printf(out, "%" PRId64, number);
}

static struct slice
word(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static struct slice
or_unknown(struct slice text)
{
	return text.len > 0 ? text : word(NOTHING_KNOWN);
}

static struct slice
ueid_of(struct response *out, const struct device_row *row, char text[UEID_HEX])
{
	struct slice bytes = row->cells[DEVICE_UEID];

	if (bytes.len != UEID_SIZE) {
		out->failed = true;
		return (struct slice){NULL, 0};
	}
	hex_print(bytes.at, bytes.len, text);
	return (struct slice){(const uint8_t *)text, 2 * UEID_SIZE};
}

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

static void
netbox_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	char hex[UEID_HEX];
	const struct slice ueid = ueid_of(out, row, hex), serial = row->cells[DEVICE_SERIAL];
	const struct slice cells[] = {ueid,
				      word("IoT device"),
				      or_unknown(row->cells[DEVICE_VENDOR]),
				      or_unknown(row->cells[DEVICE_HWMODEL]),
				      serial.len <= NETBOX_SERIAL ? serial : word(""),
				      ueid,
				      word(netbox_status(row)),
				      word(document->tenant),
				      row->cells[DEVICE_SWNAME],
				      row->gone ? word("gone") : or_unknown(row->cells[DEVICE_POSTURE])};

	for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
		response_text(out, i == 0 ? "\"" : ",\"");
		csv_text(out, cells[i]);
		response_append(out, "\"", 1);
	}
	response_append(out, "\r\n", 2);
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
	const struct slice ueid = ueid_of(out, row, hex);

	(void)document;
	response_text(out, "{\"className\":\"cmdb_ci_hardware\"");
	add_text(out, "internal_id", ueid);
	response_text(out, ",\"values\":{");
	add_text(out, "name", ueid);
	add_text(out, "serial_number", row->cells[DEVICE_SERIAL]);
	add_text(out, "manufacturer", row->cells[DEVICE_VENDOR]);
	add_text(out, "model_id", row->cells[DEVICE_HWMODEL]);
	add_text(out, "os", row->cells[DEVICE_SWNAME]);
	add_text(out, "os_version", row->cells[DEVICE_SWVERSION]);
	add_text(out, "install_status", word(servicenow_status(row)));
	response_text(out, "},\"sys_object_source_info\":{\"source_name\":\"fleetstate\"");
	add_text(out, "source_native_key", ueid);
	response_text(out, "}}");
}

static void
servicenow_end(struct response *out)
{
	response_text(out, "],\"relations\":[]}");
}

/* ---- OCSF 1.8.0: Device Inventory Info 5001; of what is gone, Entity Management 3004 ---- */

/* What both classes begin with. */
static void
ocsf_begin(struct response *out, const struct asset_document *document, int class, int activity)
{
	response_printf(out,
			"{\"class_uid\":%d,\"category_uid\":%d,\"activity_id\":%d,\"type_uid\":%d,\"severity_id\":1,"
			"\"time\":%" PRId64
			",\"metadata\":{\"version\":\"1.8.0\",\"product\":{\"name\":\"fleetstate\"}",
			class, class / 1000, activity, class * 100 + activity, document->time_ms);
	add_text(out, "tenant_uid", word(document->tenant));
	response_text(out, "}");
}

/* The system's name is required where there is one. type_id: 200 Linux, 0 not known. */
static void
ocsf_os(struct response *out, const struct device_row *row)
{
	const struct slice name = row->cells[DEVICE_SWNAME], kernel = row->cells[DEVICE_KERNEL];

	if (name.at == NULL && kernel.at == NULL)
		return;
	response_text(out, ",\"os\":{");
	add_text(out, "name", or_unknown(name));
	add_number(out, "type_id", kernel.at != NULL ? 200 : 0);
	add_text(out, "version", row->cells[DEVICE_SWVERSION]);
	add_text(out, "kernel_release", kernel);
	response_text(out, "}");
}

static void
ocsf_time(struct response *out, const char *name, const struct device_row *row, enum device_column column)
{
	int64_t ms;

	if (device_time(out, row, column, &ms))
		add_number(out, name, ms);
}

static void
ocsf_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	char hex[UEID_HEX];

	if (row->gone) {
		ocsf_begin(out, document, 3004, 4);
		response_text(out, ",\"entity\":{");
		add_text(out, "uid", ueid_of(out, row, hex));
		response_text(out, ",\"type\":\"Device\"}}\n");
		return;
	}
	ocsf_begin(out, document, 5001, 2);
	response_text(out, ",\"device\":{\"type_id\":7");
	add_text(out, "uid", ueid_of(out, row, hex));
	add_text(out, "model", row->cells[DEVICE_HWMODEL]);
	add_text(out, "vendor_name", row->cells[DEVICE_VENDOR]);
	response_text(out, ",\"hw_info\":{");
	add_text(out, "serial_number", row->cells[DEVICE_SERIAL]);
	add_text(out, "vendor_name", row->cells[DEVICE_VENDOR]);
	response_text(out, "}");
	ocsf_os(out, row);
	ocsf_time(out, "first_seen_time", row, DEVICE_FIRST_SEEN);
	ocsf_time(out, "last_seen_time", row, DEVICE_LAST_SEEN);
	response_text(out, "}}\n");
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
	add_comma(out);
	response_text(out, "{");
	add_text(out, "name", word(name));
	add_text(out, "value", value);
	response_text(out, "}");
}

static void
cyclonedx_add(struct response *out, const struct asset_document *document, const struct device_row *row)
{
	char hex[UEID_HEX];

	(void)document;
	response_text(out, "{\"type\":\"device\"");
	add_text(out, "bom-ref", ueid_of(out, row, hex));
	add_text(out, "name", or_unknown(row->cells[DEVICE_HWMODEL]));
	add_text(out, "version", row->cells[DEVICE_HWVERSION]);
	if (row->cells[DEVICE_VENDOR].at != NULL) {
		response_text(out, ",\"manufacturer\":{");
		add_text(out, "name", row->cells[DEVICE_VENDOR]);
		response_text(out, "}");
	}
	response_text(out, ",\"properties\":[");
	add_property(out, "fleetstate:serial", row->cells[DEVICE_SERIAL]);
	add_property(out, "fleetstate:lifecycle", row->cells[DEVICE_LIFECYCLE]);
	add_property(out, "fleetstate:posture", row->cells[DEVICE_POSTURE]);
	add_property(out, "fleetstate:firmware", row->cells[DEVICE_SWNAME]);
	add_property(out, "fleetstate:firmware-version", row->cells[DEVICE_SWVERSION]);
	add_property(out, "fleetstate:gone", row->gone ? word("true") : (struct slice){NULL, 0});
	response_text(out, "]}");
}

static void
cyclonedx_end(struct response *out)
{
	response_text(out, "]}");
}

static const struct asset_format formats[] = {
	{"csv", CSV_TYPE, csv_begin, csv_add, "", no_tail},
	{"ndjson", "application/x-ndjson", no_head, ndjson_add, "", no_tail},
	{"ocsf", "application/x-ndjson", no_head, ocsf_add, "", no_tail},
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
