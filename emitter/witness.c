#include "emitter/witness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "emitter/witness_sources.h"
#include "schema/log.h"

#define LOOK_MS 1000 /* a busy log wakes us up no more often */
#define JUMP_S 2 /* what the clock may be off from what it should be, without having been set */

struct witness {
	struct events *events;
	int dir;
	struct log_source *log;
	struct file_source *files;
	int usb;
	int clock; /* readable when the clock is set */
	int64_t offset_s; /* of the clock over the time since the boot */
	struct socket_source sockets;
	uint8_t inventory[DIGEST_SIZE]; /* the last one compared */
	int64_t look_at;
};

static int64_t
seconds_of(clockid_t clock)
{
	struct timespec t = {0};
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec;
}

/* ---- the clock and the boot ---- */

static int
clock_open(void)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	struct itimerspec never = {.it_value.tv_sec = INT32_MAX};
	if (fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void
clock_look(struct witness *w)
{
	int64_t offset = seconds_of(CLOCK_REALTIME) - seconds_of(CLOCK_BOOTTIME), by = offset - w->offset_s;
	uint64_t fired;
	char text[32];
	if (w->clock >= 0 && read(w->clock, &fired, sizeof fired) < 0 &&
	    errno == ECANCELED) { /* it was set; armed again by opening it anew */
		close(w->clock);
		w->clock = clock_open();
	}
	w->offset_s = offset;
	if (by < JUMP_S && by > -JUMP_S)
		return;
	snprintf(text, sizeof text, "%+lld", (long long)by);
	events_say(w->events, EVENT_CLOCK_JUMPED, (uint64_t)seconds_of(CLOCK_REALTIME), (const char *const[]){text}, 1);
}

static void
note_boot(struct witness *w, const uint8_t boot_id[BOOT_ID_SIZE])
{
	struct positions *p = events_positions(w->events);
	if (p->known && memcmp(p->boot_id, boot_id, BOOT_ID_SIZE) != 0)
		events_say(w->events, EVENT_BOOT, (uint64_t)w->offset_s, NULL, 0);
	memcpy(p->boot_id, boot_id, BOOT_ID_SIZE);
}

/* ---- all of them ---- */

struct witness *
witness_new(struct events *events, int dir, const char *files, const uint8_t boot_id[BOOT_ID_SIZE])
{
	struct witness *w = calloc(1, sizeof *w);
	bool first = !events_positions(events)->known;
	if (w == NULL)
		return NULL;
	w->events = events;
	w->dir = dir;
	w->offset_s = seconds_of(CLOCK_REALTIME) - seconds_of(CLOCK_BOOTTIME);
	w->log = log_source_new();
	w->files = file_source_new(files);
	w->usb = usb_source_open();
	w->clock = clock_open();
	if (w->log == NULL || w->files == NULL) {
		witness_free(w);
		return NULL;
	}
	note_boot(w, boot_id);
	memcpy(w->inventory, events_positions(events)->inventory, DIGEST_SIZE);
	log_source_look(w->log, events);
	/* Else whoever is killed before anything happened begins elsewhere, and passes over what there was meanwhile. */
	if (first && events_save(events, 0) != 0)
		log_warning("events not saved error=\"%s\"", strerror(errno));
	return w;
}

void
witness_free(struct witness *w)
{
	if (w == NULL)
		return;
	log_source_free(w->log);
	file_source_free(w->files);
	if (w->usb >= 0)
		close(w->usb);
	if (w->clock >= 0)
		close(w->clock);
	free(w->sockets.rows);
	free(w);
}

int
witness_declare(struct witness *w, const char *files)
{
	struct file_source *fresh = file_source_new(files);
	if (fresh == NULL)
		return -1;
	file_source_look(w->files, w->events);
	file_source_free(w->files);
	w->files = fresh;
	return 0;
}

size_t
witness_fds(const struct witness *w, struct pollfd fds[WITNESS_FDS], int64_t now, int64_t *until)
{
	const int all[WITNESS_FDS] = {log_source_fd(w->log), file_source_fd(w->files), w->usb, w->clock};
	size_t n = 0;
	if (now < w->look_at && w->look_at < *until)
		*until = w->look_at;
	for (size_t i = 0; i < WITNESS_FDS && now >= w->look_at; i++)
		if (all[i] >= 0)
			fds[n++] = (struct pollfd){.fd = all[i], .events = POLLIN};
	return n;
}

static void
look(struct witness *w, int64_t now)
{
	w->look_at = now + LOOK_MS;
	clock_look(w);
	log_source_look(w->log, w->events);
	file_source_look(w->files, w->events);
	if (w->usb >= 0)
		usb_source_look(w->usb, w->events);
}

void
witness_look(struct witness *w, int64_t now)
{
	if (now >= w->look_at)
		look(w, now);
}

/* A set that could not be read whole would look like packages gone. */
static bool
is_whole(const struct facts *facts, const struct inventory *inventory)
{
	return facts_has(facts, FACT_PACKAGES_LISTED) && inventory->components > 0;
}

void
witness_sweep(struct witness *w, const struct facts *facts, const struct inventory *inventory, int64_t now)
{
	look(w, now);
	socket_source_sweep(&w->sockets, facts, w->events);
	if (memcmp(w->inventory, inventory->digest, DIGEST_SIZE) == 0 || !is_whole(facts, inventory))
		return;
	package_source_sweep(w->dir, inventory, w->events);
	memcpy(w->inventory, inventory->digest, DIGEST_SIZE);
}

/* What was compared is written after the report, so that a crash in between tells of the same packages again rather than never. */
void
witness_told(struct witness *w, const struct inventory *inventory)
{
	struct positions *p = events_positions(w->events);
	if (memcmp(p->inventory, inventory->digest, DIGEST_SIZE) == 0 ||
	    memcmp(w->inventory, inventory->digest, DIGEST_SIZE) != 0)
		return;
	if (durable_write(w->dir, "packages", (struct slice){inventory->encoded, inventory->len}, true) == 0)
		memcpy(p->inventory, inventory->digest, DIGEST_SIZE);
}
