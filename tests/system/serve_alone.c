/* The HTTP interface without a pipeline, for tests that put rows into the database themselves: serve-alone URI PORT. SIGUSR1 makes its one own
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

int
main(int argc, char **argv)
{
	static const struct readiness checks[] = {{"pipeline", is_ready, NULL}};
	struct settings settings = {.http_listen = (char[]){"127.0.0.1"}, .http_threads = 2};
	struct serve *serve;
	sigset_t signals;
	int got;

	if (argc != 3)
		return 2;
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
