/*
 * fleetstate-collector: takes the fleet's reports from the broker, verifies, stores and answers them, and serves what they say over HTTP.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/migrate.h"
#include "collector/pipeline.h"
#include "collector/serve.h"
#include "collector/settings.h"
#include "collector/tls.h"
#include "schema/log.h"

static void
open_log(const struct settings *settings)
{
	enum log_level level = LOG_LEVEL_INFO;

	(void)log_level_parse(settings->log_level, &level);
	log_open("fleetstate-collector", level);
}

/* Blocked before the first thread is made, so that only the loop below sees them. */
static int
open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int
open_database(const struct settings *settings)
{
	if (setting_given(settings->database_owner) != NULL && migrate_run(settings->database_owner) < 0)
		return -1;
	return migrate_check(settings->database);
}

/* Of the settings only the log level can change while we run, and what lies in the files of TLS; trust anchors are read again by themselves. */
static void
reload(struct tls *tls, int argc, char **argv)
{
	struct settings fresh;

	sd_notify(0, "RELOADING=1");
	if (settings_load(&fresh, argc, argv) == PROGRAM_RUN)
		open_log(&fresh);
	else
		log_error("reload: the settings are as before");
	settings_free(&fresh);
	if (tls != NULL)
		tls_reload(tls);
	sd_notify(0, "READY=1");
}

/* Until a signal says that it is enough. */
static void
loop(int signals, struct tls *tls, int argc, char **argv)
{
	uint64_t watchdog_us = 0;
	int timeout = sd_watchdog_enabled(0, &watchdog_us) > 0 ? (int)(watchdog_us / 2000) : -1;

	for (;;) {
		struct pollfd p = {.fd = signals, .events = POLLIN};
		struct signalfd_siginfo info;

		sd_notify(0, "WATCHDOG=1");
		if (poll(&p, 1, timeout) <= 0 || read(signals, &info, sizeof info) != (ssize_t)sizeof info)
			continue;
		if (info.ssi_signo != SIGHUP)
			return;
		reload(tls, argc, argv);
	}
}

static int
run(const struct settings *settings, int argc, char **argv)
{
	bool has_tls = setting_given(settings->http_certificate) != NULL;
	struct pipeline *pipeline = NULL;
	struct serve *serve = NULL;
	struct tls *tls = NULL;
	struct readiness checks[3];
	int signals = open_signals(), rc = 1;

	if (signals < 0 || (has_tls && (tls = tls_open(settings)) == NULL) || open_database(settings) < 0)
		goto out;
	pipeline = pipeline_start(settings, tls);
	if (pipeline == NULL)
		goto out;
	checks[0] = (struct readiness){"leases", pipeline_leases_ready, pipeline};
	checks[1] = (struct readiness){"broker", pipeline_broker_ready, pipeline};
	checks[2] = (struct readiness){"clock", clock_ready, NULL};
	serve = serve_start(settings, tls, checks, sizeof checks / sizeof checks[0]);
	if (serve == NULL)
		goto out;
	log_info("collector %s started", settings->name);
	sd_notify(0, "READY=1");
	loop(signals, tls, argc, argv);
	sd_notify(0, "STOPPING=1");
	log_info("stopping");
	rc = 0;
out:
	serve_stop(serve);
	pipeline_stop(pipeline);
	tls_free(tls);
	if (signals >= 0)
		close(signals);
	return rc;
}

int
main(int argc, char **argv)
{
	struct settings settings;
	int action, rc;

	log_open("fleetstate-collector", LOG_LEVEL_INFO);
	action = settings_load(&settings, argc, argv);
	if (action != PROGRAM_RUN)
		return action == PROGRAM_DONE ? 0 : 2;
	open_log(&settings);
	rc = run(&settings, argc, argv);
	settings_free(&settings);
	return rc;
}
