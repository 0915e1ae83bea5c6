#include <stdio.h>
#include <string.h>

#include "emitter/boot_arguments.h"
#include "emitter/glob.h"
#include "emitter/kernel.h"
#include "emitter/measured.h"
#include "emitter/mounts.h"
#include "emitter/probes.h"

#define SECURITY "sys/kernel/security/"

/* The names of /proc/filesystems tell which of the security modules registered. */
static bool
has_file_system(struct probe *p, const char *name)
{
	struct slice text = source_read(p->source, "proc/filesystems", SOURCE_ATTRIBUTE), line, word;

	while (text.at && text_line(&text, &line))
		while (text_word(&line, &word))
			if (text_is(word, name))
				return true;
	return false;
}

static bool
lsm_lists(struct slice lsm, const char *name)
{
	return lsm.at && mount_option(text_trim(lsm), name);
}

static const char *
from_policy(struct slice policy)
{
	if (ima_policy_has(policy, "appraise"))
		return "appraise";
	return ima_policy_has(policy, "measure") ? "measure" : "none";
}

/* What the kernel was told at its start; a policy that was loaded later may do more. */
static const char *
ima_of_arguments(struct probe *p)
{
	bool log_only = boot_argument_is(p, "ima_appraise", "off log fix");

	if (!log_only && (boot_argument_is(p, "ima_policy", "appraise_tcb secure_boot tcb|appraise_tcb") ||
			  boot_argument_is(p, "ima_appraise", "enforce")))
		return "appraise";
	if (boot_argument_is(p, "ima_policy", "tcb critical_data tcb|appraise_tcb"))
		return "measure";
	return NULL;
}

/* The policy can be read only of kernels that were built so. Without one the kernel measures its own start alone: one entry. */
static void
ima(struct probe *p)
{
	static const char *const policies[] = {SECURITY "ima/policy", SECURITY "integrity/ima/policy",
					       "etc/ima/ima-policy", "etc/ima/ima_policy"};
	const char *found = ima_of_arguments(p);
	struct slice text;
	uint64_t count;

	for (size_t i = source_is_live(p->source) ? 0 : 2; i < (source_is_live(p->source) ? 2 : 4); i++) {
		text = source_read(p->source, policies[i], SOURCE_FILE);
		if (text.at)
			found = from_policy(text);
	}
	text = found ? (struct slice){NULL, 0}
		     : source_read(p->source, SECURITY "ima/runtime_measurements_count", SOURCE_ATTRIBUTE);
	if (text.at && text_number(text_trim(text), 10, &count))
		found = count > 1 ? "measure" : "none";
	if (found)
		facts_set_text(p->facts, FACT_INTEGRITY_IMA, found);
	else if (source_exists(p->source, SECURITY "lsm") && !source_exists(p->source, SECURITY "ima"))
		facts_set_text(p->facts, FACT_INTEGRITY_IMA, "none");
	else if (source_is_live(p->source))
		facts_unknown(p->facts, FACT_INTEGRITY_IMA,
			      source_exists(p->source, SECURITY "lsm") ? "the kernel's policy may not be read"
								       : "securityfs is not mounted");
	else if (source_exists(p->source, "etc"))
		facts_set_text(p->facts, FACT_INTEGRITY_IMA, "none");
	else
		facts_unknown(p->facts, FACT_INTEGRITY_IMA, "root is an image");
}

/* An image: what is configured, unless the kernel is told to leave it out. */
static const char *
mac_of_image(struct probe *p)
{
	struct slice text = source_read(p->source, "etc/selinux/config", SOURCE_FILE), line, key, value;
	const char *mode = NULL;

	while (text.at && text_line(&text, &line)) {
		if (!text_cut(line, '=', &key, &value) || !text_is(key, "SELINUX"))
			continue;
		mode = text_is(value, "enforcing")    ? "selinux-enforcing"
		       : text_is(value, "permissive") ? "selinux-permissive"
						      : NULL;
	}
	if (mode && boot_argument_is(p, "enforcing", "0"))
		mode = "selinux-permissive";
	if (mode && !boot_argument_is(p, "selinux", "0"))
		return mode;
	if (source_exists(p->source, "etc/systemd/system/sysinit.target.wants/apparmor.service") ||
	    source_exists(p->source, "etc/runlevels/boot/apparmor") ||
	    source_exists(p->source, "etc/rcS.d/S01apparmor"))
		return boot_argument_is(p, "apparmor", "0") ? "none" : "apparmor";
	return source_exists(p->source, "etc") ? "none" : NULL;
}

/* SELinux without a policy loaded guards nothing; then its file system is not mounted. */
static const char *
mac_of_kernel(struct probe *p)
{
	struct slice enforce = source_read(p->source, "sys/fs/selinux/enforce", SOURCE_ATTRIBUTE), lsm, enabled;

	if (enforce.at)
		return text_is(text_trim(enforce), "1") ? "selinux-enforcing" : "selinux-permissive";
	enabled = source_read(p->source, "sys/module/apparmor/parameters/enabled", SOURCE_ATTRIBUTE);
	if (enabled.at && text_is(text_trim(enabled), "Y"))
		return "apparmor";
	lsm = source_read(p->source, SECURITY "lsm", SOURCE_ATTRIBUTE);
	if (lsm_lists(lsm, "apparmor"))
		return "apparmor";
	if (lsm_lists(lsm, "smack"))
		return "smack";
	if (lsm_lists(lsm, "tomoyo"))
		return "tomoyo";
	if (lsm.at)
		return "none";
	if (!source_is_live(p->source))
		return mac_of_image(p);
	if (has_file_system(p, "smackfs"))
		return "smack";
	return source_exists(p->source, "proc/filesystems") ? "none" : NULL;
}

static void
confined(struct probe *p)
{
	struct slice text = source_read(p->source, SECURITY "apparmor/profiles", SOURCE_FILE), line;
	uint64_t n = 0;

	if (!text.at) {
		facts_unknown(p->facts, FACT_INTEGRITY_CONFINED, probe_why(p));
		return;
	}
	while (text_line(&text, &line))
		n += profile_enforces(line);
	facts_set_uint(p->facts, FACT_INTEGRITY_CONFINED, n);
}

static void
mac(struct probe *p)
{
	const char *found = mac_of_kernel(p);

	if (found)
		facts_set_text(p->facts, FACT_INTEGRITY_MAC, found);
	else
		facts_unknown(p->facts, FACT_INTEGRITY_MAC,
			      source_is_live(p->source) ? "no proc/filesystems" : "root is an image");
	if (found && strcmp(found, "apparmor") == 0)
		confined(p);
	else
		facts_unknown(p->facts, FACT_INTEGRITY_CONFINED, "AppArmor is not in use");
}

static void
add_taint(void *context, const char *name)
{
	facts_add_text(context, FACT_INTEGRITY_TAINT, name);
}

static void
taint(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/sys/kernel/tainted", SOURCE_ATTRIBUTE);
	uint64_t bits;

	if (!text.at) {
		facts_unknown(p->facts, FACT_INTEGRITY_TAINT, probe_why(p));
	} else if (!text_number(text_trim(text), 10, &bits)) {
		facts_unknown(p->facts, FACT_INTEGRITY_TAINT, "proc/sys/kernel/tainted is malformed");
	} else {
		facts_begin_list(p->facts, FACT_INTEGRITY_TAINT);
		taint_names(bits, add_taint, p->facts);
	}
}

static bool
is_foreign(struct slice taints)
{
	for (size_t i = 0; i < taints.len; i++)
		if (strchr("OEF", taints.at[i]))
			return true;
	return false;
}

static void
unsigned_modules(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/modules", SOURCE_FILE), line, name, taints;
	char shown[128];

	if (!text.at && !probe_loads_no_modules(p)) {
		facts_unknown(p->facts, FACT_INTEGRITY_UNSIGNED_MODULES, probe_why(p));
		return;
	}
	facts_begin_list(p->facts, FACT_INTEGRITY_UNSIGNED_MODULES);
	while (text.at && text_line(&text, &line)) {
		if (!module_parse(line, &name, &taints) || !is_foreign(taints))
			continue;
		snprintf(shown, sizeof shown, "%.*s (%.*s)", (int)(name.len < 64 ? name.len : 64),
			 (const char *)name.at, (int)(taints.len < 16 ? taints.len : 16), (const char *)taints.at);
		facts_add_text(p->facts, FACT_INTEGRITY_UNSIGNED_MODULES, shown);
	}
}

/* Settings of the running kernel; of an image, what its sysctl.d will set. */
struct setting {
	struct probe *probe;
	const char *name;
	uint64_t value;
	bool known;
};

static bool
take_sysctl(void *context, const char *path)
{
	struct setting *setting = context;
	struct slice text = source_read(setting->probe->source, path, SOURCE_FILE);
	uint64_t value;

	if (text.at && sysctl_find(text, setting->name, &value)) {
		setting->value = value;
		setting->known = true;
	}
	return true;
}

static bool
setting(struct probe *p, const char *name, uint64_t *value)
{
	static const char *const patterns[] = {"lib/sysctl.d/*.conf", "usr/lib/sysctl.d/*.conf", "etc/sysctl.d/*.conf"};
	struct setting setting = {.probe = p, .name = name};
	char path[96];
	struct slice text;

	snprintf(path, sizeof path, "proc/sys/%s", name);
	for (char *dot = path + 9; (dot = strchr(dot, '.')); *dot = '/')
		;
	text = source_read(p->source, path, SOURCE_ATTRIBUTE);
	if (text.at)
		return text_number(text_trim(text), 10, value);
	if (source_is_live(p->source))
		return false;
	for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
		(void)!source_glob(p->source, patterns[i], 1024, take_sysctl, &setting);
	(void)take_sysctl(&setting, "etc/sysctl.conf");
	*value = setting.value;
	return setting.known;
}

/* The build configuration of the running kernel, where it lies in a file. */
static bool
strict_devmem(struct probe *p, bool *strict)
{
	struct slice release = text_trim(source_read(p->source, "proc/sys/kernel/osrelease", SOURCE_ATTRIBUTE)), text;
	char path[128];

	if (!release.at || release.len > 64 || memchr(release.at, '/', release.len))
		return false;
	snprintf(path, sizeof path, "boot/config-%.*s", (int)release.len, (const char *)release.at);
	text = source_read(p->source, path, SOURCE_FILE);
	return text.at && kernel_config_has(text, "CONFIG_STRICT_DEVMEM", strict);
}

static bool
debugfs_is_mounted(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/self/mountinfo", SOURCE_FILE), line;
	struct mount mount;

	while (text.at && text_line(&text, &line))
		if (mount_parse(line, &mount) && text_is(mount.type, "debugfs"))
			return true;
	return false;
}

/* A kernel in lockdown keeps root from kexec, /dev/mem, kgdb and most of debugfs. Without Yama everybody may trace his own processes. */
static void
debugging(struct probe *p)
{
	const char *lockdown = facts_text(p->facts, FACT_BOOT_LOCKDOWN);
	bool locked = lockdown && strcmp(lockdown, "none") != 0, live = source_is_live(p->source), strict = true;
	bool sysrq, kexec, ptrace;
	uint64_t value;
	struct slice text;

	facts_begin_list(p->facts, FACT_INTEGRITY_DEBUGGING);
	text = source_read(p->source, "sys/module/kgdboc/parameters/kgdboc", SOURCE_ATTRIBUTE);
	if (!locked && text_trim(text).len > 0)
		facts_add_text(p->facts, FACT_INTEGRITY_DEBUGGING, "kgdb");
	kexec = setting(p, "kernel.kexec_load_disabled", &value);
	if (!locked && kexec && value == 0)
		facts_add_text(p->facts, FACT_INTEGRITY_DEBUGGING, "kexec");
	if (live && !locked && source_exists(p->source, "dev/mem") && strict_devmem(p, &strict) && !strict)
		facts_add_text(p->facts, FACT_INTEGRITY_DEBUGGING, "/dev/mem");
	sysrq = setting(p, "kernel.sysrq", &value);
	if (sysrq && sysrq_is_open(value))
		facts_add_text(p->facts, FACT_INTEGRITY_DEBUGGING, "sysrq");
	ptrace = setting(p, "kernel.yama.ptrace_scope", &value);
	if (ptrace ? value == 0 : live)
		facts_add_text(p->facts, FACT_INTEGRITY_DEBUGGING, "ptrace");
	if (!locked && debugfs_is_mounted(p))
		facts_add_text(p->facts, FACT_INTEGRITY_DEBUGGING, "debugfs");
	if (!live && !(kexec && sysrq && ptrace))
		facts_unknown(p->facts, FACT_INTEGRITY_DEBUGGING,
			      "root is an image that does not set kexec, sysrq and ptrace_scope");
	else if (live && !source_exists(p->source, "proc/sys/kernel"))
		facts_unknown(p->facts, FACT_INTEGRITY_DEBUGGING, "no proc/sys/kernel");
}

void
probe_integrity(struct probe *p)
{
	ima(p);
	mac(p);
	taint(p);
	unsigned_modules(p);
	debugging(p);
	measured_observe(p);
}
