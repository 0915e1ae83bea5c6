#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "emitter/probes.h"
#include "schema/topics.h"

static const char *const placeholders[] = {
	"to be filled by o.e.m.",
	"to be filled by o.e.m",
	"default string",
	"system manufacturer",
	"system product name",
	"system serial number",
	"system version",
	"base board serial number",
	"not specified",
	"not applicable",
	"not available",
	"none",
	"n/a",
	"na",
	"unknown",
	"o.e.m.",
	"oem",
	"undefined",
	"123456789",
	"0123456789",
	"1234567890",
	"xxxxxxxx",
	"invalid",
	"empty",
	"03000200-0400-0500-0006-000700080009",
};

/* All of one sign, such as zeros, dots or the Fs of an unwritten UUID. */
static bool
is_filler(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] != '-' && text.at[i] != ' ' && text.at[i] != text.at[0])
			return false;
	return text.len == 0 || strchr("0Ff.-xX* _#?", text.at[0]) != NULL;
}

bool
is_placeholder(struct slice text)
{
	for (size_t i = 0; i < sizeof placeholders / sizeof placeholders[0]; i++)
		if (text.len == strlen(placeholders[i]) &&
		    strncasecmp((const char *)text.at, placeholders[i], text.len) == 0)
			return true;
	return is_filler(text);
}

bool
compatible_vendor(struct slice text, struct slice *vendor)
{
	const uint8_t *comma = text.len ? memchr(text.at, ',', text.len) : NULL;
	const uint8_t *end = text.len ? memchr(text.at, '\0', text.len) : NULL;

	if (!comma || comma == text.at || (end && end < comma))
		return false;
	*vendor = (struct slice){text.at, (size_t)(comma - text.at)};
	return true;
}

bool
host_id(struct slice machine_id, char out[HOST_ID_SIZE])
{
	static const char name[] = "fleetstate";
	uint8_t id[16], mac[32];
	unsigned len = sizeof mac;

	if (machine_id.len > 0 && machine_id.at[machine_id.len - 1] == '\n')
		machine_id.len--;
	if (machine_id.len != 2 * sizeof id || is_filler(machine_id) || !hex_parse(machine_id, id, sizeof id))
		return false;
	if (!HMAC(EVP_sha256(), name, sizeof name - 1, id, sizeof id, mac, &len))
		return false;
	hex_print(mac, sizeof id, out);
	return true;
}

/* Where a fact of the device may come from, in this order: what the maker declared, then these files. */
#define NOT_DECLARED ((size_t)-1)
static const struct identity {
	enum fact fact;
	size_t declared;
	const char *dmi, *device_tree;
	size_t cpuinfo; /* offset in struct cpuinfo, of boards that have neither */
} identities[] = {
	{FACT_DEVICE_SERIAL, offsetof(struct declared, serial), "sys/class/dmi/id/product_serial",
	 "proc/device-tree/serial-number", offsetof(struct cpuinfo, serial)},
	{FACT_DEVICE_VENDOR, offsetof(struct declared, vendor), "sys/class/dmi/id/sys_vendor", NULL, NOT_DECLARED},
	{FACT_DEVICE_HWMODEL, offsetof(struct declared, hwmodel), "sys/class/dmi/id/product_name",
	 "proc/device-tree/model", offsetof(struct cpuinfo, machine)},
	{FACT_DEVICE_HWVERSION, offsetof(struct declared, hwversion), "sys/class/dmi/id/product_version", NULL,
	 offsetof(struct cpuinfo, revision)},
	{FACT_DEVICE_BOARD_SERIAL, NOT_DECLARED, "sys/class/dmi/id/board_serial", NULL, NOT_DECLARED},
	{FACT_DEVICE_PRODUCT_UUID, NOT_DECLARED, "sys/class/dmi/id/product_uuid", NULL, NOT_DECLARED},
};

static const char *
declared_text(const struct probe *p, size_t offset)
{
	const char *text;

	if (!p->declared || offset == NOT_DECLARED)
		return NULL;
	memcpy(&text, (const char *)p->declared + offset, sizeof text);
	return text && text[0] ? text : NULL;
}

static bool
accept(struct probe *p, enum fact fact, struct slice text, const char *from)
{
	char why[128];

	text = text_trim(text);
	if (!is_placeholder(text)) {
		facts_set_textn(p->facts, fact, text);
		return true;
	}
	snprintf(why, sizeof why, "%s holds %s", from, text.len ? "a placeholder" : "nothing");
	facts_unknown(p->facts, fact, why);
	return false;
}

/* Whether the fact is settled. A file that is there but can't be used leaves its reason, unless a later one does better. */
static bool
from_file(struct probe *p, enum fact fact, const char *path)
{
	struct slice text;

	if (!path)
		return false;
	text = source_read(p->source, path, SOURCE_ATTRIBUTE);
	if (text.at)
		return accept(p, fact, text, path);
	if (!source_missing(p->source))
		facts_unknown(p->facts, fact, source_why(p->source));
	return false;
}

static void
identify(struct probe *p, const struct identity *row)
{
	const char *text = declared_text(p, row->declared);
	const char *found;

	if (text) {
		facts_set_text(p->facts, row->fact, text);
		return;
	}
	facts_unknown(p->facts, row->fact,
		      source_is_live(p->source) ? "neither firmware nor device tree says" : "root is an image");
	if (from_file(p, row->fact, row->dmi) || from_file(p, row->fact, row->device_tree) ||
	    row->cpuinfo == NOT_DECLARED)
		return;
	found = (const char *)&p->cpuinfo + row->cpuinfo;
	if (found[0])
		(void)accept(p, row->fact, (struct slice){(const uint8_t *)found, strlen(found)}, "proc/cpuinfo");
}

static void
vendor_from_device_tree(struct probe *p)
{
	struct slice text, vendor;

	if (facts_has(p->facts, FACT_DEVICE_VENDOR))
		return;
	text = source_read(p->source, "proc/device-tree/compatible", SOURCE_ATTRIBUTE);
	if (text.at && compatible_vendor(text, &vendor))
		facts_set_textn(p->facts, FACT_DEVICE_VENDOR, vendor);
}

/* The image's own name goes before the distribution's. */
static void
software(struct probe *p, enum fact fact, const char *declared, enum release image, enum release distribution)
{
	const char *text = declared && declared[0] ? declared : os_release_text(&p->release, image);

	if (!text)
		text = os_release_text(&p->release, distribution);
	if (text)
		facts_set_text(p->facts, fact, text);
	else
		facts_unknown(p->facts, fact, p->release_why[0] ? p->release_why : "os-release does not say");
}

static void
host(struct probe *p)
{
	struct slice text = source_read(p->source, "etc/machine-id", SOURCE_ATTRIBUTE);
	char id[HOST_ID_SIZE];

	if (!text.at)
		facts_unknown(p->facts, FACT_DEVICE_HOST_ID, source_why(p->source));
	else if (host_id(text, id))
		facts_set_text(p->facts, FACT_DEVICE_HOST_ID, id);
	else
		facts_unknown(p->facts, FACT_DEVICE_HOST_ID, "etc/machine-id holds no machine id");
}

/* The kernel's name counts; an image has only the one it will take. */
static void
host_name(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/sys/kernel/hostname", SOURCE_ATTRIBUTE), line;

	if (!text.at)
		text = source_read(p->source, "etc/hostname", SOURCE_ATTRIBUTE);
	if (!text.at) {
		facts_unknown(p->facts, FACT_DEVICE_HOSTNAME, source_why(p->source));
		return;
	}
	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#')
			continue;
		facts_set_textn(p->facts, FACT_DEVICE_HOSTNAME, line);
		return;
	}
	facts_unknown(p->facts, FACT_DEVICE_HOSTNAME, "no host name is set");
}

void
probe_identity(struct probe *p)
{
	static const struct declared nothing;
	const struct declared *declared = p->declared ? p->declared : &nothing;

	for (size_t i = 0; i < sizeof identities / sizeof identities[0]; i++)
		identify(p, &identities[i]);
	vendor_from_device_tree(p);
	if (declared->oemid && declared->oemid[0])
		facts_set_text(p->facts, FACT_DEVICE_OEMID, declared->oemid);
	else
		facts_unknown(p->facts, FACT_DEVICE_OEMID, "not declared, and nothing on a device tells it");
	software(p, FACT_DEVICE_SWNAME, declared->swname, RELEASE_IMAGE_ID, RELEASE_ID);
	software(p, FACT_DEVICE_SWVERSION, declared->swversion, RELEASE_IMAGE_VERSION, RELEASE_VERSION_ID);
	host(p);
	host_name(p);
}
