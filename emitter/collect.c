#include "emitter/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/probes.h"

static void probe_emitter(struct probe *);

/* In the order of the facts. The last one tells what the others were refused. */
static const struct {
	const char *name;
	void (*run)(struct probe *);
	bool needs_live; /* asks the kernel itself, which says nothing of an image */
	enum fact first, last;
} probes[] = {
	{"identity", probe_identity, false, FACT_DEVICE_SERIAL, FACT_DEVICE_PERMANENT_MACS},
	{"hardware", probe_hardware, false, FACT_HARDWARE_ARCHITECTURE, FACT_HARDWARE_RNG},
	{"os", probe_os, false, FACT_OS_ID, FACT_OS_MODULES},
	{"boot", probe_boot, false, FACT_BOOT_FIRMWARE, FACT_BOOT_VERITY},
	{"packages", probe_packages, false, FACT_PACKAGES_MANAGER, FACT_PACKAGES_LISTED},
	{"interfaces", probe_interfaces, false, FACT_INTERFACES_NETWORK, FACT_INTERFACES_FIREWALL_INPUT},
	{"clock", probe_clock, true, FACT_CLOCK_SYNCHRONISED, FACT_CLOCK_MAX_ERROR},
	{"emitter", probe_emitter, false, FACT_EMITTER_VERSION, FACT_EMITTER_LOG_FORWARDING},
};

#define IMAGE "root is an image"

struct collect {
	struct source *source;
	struct packages *packages;
	struct probe probe;
};

struct collect *
collect_new(const char *root, const struct declared *declared)
{
	struct collect *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->source = source_new(root);
	c->packages = c->source ? packages_new() : NULL;
	if (!c->packages) {
		int error = errno;

		collect_free(c);
		errno = error;
		return NULL;
	}
	c->probe.source = c->source;
	c->probe.packages = c->packages;
	c->probe.declared = declared;
	return c;
}

void
collect_free(struct collect *c)
{
	if (!c)
		return;
	packages_free(c->packages);
	source_free(c->source);
	free(c);
}

const char *
probe_why(const struct probe *p)
{
	return source_is_live(p->source) || !source_missing(p->source) ? source_why(p->source) : IMAGE;
}

void
probe_text(struct probe *p, enum fact fact, const char *path)
{
	struct slice text = source_read(p->source, path, SOURCE_ATTRIBUTE);

	if (!text.at)
		facts_unknown(p->facts, fact, probe_why(p));
	else if (text_trim(text).len == 0)
		facts_unknown(p->facts, fact, "the system holds an empty text");
	else
		facts_set_textn(p->facts, fact, text_trim(text));
}

static void
probe_emitter(struct probe *p)
{
	facts_set_text(p->facts, FACT_EMITTER_VERSION, FLEETSTATE_VERSION);
	facts_set_text(p->facts, FACT_EMITTER_PRIVILEGES, source_denied(p->source) ? "reduced" : "full");
	facts_unknown(p->facts, FACT_EMITTER_SIGNING_KEY, "no signing key is open");
	facts_unknown(p->facts, FACT_EMITTER_RECEIPTS_AHEAD, "no receipts are heard");
}

/* The processor's description stays the same while this program runs. */
static void
read_cpuinfo(struct probe *p)
{
	struct slice text;

	if (p->cpuinfo.processors > 0)
		return;
	text = source_read(p->source, "proc/cpuinfo", SOURCE_FILE);
	cpuinfo_parse(text, &p->cpuinfo);
}

int
collect_sweep(struct collect *c, struct facts *facts, struct inventory *inventory)
{
	struct probe *p = &c->probe;

	facts_clear(facts);
	source_rewind(c->source);
	p->facts = facts;
	p->inventory = inventory;
	p->no_memory = false;
	os_release_read(p);
	read_cpuinfo(p);
	for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
		bool skip = probes[i].needs_live && !source_is_live(c->source);

		for (unsigned fact = probes[i].first; fact <= probes[i].last; fact++)
			facts_unknown(facts, (enum fact)fact, skip ? IMAGE : "not observed");
		if (!skip)
			probes[i].run(p);
	}
	return p->no_memory ? -1 : 0;
}
