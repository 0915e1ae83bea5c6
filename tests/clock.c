/*
 * A wall clock that can be set for one program, preloaded: the seconds in the file TEST_CLOCK are added to what the kernel says. The file is
 * mapped, so that a jump shows at once and costs no system call, which a confined emitter could not make. Only the wall clock jumps, as when
 * somebody sets it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ON_MONOTONIC 2U /* in a condition's __wrefs: glibc's mark of the clock that it was made for */

static const int64_t none, *offset = &none;

int clock_gettime(clockid_t, struct timespec *);
int gettimeofday(struct timeval *restrict, void *restrict);
time_t time(time_t *);
int pthread_cond_timedwait(pthread_cond_t *restrict, pthread_mutex_t *restrict, const struct timespec *restrict);
int sem_timedwait(sem_t *restrict, const struct timespec *restrict);

__attribute__((constructor)) static void
map_offset(void)
{
	const char *file = getenv("TEST_CLOCK");
	int fd = file != NULL ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		offset = at;
	close(fd);
}

static int64_t
ahead(void)
{
	return __atomic_load_n(offset, __ATOMIC_RELAXED);
}

int
clock_gettime(clockid_t clock, struct timespec *out)
{
	static int (*real)(clockid_t, struct timespec *);
	int rc;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	rc = real(clock, out);
	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		out->tv_sec += ahead();
	return rc;
}

int
gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
	return 0;
}

time_t
time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out != NULL)
		*out = now.tv_sec;
	return now.tv_sec;
}

/* Waits until a time of the wall clock: the kernel's own is meant. */
static struct timespec
of_the_kernel(const struct timespec *end)
{
	return (struct timespec){end->tv_sec - ahead(), end->tv_nsec};
}

int
pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict lock,
		       const struct timespec *restrict end)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec then = (cond->__data.__wrefs & ON_MONOTONIC) != 0 ? *end : of_the_kernel(end);

	/* There is an older one under the same name, of another layout. The thread sanitizer has one of its own, which has to see it. */
	if (real == NULL && dlsym(RTLD_DEFAULT, "__tsan_init") == NULL)
		*(void **)&real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
	return real(cond, lock, &then);
}

int
sem_timedwait(sem_t *restrict sem, const struct timespec *restrict end)
{
	static int (*real)(sem_t *, const struct timespec *);
	struct timespec then = of_the_kernel(end);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "sem_timedwait");
	return real(sem, &then);
}
