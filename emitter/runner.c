#include "emitter/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "emitter/durable.h"
#include "emitter/text.h"

#define SLACK_MS 1000 /* for starting, killing and answering */
#define PROCESSES 64 /* that one executable and its children may have; there are others of the same user */

struct runner {
	int socket;
	pid_t pid;
};

struct answer {
	int32_t ran; /* whether text is what it printed, or why not */
	char text[ERROR_SIZE + RUNNER_OUTPUT];
};

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- in the other process ---- */

static void __attribute__((format(printf, 2, 3))) refuse(struct answer *answer, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(answer->text, sizeof answer->text, format, arguments);
	va_end(arguments);
	answer->ran = 0;
}

/* What is checked is what will run: the descriptor stays open. -1 and why. */
static int
open_executable(const char *path, struct answer *answer)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		refuse(answer, "%s", strerror(errno));
	else if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		refuse(answer, "not a regular file");
	else if (st.st_uid != 0)
		refuse(answer, "not root's own");
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		refuse(answer, "others than root may write it");
	else if (!(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		refuse(answer, "not executable");
	else
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* In the child. A script's interpreter opens the descriptor again, so that it must stay open over exec. */
static void __attribute__((noreturn)) execute(int fd, const char *path, int out)
{
	static char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
	const struct rlimit none = {0, 0}, few = {PROCESSES, PROCESSES}, second = {RUNNER_MS / 1000, RUNNER_MS / 1000};
	char *const arguments[] = {(char *)(uintptr_t)path, NULL};
	int null = open("/dev/null", O_RDWR);
	sigset_t nothing;

	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&nothing);
	(void)sigprocmask(SIG_SETMASK, &nothing, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGHUP, SIG_DFL);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)setrlimit(RLIMIT_FSIZE, &none);
	(void)setrlimit(RLIMIT_CPU, &second);
	if (geteuid() != 0)
		(void)setrlimit(RLIMIT_NPROC, &few);
	if (null >= 0 && dup2(null, 0) == 0 && dup2(out, 1) == 1 && dup2(null, 2) == 2 && dup2(fd, 3) == 3 &&
	    chdir("/") == 0) {
		(void)close_range(4, UINT_MAX, 0);
		(void)syscall(SYS_execveat, 3, "", arguments, environment, AT_EMPTY_PATH);
	}
	_exit(127);
}

/* Reads until the end of the output. Returns its length, or -1 and why. */
static ssize_t
gather(int fd, char *out, size_t size, struct answer *answer)
{
	int64_t until = now_ms() + RUNNER_MS, left;
	size_t len = 0;

	while ((left = until - now_ms()) > 0) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (poll(&wait, 1, (int)left) <= 0)
			continue;
		got = read(fd, out + len, size - len);
		if (got == 0)
			return (ssize_t)len;
		if (got > 0)
			len += (size_t)got;
		if (len == size) {
			refuse(answer, "prints more than %d bytes", RUNNER_OUTPUT);
			return -1;
		}
	}
	refuse(answer, "took longer than %d s", RUNNER_MS / 1000);
	return -1;
}

/* It may have closed its output and go on: it still has only its time. -1: it had to be killed. */
static int
await_end(pid_t pid, int64_t until, int *status)
{
	const struct timespec moment = {0, 2000000};

	while (waitpid(pid, status, WNOHANG) == 0) {
		if (now_ms() >= until) {
			(void)kill(-pid, SIGKILL);
			(void)waitpid(pid, status, 0);
			return -1;
		}
		nanosleep(&moment, NULL);
	}
	return 0;
}

static bool
is_line(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] < 0x20 || text.at[i] == 0x7f)
			return false;
	return text.len > 0;
}

static void
take_output(struct slice printed, int status, struct answer *answer)
{
	struct slice line = text_trim(printed);

	if (WIFSIGNALED(status))
		refuse(answer, "ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		refuse(answer, "exit status %d", WEXITSTATUS(status));
	else if (!is_line(line))
		refuse(answer, "prints no line of text");
	else {
		memcpy(answer->text, line.at, line.len);
		answer->text[line.len] = '\0';
		answer->ran = 1;
	}
}

static void
run(const char *path, struct answer *answer)
{
	char printed[RUNNER_OUTPUT + 1];
	int64_t until = now_ms() + RUNNER_MS;
	int fd = open_executable(path, answer), pipes[2], status = 0;
	ssize_t len;
	pid_t pid;

	if (fd < 0)
		return;
	if (pipe2(pipes, O_CLOEXEC) != 0) {
		refuse(answer, "%s", strerror(errno));
		close(fd);
		return;
	}
	pid = fork();
	if (pid == 0)
		execute(fd, path, pipes[1]);
	close(fd);
	close(pipes[1]);
	if (pid < 0) {
		refuse(answer, "%s", strerror(errno));
		close(pipes[0]);
		return;
	}
	(void)setpgid(pid, pid);
	len = gather(pipes[0], printed, sizeof printed, answer);
	close(pipes[0]);
	if (await_end(pid, len < 0 ? 0 : until, &status) != 0 && len >= 0)
		refuse(answer, "took longer than %d s", RUNNER_MS / 1000);
	else if (len >= 0)
		take_output((struct slice){(uint8_t *)printed, (size_t)len}, status, answer);
	/* What it left behind in its group. */
	(void)kill(-pid, SIGKILL);
}

/* `refusal` empty: nothing is held any more that an executable must not have. */
static void __attribute__((noreturn)) serve(int socket, const char *refusal)
{
	char path[PATH_MAX];
	struct answer answer;
	ssize_t got;

	while ((got = recv(socket, path, sizeof path - 1, 0)) > 0) {
		memset(&answer, 0, sizeof answer);
		path[got] = '\0';
		if (refusal[0] == '\0')
			run(path, &answer);
		else
			refuse(&answer, "%s", refusal);
		if (send(socket, &answer, sizeof answer, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* The emitter itself could start none any more once it is confined. One that serves is started again when it is killed; when this one is, that one goes on. */
static void __attribute__((noreturn)) keep_serving(int socket, const struct confine_user *user)
{
	char error[ERROR_SIZE] = "";
	int status = -1;
	pid_t pid;

	if (confine_strip(user, error) == 0)
		error[0] = '\0';
	/* Who wants the emitter to read its settings again may signal all of that name. */
	(void)signal(SIGHUP, SIG_IGN);
	while ((pid = fork()) >= 0) {
		if (pid == 0)
			serve(socket, error);
		if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
			_exit(0); /* the emitter is gone */
		nanosleep(&(struct timespec){1, 0}, NULL);
	}
	serve(socket, error);
}

/* ---- in the emitter ---- */

struct runner *
runner_start(const struct confine_user *user, char *error)
{
	struct runner *r = calloc(1, sizeof *r);
	int pair[2];

	if (!r || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		goto fail;
	r->pid = fork();
	if (r->pid == 0) {
		close(pair[0]);
		keep_serving(pair[1], user);
	}
	close(pair[1]);
	r->socket = pair[0];
	if (r->pid > 0)
		return r;
	close(pair[0]);
fail:
	snprintf(error, ERROR_SIZE, "nothing can be run: %s", strerror(errno));
	free(r);
	return NULL;
}

void
runner_stop(struct runner *r)
{
	if (!r)
		return;
	close(r->socket); /* it ends by itself */
	(void)waitpid(r->pid, NULL, 0);
	free(r);
}

/* An answer that came too late belongs to an older question. */
static void
forget_answers(struct runner *r)
{
	struct answer answer;

	while (recv(r->socket, &answer, sizeof answer, MSG_DONTWAIT) > 0)
		;
}

int
runner_run(struct runner *r, const char *path, char out[RUNNER_OUTPUT + 1], char *error)
{
	struct pollfd wait = {.fd = r->socket, .events = POLLIN};
	struct answer answer = {0};

	forget_answers(r);
	if (strlen(path) >= PATH_MAX || send(r->socket, path, strlen(path), MSG_NOSIGNAL) < 0 ||
	    poll(&wait, 1, RUNNER_MS + SLACK_MS) <= 0 ||
	    recv(r->socket, &answer, sizeof answer, 0) != (ssize_t)sizeof answer) {
		snprintf(error, ERROR_SIZE, "the process that runs it does not answer");
		return -2;
	}
	answer.text[sizeof answer.text - 1] = '\0';
	if (answer.ran)
		snprintf(out, RUNNER_OUTPUT + 1, "%.*s", RUNNER_OUTPUT, answer.text);
	else
		snprintf(error, ERROR_SIZE, "%.*s", ERROR_SIZE - 1, answer.text);
	return answer.ran ? 0 : -1;
}
