#include "emitter/collect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/measured.h"
#include "emitter/monitor.h"
#include "emitter/probes.h"

/* One subject each. The last one tells what the others were refused. */
static const struct {
	const char *name;
	void (*run)(struct probe *);
	bool needs_live; /* asks the kernel itself, which says nothing of an image */
	enum fact first, last;
} probes[] = {
	{"identity", probe_identity, false, FACT_DEVICE_SERIAL, FACT_DEVICE_HOSTNAME},
	{"tpm", probe_tpm, false, FACT_DEVICE_ENDORSEMENT_KEY_SHA256, FACT_DEVICE_PERMANENT_MACS},
	{"hardware", probe_hardware, false, FACT_HARDWARE_ARCHITECTURE, FACT_HARDWARE_RNG},
	{"os", probe_os, false, FACT_OS_ID, FACT_OS_MODULES},
	{"boot", probe_boot, false, FACT_BOOT_FIRMWARE, FACT_BOOT_VERITY},
	{"packages", probe_packages, false, FACT_PACKAGES_MANAGER, FACT_PACKAGES_LISTED},
	{"interfaces", probe_interfaces, false, FACT_INTERFACES_NETWORK, FACT_INTERFACES_UNEXPECTED_SOCKETS},
	{"ports", probe_ports, false, FACT_INTERFACES_SERIAL_CONSOLES, FACT_INTERFACES_RADIOS},
	{"firewall", probe_firewall, false, FACT_INTERFACES_FIREWALL, FACT_INTERFACES_FIREWALL_INPUT},
	{"clock", probe_clock, false, FACT_CLOCK_SYNCHRONISED, FACT_CLOCK_MAX_ERROR},
	{"updaters", probe_updaters, false, FACT_UPDATE_MECHANISMS, FACT_UPDATE_MECHANISMS},
	{"pending", probe_pending, false, FACT_UPDATE_PENDING, FACT_UPDATE_PENDING_NAMES},
	{"update", probe_update, false, FACT_UPDATE_CHECKED, FACT_UPDATE_NOTIFICATION},
	{"configuration", probe_configuration, false, FACT_CONFIGURATION_FILES, FACT_CONFIGURATION_BASELINE_SIGNED},
	{"packaged", probe_packaged, false, FACT_CONFIGURATION_PACKAGED_CHANGED, FACT_CONFIGURATION_PACKAGED_CHANGED},
	{"authority", probe_authority, false, FACT_CONFIGURATION_LOOSE, FACT_CONFIGURATION_ADMINISTRATORS},
	{"restore", probe_restore, false, FACT_CONFIGURATION_WRITABLE, FACT_CONFIGURATION_RESTORE},
	{"access", probe_access, false, FACT_ACCESS_ACCOUNTS, FACT_ACCESS_SSH_MATCH},
	{"logins", probe_logins, true, FACT_ACCESS_FAILED_LOGINS, FACT_ACCESS_FAILED_LOGINS},
	{"data", probe_data, false, FACT_DATA_ENCRYPTED_VOLUMES, FACT_DATA_KEY_STORES},
	{"cryptography", probe_cryptography, false, FACT_DATA_CRYPTO_LIBRARY, FACT_DATA_CRYPTO_POLICY},
	{"integrity", probe_integrity, false, FACT_INTEGRITY_IMA, FACT_INTEGRITY_PACKAGED_ALTERED},
	{"health", probe_health, false, FACT_HEALTH_FAILED_UNITS, FACT_HEALTH_OOM_KILLS},
	{"forwarding", probe_forwarding, false, FACT_EMITTER_LOG_FORWARDING, FACT_EMITTER_LOG_FORWARDING},
	{"declared", probe_declared, false, FACT_DECLARED_FACTS, FACT_DECLARED_FACTS},
	{"emitter", probe_self, false, FACT_EMITTER_VERSION, FACT_EMITTER_TRANSPORT},
};
#define PROBES (sizeof probes / sizeof probes[0])

struct collect {
	struct source *source;
	struct facts *facts;
	struct inventory inventory;
	struct source_trace traces[PROBES]; /* what each looked at when it last ran */
	struct os_release release; /* what they ran with */
	struct settings image_settings; /* of the emitter that lies in an image */
	struct self image;
	struct probe probe;
};

struct collect *
collect_new(const char *root, const struct declared *declared)
{
	struct collect *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->source = source_new(root);
	c->facts = c->source ? facts_new() : NULL;
	if (!c->facts) {
		int error = errno;

		collect_free(c);
		errno = error;
		return NULL;
	}
	c->probe.source = c->source;
	c->probe.facts = c->facts;
	c->probe.inventory = &c->inventory;
	c->probe.declared = declared;
	return c;
}

void
collect_free(struct collect *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < PROBES; i++)
		source_trace_free(&c->traces[i]);
	settings_free(&c->image_settings);
	free(c->probe.said);
	measured_free(c->probe.measured);
	facts_free(c->facts);
	free(c->inventory.encoded);
	source_free(c->source);
	free(c);
}

const char *
probe_why(const struct probe *p)
{
	return source_is_live(p->source) || !source_missing(p->source) ? source_why(p->source) : COLLECT_IMAGE;
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

/* An image has an emitter of its own, whose settings lie in it. */
static void
read_image_self(struct collect *c)
{
	struct probe *p = &c->probe;
	struct slice text = source_read(c->source, SELF_CONFIGURATION, SOURCE_ATTRIBUTE);
	FILE *stream = text.len > 0 ? fmemopen((void *)(uintptr_t)text.at, text.len, "r") : NULL;

	p->self = NULL;
	settings_free(&c->image_settings);
	snprintf(p->self_why, sizeof p->self_why, "%s",
		 text.at ? SELF_CONFIGURATION " is not valid" : source_why(c->source));
	if (!stream)
		return;
	if (settings_read(&c->image_settings, SELF_CONFIGURATION, stream) == 0) {
		c->image = (struct self){.settings = &c->image_settings, .configuration = "/" SELF_CONFIGURATION};
		p->self = &c->image;
	}
	fclose(stream);
}

void
collect_forget(struct collect *c)
{
	for (size_t i = 0; i < PROBES; i++)
		c->traces[i].transient = true;
}

struct facts *
collect_facts(struct collect *c)
{
	return c->facts;
}

static void
run_probe(struct collect *c, size_t i)
{
	bool skip = probes[i].needs_live && !source_is_live(c->source);

	for (unsigned fact = probes[i].first; fact <= probes[i].last; fact++)
		facts_unknown(c->facts, (enum fact)fact, skip ? COLLECT_IMAGE : "not observed");
	if (skip)
		return;
	source_trace_begin(c->source, &c->traces[i]);
	probes[i].run(&c->probe);
	if (c->probe.no_memory)
		source_trace_transient(c->source);
	source_trace_end(c->source);
}

int
collect_sweep(struct collect *c, struct inventory *inventory)
{
	struct probe *p = &c->probe;

	source_rewind(c->source);
	p->no_memory = false;
	if (source_is_live(c->source))
		p->self = p->declared ? p->declared->self : NULL;
	else
		read_image_self(c);
	os_release_read(p);
	read_cpuinfo(p);
	if (memcmp(&c->release, &p->release, sizeof c->release) != 0)
		collect_forget(c);
	c->release = p->release;
	for (size_t i = 0; i < PROBES; i++) {
		if (source_trace_holds(c->source, &c->traces[i]))
			source_add_denied(c->source, c->traces[i].denied);
		else
			run_probe(c, i);
	}
	monitor_judge(c->facts, p->self ? p->self->settings->declare_elements : NULL);
	*inventory = c->inventory;
	return p->no_memory ? -1 : 0;
}
