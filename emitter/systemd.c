#include "emitter/systemd.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_US 1000000 /* a manager that is slower than that is busy with more than us */
#define PRIVATE "/run/systemd/private" /* for root only, and there without a bus */
#define SYSTEM_BUS "/run/dbus/system_bus_socket"

/* clang-format off */
#define FUNCTIONS(X) \
	X(sd_bus_new) X(sd_bus_set_address) X(sd_bus_set_bus_client) X(sd_bus_start) X(sd_bus_is_ready) X(sd_bus_process) \
	X(sd_bus_wait) X(sd_bus_message_new_method_call) X(sd_bus_message_append_strv) X(sd_bus_call) \
	X(sd_bus_message_enter_container) X(sd_bus_message_read) X(sd_bus_message_unref) X(sd_bus_close_unref)
/* clang-format on */

#define POINTER(name) __typeof__(name) *name;
#define NAME(name) #name,
static struct {
	FUNCTIONS(POINTER)
} bus;
static const char *const names[] = {FUNCTIONS(NAME)};
#define COUNT (sizeof names / sizeof names[0])
_Static_assert(sizeof bus == COUNT * sizeof(void *), "one pointer a function");

static bool
load(void)
{
	static bool tried, loaded;
	void *library;

	if (tried)
		return loaded;
	tried = true;
	library = dlopen("libsystemd.so.0", RTLD_LAZY | RTLD_LOCAL);
	if (!library)
		return false;
	for (size_t i = 0; i < COUNT; i++) {
		void *symbol = dlsym(library, names[i]);

		if (!symbol)
			return false;
		memcpy((char *)&bus + i * sizeof symbol, &symbol, sizeof symbol);
	}
	loaded = true;
	return true;
}

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The library itself would wait for a minute and a half until a silent socket is called dead. */
static int
await_ready(sd_bus *connection)
{
	uint64_t end = now_us() + PATIENCE_US, now;
	int result;

	while ((result = bus.sd_bus_is_ready(connection)) == 0) {
		now = now_us();
		if (now >= end)
			return -ETIMEDOUT;
		result = bus.sd_bus_process(connection, NULL);
		if (result == 0)
			result = bus.sd_bus_wait(connection, end - now);
		if (result < 0)
			break;
	}
	return result < 0 ? result : 0;
}

static sd_bus *
connect_to(const char *address, bool is_bus)
{
	sd_bus *connection = NULL;

	if (bus.sd_bus_new(&connection) < 0)
		return NULL;
	if (bus.sd_bus_set_address(connection, address) >= 0 &&
	    (!is_bus || bus.sd_bus_set_bus_client(connection, 1) >= 0) && bus.sd_bus_start(connection) >= 0 &&
	    await_ready(connection) >= 0)
		return connection;
	bus.sd_bus_close_unref(connection);
	return NULL;
}

static sd_bus *
connect_somewhere(const char *address)
{
	if (address)
		return connect_to(address, false);
	if (access(PRIVATE, R_OK | W_OK) == 0)
		return connect_to("unix:path=" PRIVATE, false);
	return connect_to("unix:path=" SYSTEM_BUS, true);
}

static int
call(sd_bus *connection, sd_bus_message **reply)
{
	static char failed[] = "failed";
	static char *states[] = {failed, NULL};
	sd_bus_message *message = NULL;
	int result = bus.sd_bus_message_new_method_call(connection, &message, "org.freedesktop.systemd1",
							"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
							"ListUnitsFiltered");

	if (result >= 0)
		result = bus.sd_bus_message_append_strv(message, states);
	if (result >= 0)
		result = bus.sd_bus_call(connection, message, PATIENCE_US, NULL, reply);
	bus.sd_bus_message_unref(message);
	return result;
}

int
systemd_failed_units(const char *address, void (*take)(void *, const char *), void *context, const char **why)
{
	const char *unit, *unused[7];
	sd_bus_message *reply = NULL;
	sd_bus *connection;
	uint32_t job;
	int result;

	*why = "libsystemd is not there to ask systemd with";
	if (!load())
		return -1;
	*why = "systemd can't be reached";
	connection = connect_somewhere(address);
	if (!connection)
		return -1;
	*why = "systemd does not answer";
	result = call(connection, &reply);
	if (result >= 0)
		result = bus.sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "(ssssssouso)");
	while (result >= 0) {
		result = bus.sd_bus_message_read(reply, "(ssssssouso)", &unit, &unused[0], &unused[1], &unused[2],
						 &unused[3], &unused[4], &unused[5], &job, &unused[6], &unused[6]);
		if (result <= 0)
			break;
		take(context, unit);
	}
	bus.sd_bus_message_unref(reply);
	bus.sd_bus_close_unref(connection);
	return result < 0 ? -1 : 0;
}
