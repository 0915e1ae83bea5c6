/*
 * What the kernel says of itself: its modules, why it is tainted, what guards it, and what sysctl(8) will set. Pure.
 */
#ifndef FLEETSTATE_KERNEL_H
#define FLEETSTATE_KERNEL_H

#include <stdbool.h>

#include "schema/slice.h"

/* A line of /proc/modules. `taint` has the letters in brackets at its end: "OE"; empty if there are none. */
bool module_parse(struct slice line, struct slice *name, struct slice *taint) WARN_UNUSED;
/* Calls `take` with what each bit of /proc/sys/kernel/tainted means. */
void taint_names(uint64_t bits, void (*take)(void *, const char *), void *);
/* AppArmor's "/usr/sbin/chronyd (enforce)". */
bool profile_enforces(struct slice line);
/* Whether a policy of IMA has a rule that begins with this word. */
bool ima_policy_has(struct slice policy, const char *action);
/* "kernel.sysrq = 0" and "-kernel/sysrq=0": the last line for `name`, which is written with dots, counts. false: none. */
bool sysctl_find(struct slice text, const char *name, uint64_t *value) WARN_UNUSED;
/* Of kernel.sysrq's bits, those that let who sits at the keyboard see or end processes. */
bool sysrq_is_open(uint64_t value);
/* A line of the kernel's build configuration: is `option` y or m. */
bool kernel_config_has(struct slice text, const char *option, bool *set) WARN_UNUSED;

#endif
