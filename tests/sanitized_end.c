/*
 * Linked into the programs of a sanitized build. paho says that it is done just before its threads end, and what OpenSSL keeps for a thread goes with the
 * thread's very end; unless the process ends in between, and OpenSSL cleans itself up first. Then a leak checker finds it lost. So the process
 * waits here for its threads.
 */
#include <dirent.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <time.h>

#define TRIES 1000 /* milliseconds, where a thread stays for good */

static int
count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int n = 0;

	if (tasks == NULL)
		return 1;
	for (struct dirent *e; (e = readdir(tasks)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(tasks);
	return n;
}

static void
await_threads(void)
{
	for (int i = 0; i < TRIES && count_threads() > 1; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* What is registered later is called earlier: before OpenSSL's. */
__attribute__((constructor)) static void
wait_at_exit(void)
{
	(void)OPENSSL_init_crypto(0, NULL);
	(void)atexit(await_threads);
}
