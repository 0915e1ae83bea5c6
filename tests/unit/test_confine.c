/* What a confined process can't do, and what it still can: each in a child, since there is no way back. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "emitter/confine.h"
#include "schema/key.h"

#define LIMIT_S 20

static char error[256];

/* The exit status of `what` in a confined child; 100: it could not be confined, 101: killed. */
static int
confined(int (*what)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(LIMIT_S);
		_exit(confine_calls(error) == 0 ? what() : 100);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

/* ---- forbidden: 0 if it fails with EPERM ---- */

static int
refused(long result)
{
	return result == -1 && errno == EPERM ? 0 : 1;
}

static int
run_program(void)
{
	char *const words[] = {"true", NULL};

	return refused(execv("/bin/true", words));
}

static int
run_program_by_descriptor(void)
{
	char *const words[] = {"true", NULL};

	return refused(syscall(SYS_execveat, open("/bin/true", O_RDONLY), "", words, words, AT_EMPTY_PATH));
}

static int
listen_on_a_socket(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (s < 0 || bind(s, (struct sockaddr *)&any, sizeof any) != 0)
		return 2;
	return refused(listen(s, 1)) | refused(accept4(s, NULL, NULL, 0));
}

static int
open_a_packet_socket(void)
{
	return refused(socket(AF_PACKET, SOCK_RAW, 0));
}

static int
open_other_families(void)
{
	for (int family = 0; family < 46; family++)
		if (family != AF_UNIX && family != AF_INET && family != AF_INET6 && family != AF_NETLINK &&
		    refused(socket(family, SOCK_DGRAM, 0)))
			return family + 1;
	return 0;
}

static int
mount_something(void)
{
	return refused(mount("none", "/tmp", "tmpfs", 0, NULL)) | refused(umount2("/nowhere", 0)) |
	       refused(chroot("/"));
}

static int
become_another(void)
{
	return refused(syscall(SYS_setuid, 0)) | refused(syscall(SYS_setresuid, 0, 0, 0)) |
	       refused(syscall(SYS_setgroups, 0, NULL)) | refused(syscall(SYS_capset, NULL, NULL));
}

static int
make_a_namespace(void)
{
	return refused(unshare(CLONE_NEWUSER)) |
	       refused(syscall(SYS_clone, CLONE_NEWUSER | 17, NULL, NULL, NULL, NULL));
}

static int
reach_into_others(void)
{
	struct iovec none = {NULL, 0};

	return refused(process_vm_readv(getppid(), &none, 1, &none, 1, 0)) |
	       refused(process_vm_writev(getppid(), &none, 1, &none, 1, 0)) |
	       refused(syscall(SYS_pidfd_getfd, 0, 0, 0)) | refused(syscall(SYS_kcmp, 1, 1, 0, 0, 0));
}

#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
static int
trace_others(void)
{
	return refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}
#endif

static int
change_the_kernel(void)
{
	return refused(syscall(SYS_init_module, NULL, 0, "")) | refused(syscall(SYS_finit_module, -1, "", 0)) |
	       refused(syscall(SYS_delete_module, "", 0)) | refused(syscall(SYS_kexec_load, 0, 0, NULL, 0)) |
	       refused(syscall(SYS_bpf, 0, NULL, 0)) | refused(syscall(SYS_reboot, 0, 0, 0, NULL)) |
	       refused(syscall(SYS_perf_event_open, NULL, 0, 0, -1, 0)) |
	       refused(syscall(SYS_io_uring_setup, 1, NULL)) | refused(syscall(SYS_userfaultfd, 0)) |
	       refused(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
}

static int
set_the_clock(void)
{
	const struct timespec then = {0, 0};

	return refused(clock_settime(CLOCK_REALTIME, &then)) | refused(syscall(SYS_settimeofday, NULL, NULL));
}

static int
write_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return 2;
	return refused(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) |
	       refused(mprotect(page, 4096, PROT_WRITE | PROT_EXEC)) |
	       refused((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static int
type_for_others(void)
{
	return refused(syscall(SYS_ioctl, -1, TIOCSTI, "x")) |
	       refused(syscall(SYS_ioctl, -1, UINT64_C(1) << 32 | TIOCSTI, "x"));
}

static int
limit_others(void)
{
	const struct rlimit second = {1, 1};

	return refused(syscall(SYS_prlimit64, getppid(), RLIMIT_CPU, &second, NULL));
}

static int
undo_the_filter(void)
{
	return refused(syscall(SYS_seccomp, 0, 0, NULL));
}

static void
what_it_does_not_need_fails(void **state)
{
	static const struct {
		const char *name;
		int (*what)(void);
	} rows[] = {
#define ROW(what) {#what, what}
		ROW(run_program),
		ROW(run_program_by_descriptor),
		ROW(listen_on_a_socket),
		ROW(open_a_packet_socket),
		ROW(open_other_families),
		ROW(mount_something),
		ROW(become_another),
		ROW(make_a_namespace),
		ROW(reach_into_others),
		ROW(change_the_kernel),
		ROW(set_the_clock),
		ROW(write_code),
		ROW(type_for_others),
		ROW(limit_others),
		ROW(undo_the_filter),
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
		ROW(trace_others),
#endif
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int status = confined(rows[i].what);

		if (status != 0)
			fail_msg("%s: %d", rows[i].name, status);
	}
}

/* ---- allowed: 0 if it works ---- */

static void *
nothing(void *context)
{
	return context;
}

static int
start_a_thread(void)
{
	pthread_t thread;
	void *back = NULL;

	return pthread_create(&thread, NULL, nothing, &back) || pthread_join(thread, &back) || back != &back;
}

static int
start_a_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(7);
	return pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 7;
}

static int
look_a_name_up(void)
{
	struct addrinfo *list = NULL;
	int rc = getaddrinfo("localhost", "443", NULL, &list);

	freeaddrinfo(list);
	return rc != 0;
}

static int
load_a_library(void)
{
	void *library = dlopen("libz.so.1", RTLD_NOW);

	return library == NULL;
}

static int
ask_for_the_clock(void)
{
	struct timex clock = {0};

	return adjtimex(&clock) < 0;
}

static int
ask_a_descriptor(void)
{
	int waiting, on = 1, s = socket(AF_UNIX, SOCK_STREAM, 0);

	return s < 0 || ioctl(s, FIONBIO, &on) != 0 || ioctl(s, FIONREAD, &waiting) != 0;
}

static int
limit_itself(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_CORE, &limit) | setrlimit(RLIMIT_CORE, &limit);
}

static int
sign_with_a_new_key(void)
{
	char directory[] = "/tmp/test_confine.XXXXXX", file[64], why[256];
	uint8_t signature[LIMIT_SIGNATURE];
	struct slice text = {(const uint8_t *)"text", 4};
	struct cose_key *key;
	size_t len = 0;

	if (!mkdtemp(directory))
		return 2;
	snprintf(file, sizeof file, "%s/key", directory);
	key = cose_key_generate(-7, file) == 0 ? cose_key_open(file, why) : NULL;
	if (key)
		len = cose_key_sign(key, &text, 1, signature);
	cose_key_free(key);
	(void)unlink(file);
	return (rmdir(directory) != 0) | (len == 0);
}

static void
what_it_needs_works(void **state)
{
	static const struct {
		const char *name;
		int (*what)(void);
	} rows[] = {
		ROW(start_a_thread),    ROW(start_a_child),       ROW(look_a_name_up),   ROW(load_a_library),
		ROW(ask_for_the_clock), ROW(sign_with_a_new_key), ROW(ask_a_descriptor), ROW(limit_itself),
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int status = confined(rows[i].what);

		if (status != 0)
			fail_msg("%s: %d", rows[i].name, status);
	}
}

/* A thread that was there before is confined too. */
static void *
try_to_run(void *context)
{
	int *go = context;
	char byte;

	return read(go[0], &byte, 1) == 1 && run_program() == 0 ? go : NULL;
}

static void
all_threads_are_confined(void **state)
{
	int status, go[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pthread_t thread;
		void *back = NULL;

		alarm(LIMIT_S);
		if (pthread_create(&thread, NULL, try_to_run, go) != 0 || confine_calls(error) != 0 ||
		    write(go[1], "", 1) != 1)
			_exit(2);
		_exit(pthread_join(thread, &back) != 0 || back == NULL);
	}
	close(go[0]);
	close(go[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int
has_no_capability(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "re");
	int found = 0, empty = 0;

	while (status && fgets(line, sizeof line, status))
		if (strncmp(line, "CapEff:", 7) == 0 || strncmp(line, "CapPrm:", 7) == 0 ||
		    strncmp(line, "CapAmb:", 7) == 0) {
			found++;
			empty += strtoull(line + 7, NULL, 16) == 0;
		} else if (strncmp(line, "NoNewPrivs:", 11) == 0) {
			found++;
			empty += atoi(line + 11) == 1;
		}
	return found != 4 || empty != 4;
}

static void
stripped_it_has_nothing(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(confine_strip(NULL, error) != 0 ? 100 : has_no_capability());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
there_is_no_such_user(void **state)
{
	struct confine_user user;

	(void)state;
	assert_int_equal(confine_find_user("no-such-user-at-all", &user, error), -1);
	assert_non_null(strstr(error, "no-such-user-at-all"));
	assert_int_equal(confine_find_user("root", &user, error), 0);
	assert_int_equal(user.uid, 0);
}

static uid_t
owner(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_uid;
}

/* What a user put into a directory of its own may be another name of somebody else's file. */
static void
what_the_user_made_is_not_handed_over(void **state)
{
	const struct confine_user user = {65534, 65534};
	char directory[] = "/tmp/test_confine.XXXXXX";

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	assert_true(mkdir("state", 0700) == 0 && mkdir("state/roots", 0700) == 0 && mkdir("state/users", 0700) == 0);
	assert_int_equal(close(creat("roots", 0600)), 0);
	assert_int_equal(close(creat("state/roots/file", 0600)), 0);
	assert_int_equal(link("roots", "state/users/link"), 0);
	assert_int_equal(chown("state/users", user.uid, user.gid), 0);
	assert_int_equal(confine_hand_over("state", &user, error), 0);
	assert_int_equal(owner("roots"), 0);
	assert_int_equal(owner("state"), user.uid);
	assert_int_equal(owner("state/roots/file"), user.uid);
	assert_true(unlink("state/users/link") == 0 && unlink("state/roots/file") == 0 && unlink("roots") == 0);
	assert_true(rmdir("state/users") == 0 && rmdir("state/roots") == 0 && rmdir("state") == 0);
	assert_true(chdir("/") == 0 && rmdir(directory) == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_does_not_need_fails), cmocka_unit_test(what_it_needs_works),
		cmocka_unit_test(all_threads_are_confined),    cmocka_unit_test(stripped_it_has_nothing),
		cmocka_unit_test(there_is_no_such_user),       cmocka_unit_test(what_the_user_made_is_not_handed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
