#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/glob.h"
#include "emitter/probes.h"
#include "emitter/volumes.h"

#define MODULES_MAX 64
#define EMMC_4_5 6 /* EXT_CSD_REV from which an eMMC can sanitize */
#define IMAGE "root is an image"

/* ---- volumes ---- */

static bool
is_listed(const struct volume *v, enum cover cover)
{
	return !v->swap && v->cover == cover && (cover != COVER_PLAIN || v->writable);
}

static void
list_volumes(struct probe *p, enum fact fact, const struct volumes *v, enum cover cover)
{
	char why[LIMIT_SENT_WHY + 1];

	if (v->why[0]) {
		facts_unknown(p->facts, fact, v->why);
		return;
	}
	facts_begin_list(p->facts, fact);
	for (size_t i = 0; i < v->len; i++)
		if (is_listed(&v->at[i], cover))
			facts_add_text(p->facts, fact, v->at[i].point);
	for (size_t i = 0; i < v->len && cover == COVER_PLAIN; i++) {
		if (!is_listed(&v->at[i], COVER_UNKNOWN))
			continue;
		snprintf(why, sizeof why, "nothing tells whether %.60s is encrypted", v->at[i].point);
		facts_unknown(p->facts, fact, why);
		return;
	}
}

static void
state_swap(struct probe *p, const struct volumes *v)
{
	bool plain = false, unknown = false;

	if (v->swap_why[0]) {
		facts_unknown(p->facts, FACT_DATA_PLAIN_SWAP, v->swap_why);
		return;
	}
	for (size_t i = 0; i < v->len; i++) {
		plain = plain || (v->at[i].swap && v->at[i].cover == COVER_PLAIN);
		unknown = unknown || (v->at[i].swap && v->at[i].cover == COVER_UNKNOWN);
	}
	if (!plain && unknown)
		facts_unknown(p->facts, FACT_DATA_PLAIN_SWAP, "nothing tells whether the swap is encrypted");
	else
		facts_set_bool(p->facts, FACT_DATA_PLAIN_SWAP, plain);
}

/* ---- making data unreadable ---- */

enum sanitize { SANITIZE_NO, SANITIZE_YES, SANITIZE_UNKNOWN };

/* What sysfs tells of the disk: a virtual one can't; of an eMMC its revision says so; NVMe, SATA and SCSI only answer when they are asked. */
static enum sanitize
can_sanitize(struct source *source, const struct volume *v)
{
	char disk[64], path[96];
	struct slice text;
	uint64_t revision;

	if (v->major == 0)
		return SANITIZE_NO;
	snprintf(path, sizeof path, "sys/dev/block/%u:%u/partition", v->major, v->minor);
	snprintf(disk, sizeof disk, "sys/dev/block/%u:%u%s", v->major, v->minor,
		 source_exists(source, path) ? "/.." : "");
	snprintf(path, sizeof path, "%s/device/type", disk);
	text = text_trim(source_read(source, path, SOURCE_ATTRIBUTE));
	if (!text.at || !text_is(text, "MMC")) {
		snprintf(path, sizeof path, "%s/device/vendor", disk);
		text = text_trim(source_read(source, path, SOURCE_ATTRIBUTE));
		return text.at && text_begins(text, "0x") ? SANITIZE_NO : SANITIZE_UNKNOWN;
	}
	snprintf(path, sizeof path, "%s/device/rev", disk);
	text = text_trim(source_read(source, path, SOURCE_ATTRIBUTE));
	if (!text_begins(text, "0x") || !text_number((struct slice){text.at + 2, text.len - 2}, 16, &revision))
		return SANITIZE_UNKNOWN;
	return revision >= EMMC_4_5 ? SANITIZE_YES : SANITIZE_NO;
}

/* The boot partition is in the clear on every encrypted system, and holds nobody's data. */
static bool
is_boot(const char *point)
{
	return strcmp(point, "/boot") == 0 || strncmp(point, "/boot/", 6) == 0 || strcmp(point, "/efi") == 0;
}

static void
state_wipe(struct probe *p, const struct volumes *v)
{
	const char *declared = p->declared ? p->declared->wipe : NULL;
	size_t encrypted = 0, plain = 0, sanitizable = 0, unknown = 0;
	enum sanitize can;

	for (size_t i = 0; i < v->len; i++) {
		if (v->at[i].swap || v->at[i].cover == COVER_MEMORY || is_boot(v->at[i].point))
			continue;
		encrypted += v->at[i].cover == COVER_ENCRYPTED;
		unknown += v->at[i].cover == COVER_UNKNOWN;
		if (!is_listed(&v->at[i], COVER_PLAIN))
			continue;
		plain++;
		can = source_is_live(p->source) ? can_sanitize(p->source, &v->at[i]) : SANITIZE_UNKNOWN;
		sanitizable += can == SANITIZE_YES;
		unknown += can == SANITIZE_UNKNOWN;
	}
	if (!v->why[0] && encrypted > 0 && plain == 0 && unknown == 0)
		facts_set_text(p->facts, FACT_DATA_WIPE, "crypto-erase");
	else if (!v->why[0] && plain > 0 && sanitizable == plain && unknown == 0)
		facts_set_text(p->facts, FACT_DATA_WIPE, "sanitize");
	else if (declared && declared[0])
		facts_set_text(p->facts, FACT_DATA_WIPE, "declared");
	else if (v->why[0])
		facts_unknown(p->facts, FACT_DATA_WIPE, v->why);
	else if (unknown > 0)
		facts_unknown(p->facts, FACT_DATA_WIPE,
			      source_is_live(p->source) ? "nothing tells whether the disks can be sanitized" : IMAGE);
	else
		facts_set_text(p->facts, FACT_DATA_WIPE, "none");
}

/* ---- keys ---- */

static void
state_fips(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/sys/crypto/fips_enabled", SOURCE_ATTRIBUTE);

	if (text.at)
		facts_set_bool(p->facts, FACT_DATA_FIPS, text_is(text_trim(text), "1"));
	else if (source_is_live(p->source) && source_missing(p->source) && source_exists(p->source, "proc/sys/kernel"))
		facts_set_bool(p->facts, FACT_DATA_FIPS, false); /* the kernel was built without */
	else
		facts_unknown(p->facts, FACT_DATA_FIPS, probe_why(p));
}

static bool
add_module(void *context, const char *path)
{
	struct probe *p = context;
	const char *name = strrchr(path, '/');
	char text[128];

	name = name ? name + 1 : path;
	/* Trusted certificates, no keys. */
	if (strcmp(name, "p11-kit-trust.module") == 0)
		return true;
	snprintf(text, sizeof text, "pkcs11 %.*s", (int)(strlen(name) < 100 ? strlen(name) - strlen(".module") : 100),
		 name);
	facts_add_text(p->facts, FACT_DATA_KEY_STORES, text);
	return true;
}

static void
state_key_stores(struct probe *p)
{
	static const char *const modules[] = {"etc/pkcs11/modules/*.module", "usr/share/p11-kit/modules/*.module"};
	bool live = source_is_live(p->source), failed = false;

	if (!live && !source_exists(p->source, "usr")) {
		facts_unknown(p->facts, FACT_DATA_KEY_STORES, source_why(p->source));
		return;
	}
	facts_begin_list(p->facts, FACT_DATA_KEY_STORES);
	for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
		failed = source_glob(p->source, modules[i], MODULES_MAX, add_module, p) < 0 || failed;
	if (live && source_exists(p->source, "sys/class/tpm/tpm0"))
		facts_add_text(p->facts, FACT_DATA_KEY_STORES, "tpm");
	if (live && (source_exists(p->source, "sys/class/tee/tee0") || source_exists(p->source, "dev/tee0")))
		facts_add_text(p->facts, FACT_DATA_KEY_STORES, "tee");
	if (failed)
		facts_unknown(p->facts, FACT_DATA_KEY_STORES, "the PKCS #11 modules can't be listed");
}

void
probe_data(struct probe *p)
{
	struct volumes *volumes = malloc(sizeof *volumes);

	if (!volumes) {
		p->no_memory = true;
		return;
	}
	volumes_read(p->source, volumes);
	list_volumes(p, FACT_DATA_ENCRYPTED_VOLUMES, volumes, COVER_ENCRYPTED);
	list_volumes(p, FACT_DATA_PLAIN_VOLUMES, volumes, COVER_PLAIN);
	state_swap(p, volumes);
	state_wipe(p, volumes);
	free(volumes);
	state_fips(p);
	state_key_stores(p);
}
