#include <stdio.h>
#include <string.h>

#include "emitter/probes.h"
#include "emitter/verity.h"
#include "schema/topics.h"

#define EFIVARS "sys/firmware/efi/efivars/"
#define SECURE_BOOT EFIVARS "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define SETUP_MODE EFIVARS "SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c"
/* shim's "insecure mode": the loader does not check what it loads, and the kernel takes that for no secure boot. */
#define SHIM_INSECURE EFIVARS "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"

/* In the order of trust: a machine with UEFI has the others' directories too. */
static const struct {
	const char *path, *firmware;
} firmwares[] = {
	{"sys/firmware/efi", "uefi"},
	{"sys/firmware/devicetree/base", "device-tree"},
	{"sys/class/dmi/id", "bios"},
};

static void
firmware(struct probe *p)
{
	for (size_t i = 0; i < sizeof firmwares / sizeof firmwares[0]; i++) {
		if (!source_exists(p->source, firmwares[i].path))
			continue;
		facts_set_text(p->facts, FACT_BOOT_FIRMWARE, firmwares[i].firmware);
		return;
	}
	facts_unknown(p->facts, FACT_BOOT_FIRMWARE,
		      source_is_live(p->source) ? "neither UEFI, device tree nor DMI" : probe_why(p));
}

bool
efi_flag(struct slice variable, bool *out)
{
	if (variable.len != 5 || variable.at[4] > 1)
		return false;
	*out = variable.at[4] == 1;
	return true;
}

/* false, and why the fact is unknown. */
static bool
efi_variable(struct probe *p, enum fact fact, const char *path, bool *out)
{
	struct slice variable = source_read(p->source, path, SOURCE_ATTRIBUTE);

	if (variable.at && efi_flag(variable, out))
		return true;
	if (variable.at)
		facts_unknown(p->facts, fact, "the UEFI variable is malformed");
	else if (!source_missing(p->source))
		facts_unknown(p->facts, fact, source_why(p->source));
	else if (source_exists(p->source, "sys/firmware/efi"))
		facts_unknown(p->facts, fact, "no such UEFI variable");
	else
		facts_unknown(p->facts, fact, source_is_live(p->source) ? "not started by UEFI" : probe_why(p));
	return false;
}

/* Secure boot in setup mode, or behind a shim that does not check, enforces nothing. */
static void
secure_boot(struct probe *p)
{
	bool secure, setup, insecure = false;
	struct slice shim;

	if (efi_variable(p, FACT_BOOT_SETUP_MODE, SETUP_MODE, &setup))
		facts_set_bool(p->facts, FACT_BOOT_SETUP_MODE, setup);
	else
		setup = false;
	if (!efi_variable(p, FACT_BOOT_SECURE, SECURE_BOOT, &secure))
		return;
	shim = source_read(p->source, SHIM_INSECURE, SOURCE_ATTRIBUTE);
	if (shim.at && !efi_flag(shim, &insecure))
		insecure = true;
	facts_set_bool(p->facts, FACT_BOOT_SECURE, secure && !setup && !insecure);
}

bool
lockdown_parse(struct slice text, struct slice *mode)
{
	static const char *const modes[] = {"none", "integrity", "confidentiality"};
	struct slice word;

	while (text_word(&text, &word)) {
		if (word.len < 2 || word.at[0] != '[' || word.at[word.len - 1] != ']')
			continue;
		*mode = (struct slice){word.at + 1, word.len - 2};
		for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
			if (text_is(*mode, modes[i]))
				return true;
		return false;
	}
	return false;
}

/* Returns whether the kernel is locked down. */
static bool
lockdown(struct probe *p)
{
	struct slice text = source_read(p->source, "sys/kernel/security/lockdown", SOURCE_ATTRIBUTE), mode;

	if (!text.at) {
		facts_unknown(p->facts, FACT_BOOT_LOCKDOWN, probe_why(p));
		return false;
	}
	if (!lockdown_parse(text, &mode)) {
		facts_unknown(p->facts, FACT_BOOT_LOCKDOWN, "sys/kernel/security/lockdown is malformed");
		return false;
	}
	facts_set_textn(p->facts, FACT_BOOT_LOCKDOWN, mode);
	return !text_is(mode, "none");
}

/*
 * What weakens a system when it stands on the kernel's command line. A name that ends in "=" stands for any value; all others must be the whole
 * argument. `for_init` are also read behind "--", where only init looks.
 */
static const struct risk {
	const char *argument;
	bool for_init;
} risks[] = {
	{"init=", false},
	{"rdinit=", false},
	{"single", true},
	{"emergency", true},
	{"rescue", true},
	{"s", true},
	{"S", true},
	{"1", true},
	{"-b", true},
	{"systemd.unit=emergency.target", true},
	{"systemd.unit=rescue.target", true},
	{"systemd.debug_shell", true},
	{"systemd.debug_shell=", true},
	{"rd.break", false},
	{"rd.break=", false},
	{"rd.shell", false},
	{"rd.shell=1", false},
	{"mitigations=off", false},
	{"nopti", false},
	{"pti=off", false},
	{"nospectre_v1", false},
	{"nospectre_v2", false},
	{"spectre_v2=off", false},
	{"spectre_v2_user=off", false},
	{"spec_store_bypass_disable=off", false},
	{"l1tf=off", false},
	{"mds=off", false},
	{"tsx_async_abort=off", false},
	{"mmio_stale_data=off", false},
	{"retbleed=off", false},
	{"srbds=off", false},
	{"gather_data_sampling=off", false},
	{"reg_file_data_sampling=off", false},
	{"kpti=0", false},
	{"nokaslr", false},
	{"nosmep", false},
	{"nosmap", false},
	{"noexec=off", false},
	{"rodata=off", false},
	{"nobti", false},
	{"nopauth", false},
	{"iommu=off", false},
	{"intel_iommu=off", false},
	{"amd_iommu=off", false},
	{"iomem=relaxed", false},
	{"selinux=0", false},
	{"enforcing=0", false},
	{"apparmor=0", false},
	{"security=none", false},
	{"lockdown=none", false},
	{"audit=0", false},
	{"audit=off", false},
	{"module.sig_enforce=0", false},
	{"ima_appraise=off", false},
	{"ima_appraise=log", false},
	{"ima_appraise=fix", false},
	{"evm=fix", false},
	{"kgdboc=", false},
	{"kgdbwait", false},
	{"sysrq_always_enabled", false},
};

/* As the kernel compares names: "-" and "_" are the same in them. */
static bool
is_argument(struct slice argument, const char *risk)
{
	size_t len = strlen(risk);
	bool in_name = true;

	if (risk[len - 1] == '=' ? argument.len <= len : argument.len != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char a = (char)argument.at[i], b = risk[i];

		if (a != b && !(in_name && i > 0 && a == '-' && b == '_') &&
		    !(in_name && i > 0 && a == '_' && b == '-'))
			return false;
		in_name = in_name && b != '=';
	}
	return true;
}

/* Blanks within double quotes do not end an argument. */
static struct slice
next_argument(struct slice *line)
{
	struct slice argument;
	bool quoted = false;

	*line = text_trim(*line);
	argument.at = line->at;
	while (line->len > 0 && (quoted || (line->at[0] != ' ' && line->at[0] != '\t' && line->at[0] != '\n'))) {
		quoted = quoted != (line->at[0] == '"');
		line->at++, line->len--;
	}
	argument.len = (size_t)(line->at - argument.at);
	return argument;
}

/* The kernel takes quotes around the whole argument away, and those around its value. */
static void
unquote(struct slice argument, char out[LIMIT_TEXT + 1])
{
	size_t len = 0;

	for (size_t i = 0; i < argument.len && len < LIMIT_TEXT; i++)
		if (argument.at[i] != '"')
			out[len++] = (char)argument.at[i];
	out[len] = '\0';
}

void
command_line_risks(struct slice line, void (*risk)(void *, const char *), void *context)
{
	char plain[LIMIT_TEXT + 1];
	struct slice argument;
	bool for_init = false;

	while ((argument = next_argument(&line)).len > 0) {
		if (text_is(argument, "--")) {
			for_init = true;
			continue;
		}
		unquote(argument, plain);
		argument = (struct slice){(const uint8_t *)plain, strlen(plain)};
		for (size_t i = 0; i < sizeof risks / sizeof risks[0]; i++) {
			if ((for_init && !risks[i].for_init) || !is_argument(argument, risks[i].argument))
				continue;
			risk(context, plain);
			break;
		}
	}
}

static void
add_risk(void *context, const char *argument)
{
	facts_add_text(context, FACT_BOOT_RISKS, argument);
}

/* The digest is that of the file, so that anyone can compare it with sha256sum's. */
static void
command_line(struct probe *p)
{
	struct slice line = source_read(p->source, "proc/cmdline", SOURCE_ATTRIBUTE);
	uint8_t digest[DIGEST_SIZE];
	char hex[2 * DIGEST_SIZE + 1];

	if (!line.at) {
		facts_unknown(p->facts, FACT_BOOT_COMMAND_LINE, probe_why(p));
		facts_unknown(p->facts, FACT_BOOT_RISKS, probe_why(p));
		return;
	}
	sha256(line, digest);
	hex_print(digest, sizeof digest, hex);
	facts_set_text(p->facts, FACT_BOOT_COMMAND_LINE, hex);
	facts_begin_list(p->facts, FACT_BOOT_RISKS);
	command_line_risks(line, add_risk, p->facts);
}

/* A kernel in lockdown loads no unsigned module, whatever the parameter says. */
static void
module_signatures(struct probe *p, bool locked_down)
{
	struct slice text = source_read(p->source, "sys/module/module/parameters/sig_enforce", SOURCE_ATTRIBUTE);

	if (locked_down)
		facts_set_bool(p->facts, FACT_BOOT_MODULE_SIGNATURES, true);
	else if (text.at && text_is(text_trim(text), "Y"))
		facts_set_bool(p->facts, FACT_BOOT_MODULE_SIGNATURES, true);
	else if (text.at && text_is(text_trim(text), "N"))
		facts_set_bool(p->facts, FACT_BOOT_MODULE_SIGNATURES, false);
	else
		facts_unknown(p->facts, FACT_BOOT_MODULE_SIGNATURES,
			      text.at ? "sig_enforce is malformed" : probe_why(p));
}

void
probe_boot(struct probe *p)
{
	firmware(p);
	secure_boot(p);
	verity_observe(p);
	command_line(p);
	module_signatures(p, lockdown(p));
}
