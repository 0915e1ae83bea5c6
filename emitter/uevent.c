#include "emitter/uevent.h"

#include <stdio.h>
#include <string.h>

#include "emitter/text.h"

/* USB-IF's class codes. */
static const struct {
	unsigned code;
	const char *name;
} classes[] = {
	{0x01, "audio"},      {0x02, "communications"}, {0x03, "input"},      {0x06, "image"},
	{0x07, "printer"},    {0x08, "storage"},        {0x09, "hub"},        {0x0a, "data"},
	{0x0b, "smart-card"}, {0x0e, "video"},          {0xdc, "diagnostic"}, {0xe0, "wireless"},
	{0xff, "vendor"},
};

static struct slice
value(struct slice datagram, const char *key)
{
	size_t len = strlen(key);

	while (datagram.len > 0) {
		size_t n = strnlen((const char *)datagram.at, datagram.len);

		if (n >= len && memcmp(datagram.at, key, len) == 0)
			return (struct slice){datagram.at + len, n - len};
		n += n < datagram.len;
		datagram = (struct slice){datagram.at + n, datagram.len - n};
	}
	return (struct slice){NULL, 0};
}

static bool
number_until_slash(struct slice *text, unsigned base, uint64_t max, uint64_t *out)
{
	const uint8_t *slash = text->len > 0 ? memchr(text->at, '/', text->len) : NULL;
	size_t len = slash ? (size_t)(slash - text->at) : text->len;

	if (!text_number((struct slice){text->at, len}, base, out) || *out > max)
		return false;
	len += slash != NULL;
	*text = (struct slice){text->at + len, text->len - len};
	return true;
}

static const char *
class_name(struct slice text)
{
	uint64_t code;

	if (!number_until_slash(&text, 10, 255, &code))
		return NULL;
	for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
		if (classes[i].code == code)
			return classes[i].name;
	return NULL;
}

bool
uevent_parse(struct slice datagram, struct usb_event *out)
{
	struct slice action = value(datagram, "ACTION="), kind = value(datagram, "DEVTYPE="), product;
	uint64_t vendor, model;

	memset(out, 0, sizeof *out);
	out->added = text_is(action, "add");
	if ((!out->added && !text_is(action, "remove")) || !text_is(value(datagram, "SUBSYSTEM="), "usb"))
		return false;
	product = value(datagram, "PRODUCT=");
	if (!number_until_slash(&product, 16, 0xffff, &vendor) || !number_until_slash(&product, 16, 0xffff, &model))
		return false;
	snprintf(out->device, sizeof out->device, "%04x:%04x", (unsigned)vendor, (unsigned)model);
	if (text_is(kind, "usb_interface"))
		out->class = class_name(value(datagram, "INTERFACE="));
	else if (!text_is(kind, "usb_device"))
		return false;
	return true;
}
