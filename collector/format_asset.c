#include "collector/format_asset.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/csv.h"

#define NOTHING_KNOWN "unknown" /* where a system wants a text, and the device has not said it */

static const char *
text_of(const json_t *device, const char *name)
{
	return json_string_value(json_object_get(device, name));
}

static bool
is_gone(const json_t *device)
{
	return json_is_true(json_object_get(device, "gone"));
}

/* Milliseconds since 1970 of a time as our interface writes it; 0: there is none. */
static int64_t
time_of(const json_t *device, const char *name)
{
	const char *text = text_of(device, name);
	struct tm tm = {0};
	unsigned ms = 0;

	if (text == NULL || sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3uZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
				   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms) != 7)
		return 0;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	return (int64_t)timegm(&tm) * 1000 + ms;
}

/* Takes the value over. */
static void
put(struct response *out, json_t *value)
{
	char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);

	json_decref(value);
	if (text == NULL)
		out->failed = true;
	else
		response_text(out, text);
	free(text);
}

static json_t *
parse(struct response *out, const struct device_row *row)
{
	struct response text = {0};
	json_t *json;

	device_json(&text, row);
	json = text.failed ? NULL : json_loadb((const char *)text.body, text.len, 0, NULL);
	response_free(&text);
	out->failed = out->failed || json == NULL;
	return json;
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
csv_add(struct response *out, const struct asset_document *document, const struct device_row *row, bool first)
{
	(void)document;
	(void)first;
	device_csv(out, row, true);
}

static void
ndjson_add(struct response *out, const struct asset_document *document, const struct device_row *row, bool first)
{
	(void)document;
	(void)first;
	device_json(out, row);
	response_append(out, "\n", 1);
}

/* ---- NetBox: its bulk import of devices, which wants role, manufacturer, type, site and status of each ---- */

#define NETBOX_COLUMNS "name role manufacturer device_type serial asset_tag status site platform description"

static const char *
netbox_status(const json_t *device)
{
	static const char *const map[][2] = {
		{"pending", "planned"}, {"active", "active"}, {"retired", "decommissioning"}};
	const char *lifecycle = text_of(device, "lifecycle");

	for (size_t i = 0; lifecycle != NULL && i < sizeof map / sizeof *map; i++)
		if (strcmp(map[i][0], lifecycle) == 0)
			return map[i][1];
	return "offline";
}

static const char *
or_unknown(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : NOTHING_KNOWN;
}

static void
netbox_begin(struct response *out, const struct asset_document *document)
{
	(void)document;
	csv_head(out, NETBOX_COLUMNS);
}

static void
netbox_add(struct response *out, const struct asset_document *document, const struct device_row *of, bool first)
{
	json_t *device = parse(out, of), *row;
	const char *ueid = text_of(device, "ueid"), *model = text_of(device, "hwmodel");
	char *line;

	(void)first;
	row = json_pack("{s:s*, s:s, s:s, s:s, s:s*, s:s*, s:s, s:s, s:s*, s:s}", "name", ueid, "role", "IoT device",
			"manufacturer", or_unknown(text_of(device, "vendor")), "device_type", or_unknown(model),
			"serial", text_of(device, "serial"), "asset_tag", ueid, "status", netbox_status(device), "site",
			document->tenant, "platform", text_of(device, "swname"), "description",
			is_gone(device) ? "gone" : or_unknown(text_of(device, "posture")));
	line = row == NULL ? NULL : json_dumps(row, JSON_COMPACT);
	if (line == NULL)
		out->failed = true;
	else
		csv_row(out, (struct slice){(const uint8_t *)line, strlen(line)}, NETBOX_COLUMNS);
	free(line);
	json_decref(row);
	json_decref(device);
}

/* ---- ServiceNow: the body of its Identification and Reconciliation API ---- */

static void
servicenow_begin(struct response *out, const struct asset_document *document)
{
	(void)document;
	response_text(out, "{\"items\":[");
}

static void
servicenow_add(struct response *out, const struct asset_document *document, const struct device_row *row, bool first)
{
	json_t *device = parse(out, row);
	const char *lifecycle = text_of(device, "lifecycle"), *ueid = text_of(device, "ueid");
	bool installed = lifecycle != NULL && strcmp(lifecycle, "active") == 0;

	(void)document;
	response_text(out, first ? "" : ",");
	/* install_status: 1 installed, 7 retired. */
	put(out, json_pack("{s:s, s:s*, s:{s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s}, s:{s:s, s:s*}}", "className",
			   "cmdb_ci_hardware", "internal_id", ueid, "values", "name", ueid, "serial_number",
			   text_of(device, "serial"), "manufacturer", text_of(device, "vendor"), "model_id",
			   text_of(device, "hwmodel"), "os", text_of(device, "swname"), "os_version",
			   text_of(device, "swversion"), "install_status", installed ? "1" : "7",
			   "sys_object_source_info", "source_name", "fleetstate", "source_native_key", ueid));
	json_decref(device);
}

static void
servicenow_end(struct response *out)
{
	response_text(out, "],\"relations\":[]}");
}

/* ---- OCSF 1.8.0: Device Inventory Info 5001; of what is gone, Entity Management 3004 ---- */

static json_t *
ocsf_metadata(const struct asset_document *document)
{
	return json_pack("{s:s, s:{s:s}, s:s}", "version", "1.8.0", "product", "name", "fleetstate", "tenant_uid",
			 document->tenant);
}

static json_t *
ocsf_gone(const struct asset_document *document, const json_t *device)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:I, s:o, s:{s:s*, s:s}}", "class_uid", 3004, "category_uid", 3,
			 "activity_id", 4, "type_uid", 300404, "severity_id", 1, "time", (json_int_t)document->time_ms,
			 "metadata", ocsf_metadata(document), "entity", "uid", text_of(device, "ueid"), "type",
			 "Device");
}

static json_t *
ocsf_device(const struct asset_document *document, const json_t *device)
{
	int64_t seen = time_of(device, "last_seen"), first = time_of(device, "first_seen");
	const char *swname = text_of(device, "swname"), *kernel = text_of(device, "kernel");
	json_t *os = NULL, *hardware;

	if (swname != NULL || kernel != NULL)
		os = json_pack("{s:s, s:i, s:s*, s:s*}", "name", or_unknown(swname), "type_id",
			       kernel != NULL ? 200 : 0, "version", text_of(device, "swversion"), "kernel_release",
			       kernel);
	hardware = json_pack("{s:s*, s:s*}", "serial_number", text_of(device, "serial"), "vendor_name",
			     text_of(device, "vendor"));
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:I, s:o, s:{s:i, s:s*, s:s*, s:s*, s:o, s:o*, s:o*, s:o*}}",
			 "class_uid", 5001, "category_uid", 5, "activity_id", 2, "type_uid", 500102, "severity_id", 1,
			 "time", (json_int_t)document->time_ms, "metadata", ocsf_metadata(document), "device",
			 "type_id", 7, "uid", text_of(device, "ueid"), "model", text_of(device, "hwmodel"),
			 "vendor_name", text_of(device, "vendor"), "hw_info", hardware, "os", os, "first_seen_time",
			 first == 0 ? NULL : json_integer(first), "last_seen_time",
			 seen == 0 ? NULL : json_integer(seen));
}

static void
ocsf_add(struct response *out, const struct asset_document *document, const struct device_row *row, bool first)
{
	json_t *device = parse(out, row);

	(void)first;
	put(out, is_gone(device) ? ocsf_gone(document, device) : ocsf_device(document, device));
	response_text(out, "\n");
	json_decref(device);
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
add_property(json_t *list, const char *name, const char *value)
{
	if (value != NULL)
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "value", value));
}

static void
cyclonedx_add(struct response *out, const struct asset_document *document, const struct device_row *row, bool first)
{
	json_t *device = parse(out, row), *properties = json_array();
	const char *ueid = text_of(device, "ueid"), *vendor = text_of(device, "vendor");

	(void)document;
	add_property(properties, "fleetstate:serial", text_of(device, "serial"));
	add_property(properties, "fleetstate:lifecycle", text_of(device, "lifecycle"));
	add_property(properties, "fleetstate:posture", text_of(device, "posture"));
	add_property(properties, "fleetstate:firmware", text_of(device, "swname"));
	add_property(properties, "fleetstate:firmware-version", text_of(device, "swversion"));
	add_property(properties, "fleetstate:gone", is_gone(device) ? "true" : NULL);
	response_text(out, first ? "" : ",");
	put(out,
	    json_pack("{s:s, s:s*, s:s, s:s*, s:o*, s:o}", "type", "device", "bom-ref", ueid, "name",
		      or_unknown(text_of(device, "hwmodel")), "version", text_of(device, "hwversion"), "manufacturer",
		      vendor == NULL ? NULL : json_pack("{s:s}", "name", vendor), "properties", properties));
	json_decref(device);
}

static void
cyclonedx_end(struct response *out)
{
	response_text(out, "]}");
}

static const struct asset_format formats[] = {
	{"csv", CSV_TYPE, csv_begin, csv_add, no_tail},
	{"ndjson", "application/x-ndjson", no_head, ndjson_add, no_tail},
	{"ocsf", "application/x-ndjson", no_head, ocsf_add, no_tail},
	{"cyclonedx", CYCLONEDX_TYPE, cyclonedx_begin, cyclonedx_add, cyclonedx_end},
	{"netbox", CSV_TYPE, netbox_begin, netbox_add, no_tail},
	{"servicenow", "application/json", servicenow_begin, servicenow_add, servicenow_end},
};

const struct asset_format *
asset_format(const char *name)
{
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}
