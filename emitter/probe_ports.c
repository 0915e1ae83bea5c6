#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "emitter/boot_arguments.h"
#include "emitter/modprobe.h"
#include "emitter/probes.h"
#include "emitter/serial.h"

#define NAMES_MAX 4096 /* devices of a kind, files of a directory */

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static bool
has_suffix(const char *name, const char *suffix)
{
	size_t len = strlen(name), end = strlen(suffix);

	return len > end && strcmp(name + len - end, suffix) == 0;
}

static bool
flag_in(struct probe *p, const char *directory, const char *name, const char *attribute, uint64_t *out)
{
	char path[192];

	snprintf(path, sizeof path, "%s/%.64s/%s", directory, name, attribute);
	return text_number(text_trim(source_read(p->source, path, SOURCE_ATTRIBUTE)), 10, out);
}

/* What the system is told of USB, and whether its driver of storage is there at all. */
struct usb {
	struct probe *probe;
	const char *directory;
	size_t hubs, open_hubs;
	bool no_install, blacklisted, uas_blacklisted, guarded;
	bool told; /* authorized_default was */
	bool authorised;
	bool found; /* the driver, as a module */
	bool releases; /* there is a tree of modules */
};

/* 0: no device is let in; 1: all; 2: those that are soldered in. */
static bool
take_hub(void *context, int directory, const char *name)
{
	struct usb *usb = context;
	uint64_t authorised;

	(void)directory;
	if (strncmp(name, "usb", 3) != 0)
		return true;
	usb->hubs++;
	if (!flag_in(usb->probe, "sys/bus/usb/devices", name, "authorized_default", &authorised) || authorised == 1)
		usb->open_hubs++;
	return true;
}

static void
take_blacklist(void *context, struct slice value)
{
	struct usb *usb = context;
	struct slice name, rest;

	for (bool more = true; more; value = rest) {
		more = text_cut(value, ',', &name, &rest);
		if (!more)
			name = value;
		usb->blacklisted = usb->blacklisted || module_is(name, "usb_storage");
		usb->uas_blacklisted = usb->uas_blacklisted || module_is(name, "uas");
	}
}

static void
take_authorisation(void *context, struct slice value)
{
	struct usb *usb = context;

	usb->told = true;
	usb->authorised = text_is(value, "1");
}

static void
take_rule(struct usb *usb, const struct modprobe_rule *rule)
{
	if (rule->kind == MODPROBE_OPTIONS && module_is(rule->module, "usbcore"))
		boot_arguments_find(rule->options, "authorized_default", take_authorisation, usb);
	if (rule->kind == MODPROBE_BLACKLIST)
		take_blacklist(usb, rule->module);
	if (rule->kind == MODPROBE_NO_INSTALL && module_is(rule->module, "usb_storage"))
		usb->no_install = true;
}

static bool
take_conf(void *context, int directory, const char *name)
{
	struct usb *usb = context;
	struct modprobe_rule rule;
	struct slice text, line;
	char path[320];

	(void)directory;
	if (!has_suffix(name, ".conf"))
		return true;
	snprintf(path, sizeof path, "%s/%.255s", usb->directory, name);
	text = source_read(usb->probe->source, path, SOURCE_FILE);
	while (text.at && text_line(&text, &line))
		if (modprobe_parse(line, &rule))
			take_rule(usb, &rule);
	return true;
}

static void
rules(struct usb *usb)
{
	static const char *const directories[] = {"etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d",
						  "lib/modprobe.d"};

	for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
		usb->directory = directories[i];
		(void)!source_list(usb->probe->source, usb->directory, NAMES_MAX, take_conf, usb);
	}
	(void)boot_arguments(usb->probe, "modprobe.blacklist", take_blacklist, usb);
	(void)boot_arguments(usb->probe, "module_blacklist", take_blacklist, usb);
	(void)boot_arguments(usb->probe, "usbcore.authorized_default", take_authorisation, usb);
	usb->guarded = source_exists(usb->probe->source, "etc/systemd/system/basic.target.wants/usbguard.service") ||
		       source_exists(usb->probe->source, "etc/systemd/system/multi-user.target.wants/usbguard.service");
}

/* A system without a bus of that kind lets no device in. */
static void
authorisation(struct usb *usb)
{
	struct probe *p = usb->probe;

	if (source_list(p->source, "sys/bus/usb/devices", NAMES_MAX, take_hub, usb) == 0)
		facts_set_bool(p->facts, FACT_INTERFACES_USB_AUTHORISED, usb->open_hubs > 0);
	else if (!source_missing(p->source))
		facts_unknown(p->facts, FACT_INTERFACES_USB_AUTHORISED, source_why(p->source));
	else if (source_exists(p->source, "sys/bus/pci") || source_exists(p->source, "sys/bus/platform"))
		facts_set_bool(p->facts, FACT_INTERFACES_USB_AUTHORISED, false);
	else if (usb->guarded || usb->told)
		facts_set_bool(p->facts, FACT_INTERFACES_USB_AUTHORISED, usb->told && usb->authorised && !usb->guarded);
	else
		facts_unknown(p->facts, FACT_INTERFACES_USB_AUTHORISED,
			      source_is_live(p->source) ? "no sys/bus" : "nothing in the image says");
}

/* Where the modules of one release of the kernel lie, and those built into it. */
static bool
take_release(void *context, int directory, const char *name)
{
	static const char *const files[] = {"kernel/drivers/usb/storage/usb-storage.ko", "usb-storage.ko"};
	static const char *const packed[] = {"", ".xz", ".zst", ".gz"};
	struct usb *usb = context;
	char path[320];
	struct slice text, line;

	(void)directory;
	snprintf(path, sizeof path, "lib/modules/%.128s", name);
	usb->releases = usb->releases || source_exists(usb->probe->source, path);
	for (size_t i = 0; i < 2; i++)
		for (size_t j = 0; j < 4; j++) {
			snprintf(path, sizeof path, "lib/modules/%.128s/%s%s", name, files[i], packed[j]);
			usb->found = usb->found || source_exists(usb->probe->source, path);
		}
	snprintf(path, sizeof path, "lib/modules/%.128s/modules.builtin", name);
	text = source_read(usb->probe->source, path, SOURCE_FILE);
	while (text.at && text_line(&text, &line))
		usb->found = usb->found || text_is(line, "kernel/drivers/usb/storage/usb-storage.ko");
	return !usb->found;
}

/* Only a rule that keeps "usb-storage" from being installed also stops "uas", which needs it and would bring it along. */
static void
storage(struct usb *usb)
{
	struct probe *p = usb->probe;
	struct slice release = {NULL, 0};
	char name[129];

	if (source_exists(p->source, "sys/module/usb_storage")) {
		facts_set_text(p->facts, FACT_INTERFACES_USB_STORAGE, "loaded");
		return;
	}
	if (source_is_live(p->source))
		release = text_trim(source_read(p->source, "proc/sys/kernel/osrelease", SOURCE_ATTRIBUTE));
	if (release.at) {
		snprintf(name, sizeof name, "%.*s", (int)(release.len < 128 ? release.len : 128),
			 (const char *)release.at);
		if (!memchr(name, '/', strlen(name)) && name[0] != '.')
			(void)take_release(usb, -1, name);
	} else {
		(void)!source_list(p->source, "lib/modules", 64, take_release, usb);
	}
	if (usb->no_install || (usb->blacklisted && usb->uas_blacklisted))
		facts_set_text(p->facts, FACT_INTERFACES_USB_STORAGE, "blocked");
	else if (usb->found)
		facts_set_text(p->facts, FACT_INTERFACES_USB_STORAGE, "loadable");
	else if (usb->releases || probe_loads_no_modules(p))
		facts_set_text(p->facts, FACT_INTERFACES_USB_STORAGE, "absent");
	else
		facts_unknown(p->facts, FACT_INTERFACES_USB_STORAGE,
			      source_is_live(p->source) ? "the kernel's modules are not there"
							: "root is an image without modules of a kernel");
}

/* An optical drive without a disc says it holds one gigabyte. */
#define OPTICAL_NONE 0x1fffff

/* A medium is removable, its drive is, or it is an SD card. */
static bool
take_disk(void *context, int directory, const char *name)
{
	struct probe *p = context;
	uint64_t removable = 0, sectors = 0;
	char link[512], path[192];
	ssize_t len = readlinkat(directory, name, link, sizeof link - 1);
	struct slice type;

	if (strncmp(name, "loop", 4) == 0 || !flag_in(p, "sys/block", name, "size", &sectors) || sectors == 0 ||
	    (strncmp(name, "sr", 2) == 0 && sectors == OPTICAL_NONE))
		return true;
	link[len > 0 ? len : 0] = '\0';
	if (!flag_in(p, "sys/block", name, "removable", &removable))
		removable = 0;
	snprintf(path, sizeof path, "sys/block/%.64s/device/type", name);
	type = strncmp(name, "mmcblk", 6) == 0 ? text_trim(source_read(p->source, path, SOURCE_ATTRIBUTE))
					       : (struct slice){NULL, 0};
	if (removable == 1 || strstr(link, "/usb") || (type.at && text_is(type, "SD")))
		facts_add_text(p->facts, FACT_INTERFACES_REMOVABLE_MEDIA, name);
	return true;
}

static void
media(struct probe *p)
{
	facts_begin_list(p->facts, FACT_INTERFACES_REMOVABLE_MEDIA);
	if (source_list(p->source, "sys/block", NAMES_MAX, take_disk, p) < 0)
		facts_unknown(p->facts, FACT_INTERFACES_REMOVABLE_MEDIA, probe_why(p));
}

struct radios {
	struct probe *probe;
	const char *directory, *type; /* of radios that no switch is known for */
	char switched[32][64]; /* names that have one */
	size_t len;
};

/* rfkill's own name of a switch is that of its radio, or of a laptop's key for several. */
static bool
take_switch(void *context, int directory, const char *name)
{
	struct radios *r = context;
	struct fact_field row[3] = {{.kind = FIELD_ABSENT}};
	char path[128], type[32], called[64];
	uint64_t soft, hard;
	struct slice text;

	(void)directory;
	snprintf(path, sizeof path, "sys/class/rfkill/%.64s/name", name);
	text = text_trim(source_read(r->probe->source, path, SOURCE_ATTRIBUTE));
	if (text.len == 0)
		text = string(name);
	snprintf(called, sizeof called, "%.*s", (int)(text.len < 63 ? text.len : 63), (const char *)text.at);
	snprintf(path, sizeof path, "sys/class/rfkill/%.64s/type", name);
	text = text_trim(source_read(r->probe->source, path, SOURCE_ATTRIBUTE));
	snprintf(type, sizeof type, "%.*s", (int)(text.len < 31 ? text.len : 31), text.at ? (const char *)text.at : "");
	row[0] = (struct fact_field){.kind = FIELD_TEXT, .bytes = string(called)};
	if (type[0])
		row[1] = (struct fact_field){.kind = FIELD_TEXT, .bytes = string(type)};
	if (flag_in(r->probe, "sys/class/rfkill", name, "soft", &soft) &&
	    flag_in(r->probe, "sys/class/rfkill", name, "hard", &hard))
		row[2] = (struct fact_field){.kind = FIELD_BOOL, .flag = soft == 0 && hard == 0};
	facts_add_row(r->probe->facts, FACT_INTERFACES_RADIOS, row, 3);
	if (r->len < sizeof r->switched / sizeof r->switched[0])
		strcpy(r->switched[r->len++], called);
	return true;
}

static bool
take_radio(void *context, int directory, const char *name)
{
	struct radios *r = context;
	struct fact_field row[3] = {
		{.kind = FIELD_TEXT, .bytes = string(name)},
		{.kind = FIELD_TEXT, .bytes = string(r->type)},
		{.kind = FIELD_ABSENT},
	};

	(void)directory;
	/* "hci0:11" is a connection. */
	if (strchr(name, ':'))
		return true;
	for (size_t i = 0; i < r->len; i++)
		if (strcmp(r->switched[i], name) == 0)
			return true;
	facts_add_row(r->probe->facts, FACT_INTERFACES_RADIOS, row, 3);
	return true;
}

static void
radios(struct probe *p)
{
	static const struct {
		const char *directory, *type;
	} classes[] = {
		{"sys/class/ieee80211", "wlan"}, {"sys/class/bluetooth", "bluetooth"}, {"sys/class/wwan", "wwan"}};
	struct radios r = {.probe = p};

	facts_begin_list(p->facts, FACT_INTERFACES_RADIOS);
	(void)!source_list(p->source, "sys/class/rfkill", NAMES_MAX, take_switch, &r);
	for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
		r.type = classes[i].type;
		(void)!source_list(p->source, classes[i].directory, NAMES_MAX, take_radio, &r);
	}
	if (!source_exists(p->source, "sys/class"))
		facts_unknown(p->facts, FACT_INTERFACES_RADIOS, probe_why(p));
}

void
probe_ports(struct probe *p)
{
	struct usb usb = {.probe = p};

	serial_observe(p);
	rules(&usb);
	authorisation(&usb);
	storage(&usb);
	media(p);
	radios(p);
}
