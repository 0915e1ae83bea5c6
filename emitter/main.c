/*
 * fleetstate-emitter: observes this device, signs what it saw, and publishes it until the collector has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "emitter/compose.h"
#include "emitter/confine.h"
#include "emitter/personal.h"
#include "emitter/runner.h"
#include "emitter/self.h"
#include "emitter/settings.h"
#include "emitter/status.h"
#include "emitter/witness.h"
#include "schema/log.h"

#define STOP_MS 2000 /* for what can still be published */
#define STATUS_MS 1000 /* between two status files */
#define ONCE_MS 10 /* between two looks of --once, for which the next report, that nobody makes, may be due */
#define LARGE (64 * 1024) /* bytes: what goes back to the system as soon as it is freed */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

struct emitter {
	int argc;
	char **argv;
	struct settings settings;
	struct self self;
	struct declared declared;
	struct confine_user user; /* whom to become */
	bool becomes; /* somebody else */
	struct collect *collect;
	struct personal personal;
	struct facts *told; /* what was observed, as it may be told */
	struct receipt_trust *trust;
	struct journal *journal;
	struct pipeline *pipeline;
	struct witness *witness; /* NULL: what is observed is not the running system */
	int64_t events_saved_at;
	int signals;
	bool stop;
	int64_t status_at; /* when the status file may be written again */
	uint64_t status_told[COUNTERS + 2];
};

static uint64_t
wall_seconds(void)
{
	time_t now = time(NULL);
	return now > 0 ? (uint64_t)now : 0;
}

/* ---- opening, in order ---- */

static int
open_log(const struct settings *settings)
{
	enum log_level level;
	if (!log_level_parse(settings->log_level, &level))
		return -1;
	log_open("fleetstate-emitter", level);
	return 0;
}

static struct declared
declared(const struct emitter *e)
{
	const struct settings *s = &e->settings;
	return (struct declared){
		.self = &e->self,
		.vendor = s->vendor,
		.hwmodel = s->hwmodel,
		.hwversion = s->hwversion,
		.serial = s->serial,
		.oemid = s->oemid,
		.swname = s->swname,
		.swversion = s->swversion,
		.config_files = s->config_files,
		.baseline = s->baseline,
		.baseline_key = s->baseline_key,
		.default_passwords = s->default_passwords,
		.wipe = s->wipe,
		.expected_interfaces = s->expected_interfaces,
		.expected_sockets = s->expected_sockets,
		.measured_files = s->measured_files,
		.tpm = s->tpm,
	};
}

static int
open_collect(struct emitter *e)
{
	const struct settings *s = &e->settings;
	e->self.settings = s;
	e->self.configuration = settings_file(e->argc, e->argv);
	e->declared = declared(e);
	e->collect = collect_new(s->root, &e->declared);
	if (e->collect != NULL)
		return 0;
	log_error("can't observe root=\"%s\" error=\"%s\"", s->root, strerror(errno));
	return -1;
}

/* Executables of the maker's are run by a process that was never confined, and never had a capability. */
static int
open_runner(struct emitter *e)
{
	char error[ERROR_SIZE] = "";
	if (!self_is_set(e->settings.declare_run))
		return 0;
	e->self.runner = runner_start(e->becomes ? &e->user : NULL, error);
	if (e->self.runner != NULL)
		return 0;
	log_error("%s", error);
	return -1;
}

/* Before anything of the emitter's own is opened, so that it opens no more than its user may. */
static int
become_user(struct emitter *e)
{
	const struct settings *s = &e->settings;
	char error[ERROR_SIZE] = "";
	if (!e->becomes)
		return 0;
	if (confine_hand_over(s->state_dir, &e->user, error) == 0 && confine_become(&e->user, error) == 0)
		return 0;
	log_error("%s", error);
	return -1;
}

static int
find_user(struct emitter *e)
{
	char error[ERROR_SIZE] = "";
	e->becomes = self_is_set(e->settings.user);
	if (!e->becomes || confine_find_user(e->settings.user, &e->user, error) == 0)
		return 0;
	log_error("%s", error);
	return -1;
}

/* When all is open. What is opened again later, such as keys after SIGHUP, needs no other calls. On a kernel that can't do it the emitter goes on, and
   its report says so. */
static void
confine(const struct emitter *e)
{
	char error[ERROR_SIZE] = "";
	if (e->settings.seccomp && confine_calls(error) != 0)
		log_warning("%s", error);
}

static int
open_signals(struct emitter *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		e->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return e->signals >= 0 ? 0 : -1;
}

/* The kernel's name of this boot. Without one each start counts as a boot. */
static void
read_boot_id(uint8_t boot_id[BOOT_ID_SIZE])
{
	char text[40] = "", hex[2 * BOOT_ID_SIZE + 1];
	size_t len = 0;
	FILE *f = fopen(BOOT_ID_FILE, "re");
	if (f != NULL) {
		len = fread(text, 1, sizeof text, f);
		fclose(f);
	}
	size_t digits = 0;
	for (size_t i = 0; i < len && digits < 2 * BOOT_ID_SIZE; i++)
		if (text[i] != '-' && text[i] != '\n')
			hex[digits++] = text[i];
	if (!hex_parse((struct slice){(uint8_t *)hex, digits}, boot_id, BOOT_ID_SIZE))
		arc4random_buf(boot_id, BOOT_ID_SIZE);
}

/* The secret that hides names lies with the state; without a state (NULL) it is made for this run. */
static int
open_personal(struct emitter *e, const char *state_dir)
{
	char error[ERROR_SIZE] = "out of memory";
	e->told = facts_new();
	if (e->told != NULL && personal_open(&e->personal, e->settings.personal, state_dir, error) == 0)
		return 0;
	log_error("%s", error);
	return -1;
}

static struct pipeline_settings
pipeline_settings(const struct emitter *e, const struct settings *s)
{
	struct pipeline_settings settings = {
		.state_dir = s->state_dir,
		.spool_size = (size_t)s->spool_size,
		.spool_sync = (uint32_t)s->spool_sync,
		.sign_key = s->sign_key,
		.sign_certificate = s->sign_certificate,
		.interval = (uint32_t)s->interval,
		.publish = {s->broker, s->ca, s->tls_certificate, s->tls_key, (unsigned)s->keep_alive,
			    (unsigned)s->backoff_min * 1000, (unsigned)s->backoff_max * 1000, (unsigned)s->interval},
		.trust = e->trust,
		.journal = e->journal,
	};
	read_boot_id(settings.boot_id);
	return settings;
}

static int
open_pipeline(struct emitter *e)
{
	char error[ERROR_SIZE] = "";
	bool journalled = e->settings.journal != NULL && e->settings.journal[0] != '\0';
	e->trust = receipt_trust_open(e->settings.receipt_ca, error);
	if (e->trust != NULL && journalled)
		e->journal = journal_open(e->settings.journal, error);
	if (e->trust != NULL && (e->journal != NULL || !journalled)) {
		struct pipeline_settings settings = pipeline_settings(e, &e->settings);
		e->pipeline = pipeline_open(&settings, monotonic_ms(), 0, error);
	}
	if (e->pipeline != NULL)
		return 0;
	log_error("%s", error);
	return -1;
}

/* An image does not live: nothing happens there. */
static int
open_witness(struct emitter *e)
{
	uint8_t boot_id[BOOT_ID_SIZE];
	if (strcmp(e->settings.root, "/") != 0)
		return 0;
	read_boot_id(boot_id);
	events_set_personal(pipeline_events(e->pipeline), &e->personal);
	e->witness =
		witness_new(pipeline_events(e->pipeline), pipeline_dir(e->pipeline), e->settings.config_files, boot_id);
	if (e->witness != NULL)
		return 0;
	log_error("out of memory");
	return -1;
}

static void
close_all(struct emitter *e)
{
	witness_free(e->witness);
	pipeline_close(e->pipeline, STOP_MS);
	journal_close(e->journal);
	receipt_trust_free(e->trust);
	if (e->signals >= 0)
		close(e->signals);
	facts_free(e->told);
	collect_free(e->collect);
	runner_stop(e->self.runner);
	settings_free(&e->settings);
}

/* ---- what it does ---- */

static int
observe(struct emitter *e, struct inventory *inventory)
{
	if (e->pipeline != NULL) {
		struct pipeline_status status;
		pipeline_status(e->pipeline, &status);
		e->self.hears = true;
		e->self.receipts_ahead = status.ahead;
	}
	if (collect_sweep(e->collect, inventory) == 0 &&
	    personal_apply(&e->personal, collect_facts(e->collect), e->told) == 0)
		return 0;
	log_error("the sweep ran out of memory");
	return -1;
}

static void
report_now(struct emitter *e, int64_t now)
{
	struct inventory inventory;
	if (observe(e, &inventory) != 0)
		return;
	if (e->witness != NULL)
		witness_sweep(e->witness, collect_facts(e->collect), &inventory, now);
	if (pipeline_report(e->pipeline, e->told, &inventory, now, wall_seconds()) == 0 && e->witness != NULL)
		witness_told(e->witness, &inventory);
}

/* Written when something changed, and not more than once a second; unsynced, so an idle device's flash is left alone. Returns when to come again. */
static int64_t
tell_status(struct emitter *e, int64_t now, bool last)
{
	struct pipeline_status status;
	pipeline_status(e->pipeline, &status);
	if (last)
		status.connected = false;
	uint64_t told[COUNTERS + 2];
	memcpy(told, status.counters, sizeof status.counters);
	told[COUNTERS] = status.connected;
	told[COUNTERS + 1] = status.up_to;
	if (memcmp(told, e->status_told, sizeof told) == 0)
		return INT64_MAX;
	if (now < e->status_at && !last)
		return e->status_at;
	e->status_at = now + STATUS_MS;
	memcpy(e->status_told, told, sizeof told);
	if (status_write(e->settings.state_dir, &status, (uint32_t)e->settings.interval, wall_seconds()) != 0)
		log_debug("status not written error=\"%s\"", strerror(errno));
	return INT64_MAX;
}

/* New settings hold only when all of them do; identity, state and what is observed need a restart. */
static void
reload(struct emitter *e)
{
	struct settings fresh;
	char error[ERROR_SIZE] = "";
	if (settings_load(&fresh, e->argc, e->argv) != PROGRAM_RUN) {
		log_error("settings are wrong: the old ones stay");
		return;
	}
	struct personal personal;
	struct receipt_trust *trust = receipt_trust_open(fresh.receipt_ca, error), *old = e->trust;
	e->trust = trust;
	struct pipeline_settings settings = pipeline_settings(e, &fresh);
	if (trust == NULL || personal_open(&personal, fresh.personal, e->settings.state_dir, error) != 0 ||
	    pipeline_reload(e->pipeline, &settings, error) != 0) {
		log_error("settings are wrong: the old ones stay error=\"%s\"", error);
		e->trust = old;
		receipt_trust_free(trust);
		settings_free(&fresh);
		return;
	}
	receipt_trust_free(old);
	e->personal = personal;
	settings_free(&e->settings);
	e->settings = fresh;
	const struct settings *s = &e->settings;
	e->declared = declared(e);
	collect_forget(e->collect);
	if (e->witness != NULL && witness_declare(e->witness, s->config_files) != 0)
		log_warning("out of memory: the files declared before are watched until the next start");
	(void)open_log(s);
	log_info("settings read again interval=%d broker=%s", (int)s->interval, s->broker);
}

static void
handle_signals(struct emitter *e)
{
	struct signalfd_siginfo info;
	while (read(e->signals, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGHUP)
			reload(e);
		else
			e->stop = true;
	}
}

/* Waits for the pipeline, a signal, or the time. */
static void
wait_until(struct emitter *e, int64_t until)
{
	struct pollfd fds[2 + WITNESS_FDS] = {
		{.fd = e->signals, .events = POLLIN},
		{.fd = pipeline_fd(e->pipeline), .events = POLLIN},
	};
	int64_t now = monotonic_ms();
	nfds_t n = 2;
	if (e->witness != NULL)
		n += witness_fds(e->witness, fds + 2, now, &until);
	int64_t ms = until - now;
	if (ms > INT32_MAX)
		ms = INT32_MAX;
	if (poll(fds, n, ms > 0 ? (int)ms : 0) > 0 && fds[0].revents != 0)
		handle_signals(e);
}

/* What happened is kept at once, but the flash is not worn out by an attack. */
static void
watch(struct emitter *e, int64_t now)
{
	struct events *events = pipeline_events(e->pipeline);
	int64_t delay = e->settings.event_delay * 1000;
	if (e->witness == NULL)
		return;
	witness_look(e->witness, now);
	if (events_pending(events) == 0)
		return;
	pipeline_hasten(e->pipeline, now, delay);
	if (!events_unsaved(events) || now < e->events_saved_at + delay)
		return;
	e->events_saved_at = now;
	if (events_save(events, 0) != 0)
		log_debug("events not saved error=\"%s\"", strerror(errno));
}

/* One turn: what happened, a report when it is due, the status. */
static int64_t
turn(struct emitter *e, int64_t now)
{
	watch(e, now);
	int64_t next = pipeline_tick(e->pipeline, now);
	if (pipeline_due(e->pipeline, now)) {
		report_now(e, now);
		next = pipeline_tick(e->pipeline, now);
	}
	int64_t again = tell_status(e, now, false);
	return again < next ? again : next;
}

static int
run(struct emitter *e)
{
	while (!e->stop)
		wait_until(e, turn(e, monotonic_ms()));
	(void)tell_status(e, monotonic_ms(), true);
	return 0;
}

/* One report. It is taken over when the broker acknowledged it; the receipt is waited for a while longer, and its absence told. */
static int
run_once(struct emitter *e)
{
	int64_t begin = monotonic_ms(), wait = e->settings.once_timeout * 1000, until = begin + wait;
	struct pipeline_status status = {0};
	report_now(e, begin);
	pipeline_status(e->pipeline, &status);
	uint64_t seq = status.counters[COUNTER_REPORTS] > 0 ? status.seq : 0;
	bool acked = false, receipted = false;
	for (int64_t now = begin; seq != 0 && !e->stop && now < until && !receipted; now = monotonic_ms()) {
		int64_t next = pipeline_tick(e->pipeline, now), least = now + ONCE_MS;
		if (e->witness != NULL)
			witness_look(e->witness, now); /* what is not read would wake us up again and again */
		pipeline_status(e->pipeline, &status);
		receipted = pipeline_receipted(e->pipeline, seq);
		if (!acked && status.acked >= seq) {
			acked = true;
			until = now + wait / 3;
		}
		if (!receipted)
			wait_until(e, next < least ? least : next < until ? next : until);
	}
	(void)tell_status(e, monotonic_ms(), true);
	if (seq == 0 || (!acked && !receipted)) {
		log_error("no report was taken over; it stays in the spool seq=%" PRIu64, seq);
		return 1;
	}
	log_info("report taken over seq=%" PRIu64 " receipt=%s", seq, receipted ? "yes" : "no");
	return 0;
}

/* What only the keys and the state directory know: the signer's claims. */
static void
leave_out_signers(json_t *report)
{
	static const char *const claims[] = {"ueid", "epoch", "seq", "bootcount"};
	for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
		(void)json_object_del(report, claims[i]);
}

/* The report as it would be, as far as it is known without keys. */
static int
print_report(struct emitter *e)
{
	struct composer composer = {.wants = WANT_INVENTORY};
	struct composed composed;
	struct inventory inventory;
	if (open_runner(e) != 0 || open_collect(e) != 0 || open_personal(e, NULL) != 0 || observe(e, &inventory) != 0)
		return 1;
	int rc = compose(&composer, e->told, &inventory, (uint32_t)e->settings.interval, 0, wall_seconds(), &composed);
	json_t *json = rc == 0 ? report_json(&composed.report) : NULL;
	if (json != NULL) {
		leave_out_signers(json);
		json_dumpf(json, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(json);
	composed_free(&composed);
	return json != NULL ? 0 : 1;
}

static int
start(struct emitter *e, int (*do_it)(struct emitter *))
{
	const char *state = e->settings.state_dir;
	if (find_user(e) != 0 || open_runner(e) != 0 || become_user(e) != 0 || open_collect(e) != 0 ||
	    open_personal(e, state) != 0 || open_signals(e) != 0 || open_pipeline(e) != 0 || open_witness(e) != 0)
		return 1;
	confine(e);
	return do_it(e);
}

int
main(int argc, char **argv)
{
	struct emitter e = {.argc = argc, .argv = argv, .signals = -1};
	log_open("fleetstate-emitter", LOG_LEVEL_INFO);
	/* A sweep reads a package manager's whole database; left to itself malloc would keep a heap of that size for a program's life. */
	(void)mallopt(M_MMAP_THRESHOLD, LARGE);
	/* Who ignored it before exec would have children leave no exit status. */
	(void)signal(SIGCHLD, SIG_DFL);
	int action = settings_load(&e.settings, argc, argv);
	if (action == PROGRAM_DONE || action == PROGRAM_WRONG)
		return action == PROGRAM_DONE ? 0 : 2;
	int rc = 0;
	if (open_log(&e.settings) != 0)
		rc = 2;
	else if (action == PROGRAM_RUN)
		rc = start(&e, run);
	else if (action == SETTINGS_ONCE)
		rc = start(&e, run_once);
	else if (action == SETTINGS_PRINT)
		rc = print_report(&e);
	else if (action == SETTINGS_STATUS || action == SETTINGS_STATUS_JSON)
		rc = status_show(e.settings.state_dir, action == SETTINGS_STATUS_JSON, wall_seconds());
	close_all(&e);
	return rc;
}
