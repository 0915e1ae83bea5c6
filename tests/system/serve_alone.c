/* The HTTP interface without a pipeline, for tests that put rows into the database themselves: serve-alone URI PORT [--OPTION=VALUE ...]. SIGUSR1 makes its one own check of /readyz fail;
   SIGHUP is as the collector's. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/serve.h"
#include "schema/log.h"

/* Of what has to be given, what is not used here; and nobody waits for whom a test has guess or ask much. */
#define OPTIONS                                                                                                        \
	"--database=-", "--ca=-", "--certificate=-", "--key=-", "--receipt-certificate=-", "--receipt-key=-",          \
		"--guess-free=0", "--quota-requests=0", "--quota-bytes=0", "--quota-exports=0"
#define OPTIONS_MAX 64

static atomic_bool failing;

static bool
is_ready(void *context, char *why)
{
	(void)context;
	if (failing)
		strcpy(why, "told so");
	return !failing;
}

static int
load(struct settings *settings, int argc, char **argv)
{
	char *options[OPTIONS_MAX] = {argv[0], "--config=/dev/null", "--log-level=warning", OPTIONS}, api[1024],
	     port[32];
	int n = 0;

	if (argc < 3 || argc > OPTIONS_MAX / 2)
		return -1;
	while (options[n] != NULL)
		n++;
	snprintf(api, sizeof api, "--database-api=%s", argv[1]);
	snprintf(port, sizeof port, "--http-port=%s", argv[2]);
	options[n++] = api;
	options[n++] = port;
	for (int i = 3; i < argc; i++)
		options[n++] = argv[i];
	return settings_load(settings, n, options) == PROGRAM_RUN ? 0 : -1;
}

static void
run(struct tls *tls, const sigset_t *signals)
{
	int got;

	while (sigwait(signals, &got) == 0 && got != SIGTERM)
		if (got == SIGUSR1)
			failing = true;
		else if (tls != NULL)
			tls_reload(tls);
}

int
main(int argc, char **argv)
{
	static const struct readiness checks[] = {{"pipeline", is_ready, NULL}};
	enum log_level level = LOG_LEVEL_WARNING;
	struct settings settings;
	struct tls *tls = NULL;
	struct serve *serve = NULL;
	sigset_t signals;
	int rc;

	log_open("serve-alone", level);
	if (load(&settings, argc, argv) < 0)
		return 2;
	if (strcmp(settings.receipt_key, "-") == 0) {
		free(settings.receipt_key);
		settings.receipt_key = NULL;
	}
	(void)!log_level_parse(settings.log_level, &level);
	log_open("serve-alone", level);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (settings.http_certificate == NULL || (tls = tls_open(&settings)) != NULL)
		serve = serve_start(&settings, tls, checks, 1);
	if (serve != NULL)
		run(tls, &signals);
	rc = serve == NULL;
	serve_stop(serve);
	tls_free(tls);
	settings_free(&settings);
	return rc;
}
