#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emitter/dpkg.h"
#include "emitter/glob.h"
#include "emitter/update_apt.h"
#include "emitter/update_conf.h"
#include "emitter/updates.h"

#define STATUS_MAX (128 * 1024 * 1024)

/* Each by any of its files; a package manager by its program, since its databases may be there for another's sake. */
static const struct {
	const char *name;
	const char *paths[5];
} updaters[UPDATERS] = {
	[UPDATER_APT] = {"apt", {"usr/bin/apt-get", "usr/bin/apt"}},
	[UPDATER_DNF] = {"dnf", {"usr/bin/dnf", "usr/bin/yum", "usr/bin/microdnf", "usr/bin/dnf5"}},
	[UPDATER_OPKG] = {"opkg", {"bin/opkg", "usr/bin/opkg", "etc/opkg.conf"}},
	[UPDATER_APK] = {"apk", {"sbin/apk", "usr/bin/apk", "etc/apk/repositories"}},
	[UPDATER_RAUC] = {"rauc", {"usr/bin/rauc", "etc/rauc/system.conf"}},
	[UPDATER_MENDER] = {"mender", {"usr/bin/mender", "usr/bin/mender-update", "etc/mender/mender.conf"}},
	[UPDATER_SWUPDATE] = {"swupdate", {"usr/bin/swupdate", "etc/swupdate.cfg"}},
	[UPDATER_OSTREE] = {"ostree", {"ostree/repo/config", "usr/bin/rpm-ostree"}},
	[UPDATER_FWUPD] = {"fwupd", {"usr/libexec/fwupd/fwupd", "usr/lib/fwupd/fwupd"}},
};

static bool
find_updaters(struct probe *p, struct updates *u)
{
	bool any = false;

	memset(u, 0, sizeof *u);
	u->probe = p;
	for (size_t i = 0; i < UPDATERS; i++) {
		for (size_t j = 0; j < 5 && updaters[i].paths[j] && !u->has[i]; j++)
			u->has[i] = source_exists(p->source, updaters[i].paths[j]);
		any = any || u->has[i];
	}
	return any;
}

void
probe_updaters(struct probe *p)
{
	struct updates u;

	(void)find_updaters(p, &u);
	facts_begin_list(p->facts, FACT_UPDATE_MECHANISMS);
	for (size_t i = 0; i < UPDATERS; i++)
		if (u.has[i])
			facts_add_text(p->facts, FACT_UPDATE_MECHANISMS, updaters[i].name);
}

/* ---- when ---- */

struct newest {
	struct probe *probe;
	uint64_t at;
};

static bool
look_when(void *context, const char *path)
{
	struct newest *newest = context;
	struct stat st;

	if (source_stat(newest->probe->source, path, &st) == 0 && st.st_mtime > 0 && (uint64_t)st.st_mtime > newest->at)
		newest->at = (uint64_t)st.st_mtime;
	return true;
}

static void
tell_newest(struct probe *p, enum fact fact, const char *const *patterns, const char *why)
{
	struct newest newest = {.probe = p};

	for (; *patterns; patterns++)
		(void)!source_glob(p->source, *patterns, 4096, look_when, &newest);
	if (newest.at > 0)
		facts_set_uint(p->facts, fact, newest.at);
	else
		facts_unknown(p->facts, fact, why);
}

/* apt leaves a list as it is when there is no newer one, but always clears the directory that it fetches into. */
static void
tell_times(struct probe *p)
{
	static const char *const fetched[] = {"var/lib/apt/lists/*Release",
					      "var/lib/apt/periodic/update-success-stamp",
					      "var/cache/apk/APKINDEX*",
					      "etc/apk/cache/APKINDEX*",
					      "var/opkg-lists/*",
					      "var/lib/opkg/lists/*",
					      "var/cache/dnf/*.solv",
					      "var/cache/dnf/*/repodata/repomd.xml",
					      "var/cache/libdnf5/*/repodata/repomd.xml",
					      NULL};
	static const char *const lists_dir[] = {"var/lib/apt/lists/*Release", "var/lib/apt/lists/partial", NULL};
	static const char *const changed[] = {"var/lib/dpkg/status",
					      "usr/lib/opkg/status",
					      "var/lib/opkg/status",
					      "lib/apk/db/installed",
					      "usr/lib/apk/db/installed",
					      "usr/lib/sysimage/rpm/rpmdb.sqlite",
					      "usr/lib/sysimage/rpm/Packages.db",
					      "var/lib/rpm/rpmdb.sqlite",
					      "var/lib/rpm/Packages.db",
					      "var/lib/rpm/Packages",
					      "var/lib/rauc/central.raucs",
					      "data/central.raucs",
					      "var/lib/mender/mender-store",
					      "ostree/deploy/*/deploy/*",
					      NULL};
	struct newest any = {.probe = p};

	(void)!source_glob(p->source, "var/lib/apt/lists/*Release", 4096, look_when, &any);
	tell_newest(p, FACT_UPDATE_CHECKED, any.at ? lists_dir : fetched, "no lists were fetched");
	tell_newest(p, FACT_UPDATE_LAST_SUCCESS, changed, "nothing here tells when something was installed");
}

/* ---- what is held ---- */

static void
take_held(void *context, const struct dpkg_package *package)
{
	struct probe *p = context;
	char name[256];

	if (package->condition == DPKG_GONE || !package->held)
		return;
	snprintf(name, sizeof name, "%.*s",
		 (int)(package->component.name.len < 255 ? package->component.name.len : 255),
		 (const char *)package->component.name.at);
	facts_add_text(p->facts, FACT_UPDATE_HELD, name);
}

static bool
feed(void *context, struct slice piece)
{
	dpkg_feed(context, piece);
	return true;
}

/* A line that pins a version or a repository: "name=1.2", "name<2", "name@edge". */
static void
take_world(struct probe *p, struct slice text)
{
	struct slice word;
	char name[256];

	while (text_word(&text, &word)) {
		for (size_t i = 0; i < word.len; i++) {
			if (!strchr("=<>~@", word.at[i]) || word.at[i] == '\0')
				continue;
			snprintf(name, sizeof name, "%.*s", (int)(i < 255 ? i : 255), (const char *)word.at);
			facts_add_text(p->facts, FACT_UPDATE_HELD, name);
			break;
		}
	}
}

static void
take_locks(struct probe *p, struct slice text)
{
	struct slice line;
	char name[256];

	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#' || line.at[0] == '!')
			continue;
		snprintf(name, sizeof name, "%.*s", (int)(line.len < 255 ? line.len : 255), (const char *)line.at);
		facts_add_text(p->facts, FACT_UPDATE_HELD, name);
	}
}

static void
tell_held(struct probe *p)
{
	static const char *const status[] = {"var/lib/dpkg/status", "usr/lib/opkg/status", "var/lib/opkg/status"};
	static const char *const locks[] = {"etc/dnf/plugins/versionlock.list",
					    "etc/yum/pluginconf.d/versionlock.list"};
	bool read = false, any = false;
	struct dpkg *dpkg;

	facts_begin_list(p->facts, FACT_UPDATE_HELD);
	for (size_t i = 0; i < 3 && !read; i++) {
		any = any || source_exists(p->source, status[i]);
		dpkg = dpkg_new(COMPONENT_DPKG, take_held, p);
		if (!dpkg) {
			p->no_memory = true;
			return;
		}
		dpkg_begin(dpkg, DPKG_STATUS);
		read = source_stream(p->source, status[i], STATUS_MAX, feed, dpkg) == 0;
		if (dpkg_end(dpkg) < 0)
			p->no_memory = true;
		dpkg_free(dpkg);
	}
	if (any && !read) {
		facts_unknown(p->facts, FACT_UPDATE_HELD, source_why(p->source));
		return;
	}
	take_world(p, source_read(p->source, "etc/apk/world", SOURCE_FILE));
	for (size_t i = 0; i < 2; i++)
		take_locks(p, source_read(p->source, locks[i], SOURCE_FILE));
}

/* ---- by itself ---- */

struct automatic {
	bool on, lists, fetch, install, mail, motd, dnf_fetch, dnf_install;
};

/* A number of days, or "always"; newer ones may have a unit: "12h". */
static bool
is_set(struct slice value)
{
	value = text_trim(value);
	return value.len > 0 && !text_is(value, "0");
}

static void
take_setting(void *context, const char *name, struct slice value)
{
	struct automatic *a = context;

	if (strcasecmp(name, "APT::Periodic::Enable") == 0)
		a->on = apt_conf_is_yes(value);
	else if (strcasecmp(name, "APT::Periodic::Update-Package-Lists") == 0)
		a->lists = is_set(value);
	else if (strcasecmp(name, "APT::Periodic::Download-Upgradeable-Packages") == 0)
		a->fetch = is_set(value);
	else if (strcasecmp(name, "APT::Periodic::Unattended-Upgrade") == 0)
		a->install = is_set(value);
	else if (strcasecmp(name, "Unattended-Upgrade::Mail") == 0)
		a->mail = value.len > 0;
}

static void
take_dnf(void *context, struct slice section, struct slice name, struct slice value)
{
	struct automatic *a = context;

	(void)section;
	if (text_is(name, "download_updates"))
		a->dnf_fetch = apt_conf_is_yes(value);
	else if (text_is(name, "apply_updates"))
		a->dnf_install = apt_conf_is_yes(value);
	else if (text_is(name, "emit_via")) {
		a->mail = a->mail || memmem(value.at, value.len, "email", 5);
		a->motd = a->motd || memmem(value.at, value.len, "motd", 4);
	}
}

struct mask {
	const char *unit;
	bool found, is_mask;
};

static bool
look_for_mask(void *context, int directory, const char *name)
{
	struct mask *mask = context;
	char target[16];

	if (strcmp(name, mask->unit) != 0)
		return true;
	mask->found = true;
	mask->is_mask = readlinkat(directory, name, target, sizeof target) == 9 && memcmp(target, "/dev/null", 9) == 0;
	return false;
}

/* Where units lie, the strongest first. What lies in /run is gone with the next start. */
static const char *const unit_directories[] = {"etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system"};
#define UNIT_DIRECTORIES (sizeof unit_directories / sizeof unit_directories[0])

static bool
is_masked(struct probe *p, const char *unit)
{
	struct mask mask = {unit, false, false};

	for (size_t i = 0; i < UNIT_DIRECTORIES && !mask.found; i++)
		(void)!source_list(p->source, unit_directories[i], SOURCE_NAMES, look_for_mask, &mask);
	return mask.is_mask;
}

/* Whether a unit is started by itself: a link in any target's wants, and not masked. Masked is a link to /dev/null. */
static bool
unit_starts(struct probe *p, const char *unit)
{
	static const char *const targets[] = {"timers", "multi-user", "default"};
	char path[160];
	size_t n = 0;

	if (source_is_live(p->source) && !source_exists(p->source, "run/systemd/system"))
		return false;
	for (size_t i = 0; i < UNIT_DIRECTORIES * 3; i++) {
		snprintf(path, sizeof path, "%s/%s.target.wants/%s", unit_directories[i / 3], targets[i % 3], unit);
		n += source_exists(p->source, path);
	}
	return n > 0 && !is_masked(p, unit);
}

/* Units that update without being asked: what they fetch, and whether they install it. */
static const struct {
	const char *unit;
	bool fetches, installs;
} agents[] = {
	{"mender-client.service", true, true},
	{"mender-updated.service", true, true},
	{"rauc-hawkbit-updater.service", true, true},
	{"swupdate.service", true, true},
	{"dnf-automatic-install.timer", true, true},
	{"dnf-automatic-download.timer", true, false},
	{"dnf-automatic-notifyonly.timer", false, false},
	{"dnf5-automatic.timer", true, false},
	{"rpm-ostreed-automatic.timer", true, false},
	{"fwupd-refresh.timer", false, false},
	{"packagekit-offline-update.service", false, false},
};

struct cron {
	struct probe *probe;
	bool updates, upgrades;
};

static bool
look_at_cron(void *context, const char *path)
{
	static const struct {
		const char *text;
		bool upgrades;
	} words[] = {{"apk update", false},     {"apk upgrade", true},        {"apk -U upgrade", true},
		     {"opkg update", false},    {"opkg upgrade", true},       {"apt-get update", false},
		     {"apt-get upgrade", true}, {"apt-get -y upgrade", true}, {"dnf -y upgrade", true},
		     {"dnf -y update", true}};
	struct cron *cron = context;
	struct slice text = source_read(cron->probe->source, path, SOURCE_FILE), line;

	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len == 0 || line.at[0] == '#')
			continue;
		for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
			if (!memmem(line.at, line.len, words[i].text, strlen(words[i].text)))
				continue;
			cron->updates = true;
			cron->upgrades = cron->upgrades || words[i].upgrades;
		}
	}
	return true;
}

static bool
has_cron(struct probe *p)
{
	return source_exists(p->source, "usr/sbin/cron") || source_exists(p->source, "usr/sbin/crond") ||
	       source_exists(p->source, "usr/sbin/anacron");
}

static void
tell_automatic(struct updates *u)
{
	static const char *const crontabs[] = {
		"etc/crontab",      "etc/crontabs/root", "var/spool/cron/crontabs/root", "etc/cron.d/*",
		"etc/cron.daily/*", "etc/cron.weekly/*", "etc/periodic/daily/*",         "etc/periodic/weekly/*"};
	struct automatic a = {.on = true};
	struct cron cron = {.probe = u->probe};
	struct probe *p = u->probe;
	bool looks = false, fetches = false, installs = false, timer, unattended;

	apt_each_setting(p, take_setting, &a);
	sections_parse(source_read(p->source, "etc/dnf/automatic.conf", SOURCE_FILE), take_dnf, &a);
	unattended = source_exists(p->source, "usr/bin/unattended-upgrade");
	timer = unit_starts(p, "apt-daily.timer") ||
		(has_cron(p) && source_exists(p->source, "etc/cron.daily/apt-compat"));
	if (u->has[UPDATER_APT] && timer && a.on) {
		looks = a.lists;
		fetches = a.lists && (a.fetch || (a.install && unattended));
		installs = a.install && unattended;
	}
	for (size_t i = 0; i < sizeof agents / sizeof agents[0]; i++) {
		if (!unit_starts(p, agents[i].unit))
			continue;
		looks = true;
		fetches = fetches || agents[i].fetches;
		installs = installs || agents[i].installs;
	}
	if (unit_starts(p, "dnf-automatic.timer")) {
		looks = true;
		fetches = fetches || a.dnf_fetch || a.dnf_install;
		installs = installs || a.dnf_install;
	}
	for (size_t i = 0; i < sizeof crontabs / sizeof crontabs[0]; i++)
		(void)!source_glob(p->source, crontabs[i], 256, look_at_cron, &cron);
	looks = looks || cron.updates;
	fetches = fetches || cron.upgrades;
	installs = installs || cron.upgrades;
	facts_set_bool(p->facts, FACT_UPDATE_ENABLED, looks);
	facts_set_text(p->facts, FACT_UPDATE_DOWNLOAD, fetches ? "automatic" : "manual");
	facts_set_text(p->facts, FACT_UPDATE_INSTALL, installs ? "automatic" : "manual");
	if ((a.mail && (unattended || u->has[UPDATER_DNF])) || source_exists(p->source, "etc/apticron") ||
	    source_exists(p->source, "usr/sbin/apticron"))
		facts_set_text(p->facts, FACT_UPDATE_NOTIFICATION, "mail");
	else if (a.motd || source_exists(p->source, "etc/update-motd.d/90-updates-available") ||
		 source_exists(p->source, "usr/lib/update-notifier"))
		facts_set_text(p->facts, FACT_UPDATE_NOTIFICATION, "login");
	else
		facts_set_text(p->facts, FACT_UPDATE_NOTIFICATION, "none");
}

void
probe_update(struct probe *p)
{
	static const enum fact without[] = {FACT_UPDATE_ENABLED,      FACT_UPDATE_DOWNLOAD, FACT_UPDATE_INSTALL,
					    FACT_UPDATE_NOTIFICATION, FACT_UPDATE_HELD,     FACT_UPDATE_SLOTS,
					    FACT_UPDATE_ROLLBACK,     FACT_UPDATE_KEYS,     FACT_UPDATE_KEYRING_SHA256,
					    FACT_UPDATE_UNPRIVILEGED};
	struct updates u;
	bool any = find_updaters(p, &u);

	tell_times(p);
	updates_reboot(&u);
	updates_signatures(&u);
	if (!any) {
		for (size_t i = 0; i < sizeof without / sizeof without[0]; i++)
			facts_unknown(p->facts, without[i], NO_UPDATER);
		return;
	}
	updates_slots(&u);
	updates_keys(&u);
	updates_unprivileged(&u);
	tell_held(p);
	tell_automatic(&u);
}
