#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "emitter/probes.h"

/* The spellings of the architectures; the first line of a kind counts. */
static const struct {
	const char *name;
	size_t offset;
} cpuinfo_names[] = {
	{"model name", offsetof(struct cpuinfo, model)},  {"cpu model", offsetof(struct cpuinfo, model)},
	{"Processor", offsetof(struct cpuinfo, model)},   {"cpu", offsetof(struct cpuinfo, model)},
	{"uarch", offsetof(struct cpuinfo, model)},       {"Model", offsetof(struct cpuinfo, machine)},
	{"Hardware", offsetof(struct cpuinfo, machine)},  {"machine", offsetof(struct cpuinfo, machine)},
	{"Revision", offsetof(struct cpuinfo, revision)}, {"Serial", offsetof(struct cpuinfo, serial)},
};

static void
cpuinfo_line(struct slice name, struct slice value, struct cpuinfo *out)
{
	char *field;

	if (text_is(name, "processor"))
		out->processors++;
	for (size_t i = 0; i < sizeof cpuinfo_names / sizeof cpuinfo_names[0]; i++) {
		field = (char *)out + cpuinfo_names[i].offset;
		if (field[0] == '\0' && text_is(name, cpuinfo_names[i].name))
			snprintf(field, CPUINFO_TEXT, "%.*s",
				 (int)(value.len < CPUINFO_TEXT ? value.len : CPUINFO_TEXT), (const char *)value.at);
	}
}

void
cpuinfo_parse(struct slice text, struct cpuinfo *out)
{
	struct slice line, name, value;

	memset(out, 0, sizeof *out);
	while (text_line(&text, &line))
		if (text_cut(line, ':', &name, &value))
			cpuinfo_line(name, value, out);
}

#define CPUS_MAX 65536 /* NR_CPUS is 8192 at most today */

static bool
cpu_range(struct slice range, uint64_t *count)
{
	struct slice from, to;
	uint64_t first, last;

	if (!text_cut(range, '-', &from, &to))
		from = to = range;
	if (!text_number(from, 10, &first) || !text_number(to, 10, &last) || last < first || last >= CPUS_MAX)
		return false;
	*count += last - first + 1;
	return true;
}

bool
cpu_list_parse(struct slice text, uint64_t *count)
{
	struct slice range, rest;
	uint64_t total = 0;

	text = text_trim(text);
	for (;;) {
		bool more = text_cut(text, ',', &range, &rest);

		if (!cpu_range(more ? range : text, &total) || total > CPUS_MAX)
			return false;
		if (!more)
			break;
		text = rest;
	}
	*count = total;
	return true;
}

bool
meminfo_parse(struct slice text, uint64_t *bytes)
{
	struct slice line, name, value, number, unit;

	while (text_line(&text, &line)) {
		if (!text_cut(line, ':', &name, &value) || !text_is(name, "MemTotal"))
			continue;
		if (!text_word(&value, &number) || !text_word(&value, &unit) || !text_is(unit, "kB"))
			return false;
		if (!text_number(number, 10, bytes) || *bytes > UINT64_MAX / 1024)
			return false;
		*bytes *= 1024;
		return true;
	}
	return false;
}

/* ARM's cpuinfo has no name: the device tree's "arm,cortex-a72" is one. */
static void
cpu_model(struct probe *p)
{
	struct slice text, name, rest;

	if (p->cpuinfo.model[0]) {
		facts_set_text(p->facts, FACT_HARDWARE_CPU_MODEL, p->cpuinfo.model);
		return;
	}
	text = source_read(p->source, "proc/device-tree/cpus/cpu@0/compatible", SOURCE_ATTRIBUTE);
	if (!text.at) {
		facts_unknown(p->facts, FACT_HARDWARE_CPU_MODEL,
			      p->cpuinfo.processors ? "proc/cpuinfo names no model" : probe_why(p));
		return;
	}
	if (text_cut(text, '\0', &name, &rest))
		text = name;
	facts_set_textn(p->facts, FACT_HARDWARE_CPU_MODEL, text_trim(text));
}

static void
cpu_count(struct probe *p)
{
	struct slice text = source_read(p->source, "sys/devices/system/cpu/online", SOURCE_ATTRIBUTE);
	uint64_t count = p->cpuinfo.processors;

	if (text.at && !cpu_list_parse(text, &count))
		facts_unknown(p->facts, FACT_HARDWARE_CPU_COUNT, "sys/devices/system/cpu/online is malformed");
	else if (count > 0)
		facts_set_uint(p->facts, FACT_HARDWARE_CPU_COUNT, count);
	else
		facts_unknown(p->facts, FACT_HARDWARE_CPU_COUNT, probe_why(p));
}

static void
memory(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/meminfo", SOURCE_ATTRIBUTE);
	uint64_t bytes;

	if (!text.at)
		facts_unknown(p->facts, FACT_HARDWARE_MEMORY, probe_why(p));
	else if (meminfo_parse(text, &bytes))
		facts_set_uint(p->facts, FACT_HARDWARE_MEMORY, bytes);
	else
		facts_unknown(p->facts, FACT_HARDWARE_MEMORY, "proc/meminfo is malformed");
}

static bool
first_name(void *context, int directory, const char *name)
{
	(void)directory;
	(void)name;
	*(bool *)context = true;
	return false;
}

/* Without the kernel's class of TPMs nothing is known; with an empty one there is none. */
static void
tpm(struct probe *p)
{
	struct slice text = source_read(p->source, "sys/class/tpm/tpm0/tpm_version_major", SOURCE_ATTRIBUTE);
	bool any = false;

	if (text.at && text_is(text_trim(text), "2"))
		facts_set_text(p->facts, FACT_HARDWARE_TPM, "2.0");
	else if (text.at && text_is(text_trim(text), "1"))
		facts_set_text(p->facts, FACT_HARDWARE_TPM, "1.2");
	else if (source_list(p->source, "sys/class/tpm", SOURCE_NAMES, first_name, &any) < 0)
		facts_unknown(p->facts, FACT_HARDWARE_TPM, probe_why(p));
	else if (any)
		facts_unknown(p->facts, FACT_HARDWARE_TPM, "the TPM does not tell its version");
	else
		facts_set_text(p->facts, FACT_HARDWARE_TPM, "none");
}

static void
rng(struct probe *p)
{
	struct slice text = source_read(p->source, "sys/class/misc/hw_random/rng_current", SOURCE_ATTRIBUTE);

	if (!text.at)
		facts_unknown(p->facts, FACT_HARDWARE_RNG, probe_why(p));
	else if (text_trim(text).len == 0)
		facts_set_text(p->facts, FACT_HARDWARE_RNG, "none");
	else
		facts_set_textn(p->facts, FACT_HARDWARE_RNG, text_trim(text));
}

/* Boards that boot by a device tree have no DMI; U-Boot leaves its version there. */
static void
boot_loader(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/device-tree/chosen/u-boot,version", SOURCE_ATTRIBUTE);

	if (!text.at || facts_has(p->facts, FACT_HARDWARE_FIRMWARE_VERSION))
		return;
	facts_set_text(p->facts, FACT_HARDWARE_FIRMWARE_VENDOR, "U-Boot");
	facts_set_textn(p->facts, FACT_HARDWARE_FIRMWARE_VERSION, text_trim(text));
}

/* Linux has had the file since 6.1. */
static void
architecture(struct probe *p)
{
	struct utsname name;

	probe_text(p, FACT_HARDWARE_ARCHITECTURE, "proc/sys/kernel/arch");
	if (!facts_has(p->facts, FACT_HARDWARE_ARCHITECTURE) && source_is_live(p->source) && uname(&name) == 0)
		facts_set_text(p->facts, FACT_HARDWARE_ARCHITECTURE, name.machine);
}

void
probe_hardware(struct probe *p)
{
	architecture(p);
	cpu_model(p);
	cpu_count(p);
	memory(p);
	tpm(p);
	probe_text(p, FACT_HARDWARE_FIRMWARE_VENDOR, "sys/class/dmi/id/bios_vendor");
	probe_text(p, FACT_HARDWARE_FIRMWARE_VERSION, "sys/class/dmi/id/bios_version");
	probe_text(p, FACT_HARDWARE_FIRMWARE_DATE, "sys/class/dmi/id/bios_date");
	boot_loader(p);
	rng(p);
}
