#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/accounts.h"
#include "emitter/glob.h"
#include "emitter/probes.h"
#include "emitter/sudoers.h"

#define MATCHES_MAX 4096
#define WRITE 0022 /* nobody but the owner may write */
#define SECRET 0026 /* nor may others read; a group of its own may */
#define PRIVATE 0066

/* ---- who may change configuration, and read secrets ---- */

static const struct {
	const char *pattern;
	unsigned forbidden;
	bool roots; /* must be root's */
} watched[] = {
	{"etc", WRITE, true},
	{"etc/passwd", WRITE, true},
	{"etc/group", WRITE, true},
	{"etc/shadow", SECRET, true},
	{"etc/shadow-", SECRET, true},
	{"etc/gshadow", SECRET, true},
	{"etc/gshadow-", SECRET, true},
	{"etc/fstab", WRITE, true},
	{"etc/crypttab", WRITE, true},
	{"etc/hosts", WRITE, true},
	{"etc/profile", WRITE, true},
	{"etc/profile.d/*", WRITE, true},
	{"etc/environment", WRITE, true},
	{"etc/login.defs", WRITE, true},
	{"etc/ld.so.preload", WRITE, true},
	{"etc/ld.so.conf", WRITE, true},
	{"etc/ld.so.conf.d/*", WRITE, true},
	{"etc/nsswitch.conf", WRITE, true},
	{"etc/inittab", WRITE, true},
	{"etc/rc.local", WRITE, true},
	{"etc/init.d/*", WRITE, true},
	{"etc/sysctl.conf", WRITE, true},
	{"etc/sysctl.d/*", WRITE, true},
	{"etc/modprobe.d/*", WRITE, true},
	{"etc/udev/rules.d/*", WRITE, true},
	{"etc/sudoers", WRITE, true},
	{"etc/sudoers.d", WRITE, true},
	{"etc/sudoers.d/*", WRITE, true},
	{"etc/doas.conf", WRITE, true},
	{"etc/polkit-1/rules.d/*", WRITE, false},
	{"etc/pam.conf", WRITE, true},
	{"etc/pam.d", WRITE, true},
	{"etc/pam.d/*", WRITE, true},
	{"etc/security/*", WRITE, true},
	{"etc/ssh", WRITE, true},
	{"etc/ssh/sshd_config", WRITE, true},
	{"etc/ssh/sshd_config.d/*", WRITE, true},
	{"etc/ssh/ssh_host_*_key", SECRET, true},
	{"etc/dropbear/*_host_key", SECRET, true},
	{"etc/dropbear/authorized_keys", WRITE, true},
	{"root/.ssh", WRITE, true},
	{"root/.ssh/authorized_keys*", WRITE, true},
	{"root/.ssh/id_*[!b]", PRIVATE, true},
	{"etc/crontab", WRITE, true},
	{"etc/anacrontab", WRITE, true},
	{"etc/cron.d", WRITE, true},
	{"etc/cron.*/*", WRITE, true},
	{"etc/crontabs/*", WRITE, true},
	{"var/spool/cron/crontabs/*", PRIVATE, false},
	{"etc/systemd/system", WRITE, true},
	{"etc/systemd/*.conf", WRITE, true},
	{"etc/systemd/system/*.*", WRITE, true},
	{"etc/systemd/system/*.d/*", WRITE, true},
	{"etc/apt/sources.list", WRITE, true},
	{"etc/apt/sources.list.d/*", WRITE, true},
	{"etc/apt/apt.conf.d/*", WRITE, true},
	{"etc/apt/trusted.gpg.d/*", WRITE, true},
	{"etc/opkg/*", WRITE, true},
	{"etc/apk/*", WRITE, true},
	{"etc/config/*", WRITE, true},
	{"etc/ssl/openssl.cnf", WRITE, true},
	{"etc/ssl/private", WRITE, true},
	{"etc/ssl/private/*", SECRET, false},
	{"etc/wpa_supplicant/*.conf", SECRET, true},
	{"etc/NetworkManager/system-connections/*", SECRET, true},
	{"etc/rauc/*", WRITE, true},
	{"etc/mender/*", WRITE, true},
	{"etc/fleetstate/*.conf", WRITE, false},
	{"boot/grub/grub.cfg", WRITE, false},
};

struct looking {
	struct probe *probe;
	unsigned forbidden;
	bool roots, owners;
	char why[256];
};

static void
add_loose(struct looking *l, const char *path, const char *what, unsigned number, const char *format)
{
	char text[LIMIT_SENT_TEXT + 64], shown[24];

	snprintf(shown, sizeof shown, format[0] == 'o' ? "%04o" : "%u", number);
	snprintf(text, sizeof text, "%s%s %s %s", path[0] == '/' ? "" : "/", path, what, shown);
	facts_add_text(l->probe->facts, FACT_CONFIGURATION_LOOSE, text);
}

/* A service that is masked is a link to /dev/null, which all may write. */
static bool
look_at(void *context, const char *path)
{
	struct looking *l = context;
	struct stat st;

	if (source_stat(l->probe->source, path, &st) < 0) {
		if (!source_missing(l->probe->source) && !l->why[0])
			snprintf(l->why, sizeof l->why, "%s", source_why(l->probe->source));
		return true;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return true;
	if (st.st_mode & l->forbidden)
		add_loose(l, path, "mode", st.st_mode & 07777, "o");
	if (l->roots && l->owners && st.st_uid != 0)
		add_loose(l, path, "owner", st.st_uid, "u");
	return true;
}

static void
look_at_pattern(struct looking *l, const char *pattern, unsigned forbidden, bool roots)
{
	l->forbidden = forbidden;
	l->roots = roots;
	if (source_glob(l->probe->source, pattern, MATCHES_MAX, look_at, l) < 0 && !l->why[0])
		snprintf(l->why, sizeof l->why, "/%.200s can't be listed", pattern);
}

static void
state_loose(struct probe *p)
{
	const char *declared = p->declared && p->declared->config_files ? p->declared->config_files : "";
	struct slice text = {(const uint8_t *)declared, strlen(declared)}, word;
	struct looking l = {.probe = p};
	char pattern[256];
	struct stat root;

	if (!source_exists(p->source, "etc")) {
		facts_unknown(p->facts, FACT_CONFIGURATION_LOOSE, source_why(p->source));
		return;
	}
	l.owners = source_is_live(p->source) || (source_stat(p->source, ".", &root) == 0 && root.st_uid == 0);
	facts_begin_list(p->facts, FACT_CONFIGURATION_LOOSE);
	for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
		look_at_pattern(&l, watched[i].pattern, watched[i].forbidden, watched[i].roots);
	while (text_word(&text, &word)) {
		if (word.len >= sizeof pattern)
			continue;
		snprintf(pattern, sizeof pattern, "%.*s", (int)word.len, (const char *)word.at);
		look_at_pattern(&l, pattern, WRITE, false);
	}
	/* What was found is true, but it may not be all. */
	if (l.why[0] && facts_count(p->facts, FACT_CONFIGURATION_LOOSE) == 0)
		facts_unknown(p->facts, FACT_CONFIGURATION_LOOSE, l.why);
}

/* ---- administrators ---- */

#define ADMINISTRATORS_MAX 256
#define GROUPS_MAX 64

struct admins {
	struct probe *probe;
	char lines[ADMINISTRATORS_MAX][160]; /* "alice sudo" */
	size_t len;
	char groups[GROUPS_MAX][64]; /* whose members they are as well */
	size_t groups_len;
	struct sudoers *sudoers;
	size_t files;
	bool more;
	char why[256];
};

static void
fail(struct admins *a, const char *why)
{
	if (!a->why[0])
		snprintf(a->why, sizeof a->why, "%s", why);
}

/* Each once. */
static void
add_line(struct admins *a, const char *line)
{
	for (size_t i = 0; i < a->len; i++)
		if (strcmp(a->lines[i], line) == 0)
			return;
	if (a->len == ADMINISTRATORS_MAX) {
		a->more = true;
		return;
	}
	snprintf(a->lines[a->len++], sizeof a->lines[0], "%s", line);
}

static void
add_group(struct admins *a, const char *name)
{
	for (size_t i = 0; i < a->groups_len; i++)
		if (strcmp(a->groups[i], name) == 0)
			return;
	if (a->groups_len == GROUPS_MAX) {
		a->more = true;
		return;
	}
	snprintf(a->groups[a->groups_len++], sizeof a->groups[0], "%s", name);
}

static void
add_administrator(struct admins *a, const char *who, const char *by, bool all_commands, bool without_password)
{
	char line[160];

	snprintf(line, sizeof line, "%.100s %s%s%s", who, by, all_commands ? "" : " for some commands",
		 without_password ? " without password" : "");
	add_line(a, line);
	if (who[0] == '%')
		add_group(a, who + 1);
}

static void
take_sudoer(void *context, const char *who, bool all_commands, bool without_password)
{
	add_administrator(context, who, "sudo", all_commands, without_password);
}

static void include(void *context, struct sudoers *sudoers, const char *path, bool directory);

static bool
read_sudoers(void *context, const char *path)
{
	struct admins *a = context;
	const struct sudoers_include files = {include, a};
	struct slice text = source_read(a->probe->source, path, SOURCE_FILE);
	uint8_t *copy = text.at && a->files < 128 ? malloc(text.len + 1) : NULL;

	if (!copy) {
		fail(a, text.at ? "sudoers includes too much" : source_why(a->probe->source));
		return true;
	}
	a->files++;
	memcpy(copy, text.at, text.len);
	sudoers_parse(a->sudoers, (struct slice){copy, text.len}, &files);
	free(copy);
	return true;
}

static bool
read_included(void *context, const char *path)
{
	const char *name = strrchr(path, '/');

	return !sudoers_file(name ? name + 1 : path) || read_sudoers(context, path);
}

static void
include(void *context, struct sudoers *sudoers, const char *path, bool directory)
{
	struct admins *a = context;
	char whole[512];

	(void)sudoers;
	snprintf(whole, sizeof whole, "%s%s%s", path[0] == '/' ? "" : "etc/", path, directory ? "/*" : "");
	if (!directory)
		(void)read_sudoers(a, whole);
	else if (source_glob(a->probe->source, whole, 256, read_included, a) < 0)
		fail(a, "what sudoers includes can't be listed");
}

static void
read_sudo(struct admins *a)
{
	if (!source_exists(a->probe->source, "usr/bin/sudo"))
		return;
	a->sudoers = calloc(1, sizeof *a->sudoers);
	if (!a->sudoers) {
		a->probe->no_memory = true;
		return;
	}
	(void)read_sudoers(a, "etc/sudoers");
	sudoers_administrators(a->sudoers, take_sudoer, a);
	if (a->sudoers->more)
		fail(a, "sudoers says more than is followed here");
	free(a->sudoers);
}

static void
read_doas(struct admins *a)
{
	bool all_commands, without_password;
	struct slice text, line, who;
	char name[128];

	if (!source_exists(a->probe->source, "usr/bin/doas"))
		return;
	text = source_read(a->probe->source, "etc/doas.conf", SOURCE_ATTRIBUTE);
	if (!text.at && !source_missing(a->probe->source))
		fail(a, source_why(a->probe->source));
	while (text_line(&text, &line)) {
		if (!doas_parse(line, &who, &all_commands, &without_password))
			continue;
		snprintf(name, sizeof name, "%.*s", who.len < 100 ? (int)who.len : 100, (const char *)who.at);
		if (name[0] == ':')
			name[0] = '%';
		add_administrator(a, name, "doas", all_commands, without_password);
	}
}

/* polkit's rules are JavaScript; those that name administrators do it as "unix-group:wheel". */
static bool
read_rules(void *context, const char *path)
{
	static const char *const kinds[] = {"unix-group:", "unix-user:"};
	struct admins *a = context;
	struct slice text = source_read(a->probe->source, path, SOURCE_ATTRIBUTE);
	char name[96];

	if (!text.at)
		fail(a, source_why(a->probe->source));
	if (!text.at || !memmem(text.at, text.len, "addAdminRule", 12))
		return true;
	for (size_t i = 0; i < 2; i++) {
		const uint8_t *end = text.at + text.len, *at = text.at;

		while ((at = memmem(at, (size_t)(end - at), kinds[i], strlen(kinds[i])))) {
			size_t len = 0;

			at += strlen(kinds[i]);
			while (at + len < end && len < 64 && at[len] > ' ' && !strchr("\"'`;,)]", at[len]))
				len++;
			snprintf(name, sizeof name, "%s%.*s", i == 0 ? "%" : "", (int)len, (const char *)at);
			if (len > 0 && strcmp(name, "root") != 0 && strcmp(name, "0") != 0)
				add_administrator(a, name, "polkit", true, false);
		}
	}
	return true;
}

static void
read_polkit(struct admins *a)
{
	static const char *const rules[] = {"etc/polkit-1/rules.d/*.rules", "usr/share/polkit-1/rules.d/*.rules"};

	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (source_glob(a->probe->source, rules[i], 256, read_rules, a) < 0)
			fail(a, "polkit's rules can't be listed");
}

static void
add_member(struct admins *a, struct slice name, struct slice group)
{
	char line[160];

	if (text_is(name, "root"))
		return;
	snprintf(line, sizeof line, "%.*s group %.*s", name.len < 64 ? (int)name.len : 64, (const char *)name.at,
		 group.len < 64 ? (int)group.len : 64, (const char *)group.at);
	add_line(a, line);
}

struct gid {
	uint64_t gid;
	char name[64];
};

/* By /etc/group, and by the group that an account has in /etc/passwd. */
static void
read_members(struct admins *a)
{
	struct slice text = source_read(a->probe->source, "etc/group", SOURCE_FILE), line, name;
	struct gid gids[GROUPS_MAX];
	struct account account;
	struct group group;
	size_t n = 0;

	if (!text.at)
		fail(a, source_why(a->probe->source));
	while (text_line(&text, &line)) {
		if (!group_parse(line, &group))
			continue;
		for (size_t i = 0; i < a->groups_len; i++) {
			if (!text_is(group.name, a->groups[i]))
				continue;
			while (group_member(&group.members, &name))
				add_member(a, name, group.name);
			if (n < GROUPS_MAX) {
				gids[n].gid = group.gid;
				snprintf(gids[n++].name, sizeof gids[0].name, "%s", a->groups[i]);
			}
		}
	}
	text = source_read(a->probe->source, "etc/passwd", SOURCE_FILE);
	while (text_line(&text, &line)) {
		if (!account_parse(line, &account) || account.gid == 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (gids[i].gid == account.gid)
				add_member(a, account.name,
					   (struct slice){(const uint8_t *)gids[i].name, strlen(gids[i].name)});
	}
}

static void
state_administrators(struct probe *p)
{
	/* Whoever is in one of these is root when he wants to be. */
	static const char *const mighty[] = {"docker", "lxd", "incus-admin", "libvirt", "disk"};
	struct admins *a;

	if (!source_exists(p->source, "etc/passwd")) {
		facts_unknown(p->facts, FACT_CONFIGURATION_ADMINISTRATORS, source_why(p->source));
		return;
	}
	a = calloc(1, sizeof *a);
	if (!a) {
		p->no_memory = true;
		return;
	}
	a->probe = p;
	read_sudo(a);
	read_doas(a);
	read_polkit(a);
	for (size_t i = 0; i < sizeof mighty / sizeof mighty[0]; i++)
		add_group(a, mighty[i]);
	read_members(a);
	facts_begin_list(p->facts, FACT_CONFIGURATION_ADMINISTRATORS);
	for (size_t i = 0; i < a->len; i++)
		facts_add_text(p->facts, FACT_CONFIGURATION_ADMINISTRATORS, a->lines[i]);
	if (a->more)
		fail(a, "more than 256 administrators");
	if (a->why[0])
		facts_unknown(p->facts, FACT_CONFIGURATION_ADMINISTRATORS, a->why);
	free(a);
}

void
probe_authority(struct probe *p)
{
	state_loose(p);
	state_administrators(p);
}
