#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "emitter/text.h"
#include "emitter/witness_sources.h"

#define WATCHES_MAX 96
#define READS_MAX 64 /* of one look */
#define PATH_SIZE 512
#define MASK                                                                                                           \
	(IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR | IN_MASK_ADD)

/* What decides over access, services, updates and the network. */
static const char *const directories[] = {
	"/etc",
	"/etc/ssh",
	"/etc/ssh/sshd_config.d",
	"/etc/sudoers.d",
	"/etc/pam.d",
	"/etc/security",
	"/etc/polkit-1/rules.d",
	"/etc/apt",
	"/etc/apt/apt.conf.d",
	"/etc/apt/sources.list.d",
	"/etc/apt/trusted.gpg.d",
	"/etc/yum.repos.d",
	"/etc/opkg",
	"/etc/apk",
	"/etc/apk/keys",
	"/etc/systemd",
	"/etc/systemd/system",
	"/etc/init.d",
	"/etc/cron.d",
	"/etc/cron.daily",
	"/etc/cron.hourly",
	"/etc/cron.weekly",
	"/etc/cron.monthly",
	"/var/spool/cron/crontabs",
	"/etc/network",
	"/etc/netplan",
	"/etc/nftables.d",
	"/etc/iptables",
	"/etc/ssl",
	"/etc/modprobe.d",
	"/etc/modules-load.d",
	"/etc/sysctl.d",
	"/etc/ld.so.conf.d",
	"/etc/profile.d",
	"/etc/udev/rules.d",
	"/etc/fleetstate",
	"/etc/rauc",
	"/etc/mender",
	"/root/.ssh",
	"/usr/local/share/ca-certificates",
};

struct watch {
	char directory[256], pattern[128]; /* pattern: "": all names in it */
	int number;
};

struct file_source {
	int fd;
	struct watch watches[WATCHES_MAX];
	size_t n;
};

static void
add(struct file_source *s, struct slice directory, struct slice pattern)
{
	struct watch *w = &s->watches[s->n];

	if (s->n == WATCHES_MAX || directory.len >= sizeof w->directory || pattern.len >= sizeof w->pattern)
		return;
	memset(w, 0, sizeof *w);
	memcpy(w->directory, directory.at, directory.len);
	if (pattern.len > 0)
		memcpy(w->pattern, pattern.at, pattern.len);
	w->number = -1;
	s->n++;
}

/* "/etc/app/x.conf": names of one directory. A pattern of directories is left to the sweep. */
static void
add_declared(struct file_source *s, struct slice path)
{
	const uint8_t *slash = memrchr(path.at, '/', path.len);
	size_t len = slash ? (size_t)(slash - path.at) : 0;

	if (len == 0 || memchr(path.at, '*', len) || memchr(path.at, '?', len) || memchr(path.at, '[', len))
		return;
	add(s, (struct slice){path.at, len}, (struct slice){slash + 1, path.len - len - 1});
}

/* A directory that is not there yet is tried again with each look. */
static void
watch_all(struct file_source *s)
{
	for (size_t i = 0; i < s->n; i++)
		s->watches[i].number = inotify_add_watch(s->fd, s->watches[i].directory, MASK);
}

struct file_source *
file_source_new(const char *declared)
{
	struct file_source *s = calloc(1, sizeof *s);
	struct slice rest = {(const uint8_t *)declared, declared ? strlen(declared) : 0}, word;

	if (s == NULL)
		return NULL;
	s->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
		add(s, (struct slice){(const uint8_t *)directories[i], strlen(directories[i])},
		    (struct slice){NULL, 0});
	while (text_word(&rest, &word))
		add_declared(s, word);
	if (s->fd >= 0)
		watch_all(s);
	return s;
}

void
file_source_free(struct file_source *s)
{
	if (s == NULL)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

int
file_source_fd(const struct file_source *s)
{
	return s->fd;
}

static bool
ends(const char *name, const char *with)
{
	size_t n = strlen(name), m = strlen(with);

	return n >= m && strcmp(name + n - m, with) == 0;
}

/* What editors and package managers leave for a moment, and what is written all the time and says nothing. */
static bool
is_noise(const char *name)
{
	static const char *const endings[] = {"~",     "-",    "+",         ".swp",      ".swx",
					      ".lock", ".tmp", ".dpkg-new", ".dpkg-tmp", ".new"};
	static const char *const names[] = {"4913", "mtab", "adjtime", "ld.so.cache", "nologin"};

	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
		if (ends(name, endings[i]))
			return true;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return name[0] == '\0' || strncmp(name, ".#", 2) == 0;
}

static const struct watch *
watch_of(const struct file_source *s, int number, const char *name)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct watch *w = &s->watches[i];

		if (w->number == number &&
		    (w->pattern[0] == '\0' ? !is_noise(name) : fnmatch(w->pattern, name, 0) == 0))
			return w;
	}
	return NULL;
}

/* A file that was written beside and moved into its place has only a name for a moment: what is gone again was nothing. */
static void
take(const struct file_source *s, const struct inotify_event *event, struct events *events)
{
	uint64_t now = (uint64_t)time(NULL);
	const char *name = event->len > 0 ? event->name : "", *change = NULL;
	const struct watch *w;
	char path[PATH_SIZE];
	struct stat st;

	if (event->mask & IN_Q_OVERFLOW) {
		events_say(events, EVENT_LOST, now, (const char *const[]){"files", "more than the kernel keeps"}, 2);
		return;
	}
	w = watch_of(s, event->wd, name);
	if (w == NULL || snprintf(path, sizeof path, "%s/%s", w->directory, name) >= (int)sizeof path)
		return;
	if (event->mask & (IN_DELETE | IN_MOVED_FROM))
		change = "removed";
	else if (event->mask & IN_CREATE)
		change = "created";
	else if (event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO))
		change = "written";
	else if (event->mask & IN_ATTRIB)
		change = "rights";
	if (change == NULL || (change[2] == 'm') == (lstat(path, &st) == 0))
		return;
	events_say(events, EVENT_FILE, now, (const char *const[]){path, change}, 2);
}

void
file_source_look(struct file_source *s, struct events *events)
{
	_Alignas(struct inotify_event) char buffer[8192];

	for (size_t i = 0; s->fd >= 0 && i < READS_MAX; i++) {
		ssize_t n = read(s->fd, buffer, sizeof buffer);

		if (n <= 0)
			break;
		for (char *at = buffer; at < buffer + n;) {
			struct inotify_event *event = (struct inotify_event *)(void *)at;

			take(s, event, events);
			at += sizeof *event + event->len;
		}
	}
	if (s->fd >= 0)
		watch_all(s);
}
