/* The HTTP interface without a pipeline, for tests that put rows into the database themselves: serve-alone URI PORT [NAME VALUE ...] with numbers for some settings. SIGUSR1 makes its one own
   check of /readyz fail. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/serve.h"
#include "schema/log.h"

static atomic_bool failing;

static bool
is_ready(void *context, char *why)
{
	(void)context;
	if (failing)
		strcpy(why, "told so");
	return !failing;
}

static void
set(struct settings *settings, const char *name, const char *value)
{
	const struct {
		const char *name;
		int64_t *at;
	} rows[] = {{"http_proxies", &settings->http_proxies},
		    {"guess_free", &settings->guess_free},
		    {"guess_delay", &settings->guess_delay},
		    {"guess_window", &settings->guess_window}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strcmp(rows[i].name, name) == 0)
			*rows[i].at = atoll(value);
}

int
main(int argc, char **argv)
{
	static const struct readiness checks[] = {{"pipeline", is_ready, NULL}};
	struct settings settings = {.http_listen = (char[]){"127.0.0.1"}, .http_threads = 2, .preview_ms = 5000};
	struct serve *serve;
	sigset_t signals;
	int got;

	if (argc < 3 || argc % 2 == 0)
		return 2;
	for (int i = 3; i < argc; i += 2)
		set(&settings, argv[i], argv[i + 1]);
	settings.database_api = argv[1];
	settings.http_port = atoi(argv[2]);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	log_open("serve-alone", LOG_LEVEL_WARNING);
	serve = serve_start(&settings, checks, 1);
	if (serve == NULL)
		return 1;
	while (sigwait(&signals, &got) == 0 && got == SIGUSR1)
		failing = true;
	serve_stop(serve);
	return 0;
}
