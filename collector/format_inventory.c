#include "collector/format_inventory.h"

#include <string.h>
#include <time.h>

#include "collector/csv.h"
#include "collector/format_ocsf_device.h"
#include "collector/words.h"
#include "schema/key.h"
#include "schema/topics.h"

#define NAME(symbol, name) [INVENTORY_##symbol] = name,
static const char *const names[INVENTORY_COLUMNS] = {INVENTORY_TABLE(NAME)};

/* ---- comma-separated values ---- */

static void
csv_begin(struct response *out, const struct inventory_of *of)
{
	(void)of;
	for (size_t i = 0; i < INVENTORY_COLUMNS; i++) {
		response_append(out, ",", i > 0);
		response_text(out, names[i]);
	}
	response_text(out, "\r\n");
}

static void
csv_add(struct response *out, const struct inventory_of *of, const struct inventory_row *row, bool first)
{
	(void)of;
	(void)first;
	for (size_t i = 0; i < INVENTORY_COLUMNS; i++) {
		response_append(out, ",", i > 0);
		if (row->cells[i].at == NULL)
			continue;
		response_append(out, "\"", 1);
		csv_text(out, row->cells[i]);
		response_append(out, "\"", 1);
	}
	response_append(out, "\r\n", 2);
}

static void
no_end(struct response *out)
{
	(void)out;
}

/* ---- CycloneDX 1.6 ---- */

/* `,"name":"text"`; nothing if it is not known. */
static void
put_member(struct response *out, const char *name, struct slice text)
{
	if (text.len == 0)
		return;
	response_printf(out, ",\"%s\":", name);
	response_string(out, text);
}

/* The first of a list of them begins it. */
static void
put_property(struct response *out, bool *begun, const char *name, struct slice text)
{
	if (text.len == 0)
		return;
	response_text(out, *begun ? "," : ",\"properties\":[");
	*begun = true;
	response_printf(out, "{\"name\":\"fleetstate:%s\"", name);
	put_member(out, "value", text);
	response_text(out, "}");
}

static void
end_properties(struct response *out, bool begun)
{
	response_text(out, begun ? "]" : "");
}

/* A UUID of version 8 (RFC 9562 5.8): the same for the same inventory of the same device, since it is the same bill. */
static void
put_serial_number(struct response *out, const struct device_row *device)
{
	static const char kind[] = "fleetstate inventory as CycloneDX 1.6";
	struct slice ueid = device->cells[DEVICE_UEID], inventory = device->cells[DEVICE_INVENTORY_DIGEST];
	uint8_t bytes[sizeof kind + 2 * 64], digest[DIGEST_SIZE];
	char hex[2 * DIGEST_SIZE + 1];

	if (ueid.len > 64 || inventory.len > 64) {
		out->failed = true;
		return;
	}
	memcpy(bytes, kind, sizeof kind);
	memcpy(bytes + sizeof kind, ueid.at, ueid.len);
	memcpy(bytes + sizeof kind + ueid.len, inventory.at, inventory.len);
	sha256((struct slice){bytes, sizeof kind + ueid.len + inventory.len}, digest);
	digest[6] = (digest[6] & 0x0f) | 0x80;
	digest[8] = (digest[8] & 0x3f) | 0x80;
	hex_print(digest, DIGEST_SIZE, hex);
	response_printf(out, ",\"serialNumber\":\"urn:uuid:%.8s-%.4s-%.4s-%.4s-%.12s\"", hex, hex + 8, hex + 12,
			hex + 16, hex + 20);
}

static struct slice
hex_of(struct slice bytes, char text[2 * 64 + 1])
{
	size_t len = bytes.len < 64 ? bytes.len : 64;

	hex_print(bytes.at, len, text);
	return (struct slice){(const uint8_t *)text, 2 * len};
}

/* What the bill is of. Its name is wanted by the schema. */
static void
put_device(struct response *out, const struct device_row *device)
{
	const struct slice *cells = device->cells;
	struct slice model = cells[DEVICE_HWMODEL];
	char text[2 * 64 + 1];
	bool begun = false;

	response_text(out, "{\"type\":\"device\"");
	put_member(out, "bom-ref", hex_of(cells[DEVICE_UEID], text));
	put_member(out, "name", model.len > 0 ? model : (struct slice){(const uint8_t *)"unknown", 7});
	put_member(out, "version", cells[DEVICE_HWVERSION]);
	if (cells[DEVICE_VENDOR].len > 0) {
		response_text(out, ",\"manufacturer\":{\"name\":");
		response_string(out, cells[DEVICE_VENDOR]);
		response_text(out, "}");
	}
	put_property(out, &begun, "serial", cells[DEVICE_SERIAL]);
	put_property(out, &begun, "firmware", cells[DEVICE_SWNAME]);
	put_property(out, &begun, "firmware-version", cells[DEVICE_SWVERSION]);
	put_property(out, &begun, "inventory-digest", hex_of(cells[DEVICE_INVENTORY_DIGEST], text));
	end_properties(out, begun);
	response_text(out, "}");
}

static void
bom_begin(struct response *out, const struct inventory_of *of)
{
	const struct device_row *device = of->device;
	time_t seconds = (time_t)(of->told_ms / 1000);
	char when[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	response_text(out, "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\"");
	put_serial_number(out, device);
	response_printf(out,
			",\"version\":1,\"metadata\":{\"timestamp\":\"%s\",\"lifecycles\":[{\"phase\":\"operations\"}],"
			"\"component\":",
			when);
	put_device(out, device);
	response_text(out, "},\"components\":[");
}

/* A package may be a program as well as a library: the standard has them be libraries then. */
static const char *
kind_of(struct slice type)
{
	static const struct {
		const char *type, *kind;
	} kinds[] = {{"image", "operating-system"},
		     {"container", "container"},
		     {"kernel-module", "device-driver"},
		     {"firmware", "firmware"}};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (word_is(type, kinds[i].type))
			return kinds[i].kind;
	return "library";
}

/* Licences are not known, and so are not there. A purl that is none would break whoever reads the bill, and is told beside. */
static void
bom_add(struct response *out, const struct inventory_of *of, const struct inventory_row *row, bool first)
{
	const struct slice *cells = row->cells;
	bool purl = cells[INVENTORY_PURL].len > 4 && memcmp(cells[INVENTORY_PURL].at, "pkg:", 4) == 0, begun = false;
	char text[2 * 64 + 1];

	(void)of;
	response_printf(out, "%s{\"type\":\"%s\"", first ? "" : ",", kind_of(cells[INVENTORY_TYPE]));
	put_member(out, "bom-ref", hex_of(row->digest, text));
	response_text(out, ",\"name\":");
	response_string(out, cells[INVENTORY_NAME]);
	put_member(out, "version", cells[INVENTORY_VERSION]);
	if (purl)
		put_member(out, "purl", cells[INVENTORY_PURL]);
	put_property(out, &begun, "type", cells[INVENTORY_TYPE]);
	put_property(out, &begun, "architecture", cells[INVENTORY_ARCHITECTURE]);
	put_property(out, &begun, "source", cells[INVENTORY_SOURCE]);
	put_property(out, &begun, "source-version", cells[INVENTORY_SOURCE_VERSION]);
	if (!purl)
		put_property(out, &begun, "purl", cells[INVENTORY_PURL]);
	end_properties(out, begun);
	response_text(out, "}");
}

static void
bom_end(struct response *out)
{
	response_text(out, "]}");
}

/* ---- OCSF 1.8.0: Software Inventory Info 5020, an event a line for each component ---- */

static void
ocsf_head(struct response *out, const struct inventory_of *of)
{
	(void)out;
	(void)of;
}

static void
ocsf_add(struct response *out, const struct inventory_of *of, const struct inventory_row *row, bool first)
{
	const struct slice *cells = row->cells;
	const struct ocsf_package package = {.name = cells[INVENTORY_NAME],
					     .version = cells[INVENTORY_VERSION],
					     .architecture = cells[INVENTORY_ARCHITECTURE],
					     .purl = cells[INVENTORY_PURL],
					     .type = cells[INVENTORY_TYPE],
					     .is_system = word_is(cells[INVENTORY_TYPE], "image")};

	(void)first;
	ocsf_begin(out, OCSF_SOFTWARE_INVENTORY, OCSF_COLLECT, of->told_ms, of->device->cells[DEVICE_TENANT]);
	ocsf_device(out, of->device, false);
	ocsf_package(out, &package);
	response_text(out, "}\n");
}

static const struct inventory_format formats[] = {
	{"csv", CSV_TYPE, csv_begin, csv_add, no_end},
	{"cyclonedx", CYCLONEDX_TYPE, bom_begin, bom_add, bom_end},
	{"ocsf", NDJSON_TYPE, ocsf_head, ocsf_add, no_end},
};

const struct inventory_format *
inventory_format(const char *name)
{
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}
