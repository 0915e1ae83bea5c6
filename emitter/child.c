#include "emitter/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECE 65536

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define OWN_ARCH AUDIT_ARCH_ARM
#elif defined(__riscv)
#define OWN_ARCH AUDIT_ARCH_RISCV64
#elif defined(__i386__)
#define OWN_ARCH AUDIT_ARCH_I386
#endif

/* What reading a file never needs: to start something, to talk to others, to change anything. */
static const unsigned forbidden[] = {
	SYS_execve,
	SYS_execveat,
	SYS_clone,
	SYS_clone3,
	SYS_socket,
	SYS_connect,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_kill,
	SYS_tkill,
	SYS_tgkill,
	SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo,
	SYS_prlimit64,
	SYS_bpf,
	SYS_mount,
	SYS_unshare,
	SYS_setns,
	SYS_openat2,
	SYS_open_by_handle_at,
	SYS_unlinkat,
	SYS_renameat2,
	SYS_linkat,
	SYS_symlinkat,
	SYS_mkdirat,
	SYS_mknodat,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fchownat,
	SYS_utimensat,
	SYS_truncate,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_fsetxattr,
	SYS_removexattr,
	SYS_lremovexattr,
	SYS_fremovexattr,
#ifdef SYS_pidfd_send_signal
	SYS_pidfd_send_signal,
#endif
#ifdef SYS_io_uring_setup
	SYS_io_uring_setup,
#endif
#ifdef SYS_fork
	SYS_fork,
	SYS_vfork,
	SYS_creat,
	SYS_unlink,
	SYS_rename,
	SYS_link,
	SYS_symlink,
	SYS_mkdir,
	SYS_rmdir,
	SYS_mknod,
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
	SYS_utime,
	SYS_utimes,
	SYS_futimesat,
#endif
#ifdef SYS_renameat
	SYS_renameat,
#endif
};
#define FORBIDDEN (sizeof forbidden / sizeof forbidden[0])

#define SAY(code, k) ((struct sock_filter)BPF_STMT(code, k))
#define IF(k, yes, no) ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no))
#define LOAD(field) SAY(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(what) SAY(BPF_RET | BPF_K, what)

/* Where the kernel knows no filters the other limits have to do. */
static void
confine(void)
{
#ifdef OWN_ARCH
	struct sock_filter program[2 * FORBIDDEN + 16];
	struct sock_fprog all = {0, program};
	unsigned short n = 0;

	program[n++] = LOAD(arch);
	program[n++] = IF(OWN_ARCH, 1, 0);
	program[n++] = ANSWER(SECCOMP_RET_KILL_PROCESS);
	program[n++] = LOAD(nr);
	/* x32, whose system calls are the same ones under other numbers. */
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
	program[n++] = ANSWER(SECCOMP_RET_KILL_PROCESS);
	for (size_t i = 0; i < FORBIDDEN; i++) {
		program[n++] = IF(forbidden[i], 0, 1);
		program[n++] = ANSWER(SECCOMP_RET_ERRNO | EPERM);
	}
	/* Opening to write is refused as on a read-only file system; the flags of `open` are its second argument, of `openat` its third. */
	program[n++] = IF(SYS_openat, 2, 0);
#ifdef SYS_open
	program[n++] = IF(SYS_open, 3, 0);
#else
	program[n++] = ANSWER(SECCOMP_RET_ALLOW);
#endif
	program[n++] = ANSWER(SECCOMP_RET_ALLOW);
	program[n++] = LOAD(args[2]);
	program[n++] = SAY(BPF_JMP | BPF_JA, 1);
	program[n++] = LOAD(args[1]);
	program[n++] =
		(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1);
	program[n++] = ANSWER(SECCOMP_RET_ERRNO | EACCES);
	program[n++] = ANSWER(SECCOMP_RET_ALLOW);
	all.len = n;
	(void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all);
#endif
}

static int
limit(unsigned resource, rlim_t most)
{
	struct rlimit old, wanted = {most, most};

	if (getrlimit(resource, &old) < 0)
		return -1;
	if (old.rlim_max != RLIM_INFINITY && old.rlim_max < most)
		wanted.rlim_cur = wanted.rlim_max = old.rlim_max;
	return setrlimit(resource, &wanted);
}

#ifndef SANITIZED
/* What this process has mapped already counts too. */
static rlim_t
mapped(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file) {
		if (fscanf(file, "%lu", &pages) != 1)
			pages = 0;
		fclose(file);
	}
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}
#endif

static int
settle(void)
{
	if (limit(RLIMIT_CPU, CHILD_SECONDS) < 0 || limit(RLIMIT_FSIZE, 0) < 0 || limit(RLIMIT_CORE, 0) < 0)
		return -1;
#ifndef SANITIZED
	if (limit(RLIMIT_AS, mapped() + CHILD_MEMORY) < 0)
		return -1;
#endif
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return 0;
}

static void
close_above(int last)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)last + 1, UINT_MAX, 0) == 0)
		return;
#endif
	for (int fd = last + 1; fd < 1024; fd++)
		close(fd);
}

/* The first descriptors of the child, behind the three that all have. */
enum { OUT = 3, TOLD, INPUT };

/* Each goes where it belongs by way of a place above all of them, since one may stand where another belongs. */
static bool
arrange(int out, int told, int input)
{
	int nothing = open("/dev/null", O_RDWR), above_out = fcntl(out, F_DUPFD, INPUT + 1),
	    above_told = fcntl(told, F_DUPFD, INPUT + 1),
	    above_input = input < 0 ? -1 : fcntl(input, F_DUPFD, INPUT + 1);

	if (nothing < 0 || above_out < 0 || above_told < 0 || (input >= 0 && above_input < 0))
		return false;
	for (int fd = 0; fd < OUT; fd++)
		if (nothing != fd && dup2(nothing, fd) < 0)
			return false;
	if (dup2(above_out, OUT) < 0 || dup2(above_told, TOLD) < 0 || (input >= 0 && dup2(above_input, INPUT) < 0))
		return false;
	close_above(input < 0 ? TOLD : INPUT);
	return true;
}

/* Signals that this process handles would run its handlers in the child too. */
static _Noreturn void
be_child(const struct child *child, int out, int told, pid_t parent)
{
	struct sigaction initial = {.sa_handler = SIG_DFL};
	char why[CHILD_WHY] = "";
	sigset_t none;
	int result = -1;

	for (int signal = 1; signal < NSIG; signal++)
		(void)sigaction(signal, &initial, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || !arrange(out, told, child->input))
		_exit(1);
	if (settle() < 0) {
		snprintf(why, sizeof why, "the child's limits could not be set: %s", strerror(errno));
	} else {
		confine();
		result = child->work(child->context, INPUT, OUT, why);
	}
	if (result < 0 && write(TOLD, why, strlen(why)) < 0)
		_exit(2);
	_exit(result < 0 ? 1 : 0);
}

int
child_write(int out, struct slice text)
{
	while (text.len > 0) {
		ssize_t n = write(out, text.at, text.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		text.at += n;
		text.len -= (size_t)n;
	}
	return 0;
}

static int64_t
now_ms(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * INT64_C(1000) + at.tv_nsec / 1000000;
}

/* 1: to its end; 0: what takes it has had enough; -1: too much; -3: too long. */
static int
pump(const struct child *child, int from, char why[CHILD_WHY])
{
	int64_t until = now_ms() + CHILD_SECONDS * 1000, left;
	uint8_t *piece = malloc(PIECE);
	size_t taken = 0;
	int result = -1;

	if (!piece)
		return -1;
	for (;;) {
		struct pollfd wait = {.fd = from, .events = POLLIN};
		ssize_t n;
		int ready;

		left = until - now_ms();
		ready = left > 0 ? poll(&wait, 1, (int)left) : 0;
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0) {
			snprintf(why, CHILD_WHY, "reading takes longer than %d s", CHILD_SECONDS);
			result = -3;
			break;
		}
		n = read(from, piece, PIECE);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			result = n == 0 ? 1 : -1;
			break;
		}
		taken += (size_t)n;
		if (taken > CHILD_OUTPUT) {
			snprintf(why, CHILD_WHY, "it holds more than %d MiB", CHILD_OUTPUT / 1024 / 1024);
			break;
		}
		if (!child->take(child->taker, (struct slice){piece, (size_t)n})) {
			result = 0;
			break;
		}
	}
	free(piece);
	return result;
}

static void
hear(int from, int status, char why[CHILD_WHY])
{
	ssize_t n = read(from, why, CHILD_WHY - 1);

	if (n > 0)
		why[n] = '\0';
	else if (WIFSIGNALED(status))
		snprintf(why, CHILD_WHY, "the library that reads it was ended by signal %d", WTERMSIG(status));
	else
		snprintf(why, CHILD_WHY, "the library that reads it gave up");
}

int
child_run(const struct child *child, char why[CHILD_WHY])
{
	int out[2] = {-1, -1}, told[2] = {-1, -1}, result = -1, status = 0;
	pid_t parent = getpid(), pid = -1;

	snprintf(why, CHILD_WHY, "no memory");
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(told, O_CLOEXEC | O_NONBLOCK) < 0)
		goto done;
	pid = fork();
	if (pid == 0)
		be_child(child, out[1], told[1], parent);
	if (pid < 0)
		goto done;
	close(out[1]);
	close(told[1]);
	out[1] = told[1] = -1;
	result = pump(child, out[0], why);
	if (result < 1)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (result == 1 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
		hear(told[0], status, why);
		result = WIFSIGNALED(status) ? -3 : -1;
	}
done:
	if (pid < 0)
		snprintf(why, CHILD_WHY, "no process to read it in: %s", strerror(errno));
	for (size_t i = 0; i < 2; i++) {
		if (out[i] >= 0)
			close(out[i]);
		if (told[i] >= 0)
			close(told[i]);
	}
	if (pid < 0)
		return -2;
	return result < 0 ? result : 0;
}
