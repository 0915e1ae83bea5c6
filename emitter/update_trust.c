#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/glob.h"
#include "emitter/update_apt.h"
#include "emitter/update_conf.h"
#include "emitter/updates.h"
#include "schema/cose.h"

#define KEY_FILES 256

/* What asks for no signature. */
static void
unsigned_source(struct updates *u, const char *format, struct slice what)
{
	char text[300];

	snprintf(text, sizeof text, format, (int)(what.len < 200 ? what.len : 200),
		 what.len ? (const char *)what.at : "");
	facts_add_text(u->probe->facts, FACT_UPDATE_UNSIGNED_SOURCES, text);
	u->unsigned_any = true;
}

static const struct slice nothing = {(const uint8_t *)"", 0};

/* ---- apt ---- */

static void
take_source(void *context, const struct apt_source *source)
{
	struct slice both = {source->uri.at, source->uri.len};
	char text[400];

	if (!source->trusted && !source->insecure)
		return;
	snprintf(text, sizeof text, "%.*s %.*s", (int)(both.len < 150 ? both.len : 150), (const char *)both.at,
		 (int)(source->suite.len < 40 ? source->suite.len : 40), (const char *)source->suite.at);
	unsigned_source(context, "apt %.*s", (struct slice){(const uint8_t *)text, strlen(text)});
}

static void
take_setting(void *context, const char *name, struct slice value)
{
	static const char *const loose[] = {"APT::Get::AllowUnauthenticated", "Acquire::AllowInsecureRepositories",
					    "Acquire::AllowWeakRepositories",
					    "Acquire::AllowDowngradeToInsecureRepositories"};

	for (size_t i = 0; i < sizeof loose / sizeof loose[0]; i++)
		if (strcasecmp(name, loose[i]) == 0 && apt_conf_is_yes(value))
			unsigned_source(context, "apt %.*s",
					(struct slice){(const uint8_t *)loose[i], strlen(loose[i])});
}

static void
trust_apt(struct updates *u)
{
	apt_each_source(u->probe, take_source, u);
	apt_each_setting(u->probe, take_setting, u);
}

/* ---- dnf: what a repository does not say is as [main] says, and there it is off unless it is on ---- */

struct repository {
	struct updates *updates;
	char id[128];
	bool enabled, checked, main_checked;
};

static void
end_repository(struct repository *r)
{
	if (r->id[0] && strcmp(r->id, "main") != 0 && r->enabled && !r->checked)
		unsigned_source(r->updates, "dnf %.*s", (struct slice){(const uint8_t *)r->id, strlen(r->id)});
}

static void
take_dnf(void *context, struct slice section, struct slice name, struct slice value)
{
	struct repository *r = context;

	if (!text_is(section, r->id)) {
		end_repository(r);
		snprintf(r->id, sizeof r->id, "%.*s", (int)(section.len < 127 ? section.len : 127),
			 (const char *)section.at);
		r->enabled = true;
		r->checked = r->main_checked;
	}
	if (text_is(name, "enabled"))
		r->enabled = apt_conf_is_yes(value);
	else if (text_is(name, "gpgcheck"))
		r->checked = apt_conf_is_yes(value);
	if (text_is(name, "gpgcheck") && text_is(section, "main"))
		r->main_checked = r->checked;
}

static bool
read_repository(void *context, const char *path)
{
	struct repository *r = context;

	sections_parse(source_read(r->updates->probe->source, path, SOURCE_FILE), take_dnf, r);
	end_repository(r);
	r->id[0] = '\0';
	return true;
}

static void
trust_dnf(struct updates *u)
{
	struct repository r = {.updates = u};
	static const char *const main_files[] = {"etc/dnf/dnf.conf", "etc/yum.conf"};

	for (size_t i = 0; i < 2; i++)
		if (source_exists(u->probe->source, main_files[i]))
			(void)read_repository(&r, main_files[i]);
	(void)!source_glob(u->probe->source, "etc/yum.repos.d/*.repo", 256, read_repository, &r);
}

/* ---- opkg, apk ---- */

struct opkg {
	struct updates *updates;
	struct opkg_conf conf;
	char feeds[16][64];
	size_t feeds_len;
};

static void
take_feed(void *context, struct slice name)
{
	struct opkg *o = context;

	if (o->feeds_len < 16)
		snprintf(o->feeds[o->feeds_len++], sizeof o->feeds[0], "%.*s", (int)(name.len < 63 ? name.len : 63),
			 (const char *)name.at);
}

static bool
read_opkg(void *context, const char *path)
{
	struct opkg *o = context;

	opkg_conf_parse(source_read(o->updates->probe->source, path, SOURCE_FILE), &o->conf, take_feed, o);
	return true;
}

static void
trust_opkg(struct updates *u)
{
	struct opkg o = {.updates = u};

	(void)read_opkg(&o, "etc/opkg.conf");
	(void)!source_glob(u->probe->source, "etc/opkg/*.conf", 64, read_opkg, &o);
	if (o.conf.check_signature)
		return;
	for (size_t i = 0; i < o.feeds_len; i++)
		unsigned_source(u, "opkg %.*s", (struct slice){(const uint8_t *)o.feeds[i], strlen(o.feeds[i])});
	if (o.feeds_len == 0)
		unsigned_source(u, "opkg%.*s", nothing);
}

static void
trust_apk(struct updates *u)
{
	struct slice text = source_read(u->probe->source, "etc/apk/config", SOURCE_FILE);

	if (text.at && memmem(text.at, text.len, "allow-untrusted", 15))
		unsigned_source(u, "apk allow-untrusted%.*s", nothing);
}

/* ---- whole images ---- */

static void
take_rauc(void *context, struct slice section, struct slice name, struct slice value)
{
	bool *keyring = context;

	if (text_is(section, "keyring") && (text_is(name, "path") || text_is(name, "directory")) && value.len > 0)
		*keyring = true;
}

static void
trust_rauc(struct updates *u)
{
	struct slice text = source_read(u->probe->source, "etc/rauc/system.conf", SOURCE_FILE);
	bool keyring = false;

	sections_parse(text, take_rauc, &keyring);
	if (!keyring)
		unsigned_source(u, "rauc without a keyring%.*s", nothing);
}

static void
trust_mender(struct updates *u)
{
	struct slice text = source_read(u->probe->source, "etc/mender/mender.conf", SOURCE_FILE), value;

	if (!text.at || (!quoted_value(text, "ArtifactVerifyKey", &value) &&
			 !memmem(text.at, text.len, "\"ArtifactVerifyKeys\"", 20)))
		unsigned_source(u, "mender artifacts%.*s", nothing);
	if (text.at && json_flag(text, "SkipVerify"))
		unsigned_source(u, "mender does not verify its server%.*s", nothing);
}

static void
trust_swupdate(struct updates *u)
{
	struct slice text = source_read(u->probe->source, "etc/swupdate.cfg", SOURCE_FILE), value;

	if (!text.at || (!quoted_value(text, "public-key-file", &value) && !quoted_value(text, "ca-path", &value)))
		unsigned_source(u, "swupdate images%.*s", nothing);
}

static void
take_ostree(void *context, struct slice section, struct slice name, struct slice value)
{
	if (text_begins(section, "remote ") && text_is(name, "gpg-verify") && !text_is(value, "true") &&
	    !text_is(value, "1"))
		unsigned_source(context, "ostree %.*s", section);
}

static bool
read_ostree(void *context, const char *path)
{
	struct updates *u = context;

	sections_parse(source_read(u->probe->source, path, SOURCE_FILE), take_ostree, u);
	return true;
}

static void
trust_ostree(struct updates *u)
{
	(void)read_ostree(u, "ostree/repo/config");
	(void)!source_glob(u->probe->source, "etc/ostree/remotes.d/*.conf", 64, read_ostree, u);
}

static void
take_fwupd(void *context, struct slice section, struct slice name, struct slice value)
{
	(void)section;
	if (text_is(name, "OnlyTrusted") && text_is(value, "false"))
		unsigned_source(context, "fwupd %.*s", (struct slice){(const uint8_t *)"OnlyTrusted=false", 17});
}

static void
trust_fwupd(struct updates *u)
{
	static const char *const files[] = {"etc/fwupd/daemon.conf", "etc/fwupd/fwupd.conf"};

	for (size_t i = 0; i < 2; i++)
		sections_parse(source_read(u->probe->source, files[i], SOURCE_FILE), take_fwupd, u);
}

static void (*const trust[UPDATERS])(struct updates *) = {
	[UPDATER_APT] = trust_apt,           [UPDATER_DNF] = trust_dnf,       [UPDATER_OPKG] = trust_opkg,
	[UPDATER_APK] = trust_apk,           [UPDATER_RAUC] = trust_rauc,     [UPDATER_MENDER] = trust_mender,
	[UPDATER_SWUPDATE] = trust_swupdate, [UPDATER_OSTREE] = trust_ostree, [UPDATER_FWUPD] = trust_fwupd,
};

void
updates_signatures(struct updates *u)
{
	bool any = false;

	facts_begin_list(u->probe->facts, FACT_UPDATE_UNSIGNED_SOURCES);
	for (unsigned i = 0; i < UPDATERS; i++) {
		if (u->has[i])
			trust[i](u);
		any = any || u->has[i];
	}
	if (any) {
		facts_set_bool(u->probe->facts, FACT_UPDATE_SIGNATURES_ENFORCED, !u->unsigned_any);
		return;
	}
	facts_unknown(u->probe->facts, FACT_UPDATE_UNSIGNED_SOURCES, NO_UPDATER);
	facts_unknown(u->probe->facts, FACT_UPDATE_SIGNATURES_ENFORCED, NO_UPDATER);
}

/* ---- keys ---- */

static const char *const key_files[] = {
	"etc/apk/keys/*",          "etc/apt/keyrings/*", "etc/apt/trusted.gpg",
	"etc/apt/trusted.gpg.d/*", "etc/mender/*.pem",   "etc/mender/*.key",
	"etc/opkg/gpg/*",          "etc/opkg/keys/*",    "etc/ostree/trusted.gpg.d/*",
	"etc/pki/fwupd/*.pem",     "etc/pki/rpm-gpg/*",  "etc/rauc/*.pem",
	"etc/rauc/*.crt",          "etc/swupdate/*.pem", "usr/share/keyrings/*",
};

struct keys {
	struct updates *updates;
	uint8_t digests[KEY_FILES][DIGEST_SIZE];
	size_t len;
	uint64_t n;
	bool failed;
};

static bool
read_keys(void *context, const char *path)
{
	struct keys *k = context;
	struct slice file = source_read(k->updates->probe->source, path, SOURCE_FILE);
	size_t n;

	if (!file.at) {
		k->failed = k->failed || !source_missing(k->updates->probe->source);
		return true;
	}
	n = update_keys_count(file);
	if (n == 0)
		return true;
	if (k->len == KEY_FILES) {
		k->failed = true;
		return false;
	}
	k->n += n;
	sha256(file, k->digests[k->len++]);
	return true;
}

void
updates_keys(struct updates *u)
{
	struct keys *k = calloc(1, sizeof *k);
	uint8_t digest[DIGEST_SIZE];
	char hex[2 * DIGEST_SIZE + 1];

	if (!k) {
		u->probe->no_memory = true;
		return;
	}
	k->updates = u;
	for (size_t i = 0; i < sizeof key_files / sizeof key_files[0]; i++)
		if (source_glob(u->probe->source, key_files[i], KEY_FILES, read_keys, k) < 0 &&
		    !source_missing(u->probe->source))
			k->failed = true;
	if (k->failed) {
		facts_unknown(u->probe->facts, FACT_UPDATE_KEYS, "not all files that may hold keys can be read");
		facts_unknown(u->probe->facts, FACT_UPDATE_KEYRING_SHA256,
			      "not all files that may hold keys can be read");
	} else {
		sha256((struct slice){k->digests[0], k->len * DIGEST_SIZE}, digest);
		for (size_t i = 0; i < DIGEST_SIZE; i++)
			snprintf(hex + 2 * i, 3, "%02x", digest[i]);
		facts_set_uint(u->probe->facts, FACT_UPDATE_KEYS, k->n);
		if (k->n > 0)
			facts_set_text(u->probe->facts, FACT_UPDATE_KEYRING_SHA256, hex);
		else
			facts_unknown(u->probe->facts, FACT_UPDATE_KEYRING_SHA256, "there are no keys");
	}
	free(k);
}

/* ---- who may ---- */

static const char *const guarded[] = {
	"etc/apk",
	"etc/apk/keys",
	"etc/apk/keys/*",
	"etc/apk/repositories",
	"etc/apt",
	"etc/apt/apt.conf.d",
	"etc/apt/apt.conf.d/*",
	"etc/apt/keyrings",
	"etc/apt/keyrings/*",
	"etc/apt/preferences.d",
	"etc/apt/sources.list",
	"etc/apt/sources.list.d",
	"etc/apt/sources.list.d/*",
	"etc/apt/trusted.gpg",
	"etc/apt/trusted.gpg.d",
	"etc/apt/trusted.gpg.d/*",
	"etc/dnf",
	"etc/dnf/dnf.conf",
	"etc/mender",
	"etc/mender/*",
	"etc/opkg",
	"etc/opkg/*",
	"etc/opkg.conf",
	"etc/opkg/keys/*",
	"etc/pki/rpm-gpg",
	"etc/pki/rpm-gpg/*",
	"etc/rauc",
	"etc/rauc/*",
	"etc/swupdate.cfg",
	"etc/yum.repos.d",
	"etc/yum.repos.d/*",
	"usr/share/keyrings",
	"usr/share/keyrings/*",
};

static bool
look_who_writes(void *context, const char *path)
{
	struct updates *u = context;
	struct stat st;
	char text[300];

	if (source_stat(u->probe->source, path, &st) < 0)
		return true;
	if (!(st.st_mode & 0022) && (!u->owner_known || st.st_uid == u->owner))
		return true;
	snprintf(text, sizeof text, "/%.200s can be written by others than root", path);
	facts_add_text(u->probe->facts, FACT_UPDATE_UNPRIVILEGED, text);
	return true;
}

/* A rule that says yes, and names what updates. */
static bool
look_at_rule(void *context, const char *path)
{
	static const char *const actions[] = {"org.freedesktop.packagekit", "org.freedesktop.fwupd",
					      "org.projectatomic.rpmostree1", "de.pengutronix.rauc"};
	struct updates *u = context;
	struct slice text = source_read(u->probe->source, path, SOURCE_FILE);
	bool yes = text.at && (memmem(text.at, text.len, "Result.YES", 10) || memmem(text.at, text.len, "=yes", 4));
	char line[300];

	for (size_t i = 0; yes && i < sizeof actions / sizeof actions[0]; i++) {
		if (!memmem(text.at, text.len, actions[i], strlen(actions[i])))
			continue;
		snprintf(line, sizeof line, "/%.150s allows %s", path, actions[i]);
		facts_add_text(u->probe->facts, FACT_UPDATE_UNPRIVILEGED, line);
	}
	return true;
}

/* An image that somebody unpacked belongs to who did it, so the owner of its root stands for root. */
void
updates_unprivileged(struct updates *u)
{
	static const char *const rules[] = {"etc/polkit-1/rules.d/*.rules", "etc/polkit-1/localauthority/*/*.pkla"};
	struct stat st;

	u->owner_known = source_stat(u->probe->source, ".", &st) == 0;
	u->owner = u->owner_known ? st.st_uid : 0;
	facts_begin_list(u->probe->facts, FACT_UPDATE_UNPRIVILEGED);
	for (size_t i = 0; i < sizeof guarded / sizeof guarded[0]; i++)
		(void)!source_glob(u->probe->source, guarded[i], 512, look_who_writes, u);
	for (size_t i = 0; i < 2; i++)
		(void)!source_glob(u->probe->source, rules[i], 256, look_at_rule, u);
}
