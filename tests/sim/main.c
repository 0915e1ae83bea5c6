/*
 * fleetstate-sim: many devices in one process, each with a key, a state directory, a connection and a life of its own. From the report on it is
 * the emitter's own code that runs.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schema/log.h"
#include "schema/program.h"
#include "tests/sim/device.h"

#define FDS_PER_DEVICE 6 /* state, spool, segment, eventfd, socket, and one for the moment */
#define ONCE_MS 120000 /* for --once-each */
#define DEVICES_MAX 4096

struct settings {
	int64_t devices, interval, seed, life, spool_size, keep_alive, backoff_max, start_ms;
	char *pki, *state, *broker, *ca, *receipt_ca, *journal, *ueids, *log_level;
	bool once_each, receipts, awake;
};

#define AT(field) offsetof(struct settings, field)

/* clang-format off */
static const struct option table[] = {
	{.name = "devices", .type = OPTION_NUMBER, .offset = AT(devices), .initial = "25", .min = 1, .max = DEVICES_MAX,
		.help = "how many devices, the first of the directory's certificates by name"},
	{.name = "pki", .type = OPTION_PATH, .offset = AT(pki), .required = true,
		.help = "directory with devices/<ueid>.crt and .key, as deploy/provision makes it"},
	{.name = "ueids", .type = OPTION_PATH, .offset = AT(ueids),
		.help = "file with the devices' ueids, one a line, instead of all certificates"},
	{.name = "state", .type = OPTION_PATH, .offset = AT(state), .required = true,
		.help = "directory for the devices' own states"},
	{.name = "broker", .type = OPTION_TEXT, .offset = AT(broker), .initial = "ssl://localhost:8883", .help = "the broker"},
	{.name = "ca", .type = OPTION_PATH, .offset = AT(ca), .help = "PEM file of the broker's authority (default: operator-ca.crt of pki)"},
	{.name = "receipt_ca", .type = OPTION_PATH, .offset = AT(receipt_ca),
		.help = "PEM file of the receipts' authority (default: operator-ca.crt of pki)"},
	{.name = "interval", .type = OPTION_SECONDS, .offset = AT(interval), .initial = "60s", .min = LIMIT_INTERVAL_MIN, .max = LIMIT_INTERVAL,
		.help = "time between two reports of a device"},
	{.name = "start_ms", .type = OPTION_NUMBER, .offset = AT(start_ms), .initial = "15", .min = 0, .max = 60000,
		.help = "milliseconds between two devices' first connections"},
	{.name = "life", .type = OPTION_NUMBER, .offset = AT(life), .initial = "40", .min = 0, .max = 1000,
		.help = "changes per thousand reports: updates, drift, silence; 0: nothing ever happens"},
	{.name = "awake", .type = OPTION_FLAG, .offset = AT(awake), .initial = "no", .help = "no device ever falls silent"},
	{.name = "keep_alive", .type = OPTION_SECONDS, .offset = AT(keep_alive), .initial = "30s", .min = 5, .max = 3600,
		.help = "the broker is pinged when nothing else was sent for so long"},
	{.name = "backoff_max", .type = OPTION_SECONDS, .offset = AT(backoff_max), .initial = "30s", .min = 1, .max = 3600,
		.help = "the longest wait between two attempts to connect, or the interval when that is less"},
	{.name = "seed", .type = OPTION_NUMBER, .offset = AT(seed), .initial = "1", .min = 0, .max = INT64_MAX,
		.help = "what models, firmware and lives follow from"},
	{.name = "spool_size", .type = OPTION_BYTES, .offset = AT(spool_size), .initial = "2M", .min = 65536, .max = INT64_C(1) << 30,
		.help = "bytes of unsent reports that a device keeps"},
	{.name = "journal", .type = OPTION_PATH, .offset = AT(journal), .help = "file for one line per report: ueid epoch seq sha256"},
	{.name = "once_each", .type = OPTION_FLAG, .offset = AT(once_each), .help = "end when each device's first report was taken over"},
	{.name = "receipts", .type = OPTION_FLAG, .offset = AT(receipts), .help = "with once_each: wait for the collector's receipts too"},
	{.name = "log_level", .type = OPTION_CHOICE, .offset = AT(log_level), .initial = "warning", .choices = "error|warning|info|debug",
		.help = "the least of what is logged"},
};
/* clang-format on */
#define OPTIONS (sizeof table / sizeof *table)

static const struct program program = {
	.name = "fleetstate-sim",
	.usage = "fleetstate-sim --pki directory --state directory [--option value ...]",
	.table = table,
	.options = OPTIONS,
};

struct sim {
	struct settings settings;
	struct fleet fleet;
	char ca[512];
	struct ueid *ueids;
	struct device **devices;
	int64_t *due;
	struct pollfd *fds; /* one a device, and the signals at the end */
	size_t len;
	int signals;
	bool stop;
};

/* ---- which devices ---- */

static int
compare_ueid(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct ueid));
}

static void
add_ueid(struct sim *sim, const char *name, size_t len)
{
	if (sim->len < DEVICES_MAX && ueid_parse((struct slice){(const uint8_t *)name, len}, &sim->ueids[sim->len]))
		sim->len++;
}

static int
ueids_of_file(struct sim *sim)
{
	char line[128];
	FILE *f = fopen(sim->settings.ueids, "re");
	if (f == NULL)
		return -1;
	while (fgets(line, sizeof line, f) != NULL)
		add_ueid(sim, line, strcspn(line, "\n"));
	fclose(f);
	return 0;
}

static int
ueids_of_pki(struct sim *sim)
{
	char path[512];
	snprintf(path, sizeof path, "%s/devices", sim->settings.pki);
	DIR *d = opendir(path);
	if (d == NULL)
		return -1;
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		size_t len = strlen(e->d_name);
		if (len == UEID_HEX - 1 + 4 && strcmp(e->d_name + len - 4, ".crt") == 0)
			add_ueid(sim, e->d_name, len - 4);
	}
	closedir(d);
	qsort(sim->ueids, sim->len, sizeof *sim->ueids, compare_ueid);
	return 0;
}

static int
find_ueids(struct sim *sim)
{
	sim->ueids = calloc(DEVICES_MAX, sizeof *sim->ueids);
	if (sim->ueids == NULL)
		return -1;
	bool listed = sim->settings.ueids != NULL;
	if ((listed ? ueids_of_file(sim) : ueids_of_pki(sim)) != 0) {
		log_error("can't list the devices: %s", strerror(errno));
		return -1;
	}
	if (sim->len < (size_t)sim->settings.devices && !listed) {
		log_error("too few certificates devices=%zu wanted=%d", sim->len, (int)sim->settings.devices);
		return -1;
	}
	if (sim->len > (size_t)sim->settings.devices)
		sim->len = (size_t)sim->settings.devices;
	return 0;
}

/* ---- start ---- */

static int
raise_limit(size_t devices)
{
	struct rlimit limit;
	rlim_t want = devices * FDS_PER_DEVICE + 64;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return -1;
	if (limit.rlim_cur >= want)
		return 0;
	limit.rlim_cur = want;
	if (limit.rlim_max < want)
		limit.rlim_max = want;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return 0;
	log_error("too few file descriptors wanted=%lu: raise ulimit -n", (unsigned long)want);
	return -1;
}

static int
open_signals(struct sim *sim)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	sim->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return sim->signals >= 0 ? 0 : -1;
}

static int
open_fleet(struct sim *sim)
{
	const struct settings *s = &sim->settings;
	char error[ERROR_SIZE];
	snprintf(sim->ca, sizeof sim->ca, "%s/operator-ca.crt", s->pki);
	sim->fleet = (struct fleet){
		.pki = s->pki,
		.state = s->state,
		.broker = s->broker,
		.ca = s->ca != NULL ? s->ca : sim->ca,
		.interval = (uint32_t)s->interval,
		.spool_size = (size_t)s->spool_size,
		.seed = (uint64_t)s->seed,
		.life = (unsigned)s->life,
		.awake = s->awake,
		.keep_alive = (unsigned)s->keep_alive,
		.backoff_max_ms = (unsigned)s->backoff_max * 1000,
	};
	if (mkdir(s->state, 0700) != 0 && errno != EEXIST) {
		log_error("can't make %s: %s", s->state, strerror(errno));
		return -1;
	}
	sim->fleet.trust = receipt_trust_open(s->receipt_ca != NULL ? s->receipt_ca : sim->ca, error);
	if (sim->fleet.trust != NULL && s->journal != NULL)
		sim->fleet.journal = journal_open(s->journal, error);
	if (sim->fleet.trust == NULL || (s->journal != NULL && sim->fleet.journal == NULL)) {
		log_error("%s", error);
		return -1;
	}
	return 0;
}

static int
make_devices(struct sim *sim)
{
	int64_t now = monotonic_ms();
	sim->devices = calloc(sim->len, sizeof(struct device *));
	sim->due = calloc(sim->len, sizeof *sim->due);
	sim->fds = calloc(sim->len + 1, sizeof *sim->fds);
	if (sim->devices == NULL || sim->due == NULL || sim->fds == NULL)
		return -1;
	for (size_t i = 0; i < sim->len; i++)
		if (!(sim->devices[i] =
			      device_new(&sim->fleet, &sim->ueids[i], now, (int64_t)i * sim->settings.start_ms)))
			return -1;
	return 0;
}

/* ---- the loop ---- */

static int
step_devices(struct sim *sim, int64_t now, int64_t *next)
{
	*next = INT64_MAX;
	for (size_t i = 0; i < sim->len; i++) {
		if (now >= sim->due[i] || sim->fds[i].revents != 0)
			sim->due[i] = device_step(sim->devices[i], now);
		if (sim->due[i] < 0)
			return -1;
		if (sim->due[i] < *next)
			*next = sim->due[i];
		sim->fds[i] = (struct pollfd){.fd = device_fd(sim->devices[i]), .events = POLLIN};
	}
	return 0;
}

static bool
all_done(const struct sim *sim)
{
	for (size_t i = 0; i < sim->len; i++)
		if (!device_done(sim->devices[i], sim->settings.receipts))
			return false;
	return true;
}

static int
loop(struct sim *sim)
{
	int64_t began = monotonic_ms(), now = began, next;
	while (!sim->stop) {
		if (step_devices(sim, now, &next) != 0)
			return -1;
		if (sim->settings.once_each && all_done(sim))
			return 0;
		if (sim->settings.once_each && now - began > ONCE_MS) {
			log_error("not all first reports were taken over in time");
			return -1;
		}
		sim->fds[sim->len] = (struct pollfd){.fd = sim->signals, .events = POLLIN};
		int64_t wait = next - now < 1000 ? next - now : 1000;
		if (poll(sim->fds, sim->len + 1, wait > 0 ? (int)wait : 0) < 0 && errno != EINTR)
			return -1;
		sim->stop = sim->fds[sim->len].revents != 0;
		now = monotonic_ms();
	}
	return 0;
}

static void
print_tally(const struct sim *sim)
{
	struct tally tally = {0};
	for (size_t i = 0; i < sim->len; i++)
		if (sim->devices != NULL && sim->devices[i] != NULL)
			device_tally(sim->devices[i], &tally);
	printf("devices=%lu connected=%lu asleep=%lu pending=%lu dropped=%lu", tally.devices, tally.connected,
	       tally.asleep, tally.pending, tally.dropped);
	for (size_t i = 0; i < COUNTERS; i++)
		printf(" %s=%lu", counter_name((enum counter)i), tally.counters[i]);
	printf("\n");
}

static void
stop(struct sim *sim)
{
	for (size_t i = 0; sim->devices != NULL && i < sim->len; i++)
		device_free(sim->devices[i], 200);
	receipt_trust_free(sim->fleet.trust);
	journal_close(sim->fleet.journal);
	free(sim->devices);
	free(sim->due);
	free(sim->fds);
	free(sim->ueids);
	options_free(table, OPTIONS, &sim->settings);
}

int
main(int argc, char **argv)
{
	struct sim sim = {.signals = -1};
	enum log_level level;
	log_open("fleetstate-sim", LOG_LEVEL_INFO);
	int action = program_load(&program, &sim.settings, argc, argv);
	if (action != PROGRAM_RUN)
		return action == PROGRAM_DONE ? 0 : 2;
	if (log_level_parse(sim.settings.log_level, &level))
		log_open("fleetstate-sim", level);
	int rc = 1;
	if (find_ueids(&sim) == 0 && raise_limit(sim.len) == 0 && open_signals(&sim) == 0 && open_fleet(&sim) == 0 &&
	    make_devices(&sim) == 0) {
		rc = loop(&sim) == 0 ? 0 : 1;
		print_tally(&sim);
	}
	stop(&sim);
	return rc;
}
