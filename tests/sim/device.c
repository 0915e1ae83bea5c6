#include "tests/sim/device.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "schema/log.h"
#include "tests/sim/world.h"

#define PATH_SIZE 512
#define LIFE_FILE "life"

struct device {
	const struct fleet *fleet;
	struct condition is;
	uint64_t random;
	struct pipeline *pipeline; /* NULL: asleep, or not up yet */
	int64_t wakes_at;
	unsigned long insecure_left; /* reports until secure boot is back */
	struct facts *facts;
	char directory[PATH_SIZE], certificate[PATH_SIZE], key[PATH_SIZE], sign_certificate[PATH_SIZE],
		sign_key[PATH_SIZE];
	uint64_t before[COUNTERS]; /* of the boots before */
};

static void
set_paths(struct device *d)
{
	char hex[UEID_HEX];
	const char *sign = "";
	ueid_print(&d->is.ueid, hex);
	snprintf(d->directory, sizeof d->directory, "%s/%s", d->fleet->state, hex);
	snprintf(d->certificate, sizeof d->certificate, "%s/devices/%s.crt", d->fleet->pki, hex);
	snprintf(d->key, sizeof d->key, "%s/devices/%s.key", d->fleet->pki, hex);
	snprintf(d->sign_key, sizeof d->sign_key, "%s/devices/%s.sign.key", d->fleet->pki, hex);
	if (access(d->sign_key, R_OK) == 0)
		sign = ".sign";
	snprintf(d->sign_key, sizeof d->sign_key, "%s/devices/%s%s.key", d->fleet->pki, hex, sign);
	snprintf(d->sign_certificate, sizeof d->sign_certificate, "%s/devices/%s%s.crt", d->fleet->pki, hex, sign);
}

/* ---- what stays when the simulator is stopped ---- */

static void
save_life(const struct device *d)
{
	char line[64], error[ERROR_SIZE];
	int len = snprintf(line, sizeof line, "%zu %d %d %d %d\n", d->is.firmware, d->is.secure, d->is.telnet,
			   d->is.weak_boot, d->is.unsynchronised);
	int dir = durable_directory(AT_FDCWD, d->directory, error);
	if (dir < 0 || durable_write(dir, LIFE_FILE, (struct slice){(uint8_t *)line, (size_t)len}, false) != 0)
		log_warning("a device's life is not saved directory=\"%s\"", d->directory);
	if (dir >= 0)
		close(dir);
}

static void
load_life(struct device *d)
{
	char path[PATH_SIZE + 8];
	snprintf(path, sizeof path, "%s/" LIFE_FILE, d->directory);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return;
	size_t firmware;
	int secure, telnet, weak_boot, unsynchronised;
	if (fscanf(f, "%zu %d %d %d %d", &firmware, &secure, &telnet, &weak_boot, &unsynchronised) == 5 &&
	    firmware < FIRMWARES) {
		d->is.firmware = firmware;
		d->is.secure = secure;
		d->is.telnet = telnet;
		d->is.weak_boot = weak_boot;
		d->is.unsynchronised = unsynchronised;
	}
	fclose(f);
}

struct device *
device_new(const struct fleet *fleet, const struct ueid *ueid, int64_t now, int64_t delay_ms)
{
	struct device *d = calloc(1, sizeof *d);
	if (d == NULL || (d->facts = facts_new()) == NULL) {
		free(d);
		return NULL;
	}
	d->fleet = fleet;
	memcpy(&d->random, ueid->bytes + 1, sizeof d->random);
	d->random ^= fleet->seed;
	d->is = (struct condition){.ueid = *ueid, .interval = fleet->interval, .secure = true};
	d->is.model = world_random(&d->random) % models_len;
	d->is.firmware = world_random(&d->random) % (FIRMWARES - 1);
	d->wakes_at = now + delay_ms;
	set_paths(d);
	load_life(d);
	return d;
}

static void
keep_counters(struct device *d)
{
	struct pipeline_status status;
	pipeline_status(d->pipeline, &status);
	for (size_t i = 0; i < COUNTERS; i++)
		d->before[i] += status.counters[i];
}

void
device_free(struct device *d, unsigned wait_ms)
{
	if (d == NULL)
		return;
	pipeline_close(d->pipeline, wait_ms);
	facts_free(d->facts);
	free(d);
}

int
device_fd(const struct device *d)
{
	return d->pipeline != NULL ? pipeline_fd(d->pipeline) : -1;
}

/* ---- the events of a life: a row each, with its share of all changes ---- */

static void
live_update(struct device *d)
{
	if (d->is.firmware + 1 < FIRMWARES)
		d->is.firmware++;
	d->is.reports = 0;
}

static void
live_telnet(struct device *d)
{
	d->is.telnet = true;
}

static void
live_weak_boot(struct device *d)
{
	d->is.weak_boot = true;
}

static void
live_clock(struct device *d)
{
	d->is.unsynchronised = true;
}

static void
live_insecure(struct device *d)
{
	d->is.secure = false;
	d->insecure_left = 4 + world_random(&d->random) % 8;
}

static void
live_silent(struct device *d)
{
	if (d->fleet->awake)
		return;
	int64_t intervals = 4 + (int64_t)(world_random(&d->random) % 4);
	d->wakes_at += intervals * (int64_t)d->fleet->interval * 1000;
}

static const struct {
	const char *name;
	unsigned share;
	void (*happen)(struct device *);
} events[] = {
	{"update", 25, live_update}, {"telnet", 15, live_telnet},     {"weak-boot", 10, live_weak_boot},
	{"clock", 15, live_clock},   {"insecure", 20, live_insecure}, {"silent", 15, live_silent},
};

/* Somebody looks after what went wrong before anything else happens, so that most of a fleet is well at any time, however long it lives. */
static bool
repair(struct device *d)
{
	bool any = d->is.telnet || d->is.weak_boot || d->is.unsynchronised;

	d->is.telnet = d->is.weak_boot = d->is.unsynchronised = false;
	return any;
}

/* One of the events, or a repair. What happened. */
static const char *
change(struct device *d)
{
	uint64_t drawn = world_random(&d->random) % 100;
	size_t i = 0;

	if (repair(d))
		return "repair";
	while (drawn >= events[i].share)
		drawn -= events[i++].share;
	events[i].happen(d);
	return events[i].name;
}

static void
live(struct device *d, int64_t now)
{
	bool was_secure = d->is.secure;
	d->is.reports++;
	d->wakes_at = now;
	if (!d->is.secure && (d->insecure_left == 0 || --d->insecure_left == 0))
		d->is.secure = true;
	/* What comes up reports first: a device that fell silent before anybody heard of it would be no device. */
	if (d->is.reports == 1 || world_random(&d->random) % 1000 >= d->fleet->life) {
		if (was_secure != d->is.secure)
			save_life(d);
		return;
	}
	const char *event = change(d);
	save_life(d);
	char hex[UEID_HEX];
	ueid_print(&d->is.ueid, hex);
	log_debug("life ueid=%s event=%s", hex, event);
}

/* ---- up and down ---- */

static int
come_up(struct device *d, int64_t now)
{
	struct pipeline_settings settings = {
		.state_dir = d->directory,
		.spool_size = d->fleet->spool_size,
		.sign_key = d->sign_key,
		.sign_certificate = d->sign_certificate,
		.interval = d->fleet->interval,
		.publish = {d->fleet->broker, d->fleet->ca, d->certificate, d->key, d->fleet->keep_alive, 500,
			    d->fleet->backoff_max_ms, d->fleet->interval},
		.trust = d->fleet->trust,
		.journal = d->fleet->journal,
	};
	for (size_t i = 0; i < BOOT_ID_SIZE; i++)
		settings.boot_id[i] = (uint8_t)arc4random();
	char error[ERROR_SIZE];
	d->is.reports = 0;
	d->pipeline = pipeline_open(&settings, now, 0, error);
	if (d->pipeline != NULL)
		return 0;
	log_error("a device does not start directory=\"%s\" error=\"%s\"", d->directory, error);
	return -1;
}

static int64_t
go_down(struct device *d)
{
	keep_counters(d);
	pipeline_close(d->pipeline, 0);
	d->pipeline = NULL;
	return d->wakes_at;
}

int64_t
device_step(struct device *d, int64_t now)
{
	if (d->pipeline == NULL && now < d->wakes_at)
		return d->wakes_at;
	if (d->pipeline == NULL && come_up(d, now) != 0)
		return -1;
	int64_t next = pipeline_tick(d->pipeline, now);
	if (!pipeline_due(d->pipeline, now))
		return next;
	live(d, now);
	if (d->wakes_at > now)
		return go_down(d);
	const struct inventory *inventory = world_inventory(d->is.model, d->is.firmware);
	if (inventory == NULL)
		return -1;
	world_facts(&d->is, d->facts);
	(void)!pipeline_report(d->pipeline, d->facts, inventory, now, (uint64_t)time(NULL));
	return pipeline_tick(d->pipeline, now);
}

bool
device_done(const struct device *d, bool receipt)
{
	struct pipeline_status status;
	if (d->pipeline == NULL)
		return false;
	pipeline_status(d->pipeline, &status);
	if (status.counters[COUNTER_REPORTS] == 0)
		return false;
	return receipt ? pipeline_receipted(d->pipeline, status.seq) : status.acked >= status.seq;
}

void
device_tally(const struct device *d, struct tally *tally)
{
	tally->devices++;
	for (size_t i = 0; i < COUNTERS; i++)
		tally->counters[i] += d->before[i];
	if (d->pipeline == NULL) {
		tally->asleep++;
		return;
	}
	struct pipeline_status status;
	pipeline_status(d->pipeline, &status);
	tally->connected += status.connected;
	tally->pending += status.spool.pending;
	tally->dropped += status.spool.dropped;
	for (size_t i = 0; i < COUNTERS; i++)
		tally->counters[i] += status.counters[i];
}
