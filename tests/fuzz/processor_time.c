/*
 * A fuzzer's time is the processor's: it does as much beside other work as alone. After FUZZ_SECONDS of it comes the signal at which libFuzzer ends
 * as at its own limit.
 */
#include <signal.h>
#include <stdlib.h>
#include <time.h>

__attribute__((constructor)) static void
limit_processor_time(void)
{
	const char *seconds = getenv("FUZZ_SECONDS");
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec after = {.it_value.tv_sec = seconds ? atol(seconds) : 0};
	timer_t timer;
	if (after.it_value.tv_sec > 0 &&
	    (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) || timer_settime(timer, 0, &after, NULL)))
		abort();
}
