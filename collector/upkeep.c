#include "collector/upkeep.h"
#include "schema/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define DISKS_MAX 16
#define MIB 1048576
/* Where the parts lie on Debian. What is not on this machine is left out; what the settings name has to be there. */
#define USUAL_DISKS "/ /var/lib/postgresql /var/lib/mosquitto"

struct disk {
	const char *path;
	bool full;
};

struct upkeep {
	const struct settings *settings;
	struct tls *tls; /* NULL: there is none */
	struct renewal receipts; /* as it was read at the start, like the certificate that is in use */
	bool receipts_read;
	struct renewal anchors;
	bool has_anchors;
	char *paths; /* what the disks' point into */
	bool named; /* by the settings */
	struct disk disks[DISKS_MAX];
	size_t disks_len;
	bool database_full;
};

struct upkeep *
upkeep_new(const struct settings *settings, struct tls *tls)
{
	struct upkeep *u = calloc(1, sizeof *u);
	char *rest = NULL;

	if (u == NULL)
		return NULL;
	u->settings = settings;
	u->tls = tls;
	u->named = setting_given(settings->disks) != NULL;
	u->paths = strdup(u->named ? settings->disks : USUAL_DISKS);
	if (u->paths == NULL) {
		free(u);
		return NULL;
	}
	for (char *at = strtok_r(u->paths, " \t", &rest); at != NULL && u->disks_len < DISKS_MAX;
	     at = strtok_r(NULL, " \t", &rest))
		u->disks[u->disks_len++].path = at;
	if (rest != NULL && rest[0] != '\0')
		log_warning("upkeep: no more than %d disks are looked at: not \"%s\"", DISKS_MAX, rest);
	u->receipts_read =
		renewal_of_pem(settings->receipt_certificate, settings->certificate_warning, &u->receipts) == 0;
	return u;
}

void
upkeep_free(struct upkeep *u)
{
	if (u == NULL)
		return;
	free(u->paths);
	free(u);
}

void
upkeep_set_anchors(struct upkeep *u, const struct anchors *anchors)
{
	u->has_anchors = renewal_of_anchors(anchors, u->settings->certificate_warning, &u->anchors);
}

/* One thing more to say; the first says whose word it is. */
static void __attribute__((format(printf, 3, 4)))
say(const struct upkeep *u, char why[UPKEEP_WHY], const char *format, ...)
{
	size_t len = strlen(why);
	va_list args;

	len += (size_t)snprintf(why + len, UPKEEP_WHY - len, "%s%s", len == 0 ? u->settings->name : "",
				len == 0 ? ": " : "; ");
	if (len >= UPKEEP_WHY)
		return;
	va_start(args, format);
	vsnprintf(why + len, UPKEEP_WHY - len, format, args);
	va_end(args);
}

/* Certificates. */

static void
say_ending(const struct upkeep *u, const char *what, const struct renewal *r, int64_t now, char why[UPKEEP_WHY])
{
	time_t end = (time_t)r->not_after;
	char text[32] = "";
	struct tm tm;

	if (now < r->due)
		return;
	if (gmtime_r(&end, &tm) != NULL)
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	say(u, why, "%s (%s) ends %s", what, r->name, text);
}

/* The broker's connection reads its files each time it is made. */
static void
say_file(const struct upkeep *u, const char *file, int64_t now, char why[UPKEEP_WHY])
{
	struct renewal r;

	if (renewal_of_pem(file, u->settings->certificate_warning, &r) < 0)
		say(u, why, "%s can't be read", file);
	else
		say_ending(u, file, &r, now, why);
}

static void
say_tls(const struct upkeep *u, int64_t now, char why[UPKEEP_WHY])
{
	const char *clients = u->settings->http_client_ca;
	char text[TLS_WHY];

	if (tls_trouble(u->tls, now, text))
		say(u, why, "%s", text);
	say_file(u, u->settings->http_certificate, now, why);
	if (clients != NULL && clients[0] != '\0')
		say_file(u, clients, now, why);
}

bool
upkeep_certificates(const struct upkeep *u, int64_t now, char why[UPKEEP_WHY])
{
	const struct settings *s = u->settings;

	why[0] = '\0';
	if (u->receipts_read)
		say_ending(u, s->receipt_certificate, &u->receipts, now, why);
	else
		say(u, why, "%s can't be read", s->receipt_certificate);
	say_file(u, s->certificate, now, why);
	say_file(u, s->ca, now, why);
	if (u->tls != NULL)
		say_tls(u, now, why);
	if (u->has_anchors)
		say_ending(u, "trust anchor", &u->anchors, now, why);
	return why[0] != '\0';
}

/* Disks. */

/* A file system is told of once, whatever leads to it. */
static bool
is_told(const struct disk *disks, size_t n, const struct stat *st)
{
	struct stat other;

	for (size_t i = 0; i < n; i++)
		if (disks[i].full && stat(disks[i].path, &other) == 0 && other.st_dev == st->st_dev)
			return true;
	return false;
}

static void
look_at_disk(const struct upkeep *u, struct disk *d, char why[UPKEEP_WHY])
{
	uint64_t least = (uint64_t)u->settings->disk_free, room;
	struct statvfs fs;
	struct stat st;
	bool no_files;

	if (stat(d->path, &st) != 0 || statvfs(d->path, &fs) != 0) {
		if (u->named)
			say(u, why, "%s: %s", d->path, strerror(errno));
		return;
	}
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	no_files = fs.f_files > 0 && fs.f_favail < fs.f_files / 100;
	d->full = room < (d->full ? least + least / 10 : least) || no_files;
	if (!d->full || is_told(u->disks, (size_t)(d - u->disks), &st))
		return;
	if (no_files)
		say(u, why, "%s: fewer than one file in a hundred can still be made", d->path);
	else
		say(u, why, "%s: less than %llu MiB of %llu are free", d->path, (unsigned long long)least / MIB,
		    (unsigned long long)fs.f_blocks * fs.f_frsize / MIB);
}

bool
upkeep_disks(struct upkeep *u, int64_t database_bytes, char why[UPKEEP_WHY])
{
	int64_t most = u->settings->database_size;

	why[0] = '\0';
	if (u->settings->disk_free > 0)
		for (size_t i = 0; i < u->disks_len; i++)
			look_at_disk(u, &u->disks[i], why);
	if (most > 0 && database_bytes >= 0)
		u->database_full = database_bytes > most / 100 * (u->database_full ? 88 : 90);
	if (most > 0 && u->database_full)
		say(u, why, "the database has nine tenths of its %lld MiB", (long long)most / MIB);
	return why[0] != '\0';
}
