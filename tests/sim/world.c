#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/monitor.h"

static const struct {
	const char *name, *version, *source, *source_version;
} packages[] = {
#define PACKAGE(name, version, source, source_version) {name, version, source, source_version},
#include "tests/sim/packages.def"
#undef PACKAGE
};

#define PACKAGES (sizeof packages / sizeof *packages)

const struct model models[] = {
	{"acme",
	 "Sensor S1",
	 "A3",
	 "armv7l",
	 "ARM Cortex-A7",
	 1,
	 128,
	 58,
	 "device-tree",
	 "none",
	 {"1.8.2", "1.9.0", "1.9.4", "2.0.1"},
	 {"5.10.209", "5.10.218", "6.1.90", "6.1.112"}},
	{"acme",
	 "Camera C20",
	 "B1",
	 "aarch64",
	 "ARM Cortex-A53",
	 4,
	 1024,
	 110,
	 "device-tree",
	 "2.0",
	 {"4.2.0", "4.2.3", "4.3.1", "5.0.0"},
	 {"6.1.66", "6.1.76", "6.1.94", "6.1.112"}},
	{"acme",
	 "Gateway G5",
	 "C2",
	 "x86_64",
	 "Intel Atom x6413E",
	 4,
	 4096,
	 230,
	 "uefi",
	 "2.0",
	 {"2024.02", "2024.06", "2024.09", "2025.01"},
	 {"6.1.76", "6.1.90", "6.1.106", "6.1.119"}},
	{"globex",
	 "PLC-7",
	 "7.1",
	 "aarch64",
	 "ARM Cortex-A72",
	 4,
	 2048,
	 150,
	 "uefi",
	 "2.0",
	 {"7.0.11", "7.1.2", "7.1.5", "7.2.0"},
	 {"5.10.218", "6.1.76", "6.1.94", "6.1.112"}},
	{"globex",
	 "Meter M3",
	 "2",
	 "armv7l",
	 "ARM Cortex-A5",
	 1,
	 64,
	 60,
	 "device-tree",
	 "none",
	 {"3.1.0", "3.1.1", "3.2.0", "3.2.2"},
	 {"5.10.197", "5.10.209", "5.10.218", "5.10.226"}},
};
const size_t models_len = sizeof models / sizeof *models;

uint64_t
world_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* ---- inventories ---- */

struct encoded {
	uint8_t bytes[512];
	size_t len;
};

static struct slice
text(const char *s)
{
	return s == NULL ? (struct slice){NULL, 0} : (struct slice){(const uint8_t *)s, strlen(s)};
}

/* An older firmware has the package as it was some revisions before: the last digit that can be lowered is. */
static void
older_version(const char *version, size_t behind, char *out, size_t size)
{
	snprintf(out, size, "%s", version);
	for (size_t i = strlen(out); i-- > 0 && behind > 0;)
		if (out[i] > '0' && out[i] <= '9' && (i == 0 || out[i - 1] != '+')) {
			size_t digit = (size_t)(out[i] - '0');
			out[i] = (char)('0' + (digit > behind ? digit - behind : 0));
			return;
		}
}

static void
encode_component(struct component *component, struct encoded *out)
{
	struct cbor_writer w;
	cbor_writer_init(&w, out->bytes, sizeof out->bytes);
	component_encode(component, &w);
	out->len = w.overflow ? 0 : w.len;
}

static void
encode_package(const struct model *m, size_t model, size_t firmware, size_t i, struct encoded *out)
{
	/* Each package moves with one of the updates, or not at all. */
	uint64_t seed = i * 31 + model;
	size_t moves_at = 1 + world_random(&seed) % 6;
	char version[LIMIT_VERSION + 1];
	older_version(packages[i].version, firmware < moves_at && moves_at < FIRMWARES ? moves_at - firmware : 0,
		      version, sizeof version);
	struct component c = {.type = COMPONENT_DPKG, .name = text(packages[i].name), .version = text(version)};
	c.architecture = text(strcmp(m->architecture, "x86_64") == 0    ? "amd64"
			      : strcmp(m->architecture, "aarch64") == 0 ? "arm64"
									: "armhf");
	c.source = text(packages[i].source);
	c.source_version = text(packages[i].source_version);
	encode_component(&c, out);
}

static int
compare_encoded(const void *a, const void *b)
{
	const struct encoded *x = a, *y = b;
	size_t shorter = x->len < y->len ? x->len : y->len;
	int order = memcmp(x->bytes, y->bytes, shorter);
	return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static int
pack(struct encoded *items, size_t n, struct inventory *out)
{
	size_t size = 16;
	for (size_t i = 0; i < n; i++)
		size += items[i].len;
	out->encoded = malloc(size);
	if (out->encoded == NULL)
		return -1;
	struct cbor_writer w;
	cbor_writer_init(&w, out->encoded, size);
	cbor_write_array(&w, n);
	for (size_t i = 0; i < n; i++)
		cbor_write_encoded(&w, (struct slice){items[i].bytes, items[i].len});
	out->len = w.len;
	out->components = n;
	sha256((struct slice){out->encoded, out->len}, out->digest);
	return 0;
}

static int
make_inventory(size_t model, size_t firmware, struct inventory *out)
{
	const struct model *m = &models[model];
	struct encoded *items = calloc(m->packages + 2, sizeof *items);
	if (items == NULL)
		return -1;
	size_t n = 0;
	for (size_t i = 0; i < m->packages && i < PACKAGES; i++)
		encode_package(m, model, firmware, i, &items[n++]);
	struct component image = {
		.type = COMPONENT_IMAGE, .name = text(m->name), .version = text(m->firmware[firmware])};
	struct component kernel = {
		.type = COMPONENT_FIRMWARE, .name = text("linux"), .version = text(m->kernel[firmware])};
	encode_component(&image, &items[n++]);
	encode_component(&kernel, &items[n++]);
	qsort(items, n, sizeof *items, compare_encoded);
	int rc = pack(items, n, out);
	free(items);
	return rc;
}

const struct inventory *
world_inventory(size_t model, size_t firmware)
{
	static struct inventory made[sizeof models / sizeof *models][FIRMWARES];
	struct inventory *inventory = &made[model][firmware];
	if (inventory->encoded == NULL && make_inventory(model, firmware, inventory) != 0)
		return NULL;
	return inventory;
}

/* ---- facts ---- */

static void
device_facts(const struct condition *c, const struct model *m, struct facts *f)
{
	char hex[UEID_HEX], value[64];
	ueid_print(&c->ueid, hex);
	snprintf(value, sizeof value, "%c%c-%.8s", m->name[0], m->hwversion[0], hex + 2);
	facts_set_text(f, FACT_DEVICE_SERIAL, value);
	facts_set_text(f, FACT_DEVICE_VENDOR, m->vendor);
	facts_set_text(f, FACT_DEVICE_HWMODEL, m->name);
	facts_set_text(f, FACT_DEVICE_HWVERSION, m->hwversion);
	snprintf(value, sizeof value, "%s-os", m->vendor);
	facts_set_text(f, FACT_DEVICE_SWNAME, value);
	facts_set_text(f, FACT_DEVICE_SWVERSION, m->firmware[c->firmware]);
	facts_set_text(f, FACT_DEVICE_HOST_ID, hex + 2);
	snprintf(value, sizeof value, "%s-%.6s", m->vendor, hex + 2);
	facts_set_text(f, FACT_DEVICE_HOSTNAME, value);
}

static void
hardware_facts(const struct model *m, struct facts *f)
{
	facts_set_text(f, FACT_HARDWARE_ARCHITECTURE, m->architecture);
	facts_set_text(f, FACT_HARDWARE_CPU_MODEL, m->cpu);
	facts_set_uint(f, FACT_HARDWARE_CPU_COUNT, m->processors);
	facts_set_uint(f, FACT_HARDWARE_MEMORY, (uint64_t)m->memory_mb * 1024 * 1024);
	facts_set_text(f, FACT_HARDWARE_TPM, m->tpm);
	facts_set_text(f, FACT_HARDWARE_RNG, strcmp(m->tpm, "none") == 0 ? "none" : "tpm-rng-0");
}

static void
system_facts(const struct condition *c, const struct model *m, struct facts *f)
{
	facts_set_text(f, FACT_OS_ID, "debian");
	facts_set_text(f, FACT_OS_NAME, "Debian GNU/Linux 12 (bookworm)");
	facts_set_text(f, FACT_OS_VERSION, "12");
	facts_set_text(f, FACT_OS_BUILD, m->firmware[c->firmware]);
	facts_set_text(f, FACT_OS_KERNEL, m->kernel[c->firmware]);
	facts_set_uint(f, FACT_OS_UPTIME, 60 + c->reports * (uint64_t)c->interval);
	facts_set_text(f, FACT_BOOT_FIRMWARE, m->boot);
	if (strcmp(m->boot, "uefi") == 0) {
		facts_set_bool(f, FACT_BOOT_SECURE, c->secure);
		facts_set_bool(f, FACT_BOOT_SETUP_MODE, false);
	}
	facts_set_text(f, FACT_BOOT_LOCKDOWN, c->secure ? "integrity" : "none");
	facts_set_bool(f, FACT_BOOT_MODULE_SIGNATURES, c->secure);
	facts_begin_list(f, FACT_BOOT_RISKS);
	if (c->weak_boot)
		facts_add_text(f, FACT_BOOT_RISKS, "mitigations=off");
	facts_set_text(f, FACT_PACKAGES_MANAGER, "dpkg");
	facts_set_uint(f, FACT_PACKAGES_INSTALLED, m->packages);
	facts_begin_list(f, FACT_PACKAGES_BROKEN);
}

static void
add_socket(struct facts *f, const char *protocol, uint64_t port, const char *program)
{
	static const uint8_t any[4] = {0};
	struct fact_field row[4] = {
		{.kind = FIELD_TEXT, .bytes = text(protocol)},
		{.kind = FIELD_BYTES, .bytes = {any, sizeof any}},
		{.kind = FIELD_UINT, .number = port},
		{.kind = FIELD_TEXT, .bytes = text(program)},
	};
	facts_add_row(f, FACT_INTERFACES_SOCKETS, row, 4);
}

static void
network_facts(const struct condition *c, const struct model *m, struct facts *f)
{
	uint8_t mac[6] = {0x02};
	memcpy(mac + 1, c->ueid.bytes + 1, 5);
	struct fact_field row[4] = {
		{.kind = FIELD_TEXT, .bytes = text("eth0")},
		{.kind = FIELD_BYTES, .bytes = {mac, sizeof mac}},
		{.kind = FIELD_BOOL, .flag = true},
		{.kind = FIELD_TEXT, .bytes = text("ethernet")},
	};
	facts_begin_list(f, FACT_INTERFACES_NETWORK);
	facts_add_row(f, FACT_INTERFACES_NETWORK, row, 4);
	facts_begin_list(f, FACT_INTERFACES_SOCKETS);
	add_socket(f, "tcp", 22, "sshd");
	if (m->packages > 100)
		add_socket(f, "tcp", 443, "nginx");
	if (strcmp(m->name, "PLC-7") == 0)
		add_socket(f, "tcp", 502, "modbusd");
	facts_begin_list(f, FACT_INTERFACES_UNEXPECTED_SOCKETS);
	if (c->telnet) {
		add_socket(f, "tcp", 23, "telnetd");
		facts_add_text(f, FACT_INTERFACES_UNEXPECTED_SOCKETS, "tcp 23 telnetd");
	}
	facts_set_bool(f, FACT_CLOCK_SYNCHRONISED, !c->unsynchronised);
	facts_set_text(f, FACT_CLOCK_SOURCE, "systemd-timesyncd");
	facts_set_number(f, FACT_CLOCK_OFFSET, c->unsynchronised ? 12.5 : 0.0005);
	facts_set_number(f, FACT_CLOCK_MAX_ERROR, c->unsynchronised ? 16 : 0.03125);
}

/* What the maker's baseline watches; on the small models nothing in /etc can be written. */
static void
configuration_facts(const struct model *m, struct facts *f)
{
	bool writable = m->memory_mb >= 100;
	struct fact_field row[5] = {
		{.kind = FIELD_TEXT, .bytes = text("/etc/ssh/sshd_config")},
		{.kind = FIELD_TEXT,
		 .bytes = text("9a3f0c5d7be1468204c6f7a98d1b3e5f60728394a5b6c7d8e9f00112233445566")},
		{.kind = FIELD_UINT},
		{.kind = FIELD_UINT, .number = 0600},
		{.kind = FIELD_TEXT, .bytes = text("none")},
	};

	facts_begin_list(f, FACT_CONFIGURATION_FILES);
	if (writable)
		facts_add_row(f, FACT_CONFIGURATION_FILES, row, 5);
	facts_begin_list(f, FACT_CONFIGURATION_DRIFT);
	facts_set_bool(f, FACT_CONFIGURATION_WRITABLE, writable);
	facts_set_text(f, FACT_CONFIGURATION_RESTORE, "slots");
}

static void
emitter_facts(const struct condition *c, struct facts *f)
{
	facts_set_text(f, FACT_EMITTER_VERSION, FLEETSTATE_VERSION);
	facts_set_text(f, FACT_EMITTER_PRIVILEGES, "full");
	facts_set_text(f, FACT_EMITTER_SIGNING_KEY, "file");
	facts_set_uint(f, FACT_EMITTER_RECEIPTS_AHEAD, 0);
	facts_set_text(f, FACT_EMITTER_USER, "own");
	facts_set_bool(f, FACT_EMITTER_SECCOMP, true);
	facts_set_uint(f, FACT_EMITTER_LISTENING, 0);
	facts_set_bool(f, FACT_EMITTER_PRIVATE_FILES, true);
	facts_set_uint(f, FACT_EMITTER_INTERVAL, c->interval);
	facts_set_text(f, FACT_EMITTER_TRANSPORT, "mutual TLS");
	facts_begin_list(f, FACT_EMITTER_LOG_FORWARDING);
	facts_add_text(f, FACT_EMITTER_LOG_FORWARDING, "journal-upload tls");
}

/* What these devices do well; an older firmware waits for its updates, and the smallest model can't be wiped. */
static void
care_facts(const struct condition *c, const struct model *m, struct facts *f)
{
	static const enum fact empty[] = {FACT_ACCESS_DEFAULT_PASSWORD,
					  FACT_CONFIGURATION_ADMINISTRATORS,
					  FACT_HEALTH_READ_ONLY,
					  FACT_INTEGRITY_DEBUGGING,
					  FACT_INTEGRITY_TAINT,
					  FACT_INTERFACES_SERIAL_CONSOLES,
					  FACT_INTERFACES_UNNECESSARY,
					  FACT_ACCESS_EMPTY_PASSWORD,
					  FACT_ACCESS_SECOND_ROOT,
					  FACT_ACCESS_WEAK_PASSWORD_HASH,
					  FACT_ACCESS_SSH_WEAK,
					  FACT_CONFIGURATION_LOOSE,
					  FACT_HEALTH_FAILED_UNITS,
					  FACT_HEALTH_FULL,
					  FACT_INTEGRITY_PACKAGED_ALTERED,
					  FACT_INTEGRITY_UNSIGNED_MODULES,
					  FACT_UPDATE_UNPRIVILEGED,
					  FACT_UPDATE_UNSIGNED_SOURCES};

	for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
		facts_begin_list(f, empty[i]);
	facts_set_bool(f, FACT_ACCESS_SSH, true);
	facts_set_text(f, FACT_ACCESS_SSH_ROOT, "no");
	facts_set_bool(f, FACT_ACCESS_SSH_PASSWORD, false);
	facts_set_bool(f, FACT_ACCESS_SSH_EMPTY_PASSWORD, false);
	facts_set_uint(f, FACT_ACCESS_LOCKOUT_TRIES, 5);
	facts_set_number(f, FACT_ACCESS_DELAY_S, 2);
	facts_set_text(f, FACT_DATA_CRYPTO_LIBRARY, "OpenSSL 3.0.14");
	facts_set_text(f, FACT_DATA_TLS_FLOOR, "1.2");
	facts_set_text(f, FACT_DATA_WIPE, m->memory_mb < 100 ? "none" : "crypto-erase");
	facts_set_text(f, FACT_INTERFACES_FIREWALL, "nftables");
	facts_set_text(f, FACT_INTERFACES_FIREWALL_INPUT, "drop");
	facts_set_text(f, FACT_INTERFACES_USB_STORAGE, "absent");
	facts_begin_list(f, FACT_UPDATE_MECHANISMS);
	facts_add_text(f, FACT_UPDATE_MECHANISMS, "rauc");
	facts_set_bool(f, FACT_UPDATE_ENABLED, true);
	facts_set_text(f, FACT_UPDATE_INSTALL, "automatic");
	facts_set_uint(f, FACT_UPDATE_PENDING_SECURITY, FIRMWARES - 1 - c->firmware);
	facts_set_bool(f, FACT_UPDATE_REBOOT_NEEDED, false);
	facts_set_text(f, FACT_UPDATE_ROLLBACK, "slots");
	facts_set_bool(f, FACT_UPDATE_SIGNATURES_ENFORCED, true);
}

void
world_facts(const struct condition *c, struct facts *f)
{
	const struct model *m = &models[c->model];
	facts_clear(f);
	device_facts(c, m, f);
	hardware_facts(m, f);
	system_facts(c, m, f);
	network_facts(c, m, f);
	care_facts(c, m, f);
	configuration_facts(m, f);
	emitter_facts(c, f);
	for (int i = 0; i < FACT_ELEMENTS_DI_1; i++)
		if (!facts_has(f, (enum fact)i))
			facts_unknown(f, (enum fact)i, "this model has none");
	monitor_judge(f, NULL);
}
