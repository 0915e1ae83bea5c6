#include "collector/format_ocsf_device.h"

#include <inttypes.h>

#include "collector/members.h"
#include "collector/words.h"

void
ocsf_begin(struct response *out, int class, int activity, int64_t time_ms, struct slice tenant)
{
	response_printf(out,
			"{\"class_uid\":%d,\"category_uid\":%d,\"activity_id\":%d,\"type_uid\":%d,\"severity_id\":1,"
			"\"time\":%" PRId64
			",\"metadata\":{\"version\":\"1.8.0\",\"product\":{\"name\":\"fleetstate\"}",
			class, class / 1000, activity, class * 100 + activity, time_ms);
	member_text(out, "tenant_uid", tenant);
	response_text(out, "}");
}

/* The system's name is required where there is one. type_id: 200 Linux, 0 not known. */
static void
put_os(struct response *out, const struct device_row *row)
{
	const struct slice name = row->cells[DEVICE_SWNAME], kernel = row->cells[DEVICE_KERNEL];

	if (name.at == NULL && kernel.at == NULL)
		return;
	response_text(out, ",\"os\":{");
	member_text(out, "name", or_unknown(name));
	member_number(out, "type_id", kernel.at != NULL ? 200 : 0);
	member_text(out, "version", row->cells[DEVICE_SWVERSION]);
	member_text(out, "kernel_release", kernel);
	response_text(out, "}");
}

static void
put_time(struct response *out, const char *name, const struct device_row *row, enum device_column column)
{
	int64_t ms;

	if (device_time(out, row, column, &ms))
		member_number(out, name, ms);
}

void
ocsf_device(struct response *out, const struct device_row *row, bool seen)
{
	char hex[UEID_HEX];

	response_text(out, ",\"device\":{\"type_id\":7");
	member_text(out, "uid", device_ueid(out, row, hex));
	member_text(out, "model", row->cells[DEVICE_HWMODEL]);
	member_text(out, "vendor_name", row->cells[DEVICE_VENDOR]);
	response_text(out, ",\"hw_info\":{");
	member_text(out, "serial_number", row->cells[DEVICE_SERIAL]);
	member_text(out, "vendor_name", row->cells[DEVICE_VENDOR]);
	response_text(out, "}");
	put_os(out, row);
	if (seen) {
		put_time(out, "first_seen_time", row, DEVICE_FIRST_SEEN);
		put_time(out, "last_seen_time", row, DEVICE_LAST_SEEN);
	}
	response_text(out, "}");
}

static struct slice
if_known(struct slice text)
{
	return text.len > 0 ? text : (struct slice){NULL, 0};
}

static bool
is_package_manager(struct slice type)
{
	static const char *const managers[] = {"dpkg", "opkg", "apk", "rpm"};

	for (size_t i = 0; i < sizeof managers / sizeof *managers; i++)
		if (word_is(type, managers[i]))
			return true;
	return false;
}

/* type_id: 2 operating system, 99 what the type says; whether a package of a system is an application is not known. */
void
ocsf_package(struct response *out, const struct ocsf_package *package)
{
	response_text(out, ",\"package\":{");
	member_text(out, "name", or_unknown(package->name));
	member_text(out, "version", or_unknown(package->version));
	member_text(out, "architecture", if_known(package->architecture));
	member_text(out, "purl", if_known(package->purl));
	if (package->is_system) {
		member_number(out, "type_id", 2);
	} else if (is_package_manager(package->type)) {
		member_text(out, "package_manager", package->type);
	} else {
		member_number(out, "type_id", 99);
		member_text(out, "type", or_unknown(package->type));
	}
	response_text(out, "}");
}
